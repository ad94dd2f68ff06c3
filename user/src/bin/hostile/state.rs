//! The whole state of a CPU as ring 3 sees it: entered by `iretq`, and stored when the code comes back.

use core::arch::naked_asm;
use core::cell::UnsafeCell;
use core::mem::offset_of;

pub use user::registers::{CODE, DATA, Registers as State};
use user::{load_integers, registers_asm, store_integers};

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
    registers_asm!(
        // rsp is put right before the stack is used again.
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
