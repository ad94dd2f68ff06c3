//! The complete CPU state of ring 3. The program enters a state by `iretq` and stores it when the code returns.

use core::arch::naked_asm;
use core::cell::UnsafeCell;
use core::mem::offset_of;

pub use user::registers::{CODE, DATA, Registers as State};
use user::{load_general, registers_asm, store_general};

/// A state at a fixed address, which the assembly can name without a pointer, as no register is free to hold one.
struct Block(UnsafeCell<State>);

// SAFETY: a program has one thread, and only `run` and the code that it enters access the blocks.
unsafe impl Sync for Block {}

static BEFORE: Block = Block(UnsafeCell::new(State::ZERO));
static AFTER: Block = Block(UnsafeCell::new(State::ZERO));

/// This program's own stack pointer, restored when the code of an entered state returns.
#[repr(transparent)]
struct OwnStack(UnsafeCell<u64>);

// SAFETY: a program has one thread, and only `enter` and `back` access it.
unsafe impl Sync for OwnStack {}

static OWN_STACK: OwnStack = OwnStack(UnsafeCell::new(0));

/// Enters a state. Returns the state in which its code jumped to [`back`], without cs and ss.
///
/// # Safety
/// The code at `state.rip` jumps to [`back`] or does not return at all, and it changes no memory that Rust uses.
pub unsafe fn run(state: &State) -> State {
    // SAFETY: no other code accesses the blocks (see Block), and no reference to them exists during the call. The
    // caller upholds the rest of the contract.
    unsafe {
        *BEFORE.0.get() = *state;
        enter();
        *AFTER.0.get()
    }
}

/// Loads the state from `BEFORE`.
///
/// Entry state: a System V call. Exit state, through [`back`]: what that convention requires. The stack, from the top:
///
/// ```text
///            return address
///            rbp rbx r12 r13 r14 r15   the caller's, preserved
///            rflags                    the caller's, restored: the state's flags must not stay set
///     rsp -> MXCSR, x87 control word   the caller's, four bytes each
/// ```
#[unsafe(naked)]
unsafe extern "sysv64" fn enter() {
    registers_asm!(
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
        load_general!(),
        "lea rsp, [rip + {before} + {rip}]",
        "jmp {go}",
        own = sym OWN_STACK,
        before = sym BEFORE,
        go = sym go,
        fpu = const offset_of!(State, fpu),
        rip = const offset_of!(State, rip),
    )
}

/// Executes the `iretq` that enters a state. It is a separate function because its address must be known: `iretq`
/// faults on an invalid frame.
///
/// Entry state: rsp points to a frame of five words. Exit state: the state in the frame.
#[unsafe(naked)]
pub unsafe extern "sysv64" fn go() {
    naked_asm!("iretq")
}

/// Ends the entered code: stores the state to `AFTER` and returns from [`enter`].
///
/// Entry state: any. Only code that [`enter`] has entered may jump here, once per entry.
#[unsafe(naked)]
pub unsafe extern "sysv64" fn back() {
    registers_asm!(
        // Restore rsp before the stack is used again.
        store_general!(),
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
        rflags = const offset_of!(State, rflags),
        rsp = const offset_of!(State, rsp),
    )
}
