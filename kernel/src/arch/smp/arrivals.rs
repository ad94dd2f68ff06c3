//! The end of the bring-up: the BSP waits for the APs, and closes their slots.

use core::hint::spin_loop;
use core::sync::atomic::{AtomicU32, Ordering};

use ap_trampoline::{ApSlot, Reached, Row};
use kernel_abi::trace::Kind;

use super::error::SmpError;
use super::trampoline;
use super::tsc_sync;
use crate::arch::cpu::tsc;
use crate::arch::memory::table;
use crate::arch::panic::stop;
use crate::arch::percpu::{self, PerCpuData};
use crate::clock::Rate;
use crate::cpu::{ApicId, CpuId};
use crate::features::{FeatureSet, MissingFeatures};
use crate::online::{self, Closed};
use crate::stage::{Cause, Stage};

/// The number of APs that have arrived. The BSP polls this one word instead of all slots. It does not order other
/// memory accesses: the BSP reads what an AP has set up only after it has read the state of the AP's slot.
static ARRIVED: AtomicU32 = AtomicU32::new(0);

/// Counts the calling AP as arrived. Called once its slot is `ONLINE`.
pub(super) fn count() {
    ARRIVED.fetch_add(1, Ordering::Relaxed);
}

/// The BSP's wait for the APs.
pub(super) struct Wait<'a> {
    bsp: &'a PerCpuData,
    slots: &'a [ApSlot],
    tsc_rate: Rate,
    /// The number of slots at the start of the list for whose CPUs the BSP no longer waits. It never decreases. Each
    /// poll starts at the first undecided slot, so a decided slot is never examined again.
    decided: usize,
    /// The number of APs that had arrived at the latest poll.
    arrived: u32,
    /// The BSP's TSC at the poll that saw the latest arrival, or at the start of the wait.
    pub latest: u64,
}

impl<'a> Wait<'a> {
    /// Starts a wait for the APs of these slots.
    pub fn new(bsp: &'a PerCpuData, slots: &'a [ApSlot], tsc_rate: Rate) -> Wait<'a> {
        Wait { bsp, slots, tsc_rate, decided: 0, arrived: 0, latest: tsc::now() }
    }

    /// Waits until each CPU is online or has reported that it lacks a feature, but gives up if `ns` nanoseconds pass
    /// without an arrival. The time limit applies to each arrival, because a limit for all CPUs together would have to
    /// grow with the number of CPUs that share the host's cores. Returns false if the wait timed out.
    pub fn for_all(&mut self, ns: u64) -> bool {
        let (mut start, timeout) = (tsc::now(), self.tsc_rate.in_ns(ns));
        loop {
            let before = (self.arrived, self.decided);
            self.arrived = ARRIVED.load(Ordering::Relaxed);
            let done = self.all_decided();
            let now = tsc::now();
            if (self.arrived, self.decided) != before {
                (self.latest, start) = (now, now);
            }
            if done || now.wrapping_sub(start) >= timeout {
                return done;
            }
            stop::park_if_stopping(self.bsp);
            tsc_sync::reply();
            spin_loop();
        }
    }

    fn all_decided(&mut self) -> bool {
        let is_decided = |at: usize| is_decided(self.slots, &self.slots[at], at as u32 + 1);
        while self.decided < self.slots.len() && is_decided(self.decided) {
            self.decided += 1;
        }
        self.decided == self.slots.len()
    }
}

/// Returns the features that the CPU of a slot has reported as missing, if any. `area` is the index of the CPU's area.
/// `claimed` says whether the slot has been claimed.
fn missing_features(slots: &[ApSlot], slot: &ApSlot, area: u32, claimed: bool) -> Option<MissingFeatures> {
    let listed = slots.iter().map(|slot| slot.apic_id);
    let required = trampoline::row(slot.apic_id).and_then(Row::missing).and_then(|(basic, extended)| {
        online::missing_features(FeatureSet { basic, extended }, slot.apic_id, claimed, listed)
    });
    // SAFETY: `offer_slots` has created the area, and only `published` is used (invariant: OWNER-ONLY).
    let optional = || unsafe { percpu::of(CpuId(area)) }.published.lacks.get().copied();
    required.map(MissingFeatures::Required).or_else(|| optional().map(MissingFeatures::UsedByBsp))
}

/// Returns whether the wait for a CPU is over: the CPU is online, or has reported that it lacks a feature.
fn is_decided(slots: &[ApSlot], slot: &ApSlot, area: u32) -> bool {
    online::is_online(&slot.state) || missing_features(slots, slot, area, has_claimed(slot)).is_some()
}

/// Returns whether the CPU of a slot has claimed it.
pub(super) fn has_claimed(slot: &ApSlot) -> bool {
    matches!(slot.state.load(Ordering::Relaxed), online::CLAIMED | online::ONLINE)
}

/// Returns the last stage that the CPU of a closed slot has reached. `area` is the index of the CPU's area.
pub(super) fn stage(slot: &ApSlot, area: CpuId, closed: Closed) -> Stage {
    let reached = trampoline::row(slot.apic_id).map_or(Reached::Nothing, Row::reached);
    // SAFETY: `offer_slots` has created the area, and only `published` is used (invariant: OWNER-ONLY).
    Stage::of(closed, reached, unsafe { percpu::of(area) }.is_running())
}

/// The result of [`close_slots`]: the CPUs that are online, and those that are missing.
pub(super) type Closing = (&'static [&'static PerCpuData], &'static [(ApicId, Cause)]);

/// Closes the slots, which fixes the set of CPUs that take part in the run, and assigns dense indices to these CPUs.
pub(super) fn close_slots(bsp: &'static PerCpuData, slots: &'static [ApSlot]) -> Result<Closing, SmpError> {
    let cpus = table::alloc(1 + slots.len(), |_| bsp)?;
    let missing = table::alloc(slots.len(), |_| (ApicId::default(), Cause::Lost(Stage::RealMode)))?;
    let (mut next_online, mut next_missing) = (1, 0);
    for (slot, area) in slots.iter().zip(1..) {
        let closed = online::close(&slot.state);
        if closed == Closed::Online {
            // SAFETY: `offer_slots` has created the area. The CPU has started, so here the BSP writes only its index,
            // and later uses only the fields that other CPUs may use (invariant: OWNER-ONLY).
            let cpu = unsafe { percpu::of(CpuId(area)) };
            cpu.set_id(CpuId(next_online as u32));
            cpus[next_online] = cpu;
            next_online += 1;
        } else {
            bsp.trace(Kind::ApState, slot.apic_id.into(), online::CLOSED.into());
            let claimed = closed == Closed::Late;
            let cause = missing_features(slots, slot, area, claimed)
                .map_or_else(|| Cause::Lost(stage(slot, CpuId(area), closed)), Cause::Lacks);
            missing[next_missing] = (ApicId(slot.apic_id), cause);
            next_missing += 1;
        }
    }
    let (cpus, missing) = (&cpus[..next_online], &missing[..next_missing]);
    percpu::set_online(cpus);
    Ok((cpus, missing))
}
