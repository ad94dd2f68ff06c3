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
use crate::exception::NMI;
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

/// Common code of NMI, #DB, #MC and #DF, the vectors that can arrive between any two instructions. Only the stubs
/// of these vectors may jump here.
///
/// On entry: ring 0; interrupts off; rsp in this vector's own IST stack, where the word above the frame holds the
/// address of this CPU's [`PerCpuData`]; **the GS base may be the user's or the kernel's**: at the first instruction of
/// [`syscall_entry`], CS has RPL 0 but the user GS base is loaded. So this code tests neither CS nor the sign of the
/// base. It always saves the base, sets it and restores it. IA32_KERNEL_GS_BASE does not change.
///
/// On return: all registers and the GS base are unchanged, unless the handler changed the frame. An NMI returns through
/// [`nmi_entry`].
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
        "cmp    byte ptr [rsp], {nmi}",
        "je     {nmi_exit}",
        "add    rsp, {stub_words}",
        "iretq",
        nmi = const NMI,
        nmi_exit = sym ringside_nmi_exit,
        ia32_gs_base = const IA32_GS_BASE,
        frame_size = const size_of::<TrapFrame>(),
        stub_words = const offset_of!(TrapFrame, interrupted) - offset_of!(TrapFrame, vector),
        handler = sym paranoid_trap,
    )
}

/// The words above a trap frame on the NMI stack, up to the stack's top.
#[repr(C)]
struct NmiStack {
    /// The frame of the NMI that is being handled. Its `iretq` pops this frame. It is the upper end of the
    /// [`TrapFrame`].
    kept: InterruptFrame,
    /// A copy of `top.cpu`, which [`paranoid_common`] expects above the frame.
    cpu: *const PerCpuData,
    top: NmiTop,
}

/// The part of [`NmiStack`] that a nested NMI overwrites.
#[repr(C)]
struct NmiTop {
    /// rax of the interrupted code, while [`nmi_entry`] uses it.
    rax: u64,
    /// 0: no NMI is being handled. 1: one is. 2: one is, and another has arrived, for which the handler will run once
    /// more.
    state: u64,
    /// The words that the CPU pushed for the latest NMI.
    latest: InterruptFrame,
    /// The stack's top word.
    cpu: *const PerCpuData,
}

const _: () = {
    let base = size_of::<NmiStack>() - size_of::<*const PerCpuData>() - size_of::<InterruptFrame>();
    assert!(
        (base + size_of::<TrapFrame>()).is_multiple_of(16),
        "the NMI's trap frame must have the same alignment as those of the other vectors"
    );
    assert!(
        offset_of!(NmiTop, latest) == offset_of!(NmiTop, state) + 8,
        "`state` lies below the CPU's words"
    );
    assert!(
        offset_of!(NmiTop, cpu) - offset_of!(NmiTop, latest) == size_of::<InterruptFrame>(),
        "the pushes that copy the frame read consecutive words"
    );
};

/// Entry point of the NMI, and its return.
///
/// An NMI masks further NMIs until the next `iretq`. But an `iretq` in the handler unmasks them, and so may an SMI in
/// the handler: the CPU does not save the NMI-blocking state on SMM entry, so RSM cannot restore it (SDM 3C, 32.8). For
/// a nested NMI the CPU starts at the top of the IST stack again and overwrites the frame there. So the NMI keeps a
/// copy of its frame further down, and runs its handler once more if another NMI has arrived meanwhile. `state` is the
/// word that says so. A nested NMI uses only the words above the copy.
///
/// On entry and return: as for the other stubs with an IST stack.
///
/// Between the entry and the instruction that sets `state` to 1, a nested NMI overwrites a frame that has not been
/// copied. No code can prevent that; the handler recognises it and ends the run.
///
/// ```text
///                         | PerCpuData               |  top word of the stack
///                         | ss, rsp, rflags, cs, rip |  by the CPU, for the latest NMI
///                         | state                    |
///                         | rax                      |
///                         | PerCpuData               |
///                         | ss, rsp, rflags, cs, rip |  the copy
///                         | error code               |  0
///                         | vector                   |  by this code; below: paranoid_common's registers
/// ```
#[unsafe(naked)]
unsafe extern "sysv64" fn nmi_entry() {
    naked_asm!(
        ".globl ringside_nmi_entry",
        "ringside_nmi_entry:",
        "sub    rsp, 8", // state
        "push   rax",

        // An NMI that interrupted ring 3 is not nested. Its RIP may have any value.
        "test   byte ptr [rsp + {cs}], 3",
        "jnz    ringside_nmi_first",

        // If the interrupted RIP is in this code before `ringside_nmi_again`, that NMI's frame is lost: the handler
        // ends the run.
        "lea    rax, [rip + ringside_nmi_entry]",
        "neg    rax",
        "add    rax, [rsp + {rip}]",
        "cmp    rax, offset ringside_nmi_entry_length",
        "jb     ringside_nmi_first",

        // Is an NMI being handled?
        "cmp    qword ptr [rsp + {state}], 0",
        "jne    ringside_nmi_nested",

        // Has it been handled, and is the interrupted RIP one of the two instructions that return from it?
        "lea    rax, [rip + ringside_nmi_decided]",
        "neg    rax",
        "add    rax, [rsp + {rip}]",
        "cmp    rax, offset ringside_nmi_return_length",
        "jae    ringside_nmi_first",

        // Yes: let it run its handler again instead.
        ".globl ringside_nmi_returning",
        "ringside_nmi_returning:",
        "mov    qword ptr [rsp + {state}], 1",
        "lea    rax, [rip + ringside_nmi_again]",
        "mov    [rsp + {rip}], rax",
        "pop    rax",
        "add    rsp, 8",
        "iretq",

        // The interrupted NMI runs its handler again when it is about to return.
        "ringside_nmi_nested:",
        "mov    qword ptr [rsp + {state}], 2",
        "pop    rax",
        "add    rsp, 8",
        "iretq",

        // Copy the words above rax. They are pushed from the highest down, so each lies at the same distance from rsp.
        ".globl ringside_nmi_first",
        "ringside_nmi_first:",
        "push   qword ptr [rsp + {cpu}]",
        "push   qword ptr [rsp + {cpu}]",
        "push   qword ptr [rsp + {cpu}]",
        "push   qword ptr [rsp + {cpu}]",
        "push   qword ptr [rsp + {cpu}]",
        "push   qword ptr [rsp + {cpu}]",
        "mov    rax, [rsp + {kept_rax}]",
        "mov    qword ptr [rsp + {kept_state}], 1",

        // rsp points to the copy, and all registers have the values of the interrupted code.
        ".globl ringside_nmi_again",
        "ringside_nmi_again:",
        "push   0",
        "push   {nmi}",
        "jmp    {common}",

        // rsp points to the vector, and all registers have the values of the interrupted code. One instruction decides
        // whether another NMI has arrived.
        ".globl ringside_nmi_exit",
        "ringside_nmi_exit:",
        "add    rsp, {stub_words}",
        "dec    qword ptr [rsp + {kept_state}]",
        "ringside_nmi_decided:",
        "jnz    ringside_nmi_again",
        "iretq",
        "ringside_nmi_end:",
        ".set ringside_nmi_entry_length, ringside_nmi_again - ringside_nmi_entry",
        ".set ringside_nmi_return_length, ringside_nmi_end - ringside_nmi_decided",
        cs = const offset_of!(NmiTop, latest) + offset_of!(InterruptFrame, cs),
        rip = const offset_of!(NmiTop, latest) + offset_of!(InterruptFrame, rip),
        state = const offset_of!(NmiTop, state),
        cpu = const offset_of!(NmiTop, cpu),
        kept_rax = const offset_of!(NmiStack, top) + offset_of!(NmiTop, rax),
        kept_state = const offset_of!(NmiStack, top) + offset_of!(NmiTop, state),
        stub_words = const offset_of!(TrapFrame, interrupted) - offset_of!(TrapFrame, vector),
        nmi = const NMI,
        common = sym paranoid_common,
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
        /// The vectors that the kernel uses, each with its stub.
        const STUBS: &[(u8, unsafe extern "sysv64" fn())] = &[$(($vector, $name)),+];
    };
    (@none $vector:literal, $common:ident) => {
        naked_asm!("push 0", "push {vector}", "jmp {common}", vector = const $vector, common = sym $common)
    };
    // #AC and the other exceptions with an error code whose vectors can also be delivered as interrupts. An interrupt
    // pushes no error code. The CPU aligns rsp to 16 bytes before it pushes the frame (SDM 3A, 6.14.2), so bit 3 of rsp
    // shows whether it has pushed five words or six. The flags that the test changes are in the frame.
    (@code_or_none $vector:literal, $common:ident) => {
        naked_asm!(
            "test spl, 8",
            "jz 2f",
            "push 0",
            "2:",
            "push {vector}",
            "jmp {common}",
            vector = const $vector,
            common = sym $common,
        )
    };
    (@code $vector:literal, $common:ident) => {
        naked_asm!("push {vector}", "jmp {common}", vector = const $vector, common = sym $common)
    };
}

stubs! {
    vector_00: 0x00, none, trap_common;
    vector_01: 0x01, none, paranoid_common;
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
    vector_11: 0x11, code_or_none, trap_common;
    vector_12: 0x12, none, paranoid_common;
    vector_13: 0x13, none, trap_common;
    vector_14: 0x14, none, trap_common;
    vector_15: 0x15, code_or_none, trap_common;
    vector_16: 0x16, none, trap_common;
    vector_17: 0x17, none, trap_common;
    vector_18: 0x18, none, trap_common;
    vector_19: 0x19, none, trap_common;
    vector_1a: 0x1a, none, trap_common;
    vector_1b: 0x1b, none, trap_common;
    vector_1c: 0x1c, none, trap_common;
    vector_1d: 0x1d, code_or_none, trap_common;
    vector_1e: 0x1e, code_or_none, trap_common;
    vector_1f: 0x1f, none, trap_common;
    vector_20: 0x20, none, trap_common;
    vector_fd: 0xfd, none, trap_common;
    vector_fe: 0xfe, none, trap_common;
    vector_ff: 0xff, none, trap_common;
}

/// The first unused vector. All unused vectors lie between the timer's vector and the wake-up IPI's.
const STRAY_FIRST: u8 = 0x21;
/// The number of unused vectors.
const STRAY_COUNT: u8 = 0xfd - STRAY_FIRST;
/// The length of a stub in [`stray_stubs`], in bytes.
const STRAY_STUB_LEN: u64 = 12;

/// The stubs of the unused vectors, in vector order. Each pushes 0 for the error code and its vector, and jumps to
/// [`trap_common`], as the stubs above do. `push` and `jmp` have 32-bit operands in all of them, so that
/// all have the same length.
///
/// On entry and exit: as for the other stubs.
#[unsafe(naked)]
unsafe extern "sysv64" fn stray_stubs() {
    naked_asm!(
        ".set ringside_stray_vector, {first}",
        ".rept {count}",
        "push 0",
        ".byte 0x68", // push imm32
        ".long ringside_stray_vector",
        ".byte 0xe9", // jmp rel32
        ".long {common} - . - 4",
        ".set ringside_stray_vector, ringside_stray_vector + 1",
        ".endr",
        first = const STRAY_FIRST,
        count = const STRAY_COUNT,
        common = sym trap_common,
    )
}

/// Returns the addresses of the stubs of all vectors, with the vectors.
pub(in crate::arch) fn stubs() -> impl Iterator<Item = (u8, u64)> {
    let nmi: (u8, unsafe extern "sysv64" fn()) = (NMI as u8, nmi_entry);
    let used = STUBS.iter().copied().chain([nmi]).map(|(vector, stub)| (vector, stub as *const () as u64));
    let first = stray_stubs as *const () as u64;
    used.chain((0..STRAY_COUNT).map(move |n| (STRAY_FIRST + n, first + u64::from(n) * STRAY_STUB_LEN)))
}

unsafe extern "sysv64" {
    /// The three-byte NOP in [`trap_common`] that is patched to `clac`.
    pub(in crate::arch) fn ringside_clac_trap();
    /// The three-byte NOP in [`paranoid_common`] that is patched to `clac`.
    pub(in crate::arch) fn ringside_clac_paranoid();
    /// The part of [`nmi_entry`] that returns.
    fn ringside_nmi_exit();
}
