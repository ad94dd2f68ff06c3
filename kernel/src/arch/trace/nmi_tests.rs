//! An NMI at every instruction of the writer.
//!
//! The host's own single-stepping serves for it: with TF set, each instruction ends in SIGTRAP, whose handler is to this
//! thread what an NMI is to a CPU, and at the chosen instruction does what an NMI's handler does to the trace. The code is
//! not to the byte the kernel's, but what must be one instruction is `asm!` in any build.

use std::cell::{Cell, RefCell};
use std::sync::Once;
use std::vec::Vec;
use std::{mem, ptr};

use super::tests::{CAPACITY, Traced};
use super::*;

/// What happens at which step.
struct Strike<'a> {
    steps: Cell<u64>,
    at: u64,
    nmi: RefCell<Option<&'a mut dyn FnMut()>>,
}

std::thread_local! {
    static STRIKE: Cell<*const Strike<'static>> = const { Cell::new(ptr::null()) };
}

extern "sysv64" fn on_trap(_signal: libc::c_int) {
    // SAFETY: `struck` set it, on this thread, and clears it before the strike is gone.
    let Some(strike) = (unsafe { STRIKE.get().as_ref() }) else { return };
    strike.steps.set(strike.steps.get() + 1);
    if strike.steps.get() == strike.at
        && let Some(nmi) = strike.nmi.take()
    {
        nmi();
    }
}

/// Ends the stepping, also of a road that panics.
struct Stepping;

impl Drop for Stepping {
    fn drop(&mut self) {
        // SAFETY: TF alone is cleared.
        unsafe { asm!("pushfq", "and dword ptr [rsp], ~0x100", "popfq") };
        STRIKE.set(ptr::null());
    }
}

/// Runs `road`, and `nmi`, which must not panic, behind its instruction number `at`, from 1. False: it has not so many.
fn struck(at: u64, road: &dyn Fn(), nmi: &mut dyn FnMut()) -> bool {
    /// The handler is the whole process's; each thread has its own strike.
    static HANDLER: Once = Once::new();
    HANDLER.call_once(|| {
        // SAFETY: zeroes are a valid sigaction, and the handler is one.
        let result = unsafe {
            let mut action: libc::sigaction = mem::zeroed();
            action.sa_sigaction = on_trap as *const () as usize;
            libc::sigaction(libc::SIGTRAP, &action, ptr::null_mut())
        };
        assert_eq!(result, 0, "no handler for SIGTRAP");
    });
    let strike = Strike { steps: Cell::new(0), at, nmi: RefCell::new(Some(nmi)) };
    STRIKE.set((&raw const strike).cast());
    let stepping = Stepping;
    // SAFETY: TF alone is set, and cleared again by `Stepping`; every trap goes to the handler.
    unsafe { asm!("pushfq", "or dword ptr [rsp], 0x100", "popfq") };
    road();
    drop(stepping);
    assert!(strike.steps.get() > 10, "nothing is stepped here");
    strike.nmi.into_inner().is_none()
}

/// What the ring is like when the event comes.
#[derive(Clone, Copy, Debug)]
enum Before {
    Empty,
    /// No place is left.
    Full,
    /// Records were dropped, and the host has not come since.
    Dropping,
    /// Records were dropped, and then the host has made room.
    RoomAgain,
}

/// Events before, one at whose instruction `at` the NMI comes, and one at the end: none is lost that is not told. False:
/// it has not so many instructions.
fn everything_is_accounted_for(before: Before, nmis: u64, host_comes: bool, at: u64) -> bool {
    let traced = Traced::new(true);
    let room = CAPACITY as u64 - SLACK;
    let first = match before {
        Before::Empty => 0,
        Before::Full => room,
        Before::Dropping | Before::RoomAgain => room + 3,
    };
    (0..first).for_each(|n| traced.event(n));
    let seen = RefCell::new(Vec::new());
    let look = || seen.borrow_mut().extend(traced.take(u64::MAX));
    if let Before::RoomAgain = before {
        look();
    }
    let mut nmi = || {
        if host_comes {
            look();
        }
        (1000..1000 + nmis).for_each(|n| traced.event(n));
    };
    let was_struck = struck(at, &|| traced.event(2000), &mut nmi);
    let waiting = traced.ring().header.head - traced.taken.get();
    look();
    traced.event(3000);
    look();
    let events = first + 2 + if was_struck { nmis } else { 0 };
    let seen = seen.into_inner();
    let told: u64 = seen.iter().filter(|(kind, ..)| *kind == Kind::Dropped as u16).map(|(_, a, _)| a).sum();
    let whole = seen.iter().filter(|(kind, a, b)| *kind == Kind::User as u16 && *b == !a).count() as u64;
    let case = std::format!(
        "{before:?}, NMI with {nmis} events behind instruction {at}, host comes: {host_comes}: {seen:?}"
    );
    assert_eq!((whole + told, told), (events, traced.ring().header.dropped), "{case}");
    assert_eq!(traced.taken.get(), traced.ring().header.head, "unfinished: {case}");
    assert!(waiting <= CAPACITY as u64, "{} places are in use: {case}", waiting);
    was_struck
}

#[test]
fn an_nmi_at_any_instruction_loses_nothing_untold() {
    for before in [Before::Empty, Before::Full, Before::Dropping, Before::RoomAgain] {
        // Some, and more than the ring takes.
        for (nmis, host_comes) in [(2, false), (2, true), (20, false), (20, true)] {
            let last = (1..).find(|at| !everything_is_accounted_for(before, nmis, host_comes, *at));
            assert!(last.is_some_and(|last| last > 30), "{last:?} instructions");
        }
    }
}
