//! The road itself: from ring 3 into ring 0 by `syscall`, interrupt and exception, and back.
//!
//! Assembly only saves, switches and restores; every decision is Rust's. A label for each place that other code
//! must know by address is exported at the end of the file.

use core::arch::naked_asm;
use core::mem::{offset_of, size_of};

use crate::arch::cpu::msr::IA32_GS_BASE;
use crate::arch::entry::trap::{paranoid_trap, trap_from_kernel, trap_from_user};
use crate::arch::exit::points::iret_to_user;
use crate::arch::panic::check;
use crate::arch::percpu::PerCpuData;
use crate::arch::percpu::events;
use crate::frame::{InterruptFrame, SyscallFrame, TrapFrame};
use crate::selectors::{USER_CODE, USER_DATA};
use crate::sysret::{Return, may_sysret};

/// The system calls: what [`syscall_entry`] leads to. A type, so that the call is a direct one that may be inlined.
pub trait Calls {
    /// Runs the call that the frame names and puts its result there.
    fn dispatch(frame: &mut SyscallFrame, cpu: &PerCpuData);
}

/// The syscall road's unsafe shell: five lines that turn pointers into references.
///
/// Returns whether `sysretq` may take ring 3 back.
unsafe extern "sysv64" fn syscall_shell<C: Calls>(frame: *mut SyscallFrame, cpu: *const PerCpuData) -> bool {
    // SAFETY: the entry passes the frame that it has just pushed, which nobody else knows of, and the GS base's
    // own pointer (invariants: GS-BASE, ONE-STACK).
    let (frame, cpu) = unsafe { (&mut *frame, &*cpu) };
    check::entry(cpu);
    let cpu = events::syscall_enter(frame, cpu);
    C::dispatch(frame, cpu);
    check::entry_flags(cpu, " after a call");
    events::syscall_exit(frame);
    let (rip, rflags) = (frame.user.rip, frame.user.rflags);
    // Both ways out load rcx and r11 from these two.
    may_sysret(&Return { rip, rflags, rcx: rip, r11: rflags })
}

/// Where `syscall` enters, by IA32_LSTAR.
///
/// Given (SDM 2B, SYSCALL): ring 0, CS and SS flat; rcx = ring 3's RIP, r11 = its RFLAGS; RFLAGS less SFMASK, so
/// interrupts are off; **rsp, GS base and all other registers still ring 3's**. An NMI, #DB, #MC or #DF may come
/// at any instruction and has its own stack and its own way to [`PerCpuData`]; nothing else can come before rsp
/// is ours, because nothing here touches memory through a register of ring 3's.
///
/// Leaves: every register as it was but rax (the result), rcx (RIP) and r11 (RFLAGS).
///
/// ```text
///   syscall_stack_top ->  +--------+
///                         | ss     |  InterruptFrame, as iretq wants it
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
///                         | rbx    |  ring 3's, callee-saved
///                         | rbp    |
///                         | r12    |
///                         | r13    |
///                         | r14    |
///                  rsp -> | r15    |  16-byte aligned
///                         +--------+
/// ```
///
/// # Safety
/// Only `syscall` leads here, on a CPU that is set up; compiled code cannot call it.
#[unsafe(naked)]
pub unsafe extern "sysv64" fn syscall_entry<C: Calls>() {
    naked_asm!(
        // This CPU's data behind GS, ring 3's stack pointer out of the way, our own stack.
        "swapgs",
        "mov    gs:[{user_rsp}], rsp",
        "mov    rsp, gs:[{stack_top}]",

        // What iretq would take back.
        "push   {user_data}",
        "push   qword ptr gs:[{user_rsp}]",
        "push   r11",
        "push   {user_code}",
        "push   rcx",

        // Number and arguments.
        "push   rax",
        "push   rdi",
        "push   rsi",
        "push   rdx",
        "push   r10",
        "push   r8",
        "push   r9",

        // The rest of ring 3's registers.
        "push   rbx",
        "push   rbp",
        "push   r12",
        "push   r13",
        "push   r14",
        "push   r15",

        // The end of the backtrace; the frame and this CPU's data.
        "xor    ebp, ebp",
        "mov    rdi, rsp",
        "mov    rsi, gs:[{this}]",
        "call   {shell}",

        // Ring 3's registers; al, the answer, is looked at before rax is ring 3's.
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

        // Out by sysretq. From `mov rsp` on the stack is ring 3's, with interrupts off.
        "mov    rcx, [rsp + {rip}]",
        "mov    r11, [rsp + {rflags}]",
        "mov    rsp, [rsp + {rsp}]",
        "swapgs",
        "sysretq",

        // Out by iretq, for what sysretq must not or cannot restore. rsp is at the InterruptFrame.
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

/// Pushes the general-purpose registers of a [`TrapFrame`], whose upper part is on the stack.
///
/// ```text
///   rsp before ->  | vector |  pushed by the stub, with the error code and what the CPU pushed above it
///                  | rax    |
///                  | rbx    |
///                  | rcx    |
///                  | rdx    |
///                  | rsi    |
///                  | rdi    |
///                  | rbp    |
///                  | r8     |
///                  | r9     |
///                  | r10    |
///                  | r11    |
///                  | r12    |
///                  | r13    |
///                  | r14    |
///   rsp after  ->  | r15    |  the frame's address, 16-byte aligned
/// ```
macro_rules! save_registers {
    () => {
        concat!(
            "push   rax\n",
            "push   rbx\n",
            "push   rcx\n",
            "push   rdx\n",
            "push   rsi\n",
            "push   rdi\n",
            "push   rbp\n",
            "push   r8\n",
            "push   r9\n",
            "push   r10\n",
            "push   r11\n",
            "push   r12\n",
            "push   r13\n",
            "push   r14\n",
            "push   r15\n",
        )
    };
}

/// Pops what [`save_registers`] pushed: all general-purpose registers. rsp is then at the frame's vector.
macro_rules! restore_registers {
    () => {
        concat!(
            "pop    r15\n",
            "pop    r14\n",
            "pop    r13\n",
            "pop    r12\n",
            "pop    r11\n",
            "pop    r10\n",
            "pop    r9\n",
            "pop    r8\n",
            "pop    rbp\n",
            "pop    rdi\n",
            "pop    rsi\n",
            "pop    rdx\n",
            "pop    rcx\n",
            "pop    rbx\n",
            "pop    rax\n",
        )
    };
}

/// The words of a [`TrapFrame`] from its start, in the order in which [`restore_registers`] pops them.
const _: () = {
    let words = [
        offset_of!(TrapFrame, r15),
        offset_of!(TrapFrame, r14),
        offset_of!(TrapFrame, r13),
        offset_of!(TrapFrame, r12),
        offset_of!(TrapFrame, r11),
        offset_of!(TrapFrame, r10),
        offset_of!(TrapFrame, r9),
        offset_of!(TrapFrame, r8),
        offset_of!(TrapFrame, rbp),
        offset_of!(TrapFrame, rdi),
        offset_of!(TrapFrame, rsi),
        offset_of!(TrapFrame, rdx),
        offset_of!(TrapFrame, rcx),
        offset_of!(TrapFrame, rbx),
        offset_of!(TrapFrame, rax),
        offset_of!(TrapFrame, vector),
    ];
    let mut index = 0;
    while index < words.len() {
        assert!(words[index] == 8 * index, "the registers are not where save_registers pushes them");
        index += 1;
    }
};

/// Where the stub of an ordinary vector goes on.
///
/// Given: ring 0, interrupts off (interrupt gates), rsp = the syscall stack (from ring 3) or the interrupted
/// stack (from ring 0) with vector and error code on top of what the CPU pushed; DF and AC still the
/// interrupted code's, for gates do not clear them; GS base ring 3's if the frame's CS says ring 3, or if
/// the interrupted instruction is the `iretq` of [`iret_to_user`]; else ours.
///
/// Leaves: everything as it was found, unless the handler changed the frame.
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
        // `clac`, written over this no-operation at boot where the CPU has SMAP.
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

        // From ring 0. If it is the iretq to ring 3 that faulted, GS is ring 3's already.
        "3:",
        "lea    rax, [rip + ringside_iretq_to_user]",
        "cmp    rax, [rsp + {rip}]",
        "jne    4f",
        "swapgs",
        "4:",
        // The interrupted code's frame pointer lets a backtrace go on through the trap.
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

/// Where the stubs of NMI, #DB, #MC and #DF go on: the vectors that can strike between any two instructions.
///
/// Given: ring 0, interrupts off, rsp = this vector's own IST stack, whose top word holds the address of this
/// CPU's [`PerCpuData`]; **nothing known about GS**: at the first instruction of [`syscall_entry`] CS says ring 0
/// while the base is ring 3's. So neither CS nor the base's sign is asked: the base is saved, set and put back.
/// KERNEL_GS_BASE is not touched. An NMI stays masked until this `iretq`: nothing in between may fault.
#[unsafe(naked)]
unsafe extern "sysv64" fn paranoid_common() {
    naked_asm!(
        "cld",
        ".globl ringside_clac_paranoid",
        "ringside_clac_paranoid:",
        "nop    dword ptr [rax]",

        save_registers!(),

        // The found GS base goes to r12, which the handler preserves.
        "mov    ecx, {ia32_gs_base}",
        "rdmsr",
        "shl    rdx, 32",
        "mov    r12, rax",
        "or     r12, rdx",

        // This CPU's data, from this stack's top word.
        "mov    rsi, [rsp + {frame_size}]",
        "mov    rax, rsi",
        "mov    rdx, rsi",
        "shr    rdx, 32",
        "wrmsr",

        "mov    rdi, rsp",
        "call   {handler}",

        // The base as it was found.
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

/// A stub a vector: makes the stack look the same for all of them and jumps to the common part.
///
/// Given: what the CPU pushes, error code included where the vector has one. Touches no register.
macro_rules! stubs {
    ($($name:ident: $vector:literal, $error_code:ident, $common:ident;)+) => {
        $(
            #[unsafe(naked)]
            unsafe extern "sysv64" fn $name() {
                stubs!(@$error_code $vector, $common)
            }
        )+
        /// Every vector that has a gate, with its stub's address.
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
    /// Three bytes in [`trap_common`] that become `clac`.
    pub(in crate::arch) fn ringside_clac_trap();
    /// Three bytes in [`paranoid_common`] that become `clac`.
    pub(in crate::arch) fn ringside_clac_paranoid();
}
