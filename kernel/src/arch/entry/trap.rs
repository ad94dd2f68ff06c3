//! What happens in Rust after an interrupt or exception: the unsafe shells that the entry code calls, and the
//! decision what becomes of the interrupted code.

use core::arch::asm;
use core::ptr;

use kernel_abi::layout::USER_END;
use kernel_abi::trace::Kind;
use x86_64::registers::control::Cr2;
use x86_64::registers::rflags::RFlags;

use crate::arch::cpu::msr;
use crate::arch::entry::{nmi, tick};
use crate::arch::exit::points::ringside_iretq_to_user;
use crate::arch::interrupts::apic::{ERROR_VECTOR, LocalApic, SPURIOUS_VECTOR, TIMER_VECTOR, WAKE_VECTOR};
use crate::arch::memory::usercopy;
use crate::arch::panic::{check, stop};
use crate::arch::percpu::PerCpuData;
use crate::arch::provoke;
use crate::arch::task::ring3;
use crate::exception::{DEBUG, Fault, NMI, PAGE_FAULT};
use crate::frame::TrapFrame;

/// From ring 3, on the syscall stack's top, GS base ours.
pub(in crate::arch) unsafe extern "sysv64" fn trap_from_user(frame: *mut TrapFrame, cpu: *const PerCpuData) {
    // SAFETY: the entry passes the frame that it has just pushed and the GS base's own pointer (invariants:
    // GS-BASE, ONE-STACK).
    let (frame, cpu) = unsafe { (&*frame, &*cpu) };
    check::entry(cpu);
    if !interrupt(frame, cpu) {
        cpu.trace(Kind::Fault, frame.vector, frame.interrupted.rip);
        ring3::kill(cpu, Fault::of(frame));
    }
    ring3::end_if_over_limit(cpu);
}

/// From ring 0, on the stack that was interrupted, GS base ours if this CPU has got that far.
pub(in crate::arch) unsafe extern "sysv64" fn trap_from_kernel(frame: *mut TrapFrame) {
    // SAFETY: the entry passes the frame that it has just pushed.
    let frame = unsafe { &mut *frame };
    let Some(cpu) = PerCpuData::try_current() else { stop::fatal_trap(frame) };
    if interrupt(frame, cpu) {
        return;
    }
    // The copy's source is in the user half; a fault on its destination is the kernel's own mistake.
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

/// NMI, #DB, #MC or #DF, from anywhere, on the vector's own stack, GS base ours for the time being.
pub(in crate::arch) unsafe extern "sysv64" fn paranoid_trap(frame: *mut TrapFrame, cpu: *const PerCpuData) {
    // SAFETY: the entry passes the frame that it has just pushed and the pointer from this stack's top word
    // (invariant: IST-WORD).
    let (frame, cpu) = unsafe { (&mut *frame, &*cpu) };
    // Whoever gets this wrong finds out at one instruction in a million, and here.
    let base = msr::gs_base();
    if base != ptr::from_ref(cpu) as u64 {
        stop::end(format_args!("broken invariant on {}: the GS base is {base:#x} on an IST stack", cpu.id()));
    }
    check::entry_flags(cpu, " on an IST stack");
    match frame.vector {
        NMI => nmi::handle(frame, cpu),
        DEBUG => {
            // SAFETY: DR6 only tells what happened; whoever looks next must find it clear (SDM 3B, 18.2.3).
            unsafe { asm!("mov dr6, {}", in(reg) DR6_CLEAR, options(nomem, nostack, preserves_flags)) };
            if frame.interrupted.from_user() {
                cpu.trace(Kind::Fault, frame.vector, frame.interrupted.rip);
                ring3::kill(cpu, Fault::of(frame));
            }
            cpu.rare.count_debug(frame.interrupted.rip);
            // Ring 3 cannot set breakpoints, and SFMASK clears TF: what is left is a single step that ring 3
            // asked for and ring 0 took over. It ends here, and ring 0 goes on.
            frame.interrupted.rflags &= !RFlags::TRAP_FLAG.bits();
        }
        _ => stop::fatal_trap(frame),
    }
}

/// DR6 with no condition reported (SDM 3B, 18.2.3: the reserved bits read as one).
const DR6_CLEAR: u64 = 0xffff_0ff0;

/// Handles the local APIC's vectors. False: it is another one.
fn interrupt(frame: &TrapFrame, cpu: &PerCpuData) -> bool {
    let Ok(vector) = u8::try_from(frame.vector) else { return false };
    let rip = frame.interrupted.rip;
    match vector {
        TIMER_VECTOR => {
            tick::tick(cpu);
            cpu.trace(Kind::Tick, cpu.ticks(), rip);
            if frame.interrupted.from_user() {
                provoke::ring3_tick(cpu);
            }
        }
        // Waking up is all there is to it.
        WAKE_VECTOR => cpu.trace(Kind::IpiReceived, vector.into(), rip),
        ERROR_VECTOR => {
            cpu.trace(Kind::Interrupt, vector.into(), rip);
            let errors = cpu.with_apic(LocalApic::take_errors).unwrap_or(0);
            say!(cpu, "local APIC error, status {errors:#04x}");
        }
        // It was withdrawn before it was taken: no EOI (SDM 3A, 11.9).
        SPURIOUS_VECTOR => {
            cpu.trace(Kind::Interrupt, vector.into(), rip);
            return true;
        }
        _ => return false,
    }
    cpu.end_of_interrupt();
    true
}

impl Fault {
    /// What a trap frame says, with CR2 if it is a page fault's.
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
