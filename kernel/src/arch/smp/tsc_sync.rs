//! How far a CPU's time-stamp counter is from the BSP's: asked for when there is a trace, whose events are put in order
//! by their time.
//!
//! ```text
//!   AP    t0 = TSC, ASKED = n                      ANSWERED is n: t1 = TSC
//!   BSP                  sees n, TOLD = TSC, ANSWERED = n
//! ```
//!
//! The BSP's reading lies between t0 and t1; taken as the middle it is wrong by at most half of t1 - t0. Of some
//! exchanges the fastest counts (Cristian, Probabilistic clock synchronization, 1989).

use core::hint::spin_loop;
use core::sync::atomic::{AtomicU64, Ordering};

use spin::Mutex;

use crate::arch::cpu::tsc;
use crate::arch::interrupts::timer::timebase;
use crate::arch::percpu::PerCpuData;

/// One CPU at a time asks. How long all of them took so far, in TSC ticks.
static ASKING: Mutex<u64> = Mutex::new(0);
/// Number of the latest question, counted from 1.
static ASKED: AtomicU64 = AtomicU64::new(0);
/// Number of the latest question that has an answer.
static ANSWERED: AtomicU64 = AtomicU64::new(0);
/// The answer.
static TOLD: AtomicU64 = AtomicU64::new(0);

/// How many times a CPU asks.
const EXCHANGES: u32 = 8;
/// How long it waits for an answer, in nanoseconds: a BSP that has stopped waiting for this CPU gives none.
const PATIENCE_NS: u64 = 100_000_000;
/// How long all CPUs together may ask, in nanoseconds. On a host with far fewer cores each exchange takes as long as its
/// scheduler lets the two wait, and the BSP waits for all CPUs but for a few seconds.
const BUDGET_NS: u64 = 1_000_000_000;

/// The BSP, while it waits for the others: answers if somebody has asked.
pub(in crate::arch) fn answer() {
    let asked = ASKED.load(Ordering::Acquire);
    if asked != ANSWERED.load(Ordering::Relaxed) {
        TOLD.store(tsc::now(), Ordering::Relaxed);
        ANSWERED.store(asked, Ordering::Release);
    }
}

/// Another CPU, before it says that it is there: asks, and notes in its trace what it found.
pub(in crate::arch) fn ask(cpu: &PerCpuData) {
    let tsc = timebase().tsc;
    let (patience, budget) = (tsc.in_ns(PATIENCE_NS), tsc.in_ns(BUDGET_NS));
    let mut spent = ASKING.lock();
    let (start, before) = (tsc::now(), *spent);
    let mut best: Option<(u64, i64)> = None;
    for _ in 0..EXCHANGES {
        let Some((round_trip, offset)) = exchange(patience.min(budget.saturating_sub(*spent))) else { break };
        if best.is_none_or(|(shortest, _)| round_trip < shortest) {
            best = Some((round_trip, offset));
        }
        *spent = before + tsc::now().wrapping_sub(start);
    }
    *spent = before + tsc::now().wrapping_sub(start);
    drop(spent);
    let Some((round_trip, offset)) = best else {
        say!(cpu, "warning: the BSP did not answer in time; the trace takes this CPU's TSC for the BSP's");
        return;
    };
    let error = round_trip / 2;
    // An offset that the measurement cannot tell from none is taken for none: on a busy host that is most of what is
    // measured, and correcting by it would put the events in disorder.
    let offset = if offset.unsigned_abs() <= error { 0 } else { offset };
    cpu.tracer.set_tsc_offset(offset);
    let to_ns = timebase().tsc.to_ns();
    let sign = if offset < 0 { "-" } else { "" };
    say!(
        cpu,
        "trace: TSC offset to the BSP {sign}{} ns, to within {} ns",
        to_ns.ns(offset.unsigned_abs()),
        to_ns.ns(error)
    );
}

/// Round trip in TSC ticks, and what to add to this CPU's TSC to get the BSP's. `None` if no answer came.
fn exchange(patience: u64) -> Option<(u64, i64)> {
    let number = ASKED.load(Ordering::Relaxed) + 1;
    let start = tsc::now();
    ASKED.store(number, Ordering::Release);
    while ANSWERED.load(Ordering::Acquire) != number {
        if tsc::now().wrapping_sub(start) > patience {
            return None;
        }
        spin_loop();
    }
    let end = tsc::now();
    let round_trip = end.wrapping_sub(start);
    let middle = start.wrapping_add(round_trip / 2);
    Some((round_trip, TOLD.load(Ordering::Relaxed).wrapping_sub(middle).cast_signed()))
}
