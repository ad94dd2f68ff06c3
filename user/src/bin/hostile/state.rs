//! The complete CPU state of ring 3: entered by `iretq`, and stored when the code returns.

use core::arch::naked_asm;
use core::cell::UnsafeCell;
use core::mem::offset_of;

pub use user::registers::{CODE, DATA, Registers as State};
use user::{load_integers, registers_asm, store_integers};

/// A state at a fixed address for the assembly: no register is free to hold a pointer.
struct Block(UnsafeCell<State>);

// SAFETY: a program has one thread, and only `run` and the code that it enters access the blocks.
unsafe impl Sync for Block {}

static BEFORE: Block = Block(UnsafeCell::new(State::ZERO));
static AFTER: Block = Block(UnsafeCell::new(State::ZERO));

/// The stack pointer to restore after an entered state.
#[repr(transparent)]
struct OwnStack(UnsafeCell<u64>);

// SAFETY: a program has one thread, and only `enter` and `back` access it.
unsafe impl Sync for OwnStack {}

static OWN_STACK: OwnStack = OwnStack(UnsafeCell::new(0));

/// Enters a state. Returns the state in which its code jumped to [`back`]; cs and ss are not stored.
///
/// # Safety
/// The code at `state.rip` jumps to [`back`] or does not return at all, and does not change memory that Rust uses.
pub unsafe fn run(state: &State) -> State {
    // SAFETY: no other code accesses the blocks (see Block), and no reference to them is alive during the call; the
    // caller upholds the rest.
    unsafe {
        *BEFORE.0.get() = *state;
        enter();
        *AFTER.0.get()
    }
}

/// Loads the state from `BEFORE`.
///
/// Given: a System V call. Leaves, by [`back`]: what that convention requires. The stack, from the top:
///
/// ```text
///            return address
///            rbp rbx r12 r13 r14 r15   the caller's, preserved
///            rflags                    the caller's, so that the state's flags do not stay set
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
        load_integers!(),
        "lea rsp, [rip + {before} + {rip}]",
        "jmp {go}",
        own = sym OWN_STACK,
        before = sym BEFORE,
        go = sym go,
        fpu = const offset_of!(State, fpu),
        rip = const offset_of!(State, rip),
    )
}

/// The `iretq` that enters a state; a separate function, so that its address is known: it faults on an invalid frame.
///
/// Given: rsp at a frame of five words. Leaves: the state in the frame.
#[unsafe(naked)]
pub unsafe extern "sysv64" fn go() {
    naked_asm!("iretq")
}

/// The end of entered code: stores the state to `AFTER` and returns from [`enter`].
///
/// Given: any state. Only code that [`enter`] has entered may jump here, once per entry.
#[unsafe(naked)]
pub unsafe extern "sysv64" fn back() {
    registers_asm!(
        // Restore rsp before the stack is used again.
        store_integers!(),
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
