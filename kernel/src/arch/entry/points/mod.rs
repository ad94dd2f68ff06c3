//! The entry points of ring 0: `syscall`, interrupts and exceptions, each with its return to the interrupted code.
//!
//! The assembly only saves and restores registers and switches stacks and the GS base; Rust makes every decision. Most
//! vectors enter through [`stubs`] and [`trap_common`]. NMI, #DB, #MC and #DF use [`paranoid`], and the NMI also uses
//! [`nmi`]. The end of each file declares the labels whose addresses other code needs.

mod nmi;
mod paranoid;
mod stubs;

pub(in crate::arch) use self::paranoid::ringside_clac_paranoid;
pub(in crate::arch) use self::stubs::stubs;

use core::arch::naked_asm;
use core::mem::offset_of;

use crate::arch::entry::registers::{restore_registers, save_registers};
use crate::arch::entry::trap::{trap_from_kernel, trap_from_user};
use crate::arch::exit::points::iret_to_user;
use crate::arch::panic::check;
use crate::arch::percpu::PerCpuData;
use crate::arch::percpu::events;
use crate::frame::{InterruptFrame, SyscallFrame, TrapFrame};
use crate::selectors::{USER_CODE, USER_DATA};
use crate::sysret::{Return, may_sysret};

/// The dispatcher that [`syscall_entry`] calls. The dispatcher is a type parameter, so the call is direct and can be
/// inlined.
pub trait Calls {
    /// Runs the system call whose number is in the frame's rax and stores its result in rax.
    fn dispatch(frame: &mut SyscallFrame, cpu: &PerCpuData);
}

/// Unsafe wrapper around the dispatcher: turns the entry code's pointers into references and calls safe code.
///
/// Returns whether `sysretq` may return to ring 3.
///
/// # Safety
/// Only [`syscall_entry`] may call this: on the syscall stack, whose top holds `frame`, with the kernel GS base loaded
/// and with `cpu` read from `gs:[0]`.
unsafe extern "sysv64" fn syscall_wrapper<C: Calls>(
    frame: *mut SyscallFrame,
    cpu: *const PerCpuData,
) -> bool {
    // SAFETY: `frame` is the frame that the entry code has just pushed, and nothing else refers to it (invariant:
    // ONE-STACK). `cpu` is the first word at the GS base (invariant: GS-BASE).
    let (frame, cpu) = unsafe { (&mut *frame, &*cpu) };
    check::entry(cpu);
    let cpu = events::syscall_enter(frame, cpu);
    C::dispatch(frame, cpu);
    check::entry_flags(cpu, " after a call");
    events::syscall_exit(frame);
    let (rip, rflags) = (frame.user.rip, frame.user.rflags);
    // Both exit paths load rcx from `rip` and r11 from `rflags`.
    may_sysret(&Return { rip, rflags, rcx: rip, r11: rflags })
}

/// Entry point of `syscall`: the address in IA32_LSTAR.
///
/// On entry (SDM 2B, SYSCALL): ring 0; CS and SS are flat; rcx = user RIP; r11 = user RFLAGS; the RFLAGS bits in SFMASK
/// are clear, so interrupts are off; **rsp, the GS base and all other registers still hold user values**. NMI, #DB, #MC
/// and #DF can arrive at any instruction; each has its own IST stack, and the word above its trap frame holds the
/// address of [`PerCpuData`]. No other exception can arrive before rsp points to the kernel stack: until then, no
/// instruction accesses memory through a register that ring 3 controls.
///
/// On return to ring 3: all registers are unchanged except rax (the result), rcx (RIP) and r11 (RFLAGS).
///
/// ```text
///   syscall_stack_top ->  +--------+
///                         | ss     |  InterruptFrame, the layout of iretq
///                         | rsp    |
///                         | rflags |  from r11
///                         | cs     |
///                         | rip    |  from rcx
///                         +--------+
///                         | rax    |  number in, result out
///                         | rdi    |  arguments 1 to 6
///                         | rsi    |
///                         | rdx    |
///                         | r10    |
///                         | r8     |
///                         | r9     |
///                         | rbx    |  user registers, callee-saved
///                         | rbp    |
///                         | r12    |
///                         | r13    |
///                         | r14    |
///                  rsp -> | r15    |  16-byte aligned
///                         +--------+
/// ```
///
/// # Safety
/// Only the `syscall` instruction may enter here, after `this_cpu::set_up` on this CPU. Compiled code must not call
/// this function.
#[unsafe(naked)]
pub unsafe extern "sysv64" fn syscall_entry<C: Calls>() {
    naked_asm!(
        // Switch to the kernel GS base, save the user rsp in per-CPU data, and switch to this CPU's syscall stack.
        "swapgs",
        "mov    gs:[{user_rsp}], rsp",
        "mov    rsp, gs:[{stack_top}]",

        // Push the frame for iretq.
        "push   {user_data}",
        "push   qword ptr gs:[{user_rsp}]",
        "push   r11",
        "push   {user_code}",
        "push   rcx",

        // Push the system-call number and the arguments.
        "push   rax",
        "push   rdi",
        "push   rsi",
        "push   rdx",
        "push   r10",
        "push   r8",
        "push   r9",

        // Push the remaining user registers.
        "push   rbx",
        "push   rbp",
        "push   r12",
        "push   r13",
        "push   r14",
        "push   r15",

        // rbp = 0 ends the backtrace. Pass the frame in rdi and this CPU's data in rsi.
        "xor    ebp, ebp",
        "mov    rdi, rsp",
        "mov    rsi, gs:[{this}]",
        "call   {wrapper}",

        // Test the result in al before `pop rax`; `pop` does not change flags. Then restore the user registers.
        "test   al, al",
        "pop    r15",
        "pop    r14",
        "pop    r13",
        "pop    r12",
        "pop    rbp",
        "pop    rbx",
        "pop    r9",
        "pop    r8",
        "pop    r10",
        "pop    rdx",
        "pop    rsi",
        "pop    rdi",
        "pop    rax",
        "jz     2f",

        // Exit with sysretq. From `mov rsp` on, ring 0 runs on the user rsp with interrupts off.
        "mov    rcx, [rsp + {rip}]",
        "mov    r11, [rsp + {rflags}]",
        "mov    rsp, [rsp + {rsp}]",
        "swapgs",
        "sysretq",

        // Exit with iretq, for a state that sysretq cannot restore or must not be used for. rsp points to the
        // InterruptFrame.
        "2:",
        "mov    rcx, [rsp + {rip}]",
        "mov    r11, [rsp + {rflags}]",
        "jmp    {iret_to_user}",
        user_rsp = const offset_of!(PerCpuData, user_rsp),
        stack_top = const offset_of!(PerCpuData, syscall_stack_top),
        this = const offset_of!(PerCpuData, this),
        user_data = const USER_DATA.0,
        user_code = const USER_CODE.0,
        rip = const offset_of!(InterruptFrame, rip),
        rflags = const offset_of!(InterruptFrame, rflags),
        rsp = const offset_of!(InterruptFrame, rsp),
        wrapper = sym syscall_wrapper::<C>,
        iret_to_user = sym iret_to_user,
    )
}

/// Common entry code of all vectors except NMI, #DB, #MC and #DF, which use [`paranoid_common`]. Only the stubs of
/// these vectors may jump here.
///
/// On entry: ring 0; interrupts off (interrupt gates); rsp on the syscall stack (from ring 3) or on the interrupted
/// stack (from ring 0), with the error code and the vector below the words that the CPU pushed; DF and AC as in the
/// interrupted code, because gates do not clear them. The user GS base is loaded if the frame's CS has RPL 3, or if the
/// interrupted instruction is the `iretq` of [`iret_to_user`]; otherwise the kernel GS base is loaded.
///
/// On return: all registers are unchanged, unless the handler changed the frame.
///
/// ```text
///                         | ss, rsp, rflags, cs, rip |  by the CPU
///                         | error code               |  by the CPU or the stub
///                         | vector                   |  by the stub
///                         | rax ... r14              |
///                  rsp -> | r15                      |  TrapFrame, 16-byte aligned
/// ```
#[unsafe(naked)]
unsafe extern "sysv64" fn trap_common() {
    naked_asm!(
        "cld",
        // Patched to `clac` at boot if the CPU has SMAP.
        ".globl ringside_clac_trap",
        "ringside_clac_trap:",
        "nop    dword ptr [rax]",

        save_registers!(),

        "xor    ebp, ebp",
        "mov    rdi, rsp",
        "test   byte ptr [rsp + {cs}], 3",
        "jz     3f",

        // From ring 3.
        "swapgs",
        "mov    rsi, gs:[{this}]",
        "call   {from_user}",
        restore_registers!(),
        "add    rsp, {stub_words}",
        "jmp    {iret_to_user}",

        // From ring 0. If the iretq to ring 3 faulted, the user GS base is already loaded.
        "3:",
        "lea    rax, [rip + ringside_iretq_to_user]",
        "cmp    rax, [rsp + {rip}]",
        "jne    4f",
        "swapgs",
        "4:",
        // Reload the interrupted code's frame pointer, so that a backtrace continues through the trap.
        "mov    rbp, [rsp + {rbp}]",
        "call   {from_kernel}",
        restore_registers!(),
        "add    rsp, {stub_words}",
        "iretq",
        cs = const offset_of!(TrapFrame, interrupted) + offset_of!(InterruptFrame, cs),
        rip = const offset_of!(TrapFrame, interrupted) + offset_of!(InterruptFrame, rip),
        rbp = const offset_of!(TrapFrame, rbp),
        this = const offset_of!(PerCpuData, this),
        stub_words = const offset_of!(TrapFrame, interrupted) - offset_of!(TrapFrame, vector),
        from_user = sym trap_from_user,
        from_kernel = sym trap_from_kernel,
        iret_to_user = sym iret_to_user,
    )
}

unsafe extern "sysv64" {
    /// The three-byte NOP in [`trap_common`] that is patched to `clac`.
    pub(in crate::arch) fn ringside_clac_trap();
}
