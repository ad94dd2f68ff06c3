//! The whole state of a CPU as ring 3 sees it: entered by `iretq`, and stored when the code comes back.

use core::arch::naked_asm;
use core::cell::UnsafeCell;
use core::mem::offset_of;

use user::fpu::Fpu;

/// Ring 3's code and data segment (`docs/syscall-abi.md`).
pub const CODE: u64 = 0x23;
/// See [`CODE`].
pub const DATA: u64 = 0x1b;

/// All registers that a program can load. The last five are the frame that `iretq` takes.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(missing_docs, reason = "the registers are their own names")]
pub struct State {
    pub fpu: Fpu,
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rbp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

impl State {
    /// Nothing in any register, and nowhere to go.
    pub const ZERO: State = State {
        fpu: Fpu::RESET,
        rax: 0,
        rbx: 0,
        rcx: 0,
        rdx: 0,
        rsi: 0,
        rdi: 0,
        rbp: 0,
        r8: 0,
        r9: 0,
        r10: 0,
        r11: 0,
        r12: 0,
        r13: 0,
        r14: 0,
        r15: 0,
        rip: 0,
        cs: CODE,
        rflags: 0x202,
        rsp: 0,
        ss: DATA,
    };

    /// The general registers and rsp, with their names.
    pub fn integers(&self) -> [(&'static str, u64); 16] {
        [
            ("rax", self.rax),
            ("rbx", self.rbx),
            ("rcx", self.rcx),
            ("rdx", self.rdx),
            ("rsi", self.rsi),
            ("rdi", self.rdi),
            ("rbp", self.rbp),
            ("r8", self.r8),
            ("r9", self.r9),
            ("r10", self.r10),
            ("r11", self.r11),
            ("r12", self.r12),
            ("r13", self.r13),
            ("r14", self.r14),
            ("r15", self.r15),
            ("rsp", self.rsp),
        ]
    }
}

/// A state at an address that the assembly knows: no register is left to point anywhere.
struct Block(UnsafeCell<State>);

// SAFETY: a program is one thread, and only `run` and what it enters touch the blocks.
unsafe impl Sync for Block {}

static BEFORE: Block = Block(UnsafeCell::new(State::ZERO));
static AFTER: Block = Block(UnsafeCell::new(State::ZERO));

/// The stack pointer of whoever entered a state.
#[repr(transparent)]
struct OwnStack(UnsafeCell<u64>);

// SAFETY: as for Block.
unsafe impl Sync for OwnStack {}

static OWN_STACK: OwnStack = OwnStack(UnsafeCell::new(0));

/// Enters a state. Returns the one that was there when the code at its rip went to [`back`]; cs and ss are not stored.
///
/// # Safety
/// The code at `state.rip` goes to [`back`], or does not come back at all, and leaves alone what Rust uses.
pub unsafe fn run(state: &State) -> State {
    // SAFETY: nobody else touches the blocks (see Block), and no reference to them is alive meanwhile; the rest is the
    // caller's promise.
    unsafe {
        *BEFORE.0.get() = *state;
        enter();
        *AFTER.0.get()
    }
}

/// Loads the state from `BEFORE`.
///
/// Given: a call by the System V convention. Leaves, by [`back`]: what that convention asks for. The stack, from the
/// top:
///
/// ```text
///            return address
///            rbp rbx r12 r13 r14 r15   the caller's, to be kept
///            rflags                    the caller's: whatever flags the state has must not stay
///     rsp -> MXCSR, x87 control word   the caller's, four bytes each
/// ```
#[unsafe(naked)]
unsafe extern "sysv64" fn enter() {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "pushfq",
        "sub rsp, 8",
        "stmxcsr [rsp]",
        "fnstcw [rsp + 4]",
        "mov [rip + {own}], rsp",

        "fxrstor64 [rip + {before} + {fpu}]",
        "mov rax, [rip + {before} + {rax}]",
        "mov rbx, [rip + {before} + {rbx}]",
        "mov rcx, [rip + {before} + {rcx}]",
        "mov rdx, [rip + {before} + {rdx}]",
        "mov rsi, [rip + {before} + {rsi}]",
        "mov rdi, [rip + {before} + {rdi}]",
        "mov rbp, [rip + {before} + {rbp}]",
        "mov r8, [rip + {before} + {r8}]",
        "mov r9, [rip + {before} + {r9}]",
        "mov r10, [rip + {before} + {r10}]",
        "mov r11, [rip + {before} + {r11}]",
        "mov r12, [rip + {before} + {r12}]",
        "mov r13, [rip + {before} + {r13}]",
        "mov r14, [rip + {before} + {r14}]",
        "mov r15, [rip + {before} + {r15}]",
        "lea rsp, [rip + {before} + {rip}]",
        "jmp {go}",
        own = sym OWN_STACK,
        before = sym BEFORE,
        go = sym go,
        fpu = const offset_of!(State, fpu),
        rax = const offset_of!(State, rax),
        rbx = const offset_of!(State, rbx),
        rcx = const offset_of!(State, rcx),
        rdx = const offset_of!(State, rdx),
        rsi = const offset_of!(State, rsi),
        rdi = const offset_of!(State, rdi),
        rbp = const offset_of!(State, rbp),
        r8 = const offset_of!(State, r8),
        r9 = const offset_of!(State, r9),
        r10 = const offset_of!(State, r10),
        r11 = const offset_of!(State, r11),
        r12 = const offset_of!(State, r12),
        r13 = const offset_of!(State, r13),
        r14 = const offset_of!(State, r14),
        r15 = const offset_of!(State, r15),
        rip = const offset_of!(State, rip),
    )
}

/// The `iretq` that enters a state, alone, so that its address is known: it faults on a bad frame.
///
/// Given: rsp at a frame of five words. Leaves: what the frame says.
#[unsafe(naked)]
pub unsafe extern "sysv64" fn go() {
    naked_asm!("iretq")
}

/// Where entered code ends: stores the state to `AFTER` and returns from [`enter`].
///
/// Given: any state. Only code that [`enter`] has entered may come here, and only once each time.
#[unsafe(naked)]
pub unsafe extern "sysv64" fn back() {
    naked_asm!(
        // rsp is put right before the stack is used again.
        "mov [rip + {after} + {rax}], rax",
        "mov [rip + {after} + {rbx}], rbx",
        "mov [rip + {after} + {rcx}], rcx",
        "mov [rip + {after} + {rdx}], rdx",
        "mov [rip + {after} + {rsi}], rsi",
        "mov [rip + {after} + {rdi}], rdi",
        "mov [rip + {after} + {rbp}], rbp",
        "mov [rip + {after} + {r8}], r8",
        "mov [rip + {after} + {r9}], r9",
        "mov [rip + {after} + {r10}], r10",
        "mov [rip + {after} + {r11}], r11",
        "mov [rip + {after} + {r12}], r12",
        "mov [rip + {after} + {r13}], r13",
        "mov [rip + {after} + {r14}], r14",
        "mov [rip + {after} + {r15}], r15",
        "mov [rip + {after} + {rsp}], rsp",
        "mov rsp, [rip + {own}]",
        "pushfq",
        "pop qword ptr [rip + {after} + {rflags}]",
        "fxsave64 [rip + {after} + {fpu}]",

        "fninit",
        "fldcw [rsp + 4]",
        "ldmxcsr [rsp]",
        "add rsp, 8",
        "popfq",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
        own = sym OWN_STACK,
        after = sym AFTER,
        fpu = const offset_of!(State, fpu),
        rax = const offset_of!(State, rax),
        rbx = const offset_of!(State, rbx),
        rcx = const offset_of!(State, rcx),
        rdx = const offset_of!(State, rdx),
        rsi = const offset_of!(State, rsi),
        rdi = const offset_of!(State, rdi),
        rbp = const offset_of!(State, rbp),
        r8 = const offset_of!(State, r8),
        r9 = const offset_of!(State, r9),
        r10 = const offset_of!(State, r10),
        r11 = const offset_of!(State, r11),
        r12 = const offset_of!(State, r12),
        r13 = const offset_of!(State, r13),
        r14 = const offset_of!(State, r14),
        r15 = const offset_of!(State, r15),
        rflags = const offset_of!(State, rflags),
        rsp = const offset_of!(State, rsp),
    )
}
