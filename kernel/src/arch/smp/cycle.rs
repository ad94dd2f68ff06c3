//! Takes an AP down while the others run, and brings it back with INIT and a start-up IPI through the same trampoline.
//! [`crate::online`] defines the states of the handshake.

use core::arch::asm;
use core::mem::offset_of;
use core::sync::atomic::Ordering;

use ap_trampoline::{ApSlot, Reached, Row};
use kernel_abi::trace::Kind;

use super::arrivals::{self, has_claimed};
use super::bring_up::{ARRIVAL_WAIT_NS, INIT_WAIT_NS, SECOND_SIPI_AFTER_NS, send_init, send_sipi, slot_of};
use super::trampoline;
use crate::arch::inject::ApFaults;
use crate::arch::panic::stop;
use crate::arch::percpu::{self, PerCpuData};
use crate::arch::task::idle::idle_until;
use crate::online::{self, Closed};
use crate::stage::Stage;

/// Time within which a CPU must leave after it was asked to. It leaves at the next interrupt from ring 3, but a busy host
/// may deschedule a virtual CPU.
const LEAVE_WAIT_NS: u64 = 10_000_000_000;

/// The result of [`cycle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cycled {
    /// The CPU has left and come back.
    Done,
    /// The CPU does not leave, because its last copy of the program has ended.
    Declined,
    /// The CPU has left and has not come back.
    Lost(Stage),
}

/// Takes a CPU down and brings it back. The BSP waits with interrupts on, so its ticks continue.
///
/// # Panics
/// Ends the run if the CPU does not leave in time.
pub fn cycle(bsp: &PerCpuData, cpu: &PerCpuData, faults: ApFaults) -> Cycled {
    let Some(slot) = slot_of(cpu) else { return Cycled::Declined };
    let place = cpu.area.0;
    if !take_down(bsp, cpu, slot) {
        return Cycled::Declined;
    }
    // The CPU has left, and its slot is VACANT, so the BSP may access all of its data (invariant: OWNER-ONLY).
    let generation = cpu.generation;
    if faults.gets_early_sipi(place, generation) {
        start_early(bsp, cpu, slot, faults);
    }
    // SAFETY: the CPU has left, and its slot is VACANT. If a start-up IPI starts it before the INIT below, it parks in the
    // trampoline, which uses no stack.
    unsafe { percpu::recreate(cpu.area) };
    faults.arm(cpu);
    // SAFETY: the CPU has left, so it runs no code that uses memory (invariant: SLOT-ONCE).
    unsafe { send_init(bsp, slot) };
    wait(bsp, INIT_WAIT_NS, || false);
    cpu.published.must_leave.store(false, Ordering::Relaxed);
    restart_report(slot);
    assert!(online::offer(&slot.state), "a slot was offered twice");
    send_sipi(bsp, slot, faults, place, generation + 1);
    wait(bsp, SECOND_SIPI_AFTER_NS, || has_claimed(slot));
    if !has_claimed(slot) {
        send_sipi(bsp, slot, faults, place, generation + 1);
    }
    wait(bsp, ARRIVAL_WAIT_NS, || online::is_online(&slot.state));
    match online::close(&slot.state) {
        Closed::Online => Cycled::Done,
        closed => Cycled::Lost(arrivals::stage(slot, cpu.area, closed)),
    }
}

/// Starts a CPU that has left while its area is being reused, as a start-up IPI that arrives too late would. Its slot is
/// vacant, so it must park in the trampoline.
fn start_early(bsp: &PerCpuData, cpu: &PerCpuData, slot: &ApSlot, faults: ApFaults) {
    restart_report(slot);
    // SAFETY: the CPU has left, so it runs no code that uses memory (invariant: SLOT-ONCE).
    unsafe { send_init(bsp, slot) };
    wait(bsp, INIT_WAIT_NS, || false);
    send_sipi(bsp, slot, faults, cpu.area.0, cpu.generation);
    let reached = || trampoline::row(slot.apic_id).map_or(Reached::Nothing, Row::reached);
    wait(bsp, ARRIVAL_WAIT_NS, || reached() == Reached::Paging);
    // Give the CPU time to search its slot.
    wait(bsp, SECOND_SIPI_AFTER_NS, || false);
    let state = slot.state.load(Ordering::Relaxed);
    assert!(
        reached() == Reached::Paging && state == online::VACANT,
        "{} was started while its area was reused: it reached {:?}, and its slot is in state {state}",
        cpu.id(),
        reached()
    );
    say!(bsp, "{} was started while its area was reused, and parked", cpu.id());
}

/// Clears the stage that the CPU of a slot has reached, in its row of the report.
fn restart_report(slot: &ApSlot) {
    if let Some(row) = trampoline::row(slot.apic_id) {
        row.restart();
    }
}

/// Asks a CPU to leave, and waits until it has left. Returns false if the CPU declines.
fn take_down(bsp: &PerCpuData, cpu: &PerCpuData, slot: &ApSlot) -> bool {
    if !online::request_leave(&slot.state) {
        return false;
    }
    bsp.trace(Kind::ApState, slot.apic_id.into(), online::LEAVING.into());
    // The wake-up IPI orders this store before the CPU's read of the flag.
    cpu.published.must_leave.store(true, Ordering::Relaxed);
    bsp.wake(cpu.apic_id);
    wait(bsp, LEAVE_WAIT_NS, || !online::is_leaving(&slot.state));
    if online::reclaim(&slot.state) {
        bsp.trace(Kind::ApState, slot.apic_id.into(), online::PARKED.into());
        return true;
    }
    if online::is_leaving(&slot.state) {
        stop::end(format_args!("{} did not leave within {} s", cpu.id(), LEAVE_WAIT_NS / 1_000_000_000));
    }
    false
}

/// Waits until the condition holds or this time has passed, with interrupts on. The BSP checks the condition at each
/// interrupt, at the latest at its next tick.
fn wait(bsp: &PerCpuData, ns: u64, condition: impl Fn() -> bool) {
    let since = bsp.clock_ns();
    idle_until(bsp, || condition() || bsp.clock_ns().saturating_sub(since) >= ns);
}

/// Returns whether the BSP has asked this CPU to leave.
#[must_use]
pub fn must_leave(cpu: &PerCpuData) -> bool {
    cpu.published.must_leave.load(Ordering::Relaxed)
}

/// Declines the BSP's request to leave, if there is one. Called on a CPU that has no program to end.
pub fn decline(cpu: &PerCpuData) {
    if must_leave(cpu) && slot_of(cpu).is_some_and(|slot| online::decline(&slot.state)) {
        wake_bsp(cpu);
    }
}

/// Wakes the BSP, which waits for this CPU to leave, to decline or to come back.
pub fn wake_bsp(cpu: &PerCpuData) {
    if let Some(bsp) = percpu::online().first() {
        cpu.wake(bsp.apic_id);
    }
}

/// Leaves the run: stops the timer, hands the stacks and the data to the BSP, and halts until an INIT.
///
/// # Panics
/// If this CPU has no slot, because it is the BSP.
pub fn leave(cpu: &PerCpuData) -> ! {
    let slot = slot_of(cpu).expect("only an AP is asked to leave");
    // An external NMI would use this CPU's stacks while the BSP rebuilds them.
    cpu.with_apic(|apic| {
        apic.stop_ticking();
        apic.mask_external_nmi();
    });
    // From here on no CPU sends this one an NMI, whose handler would use this CPU's stacks.
    cpu.published.away.swap(true, Ordering::SeqCst);
    stop::park_if_stopping(cpu);
    wake_bsp(cpu);
    // SAFETY: interrupts are off (invariant: IF-OFF). The store is transition 6 of the handshake (`online::park`): the
    // slot is LEAVING, and only this CPU changes it in that state. On x86 a store is a release. The loop accesses no
    // memory but its own code.
    unsafe {
        asm!(
            "mov    dword ptr [{slot} + {state}], {parked}",
            "2:",
            "cli",
            "hlt",
            "jmp    2b",
            slot = in(reg) slot,
            state = const offset_of!(ApSlot, state),
            parked = const online::PARKED,
            options(noreturn),
        )
    }
}
