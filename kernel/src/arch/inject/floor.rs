//! The floor of the system-call path: the shortest code that enters ring 0 and leaves it again, to compare the path
//! with. `floor=` makes `syscall` enter this code for two ticks of the program, in which all system calls return their
//! number and do nothing else.

use core::arch::naked_asm;
use core::mem::offset_of;

use crate::arch::cpu::msr;
use crate::arch::percpu::PerCpuData;
use crate::tick_work::Work;

/// The number of ticks in ring 3 for which the floor is in effect. Between the last two there is a complete period.
const TICKS: u32 = 2;

/// The shortest entry point of `syscall`: changes the GS base and back, and returns. It changes no register, and it
/// runs with ring 3's rsp and accesses no memory.
///
/// On entry: as for `syscall_entry`.
///
/// # Safety
/// Only the `syscall` instruction may enter here.
#[unsafe(naked)]
unsafe extern "sysv64" fn floor_shortest() {
    naked_asm!("swapgs", "swapgs", "sysretq")
}

/// Like [`floor_shortest`], but switches to this CPU's syscall stack, and saves and restores the registers that a compiled
/// function may overwrite.
///
/// On entry: as for `syscall_entry`.
///
/// # Safety
/// Only the `syscall` instruction may enter here, on a CPU that is set up.
#[unsafe(naked)]
unsafe extern "sysv64" fn floor_saving() {
    naked_asm!(
        "swapgs",
        "mov    gs:[{user_rsp}], rsp",
        "mov    rsp, gs:[{stack_top}]",
        "push   rcx",
        "push   r11",
        "push   rdi",
        "push   rsi",
        "push   rdx",
        "push   r10",
        "push   r8",
        "push   r9",
        "pop    r9",
        "pop    r8",
        "pop    r10",
        "pop    rdx",
        "pop    rsi",
        "pop    rdi",
        "pop    r11",
        "pop    rcx",
        "mov    rsp, gs:[{user_rsp}]",
        "swapgs",
        "sysretq",
        user_rsp = const offset_of!(PerCpuData, user_rsp),
        stack_top = const offset_of!(PerCpuData, syscall_stack_top),
    )
}

/// Makes `syscall` enter the floor until the program has had [`TICKS`] ticks. Called before the program starts.
pub(super) fn before_program(cpu: &PerCpuData, level: Option<u32>) {
    let entry = match level {
        None => return,
        Some(1) => floor_shortest as *const () as u64,
        Some(_) => floor_saving as *const () as u64,
    };
    warn!(
        cpu,
        "floor= is for measurements: system calls do nothing during the program's first {TICKS} ticks"
    );
    // SAFETY: the two functions fulfil the contract of the system-call entry point: they return to ring 3 with its
    // registers, GS base and stack pointer, and `floor_saving` runs on the syscall stack (invariant: ONE-STACK).
    let replaced = unsafe { msr::replace_syscall_entry(entry) };
    cpu.injected.floor.set(Some((replaced, TICKS)));
    cpu.tick_work.request(Work::Floor);
}

/// Handles a tick that interrupted ring 3: after the last one, `syscall` enters the kernel's entry point again.
pub(super) fn ring3_tick(cpu: &PerCpuData) {
    match cpu.injected.floor.get() {
        None => {}
        Some((entry, 1)) => {
            // SAFETY: this is the entry point that this module replaced.
            unsafe { msr::replace_syscall_entry(entry) };
            cpu.injected.floor.set(None);
            cpu.tick_work.withdraw(Work::Floor);
        }
        Some((entry, left)) => cpu.injected.floor.set(Some((entry, left - 1))),
    }
}
