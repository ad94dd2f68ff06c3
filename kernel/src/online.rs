//! The handshake of bring-up and of leaving. Each AP has a slot with a state word, through which the BSP and the AP
//! agree on whether the AP takes part in the run, and on which of them uses the AP's stacks and data.
//!
//! ```text
//!             1             2               3             5              6
//!   VACANT ------> OFFERED -----> CLAIMED -------> ONLINE ----> LEAVING -----> PARKED
//!    ^ |              |              |                ^            |             |
//!    | | 4            | 4            | 4              +------------+ 7           |
//!    | +--------------+------------> CLOSED                                      |
//!    |                                                                           | 8
//!    +---------------------------------------------------------------------------+
//! ```
//!
//! | | from, to | actor, function | ordering | purpose |
//! |-|-|-|-|-|
//! | 1 | `VACANT` to `OFFERED` | BSP, [`offer`] | release | the CPU that claims the slot sees its contents |
//! | 2 | `OFFERED` to `CLAIMED` | AP, `lock cmpxchg` in the trampoline; [`claim`] is its model | acquire | the AP sees the slot's contents; only one CPU gets the stack |
//! | 3 | `CLAIMED` to `ONLINE` | AP, [`arrive`] | release | a CPU that finds the AP online sees everything that the AP set up |
//! | 4 | `VACANT`, `OFFERED` or `CLAIMED` to `CLOSED` | BSP, [`close`] | relaxed; acquire if it finds `ONLINE` | a later AP reads only the state, and parks |
//! | 5 | `ONLINE` to `LEAVING` | BSP, [`request_leave`] | relaxed | the AP ends its program and leaves |
//! | 6 | `LEAVING` to `PARKED` | AP, a `mov` in `smp::cycle::leave`; [`park`] is its model | release | this is the AP's last access to memory |
//! | 7 | `LEAVING` to `ONLINE` | AP, [`decline`] | relaxed | the AP has no program to end, because its last copy has ended |
//! | 8 | `PARKED` to `VACANT` | BSP, [`reclaim`] | acquire | the BSP owns the AP's stacks and data, and sees everything that the AP wrote |
//!
//! Transitions 3 and 4 are compare-exchanges on the same word, so exactly one of them happens: either the BSP counts
//! the CPU as online, or the CPU parks. `CLOSED` is final. The slot and the trampoline are never freed, because an AP
//! may arrive at any time.
//!
//! A slot is offered again only after transition 8, so only after the CPU of the previous generation has made its last
//! access to the area. The slot of a CPU that claimed it and did not arrive stays closed: such a CPU cannot take the
//! place of another generation, because there is none. While the area is reused the slot is `VACANT`, so a CPU that
//! runs the trampoline at that time parks.
#![forbid(unsafe_code)]

#[cfg(not(loom))]
use core::sync::atomic::{AtomicU32, Ordering};
#[cfg(loom)]
use loom::sync::atomic::{AtomicU32, Ordering};

use ap_trampoline::Report;

use crate::features::FeatureSet;

/// The state values, which the trampoline's assembly also uses.
pub use ap_trampoline::slot_state::{CLAIMED, CLOSED, LEAVING, OFFERED, ONLINE, PARKED, VACANT};

/// Transition 1: offers a filled-in slot, which its CPU may then claim. Returns false and changes nothing if the slot
/// was not vacant.
#[must_use]
pub fn offer(state: &AtomicU32) -> bool {
    state.compare_exchange(VACANT, OFFERED, Ordering::Release, Ordering::Relaxed).is_ok()
}

/// Transition 2, which the trampoline performs in assembly. Returns true to the one CPU that may use the slot's stack.
/// Every other CPU parks without using a stack.
#[must_use]
pub fn claim(state: &AtomicU32) -> bool {
    state.compare_exchange(OFFERED, CLAIMED, Ordering::Acquire, Ordering::Relaxed).is_ok()
}

/// Transition 3, called by the AP once it has initialised itself. Returns false if the AP is too late to take part in
/// the run. It must then park permanently with interrupts off.
#[must_use]
pub fn arrive(state: &AtomicU32) -> bool {
    state.compare_exchange(CLAIMED, ONLINE, Ordering::Release, Ordering::Relaxed).is_ok()
}

/// Returns whether the CPU has arrived. If so, everything that the CPU wrote before [`arrive`] is visible to the
/// caller.
#[must_use]
pub fn is_online(state: &AtomicU32) -> bool {
    state.load(Ordering::Acquire) == ONLINE
}

/// The result of [`close`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The CPU arrived and takes part in the run. Everything that it wrote before [`arrive`] is visible to the caller.
    Online,
    /// The CPU did not claim the slot. Its stack is not in use and never will be.
    Absent,
    /// The CPU claimed the slot but did not arrive in time. It may be running on the slot's stack, so neither that
    /// stack nor the CPU's per-CPU data may be reused.
    Late,
}

/// Transition 4: closes the slot unless the CPU is online. After that, whether the CPU takes part in the run
/// can no longer change.
#[must_use]
pub fn close(state: &AtomicU32) -> Closed {
    let mut seen = state.load(Ordering::Acquire);
    loop {
        let outcome = match seen {
            ONLINE | LEAVING => return Closed::Online,
            VACANT | OFFERED | PARKED => Closed::Absent,
            // CLAIMED; or CLOSED, in which case the earlier state is unknown, and `Late` is the safer result.
            _ => Closed::Late,
        };
        match state.compare_exchange(seen, CLOSED, Ordering::Relaxed, Ordering::Acquire) {
            Ok(_) => return outcome,
            Err(now) => seen = now,
        }
    }
}

/// Transition 5: asks the CPU to leave. Returns false and changes nothing if the CPU is not online.
#[must_use]
pub fn request_leave(state: &AtomicU32) -> bool {
    state.compare_exchange(ONLINE, LEAVING, Ordering::Relaxed, Ordering::Relaxed).is_ok()
}

/// Transition 6, which `smp::cycle::leave` performs in assembly. Afterwards the calling CPU accesses no memory.
/// Returns false and changes nothing if the CPU was not asked to leave.
#[must_use]
pub fn park(state: &AtomicU32) -> bool {
    state.compare_exchange(LEAVING, PARKED, Ordering::Release, Ordering::Relaxed).is_ok()
}

/// Transition 7, called by an AP that does not leave although it was asked to. Returns false and changes nothing if the
/// CPU was not asked.
pub fn decline(state: &AtomicU32) -> bool {
    state.compare_exchange(LEAVING, ONLINE, Ordering::Relaxed, Ordering::Relaxed).is_ok()
}

/// Returns whether the CPU has been asked to leave and has neither left nor declined.
#[must_use]
pub fn is_leaving(state: &AtomicU32) -> bool {
    state.load(Ordering::Relaxed) == LEAVING
}

/// Transition 8: takes over the stacks and the data of a CPU that has left. Returns false and changes nothing if the
/// CPU has not left.
#[must_use]
pub fn reclaim(state: &AtomicU32) -> bool {
    state.compare_exchange(PARKED, VACANT, Ordering::Acquire, Ordering::Relaxed).is_ok()
}

/// Returns the features that the CPU of a slot lacks, or None if it lacks none or if its row in the report is
/// inconclusive. `claimed` says whether the slot has been claimed, and `listed` holds the ids of all slots. The row is
/// inconclusive in two cases:
///
/// - Two slots share the row.
/// - The slot's state does not fit the report. A CPU that lacks a feature of [`FeatureSet::REQUIRED`] parks before it
///   claims its slot, and one that lacks a feature of [`FeatureSet::IN_64_BIT_MODE`] parks afterwards. The trampoline
///   selects the row by the id in CPUID, which may be the APIC id of another CPU.
#[must_use]
pub fn missing_features(
    row: FeatureSet,
    apic_id: u32,
    claimed: bool,
    listed: impl Iterator<Item = u32>,
) -> Option<FeatureSet> {
    let checked = if claimed { FeatureSet::IN_64_BIT_MODE } else { FeatureSet::REQUIRED };
    let lacking = checked.missing_from(!row.basic, !row.extended)?;
    let sharing = listed.filter(|&id| Report::index(id) == Report::index(apic_id)).count();
    (sharing == 1).then_some(lacking)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn report_row_is_used_only_if_exactly_one_cpu_can_have_written_it() {
        let none = FeatureSet { basic: 0, extended: 0 };
        let sse2 = FeatureSet { basic: 1 << 26, extended: 0 };
        let syscall = FeatureSet { basic: 0, extended: 1 << 11 };
        let both = FeatureSet { basic: 1 << 26, extended: 1 << 11 };
        // Each row: the report's row, whether the slot is claimed, the ids of all slots, the result for id 1.
        let table: [(FeatureSet, bool, &[u32], Option<FeatureSet>); 9] = [
            (none, false, &[1, 2], None),
            (sse2, false, &[1, 2], Some(sse2)),
            (sse2, true, &[1, 2], None),
            (syscall, false, &[1, 2], None),
            (syscall, true, &[1, 2], Some(syscall)),
            (both, true, &[1, 2], Some(syscall)),
            (sse2, false, &[1, 256, 258], Some(sse2)),
            (sse2, false, &[1, 257], None),
            (syscall, true, &[1, 2, 0x101], None),
        ];
        for (row, claimed, listed, expected) in table {
            let ids = || listed.iter().copied();
            assert_eq!(missing_features(row, 1, claimed, ids()), expected, "{row:?}, {claimed}, {listed:?}");
        }
        assert_eq!(missing_features(sse2, 257, false, [1, 257].into_iter()), None);
    }

    #[test]
    fn every_transition_in_every_state() {
        // Each row: the state before; the state after a call of each function that changes it; the state after close,
        // and its result.
        let calls: [fn(&AtomicU32) -> bool; 7] =
            [offer, claim, arrive, request_leave, park, decline, reclaim];
        let table = [
            (VACANT, [(0, OFFERED)].as_slice(), CLOSED, Closed::Absent),
            (OFFERED, &[(1, CLAIMED)], CLOSED, Closed::Absent),
            (CLAIMED, &[(2, ONLINE)], CLOSED, Closed::Late),
            (ONLINE, &[(3, LEAVING)], ONLINE, Closed::Online),
            (LEAVING, &[(4, PARKED), (5, ONLINE)], LEAVING, Closed::Online),
            (PARKED, &[(6, VACANT)], CLOSED, Closed::Absent),
            (CLOSED, &[], CLOSED, Closed::Late),
        ];
        for (before, changes, after_close, closed) in table {
            let after = |at| changes.iter().find(|(call, _)| *call == at).map_or(before, |(_, after)| *after);
            let after: [u32; 7] = core::array::from_fn(after);
            for (call, after) in calls.into_iter().zip(after) {
                let state = AtomicU32::new(before);
                assert_eq!(call(&state), before != after, "from {before}");
                assert_eq!(state.load(Ordering::Relaxed), after, "from {before}");
            }
            let state = AtomicU32::new(before);
            assert_eq!(is_online(&state), before == ONLINE);
            assert_eq!(close(&state), closed);
            assert_eq!(state.load(Ordering::Relaxed), after_close);
            assert_eq!(is_leaving(&AtomicU32::new(before)), before == LEAVING);
        }
    }
}

#[cfg(all(test, loom))]
mod loom_tests;
