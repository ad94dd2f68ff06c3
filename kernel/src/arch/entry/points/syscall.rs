//! The entry point of `syscall`, and its exits.
//!
//! The entry saves only the registers that a compiled function may overwrite, and calls through a table. An entry of
//! that table is either a leaf handler, which is an ordinary function, or [`frame_entry`], which completes the
//! [`SyscallFrame`] first.

use core::arch::naked_asm;
use core::mem::offset_of;

use kernel_abi::counters::Counters;
use kernel_abi::syscall::TABLE_LEN;
use x86_64::registers::rflags::RFlags;

use crate::arch::exit::points::iret_to_user;
use crate::arch::panic::check;
use crate::arch::percpu::PerCpuData;
use crate::arch::percpu::events;
use crate::frame::SyscallFrame;
use crate::selectors::{USER_CODE, USER_DATA};
use crate::sysret::{Return, may_sysret};

/// The frame handlers that [`frame_entry`] calls. They are a type parameter, so the call is direct and can be inlined.
pub trait FrameCalls {
    /// Runs the system call with this index in the table and stores its result in the frame's rax.
    fn call(index: u64, frame: &mut SyscallFrame, cpu: &PerCpuData);
}

/// Unsafe wrapper around the frame handlers: turns the entry code's pointers into references and calls safe code.
///
/// Returns whether `sysretq` may return to ring 3.
///
/// # Safety
/// Only [`frame_entry`] may call this: on the syscall stack, whose top holds `frame`, with the kernel GS base loaded
/// and with `cpu` read from `gs:[0]`.
unsafe extern "sysv64" fn frame_wrapper<C: FrameCalls>(
    frame: *mut SyscallFrame,
    cpu: *const PerCpuData,
    index: u64,
) -> bool {
    // SAFETY: `frame` is the frame that the entry code has just pushed, and nothing else refers to it (invariant:
    // ONE-STACK). `cpu` is the first word at the GS base (invariant: GS-BASE).
    let (frame, cpu) = unsafe { (&mut *frame, &*cpu) };
    check::entry(cpu);
    if events::syscalls_enabled() {
        recorded::<C>(index, frame, cpu);
    } else {
        C::call(index, frame, cpu);
    }
    check::entry_flags(cpu, " after a call");
    let (rip, rflags) = (frame.saved.rip, frame.saved.rflags);
    // Both exits load rcx from `rip` and r11 from `rflags`.
    may_sysret(&Return { rip, rflags, rcx: rip, r11: rflags })
}

/// Runs a frame handler and records the events whose kind is enabled. This is a separate function so that the path
/// without recording does not have to save the registers that this code uses.
#[cold]
#[inline(never)]
fn recorded<C: FrameCalls>(index: u64, frame: &mut SyscallFrame, cpu: &PerCpuData) {
    let number = frame.rax;
    events::syscall_enter(number, frame.saved.rdi, cpu);
    C::call(index, frame, cpu);
    events::syscall_exit(number, frame.rax, PerCpuData::current());
}

/// Entry point of `syscall`: the address in IA32_LSTAR.
///
/// On entry (SDM 2B, SYSCALL): ring 0; CS and SS are flat; rcx = user RIP; r11 = user RFLAGS; the RFLAGS bits in SFMASK
/// are clear, so interrupts are off; **rsp, the GS base and all other registers still hold user values**. NMI, #DB, #MC
/// and #DF can arrive at any instruction; each has its own IST stack, and the word above its trap frame holds the
/// address of [`PerCpuData`]. No other exception can arrive before rsp points to the kernel stack: until then, no
/// instruction accesses memory through a register that ring 3 controls.
///
/// At the call: rdi, rsi, rdx, r8 and r9 hold arguments 1, 2, 3, 5 and 6, r10 holds argument 4, rax the number, and rcx
/// the index in the table; rbx, rbp and r12 to r15 still hold user values, which every function of the table preserves.
///
/// On return to ring 3: all registers are unchanged except rax (the result), rcx (RIP) and r11 (RFLAGS).
///
/// ```text
///   syscall_stack_top ->  +--------+
///                         | rip    |  from rcx; SavedRegisters, the upper part of SyscallFrame
///                         | rflags |  from r11
///                         | rdi    |  arguments 1 to 6
///                         | rsi    |
///                         | rdx    |
///                         | r10    |
///                         | r8     |
///                  rsp -> | r9     |  16-byte aligned
///                         +--------+
/// ```
///
/// # Safety
/// Only the `syscall` instruction may enter here, after `this_cpu::set_up` on this CPU. Compiled code must not call
/// this function.
#[unsafe(naked)]
pub unsafe extern "sysv64" fn syscall_entry() {
    naked_asm!(
        // Switch to the kernel GS base, save the user rsp in per-CPU data, and switch to this CPU's syscall stack.
        "swapgs",
        "mov    gs:[{user_rsp}], rsp",
        "mov    rsp, gs:[{stack_top}]",

        // Save what a compiled function may overwrite: RIP and RFLAGS, and the arguments.
        "push   rcx",
        "push   r11",
        "push   rdi",
        "push   rsi",
        "push   rdx",
        "push   r10",
        "push   r8",
        "push   r9",

        // rcx = the lower of the number and the table's length, which is the index of the function for numbers beyond
        // the table. CPUs do not predict `cmov` (docs/security.md, "Speculation"), so the index is in bounds in
        // speculative execution, too.
        "mov    ecx, {table_len}",
        "cmp    rax, rcx",
        "cmovb  rcx, rax",

        // Count the call, and call through the table.
        "inc    qword ptr gs:[{calls} + rcx * 8]",
        "mov    r11, gs:[{table}]",
        "call   [r11 + rcx * 8]",

        // Restore the registers. rax holds the result.
        ".globl ringside_syscall_return",
        "ringside_syscall_return:",
        "pop    r9",
        "pop    r8",
        "pop    r10",
        "pop    rdx",
        "pop    rsi",
        "pop    rdi",
        "pop    r11",
        "pop    rcx",

        // With TF set, sysretq would trap before ring 3 has executed an instruction.
        "test   r11d, {tf}",
        "jnz    3f",

        // Exit with sysretq. From `mov rsp` on, ring 0 runs on the user rsp with interrupts off.
        "mov    rsp, gs:[{user_rsp}]",
        "swapgs",
        "sysretq",

        // Exit with iretq, for a state that sysretq cannot restore or must not be used for.
        ".globl ringside_syscall_iret",
        "ringside_syscall_iret:",
        "pop    r9",
        "pop    r8",
        "pop    r10",
        "pop    rdx",
        "pop    rsi",
        "pop    rdi",
        "pop    r11",
        "pop    rcx",

        // The stack is empty. Push the InterruptFrame.
        "3:",
        "push   {user_data}",
        "push   qword ptr gs:[{user_rsp}]",
        "push   r11",
        "push   {user_code}",
        "push   rcx",
        "jmp    {iret_to_user}",
        user_rsp = const offset_of!(PerCpuData, user_rsp),
        stack_top = const offset_of!(PerCpuData, syscall_stack_top),
        table_len = const TABLE_LEN,
        calls = const offset_of!(PerCpuData, counters) + offset_of!(Counters<u64>, calls),
        table = const offset_of!(PerCpuData, call_table),
        tf = const RFlags::TRAP_FLAG.bits(),
        user_data = const USER_DATA.0,
        user_code = const USER_CODE.0,
        iret_to_user = sym iret_to_user,
    )
}

/// The table's function for all system calls with a frame handler: completes the [`SyscallFrame`] on the stack and
/// calls the handler. Replaces the return to [`syscall_entry`].
///
/// On entry: as at the call in [`syscall_entry`], with its return address on the stack.
///
/// On exit: the callee-saved registers are restored, `user_rsp` holds the frame's rsp, and rax the result; jumps to one
/// of the two exits of [`syscall_entry`].
///
/// ```text
///                         | rip ... r9 |  SavedRegisters, pushed by syscall_entry
///                         | rsp        |  the user's, from PerCpuData
///                         | rax        |  number in, result out
///                         | rbx        |  user registers, callee-saved
///                         | rbp        |
///                         | r12        |
///                         | r13        |
///                         | r14        |
///                  rsp -> | r15        |  SyscallFrame, 16-byte aligned
/// ```
///
/// # Safety
/// Only [`syscall_entry`] may call this, through its table.
#[unsafe(naked)]
pub unsafe extern "sysv64" fn frame_entry<C: FrameCalls>(
    rdi: u64,
    rsi: u64,
    rdx: u64,
    index: u64,
    r8: u64,
    r9: u64,
) -> u64 {
    naked_asm!(
        // Drop the return address. The user rsp must be in the frame, because a later call may overwrite `user_rsp`
        // before this one returns.
        "add    rsp, 8",
        "push   qword ptr gs:[{user_rsp}]",
        "push   rax",
        "push   rbx",
        "push   rbp",
        "push   r12",
        "push   r13",
        "push   r14",
        "push   r15",

        // rbp = 0 ends the backtrace. Pass the frame in rdi, this CPU's data in rsi and the index in rdx.
        "xor    ebp, ebp",
        "mov    rdi, rsp",
        "mov    rsi, gs:[{this}]",
        "mov    edx, ecx",
        "call   {wrapper}",

        // Test the result in al before `pop rax`; `pop` does not change flags.
        "test   al, al",
        "pop    r15",
        "pop    r14",
        "pop    r13",
        "pop    r12",
        "pop    rbp",
        "pop    rbx",
        "pop    rax",
        "pop    qword ptr gs:[{user_rsp}]",
        "jnz    {by_sysret}",
        "jmp    {by_iret}",
        user_rsp = const offset_of!(PerCpuData, user_rsp),
        this = const offset_of!(PerCpuData, this),
        wrapper = sym frame_wrapper::<C>,
        by_sysret = sym ringside_syscall_return,
        by_iret = sym ringside_syscall_iret,
    )
}

unsafe extern "sysv64" {
    /// The exit of [`syscall_entry`] by `sysretq`, or by `iretq` if TF is set: restores the saved registers.
    fn ringside_syscall_return();
    /// The exit of [`syscall_entry`] by `iretq`: restores the saved registers.
    fn ringside_syscall_iret();
}
