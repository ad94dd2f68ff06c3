//! The entry points of ring 0: `syscall`, interrupts and exceptions, each with its return to the interrupted code.
//!
//! The assembly only saves and restores registers and switches stacks and the GS base; Rust makes every decision. The
//! end of the file declares the labels whose addresses other code needs.

use core::arch::naked_asm;
use core::mem::{offset_of, size_of};

use crate::arch::cpu::msr::IA32_GS_BASE;
use crate::arch::entry::registers::{restore_registers, save_registers};
use crate::arch::entry::trap::{paranoid_trap, trap_from_kernel, trap_from_user};
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
unsafe extern "sysv64" fn syscall_shell<C: Calls>(frame: *mut SyscallFrame, cpu: *const PerCpuData) -> bool {
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
        "call   {shell}",

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
        shell = sym syscall_shell::<C>,
        iret_to_user = sym iret_to_user,
    )
}

/// Common entry code of all vectors except NMI, #DB, #MC and #DF, which use [`paranoid_common`]. Only the stubs of
/// these vectors may jump here.
///
/// On entry: ring 0; interrupts off (interrupt gates); rsp in the syscall stack (from ring 3) or in the interrupted
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

/// Common entry code of NMI, #DB, #MC and #DF, the vectors that can arrive between any two instructions. Only the stubs
/// of these vectors may jump here.
///
/// On entry: ring 0; interrupts off; rsp in this vector's own IST stack, where the word above the frame holds the
/// address of this CPU's [`PerCpuData`]; **the GS base may be the user's or the kernel's**: at the first instruction of
/// [`syscall_entry`], CS has RPL 0 but the user GS base is loaded. So this code tests neither CS nor the sign of the
/// base. It always saves the base, sets it and restores it. IA32_KERNEL_GS_BASE does not change. After an NMI, NMIs
/// stay blocked until the `iretq` of this code, so nothing before it may fault: the `iretq` of a fault handler would
/// unblock them.
///
/// On return: all registers and the GS base are unchanged, unless the handler changed the frame.
///
/// The stack layout is that of [`trap_common`], plus one word above the frame: the address of [`PerCpuData`].
#[unsafe(naked)]
unsafe extern "sysv64" fn paranoid_common() {
    naked_asm!(
        "cld",
        ".globl ringside_clac_paranoid",
        "ringside_clac_paranoid:",
        "nop    dword ptr [rax]",

        save_registers!(),

        // Save the GS base in r12, which the handler preserves.
        "mov    ecx, {ia32_gs_base}",
        "rdmsr",
        "shl    rdx, 32",
        "mov    r12, rax",
        "or     r12, rdx",

        // Set the GS base to the address of this CPU's data, which is in the word above the frame.
        "mov    rsi, [rsp + {frame_size}]",
        "mov    rax, rsi",
        "mov    rdx, rsi",
        "shr    rdx, 32",
        "wrmsr",

        "mov    rdi, rsp",
        "call   {handler}",

        // Restore the GS base.
        "mov    ecx, {ia32_gs_base}",
        "mov    rax, r12",
        "mov    rdx, r12",
        "shr    rdx, 32",
        "wrmsr",

        restore_registers!(),
        "add    rsp, {stub_words}",
        "iretq",
        ia32_gs_base = const IA32_GS_BASE,
        frame_size = const size_of::<TrapFrame>(),
        stub_words = const offset_of!(TrapFrame, interrupted) - offset_of!(TrapFrame, vector),
        handler = sym paranoid_trap,
    )
}

/// Defines one stub for each vector. Each stub brings the stack to the layout shared by all vectors and jumps to the
/// common code.
///
/// On entry: the stack holds the words that the CPU pushed, including an error code if the vector has one. On exit:
/// error code and vector are on the stack, and all registers are unchanged. A stub is entered only through its IDT
/// gate.
macro_rules! stubs {
    ($($name:ident: $vector:literal, $error_code:ident, $common:ident;)+) => {
        $(
            #[unsafe(naked)]
            unsafe extern "sysv64" fn $name() {
                stubs!(@$error_code $vector, $common)
            }
        )+
        /// All vectors that have a gate, each with its stub.
        pub(in crate::arch) const STUBS: &[(u8, unsafe extern "sysv64" fn())] = &[$(($vector, $name)),+];
    };
    (@none $vector:literal, $common:ident) => {
        naked_asm!("push 0", "push {vector}", "jmp {common}", vector = const $vector, common = sym $common)
    };
    (@code $vector:literal, $common:ident) => {
        naked_asm!("push {vector}", "jmp {common}", vector = const $vector, common = sym $common)
    };
}

stubs! {
    vector_00: 0x00, none, trap_common;
    vector_01: 0x01, none, paranoid_common;
    vector_02: 0x02, none, paranoid_common;
    vector_03: 0x03, none, trap_common;
    vector_04: 0x04, none, trap_common;
    vector_05: 0x05, none, trap_common;
    vector_06: 0x06, none, trap_common;
    vector_07: 0x07, none, trap_common;
    vector_08: 0x08, code, paranoid_common;
    vector_09: 0x09, none, trap_common;
    vector_0a: 0x0a, code, trap_common;
    vector_0b: 0x0b, code, trap_common;
    vector_0c: 0x0c, code, trap_common;
    vector_0d: 0x0d, code, trap_common;
    vector_0e: 0x0e, code, trap_common;
    vector_0f: 0x0f, none, trap_common;
    vector_10: 0x10, none, trap_common;
    vector_11: 0x11, code, trap_common;
    vector_12: 0x12, none, paranoid_common;
    vector_13: 0x13, none, trap_common;
    vector_14: 0x14, none, trap_common;
    vector_15: 0x15, code, trap_common;
    vector_16: 0x16, none, trap_common;
    vector_17: 0x17, none, trap_common;
    vector_18: 0x18, none, trap_common;
    vector_19: 0x19, none, trap_common;
    vector_1a: 0x1a, none, trap_common;
    vector_1b: 0x1b, none, trap_common;
    vector_1c: 0x1c, none, trap_common;
    vector_1d: 0x1d, code, trap_common;
    vector_1e: 0x1e, code, trap_common;
    vector_1f: 0x1f, none, trap_common;
    vector_20: 0x20, none, trap_common;
    vector_fd: 0xfd, none, trap_common;
    vector_fe: 0xfe, none, trap_common;
    vector_ff: 0xff, none, trap_common;
}

unsafe extern "sysv64" {
    /// The three-byte NOP in [`trap_common`] that is patched to `clac`.
    pub(in crate::arch) fn ringside_clac_trap();
    /// The three-byte NOP in [`paranoid_common`] that is patched to `clac`.
    pub(in crate::arch) fn ringside_clac_paranoid();
}
