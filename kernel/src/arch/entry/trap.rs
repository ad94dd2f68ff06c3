//! The Rust half of interrupt and exception handling: the unsafe wrappers that the entry code calls, and the decision
//! whether and where the interrupted code continues.

use core::arch::asm;
use core::ptr;
use core::sync::atomic::Ordering;

use kernel_abi::layout::USER_END;
use kernel_abi::trace::Kind;
use x86_64::registers::control::Cr2;
use x86_64::registers::rflags::RFlags;

use crate::arch::cpu::msr;
use crate::arch::entry::{nmi, tick};
use crate::arch::exit::points::ringside_iretq_to_user;
use crate::arch::inject;
use crate::arch::interrupts::apic::{ERROR_VECTOR, LocalApic, SPURIOUS_VECTOR, TIMER_VECTOR, WAKE_VECTOR};
use crate::arch::memory::usercopy;
use crate::arch::panic::{check, stop};
use crate::arch::percpu::{PerCpuData, print};
use crate::arch::task::ring3;
use crate::exception::{DEBUG, Fault, NMI, PAGE_FAULT};
use crate::frame::TrapFrame;
use crate::stray;

/// Handles an interrupt or exception from ring 3, except a tick. Returns if ring 3 continues, else ends the program.
///
/// # Safety
/// Only [`trap_common`](crate::arch::entry::points) may call this: on the syscall stack, whose top holds `frame`, with
/// the kernel GS base loaded and with `cpu` read from `gs:[0]`.
pub(in crate::arch) unsafe extern "sysv64" fn trap_from_user(frame: *mut TrapFrame, cpu: *const PerCpuData) {
    // SAFETY: `frame` is the frame that the entry code has just pushed, and nothing else refers to it (invariant:
    // ONE-STACK). `cpu` is the first word at the GS base (invariant: GS-BASE).
    let (frame, cpu) = unsafe { (&*frame, &*cpu) };
    check::entry(cpu);
    if !interrupt(frame, cpu) {
        kill(frame, cpu);
    }
    ring3::end_if_over_limit(cpu);
}

/// Ends the program because of an exception in ring 3.
fn kill(frame: &TrapFrame, cpu: &PerCpuData) -> ! {
    cpu.trace(Kind::Fault, frame.vector, frame.interrupted.rip);
    ring3::kill(cpu, Fault::of(frame))
}

/// Handles an interrupt or exception from ring 0. Returns if the interrupted code continues, else ends the program or
/// the run.
///
/// # Safety
/// Only [`trap_common`](crate::arch::entry::points) may call this: on the interrupted stack, with `frame` at its lower
/// end, and with the kernel GS base loaded if this CPU has set it up.
pub(in crate::arch) unsafe extern "sysv64" fn trap_from_kernel(frame: *mut TrapFrame) {
    // SAFETY: `frame` is the frame that the entry code has just pushed, and nothing else refers to it.
    let frame = unsafe { &mut *frame };
    let Some(cpu) = PerCpuData::try_current() else { stop::fatal_trap(frame) };
    if frame.vector == u64::from(TIMER_VECTOR) {
        return tick::tick::<false>(&frame.interrupted, cpu);
    }
    if interrupt(frame, cpu) {
        return;
    }
    // Only a fault on the source of a user copy, which lies in the user half, has a fixup. A fault on the destination
    // is a kernel bug.
    if frame.vector == PAGE_FAULT
        && Cr2::read_raw() < USER_END
        && let Some(fixup) = usercopy::fixup(frame.interrupted.rip)
    {
        frame.interrupted.rip = fixup;
        return;
    }
    if frame.interrupted.rip == ringside_iretq_to_user as *const () as u64 {
        ring3::kill(cpu, Fault::of(frame));
    }
    stop::fatal_trap(frame)
}

/// Handles NMI, #DB, #MC and #DF, which may interrupt any instruction. Returns if the interrupted code continues, else
/// ends the program or the run.
///
/// # Safety
/// Only [`paranoid_common`](crate::arch::entry::points) may call this: on the vector's IST stack, with `frame` at its
/// lower end, and with the GS base set to `cpu`, which was read from the word above the frame.
pub(in crate::arch) unsafe extern "sysv64" fn paranoid_trap(frame: *mut TrapFrame, cpu: *const PerCpuData) {
    // SAFETY: `frame` is the frame that the entry code has just pushed, and nothing else refers to it. `cpu` is the
    // word above the frame (invariant: IST-WORD).
    let (frame, cpu) = unsafe { (&mut *frame, &*cpu) };
    // Without this check, a wrong GS base would be noticed only if such a vector arrived between a kernel entry and its
    // `swapgs`.
    let base = msr::gs_base();
    if base != ptr::from_ref(cpu) as u64 {
        stop::end(format_args!("broken invariant on {}: the GS base is {base:#x} on an IST stack", cpu.id()));
    }
    check::entry_flags(cpu, " on an IST stack");
    match frame.vector {
        NMI => nmi::handle(frame, cpu),
        DEBUG => {
            // SAFETY: DR6 is a status register without effect on execution. The CPU never clears DR6, so the handler
            // does (SDM 3B, 18.2.3).
            unsafe { asm!("mov dr6, {}", in(reg) DR6_CLEAR, options(nomem, nostack, preserves_flags)) };
            if frame.interrupted.from_user() {
                cpu.trace(Kind::Fault, frame.vector, frame.interrupted.rip);
                ring3::kill(cpu, Fault::of(frame));
            }
            cpu.rare.count_debug(frame.interrupted.rip);
            // Ring 3 cannot set breakpoints, and SFMASK clears TF. The only remaining cause is a single step that ring
            // 3 requested and that the CPU takes in ring 0. Clear TF, so that ring 0 continues without stepping.
            frame.interrupted.rflags &= !RFlags::TRAP_FLAG.bits();
        }
        _ => stop::fatal_trap(frame),
    }
}

/// DR6 when it reports no condition: only the reserved bits that read as one are set (SDM 3B, 18.2.3).
const DR6_CLEAR: u64 = 0xffff_0ff0;

/// Handles all interrupts except the timer's. Returns false for an exception.
fn interrupt(frame: &TrapFrame, cpu: &PerCpuData) -> bool {
    let Ok(vector) = u8::try_from(frame.vector) else { return false };
    let rip = frame.interrupted.rip;
    match vector {
        // The interrupt has ended the `hlt`. That is its only purpose, unless the BSP asks this CPU to leave.
        WAKE_VECTOR => {
            cpu.trace(Kind::IpiReceived, vector.into(), rip);
            if cpu.published.must_leave.load(Ordering::Relaxed) {
                cpu.rounds.leave();
            }
        }
        ERROR_VECTOR => {
            cpu.trace(Kind::Interrupt, vector.into(), rip);
            cpu.rare.add_apic_errors(cpu.with_apic(LocalApic::take_errors).unwrap_or(0));
            print::report_apic_errors(cpu);
        }
        // A spurious interrupt sets no bit in the ISR and gets no EOI (SDM 3A, 11.9).
        SPURIOUS_VECTOR => {
            cpu.trace(Kind::Interrupt, vector.into(), rip);
            return true;
        }
        _ => return stray(frame, cpu),
    }
    cpu.end_of_interrupt();
    true
}

/// Counts and acknowledges a stray interrupt. Returns false for an exception.
fn stray(frame: &TrapFrame, cpu: &PerCpuData) -> bool {
    let in_service = |vector| cpu.with_apic(|apic| apic.is_in_service(vector)).unwrap_or(false);
    let Some(stray) = stray::classify(frame.vector, in_service) else { return false };
    cpu.trace(Kind::Interrupt, frame.vector, frame.interrupted.rip);
    cpu.rare.count_stray(stray.vector);
    if stray.in_service && !inject::keeps_in_service(cpu) {
        cpu.end_of_interrupt();
    }
    true
}

impl Fault {
    /// Builds the fault from a trap frame, with CR2 if it is a page fault.
    fn of(frame: &TrapFrame) -> Fault {
        let cr2 = (frame.vector == PAGE_FAULT).then(Cr2::read_raw);
        Fault {
            vector: frame.vector,
            error_code: frame.error_code,
            cr2,
            rip: frame.interrupted.rip,
            rsp: frame.interrupted.rsp,
        }
    }
}
