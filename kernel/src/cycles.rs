//! `cycle=N`: takes the APs down and brings them back, in turn, while the others run their program.
//!
//! The BSP performs the cycles after its own last copy has ended. Until the cycles are done, the other CPUs start their
//! program again whenever a copy exits with code 0 or its CPU has come back.
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use kernel_abi::record::CyclesRecord;

use crate::arch::inject::ApFaults;
use crate::arch::percpu::{Ended, PerCpuData};
use crate::arch::smp::cycle::{self, Cycled};
use crate::repeat::{End, Reason};
use crate::stage::Stage;

/// Whether cycles are requested and not done yet.
static IN_PROGRESS: AtomicBool = AtomicBool::new(false);
/// The number of cycles done.
static DONE: AtomicU32 = AtomicU32::new(0);

/// Announces that cycles are requested. Called by the BSP before any program starts.
pub fn announce() {
    IN_PROGRESS.store(true, Ordering::Relaxed);
}

/// Returns whether the CPUs start their program again even if they have reached their number of starts.
#[must_use]
pub fn in_progress() -> bool {
    IN_PROGRESS.load(Ordering::Relaxed)
}

/// Performs the cycles. Stops early if a CPU is lost, or if a CPU's last copy has ended, which means that its program
/// has failed. Returns the lost CPU. Called on the BSP.
pub fn conduct(
    bsp: &PerCpuData,
    asked: u32,
    faults: ApFaults,
    online: &[&'static PerCpuData],
) -> Option<&'static PerCpuData> {
    let others = online.get(1..).unwrap_or(&[]);
    let mut lost = None;
    for (n, cpu) in (0..asked).zip(others.iter().cycle()) {
        match cycle::cycle(bsp, cpu, faults) {
            Cycled::Done => DONE.store(n + 1, Ordering::Relaxed),
            Cycled::Declined => break,
            Cycled::Lost(stage) => {
                report_lost(bsp, cpu, stage);
                lost = Some(*cpu);
                break;
            }
        }
    }
    cancel();
    lost
}

/// Ends the repeated starts. Called when the cycles are done or cannot be done.
pub fn cancel() {
    IN_PROGRESS.store(false, Ordering::Relaxed);
}

/// Publishes a result on behalf of a CPU that has not come back.
fn report_lost(bsp: &PerCpuData, cpu: &PerCpuData, stage: Stage) {
    let cycle = DONE.load(Ordering::Relaxed) + 1;
    warn!(bsp, "{} did not come back in cycle {cycle}: {stage}", cpu.id());
    let reason = Reason::of(format_args!("did not come back in cycle {cycle}: {stage}"));
    cpu.published.ended.call_once(|| Ended { end: End::NotStarted(reason), ..Ended::NOTHING });
}

/// Returns the record of the cycles, if any are requested.
#[must_use]
pub fn record(asked: Option<u32>) -> Option<CyclesRecord> {
    Some(CyclesRecord { asked: asked?, done: DONE.load(Ordering::Relaxed) })
}
