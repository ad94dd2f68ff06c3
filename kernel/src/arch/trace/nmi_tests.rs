//! Tests of the ring writer with an NMI at each of its instructions.
//!
//! Single-stepping on the host simulates the NMI: with TF set, the thread gets a SIGTRAP after each instruction. The
//! signal handler interrupts the thread as an NMI interrupts a CPU, and at the chosen instruction it records events as
//! the NMI handler does. The compiled instructions differ from the kernel's, but every update that must be a single
//! instruction is `asm!` in both.

use std::cell::{Cell, RefCell};
use std::sync::Once;
use std::vec::Vec;
use std::{mem, ptr};

use super::tests::{CAPACITY, Traced};
use super::*;

/// The injected NMI: the step at which it arrives and the action of its handler.
struct Injection<'a> {
    steps: Cell<u64>,
    at: u64,
    nmi: RefCell<Option<&'a mut dyn FnMut()>>,
}

std::thread_local! {
    static INJECTION: Cell<*const Injection<'static>> = const { Cell::new(ptr::null()) };
}

extern "sysv64" fn on_trap(_signal: libc::c_int) {
    // SAFETY: `with_nmi_after` sets the pointer, on this thread, and `Stepping` clears it before the injection is
    // dropped.
    let Some(injection) = (unsafe { INJECTION.get().as_ref() }) else { return };
    injection.steps.set(injection.steps.get() + 1);
    if injection.steps.get() == injection.at
        && let Some(nmi) = injection.nmi.take()
    {
        nmi();
    }
}

/// Ends single-stepping when dropped, even if the stepped code panics.
struct Stepping;

impl Drop for Stepping {
    fn drop(&mut self) {
        // SAFETY: this clears TF and changes no other flag.
        unsafe { asm!("pushfq", "and dword ptr [rsp], ~0x100", "popfq") };
        INJECTION.set(ptr::null());
    }
}

/// Runs `code` and, after its instruction number `at` (counted from 1), runs `nmi`, which must not panic. Returns false
/// if `code` has fewer instructions.
fn with_nmi_after(at: u64, code: &dyn Fn(), nmi: &mut dyn FnMut()) -> bool {
    /// The signal handler is shared by the process; the injection is per thread.
    static HANDLER: Once = Once::new();
    HANDLER.call_once(|| {
        // SAFETY: a zeroed sigaction is valid, and `on_trap` is a signal handler that takes the signal's number.
        let result = unsafe {
            let mut action: libc::sigaction = mem::zeroed();
            action.sa_sigaction = on_trap as *const () as usize;
            libc::sigaction(libc::SIGTRAP, &action, ptr::null_mut())
        };
        assert_eq!(result, 0, "cannot set the handler of SIGTRAP");
    });
    let injection = Injection { steps: Cell::new(0), at, nmi: RefCell::new(Some(nmi)) };
    INJECTION.set((&raw const injection).cast());
    let stepping = Stepping;
    // SAFETY: this sets TF and changes no other flag. The handler takes every trap, and `Stepping` clears TF.
    unsafe { asm!("pushfq", "or dword ptr [rsp], 0x100", "popfq") };
    code();
    drop(stepping);
    assert!(injection.steps.get() > 10, "the code was not single-stepped");
    injection.nmi.into_inner().is_none()
}

/// What is recorded while the NMI arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// One event.
    Event,
    /// A system call, with three events.
    Call,
}

/// The state of the ring before the event is recorded.
#[derive(Clone, Copy, Debug)]
enum Before {
    Empty,
    /// One slot is left before the next check for room.
    LastSlot,
    /// One slot is left before the next check for room, which will find one more.
    OneTaken,
    /// No slot is free.
    Full,
    /// Records were dropped, and the host has taken none since.
    Dropping,
    /// Records were dropped, and the host has since taken all records.
    RoomAgain,
}

/// Brings the ring to the state `before`, records `what` with an NMI after instruction `at`, and records one more event.
/// Checks that each event is in the ring or in a reported drop, and that no record was overwritten. The NMI records
/// `nmis` events; if `host_reads` is set, the host takes all records just before that. Returns false if recording `what`
/// takes fewer than `at` instructions.
fn check_every_event_is_accounted_for(
    what: What,
    before: Before,
    nmis: u64,
    host_reads: bool,
    at: u64,
) -> bool {
    let traced = Traced::new(true);
    let room = CAPACITY as u64 - SLACK;
    let first = match before {
        Before::Empty => 0,
        Before::LastSlot | Before::OneTaken => room - 1,
        Before::Full => room,
        Before::Dropping | Before::RoomAgain => room + 3,
    };
    (0..first).for_each(|n| traced.event(n));
    let seen = RefCell::new(Vec::new());
    let look = || seen.borrow_mut().extend(traced.take(u64::MAX));
    match before {
        Before::RoomAgain => look(),
        Before::OneTaken => seen.borrow_mut().extend(traced.take(1)),
        _ => {}
    }
    let mut nmi = || {
        if host_reads {
            look();
        }
        (1000..1000 + nmis).for_each(|n| traced.event(n));
    };
    let (code, own): (&dyn Fn(), u64) = match what {
        What::Event => (&|| traced.event(2000), 1),
        What::Call => (&|| traced.call(2000), 3),
    };
    let arrived = with_nmi_after(at, code, &mut nmi);
    let waiting = traced.ring().header.head - traced.taken.get();
    look();
    traced.event(3000);
    look();
    let events = first + own + 1 + if arrived { nmis } else { 0 };
    let seen = seen.into_inner();
    let reported: u64 =
        seen.iter().filter(|(kind, ..)| *kind == Kind::Dropped as u16).map(|(_, a, _)| a).sum();
    let recorded =
        seen.iter().filter(|(kind, a, b)| *kind != Kind::Dropped as u16 && *b == !a).count() as u64;
    let case = std::format!(
        "{what:?}, {before:?}, NMI with {nmis} events after instruction {at}, host reads: {host_reads}: {seen:?}"
    );
    assert_eq!((recorded + reported, reported), (events, traced.ring().header.dropped), "{case}");
    assert_eq!(traced.taken.get(), traced.ring().header.head, "a record is not complete: {case}");
    assert!(waiting <= CAPACITY as u64, "{} slots are in use: {case}", waiting);
    arrived
}

#[test]
fn nmi_at_any_instruction_leaves_no_drop_unreported() {
    use Before::{Dropping, Empty, Full, LastSlot, OneTaken, RoomAgain};
    check_at_any_instruction(What::Event, &[Empty, LastSlot, OneTaken, Full, Dropping, RoomAgain]);
}

#[test]
fn nmi_at_any_instruction_of_a_recorded_call_leaves_no_drop_unreported() {
    // In the other states, each event of the call is recorded like a single event.
    check_at_any_instruction(What::Call, &[Before::LastSlot, Before::OneTaken]);
}

fn check_at_any_instruction(what: What, states: &[Before]) {
    for &before in states {
        // An NMI with a few events, and one with more events than the ring can hold.
        for (nmis, host_reads) in [(2, false), (2, true), (20, false), (20, true)] {
            let is_last = |at: &u64| !check_every_event_is_accounted_for(what, before, nmis, host_reads, *at);
            let last = (1..).find(is_last);
            assert!(last.is_some_and(|last| last > 30), "{last:?} instructions");
        }
    }
}
