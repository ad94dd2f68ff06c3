//! Measures the offset between the TSC of an AP and that of the BSP. Needed only for tracing, where events of all CPUs
//! are ordered by time.
//!
//! ```text
//!   AP    t0 = TSC, REQUEST = n                      REPLY is n: t1 = TSC
//!   BSP                  reads n; BSP_TSC = TSC; REPLY = n
//! ```
//!
//! The BSP reads its TSC between t0 and t1. The calculation assumes the midpoint, with an error of at most (t1 - t0) /
//! 2. The fastest of several exchanges is used (Cristian, Probabilistic clock synchronization, 1989).

use core::hint::spin_loop;
use core::sync::atomic::{AtomicU64, Ordering};

use spin::Mutex;

use crate::arch::cpu::tsc;
use crate::arch::interrupts::timer::timebase;
use crate::arch::percpu::PerCpuData;

/// Held by the CPU that is measuring. The value is the total time that all measurements have taken so far, in TSC
/// ticks.
static TIME_USED: Mutex<u64> = Mutex::new(0);
/// Number of the latest request, counted from 1. The AP stores it with release, the BSP loads it with acquire.
static REQUEST: AtomicU64 = AtomicU64::new(0);
/// Number of the latest request that has a reply. The BSP stores it with release, the AP loads it with acquire.
static REPLY: AtomicU64 = AtomicU64::new(0);
/// The BSP's TSC, sent with the latest reply.
static BSP_TSC: AtomicU64 = AtomicU64::new(0);

/// Number of exchanges per CPU.
const EXCHANGES: u32 = 8;
/// How long a CPU waits for a reply, in nanoseconds. The BSP stops replying once it no longer waits for this CPU.
const REPLY_TIMEOUT_NS: u64 = 100_000_000;
/// Longest time for the measurements of all CPUs together, in nanoseconds. On a host with far fewer cores than virtual
/// CPUs, an exchange takes until the host has scheduled both CPUs, and the BSP waits only a few seconds for all CPUs.
const BUDGET_NS: u64 = 1_000_000_000;

/// Replies to a new request, if there is one. Called by the BSP while it waits for the other CPUs.
pub(in crate::arch) fn reply() {
    let request = REQUEST.load(Ordering::Acquire);
    if request != REPLY.load(Ordering::Relaxed) {
        BSP_TSC.store(tsc::now(), Ordering::Relaxed);
        REPLY.store(request, Ordering::Release);
    }
}

/// Measures this CPU's offset and stores it in its trace. Called by an AP before it arrives.
pub(in crate::arch) fn measure_offset(cpu: &PerCpuData) {
    let tsc = timebase().tsc;
    let (timeout, budget) = (tsc.in_ns(REPLY_TIMEOUT_NS), tsc.in_ns(BUDGET_NS));
    let mut spent = TIME_USED.lock();
    let (start, before) = (tsc::now(), *spent);
    let mut best: Option<(u64, i64)> = None;
    for _ in 0..EXCHANGES {
        let Some((round_trip, offset)) = exchange(timeout.min(budget.saturating_sub(*spent))) else { break };
        if best.is_none_or(|(shortest, _)| round_trip < shortest) {
            best = Some((round_trip, offset));
        }
        *spent = before + tsc::now().wrapping_sub(start);
    }
    *spent = before + tsc::now().wrapping_sub(start);
    drop(spent);
    let Some((round_trip, offset)) = best else {
        warn!(cpu, "the BSP did not reply in time; the trace assumes that this CPU's TSC equals the BSP's");
        return;
    };
    let error = round_trip / 2;
    // An offset within the measurement error counts as zero. On a busy host most offsets are, and applying one would
    // reorder events wrongly.
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

/// Performs one exchange. Returns the round-trip time in TSC ticks and the offset to add to this CPU's TSC to get the
/// BSP's; `None` if no reply arrived within `timeout` ticks.
fn exchange(timeout: u64) -> Option<(u64, i64)> {
    let number = REQUEST.load(Ordering::Relaxed) + 1;
    let start = tsc::now();
    REQUEST.store(number, Ordering::Release);
    while REPLY.load(Ordering::Acquire) != number {
        if tsc::now().wrapping_sub(start) > timeout {
            return None;
        }
        spin_loop();
    }
    let end = tsc::now();
    let round_trip = end.wrapping_sub(start);
    let middle = start.wrapping_add(round_trip / 2);
    Some((round_trip, BSP_TSC.load(Ordering::Relaxed).wrapping_sub(middle).cast_signed()))
}
