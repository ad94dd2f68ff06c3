//! CPU indices, the CPU count, all copies in ring 3 at the same time, private memory.

use core::arch::asm;
use core::arch::x86_64::{__cpuid, __cpuid_count, __rdtscp};
use core::hint::spin_loop;
use core::sync::atomic::{AtomicU64, Ordering};

use user::{shared_page, sys};

use crate::time::Deadline;
use crate::{Verdict, expect};

/// The shared page's word in which the copies count themselves.
const ARRIVED: usize = 0;
/// The first word of the flags in the shared page with which the copies claim their CPU indices.
const CLAIMS: usize = 8;

/// Checks that CPU index and CPU count stay constant, and that the index is below the count.
pub fn number_is_constant() -> Verdict {
    let (cpu, count) = (sys::get_cpu(), sys::cpu_count());
    expect(format_args!("cpu {cpu} of {count}: index below count"), &true, &(cpu < count))?;
    for _ in 0..1000 {
        expect(format_args!("SYS_GET_CPU, called again"), &cpu, &sys::get_cpu())?;
        expect(format_args!("SYS_CPU_COUNT, called again"), &count, &sys::cpu_count())?;
    }
    Ok(())
}

/// Checks that no other copy has the same CPU index.
pub fn number_is_claimed_once() -> Verdict {
    let cpu = sys::get_cpu();
    expect(format_args!("first to claim cpu {cpu}"), &true, &shared_page().claim(CLAIMS, cpu as usize))
}

/// Checks that `rdtscp` and `rdpid`, if the CPU has them, return the number that the system call returns.
pub fn number_is_in_tsc_aux() -> Verdict {
    let cpu = sys::get_cpu();
    // RDTSCP: leaf 0x8000_0001, EDX bit 27, which every x86-64 CPU has. RDPID: leaf 7, ECX bit 22 (SDM 2A, CPUID).
    if __cpuid(0x8000_0001).edx & 1 << 27 != 0 {
        let mut number = 0;
        // SAFETY: the CPU has the instruction, which writes `number`.
        unsafe { __rdtscp(&mut number) };
        expect(format_args!("CPU number from rdtscp"), &cpu, &number.into())?;
    }
    if __cpuid(0).eax >= 7 && __cpuid_count(7, 0).ecx & 1 << 22 != 0 {
        let number: u64;
        // SAFETY: the CPU has the instruction, which writes one register.
        unsafe { asm!("rdpid {}", out(reg) number, options(nomem, nostack, preserves_flags)) };
        expect(format_args!("CPU number from rdpid"), &cpu, &number)?;
    }
    Ok(())
}

/// Checks that all copies are in ring 3 at the same time. Every copy counts itself in the shared page, and then waits
/// in ring 3 until all are counted. No copy leaves before it has seen the full count, so the last copy to arrive runs
/// while all others are in ring 3.
pub fn all_in_ring_3_at_once() -> Verdict {
    /// Number of reads of the count per read of the clock, which needs a system call.
    const POLLS_PER_CLOCK_READ: u32 = 100_000;

    let count = sys::cpu_count();
    let arrived = shared_page().word(ARRIVED);
    let deadline = Deadline::start();
    arrived.fetch_add(1, Ordering::AcqRel);
    loop {
        for _ in 0..POLLS_PER_CLOCK_READ {
            if arrived.load(Ordering::Acquire) >= count {
                return expect(format_args!("copies in ring 3"), &count, &arrived.load(Ordering::Acquire));
            }
            spin_loop();
        }
        if deadline.has_passed() {
            return expect(
                format_args!("copies in ring 3 before the deadline"),
                &count,
                &arrived.load(Ordering::Acquire),
            );
        }
    }
}

/// Checks that writes of this copy outside the shared page are invisible to the other copies, although all use the same
/// addresses.
pub fn memory_is_private() -> Verdict {
    static MINE: AtomicU64 = AtomicU64::new(0);

    let cpu = sys::get_cpu();
    expect(format_args!("a static before its first write"), &0, &MINE.load(Ordering::Relaxed))?;
    MINE.store(cpu + 1, Ordering::Relaxed);
    for _ in 0..1000 {
        sys::null();
        expect(format_args!("this copy's own static"), &(cpu + 1), &MINE.load(Ordering::Relaxed))?;
    }
    Ok(())
}
