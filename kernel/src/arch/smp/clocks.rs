//! Measures the clocks while the APs wait after INIT.

use super::bring_up::INIT_WAIT_NS;
use super::error::SmpError;
use crate::arch::cpu::tsc;
use crate::arch::interrupts::apic::LocalApic;
use crate::arch::interrupts::calibration::Calibration;
use crate::arch::interrupts::timer::Timebase;
use crate::arch::percpu::PerCpuData;
use crate::arch::trace;
use crate::windows;

const _: () =
    assert!(windows::SPAN_NS <= INIT_WAIT_NS, "the measurement of the clocks must not delay the APs");

/// Returns whether the wait after INIT is over.
pub(super) fn is_over(timebase: &Timebase, after_init: u64) -> bool {
    tsc::now().wrapping_sub(after_init) >= timebase.tsc.in_ns(INIT_WAIT_NS)
}

/// The measurement of the clocks during the wait after INIT.
pub(super) struct Clocks {
    calibration: Calibration,
    /// The result. APs start only after it is published, because they use it.
    timebase: Option<&'static Timebase>,
}

impl Clocks {
    /// Starts the measurement.
    pub fn start(bsp: &PerCpuData, mut calibration: Calibration) -> Clocks {
        on_apic(bsp, |apic| calibration.start(apic));
        Clocks { calibration, timebase: None }
    }

    /// Reads the clocks if a reading is due. Returns the result if the measurement is complete.
    pub fn poll(&mut self, bsp: &PerCpuData) -> Result<Option<&'static Timebase>, SmpError> {
        if self.timebase.is_none() && on_apic(bsp, |apic| self.calibration.poll(apic)) {
            self.finish(bsp)?;
        }
        Ok(self.timebase)
    }

    /// Waits for the result.
    pub fn finish(&mut self, bsp: &PerCpuData) -> Result<&'static Timebase, SmpError> {
        if let Some(timebase) = self.timebase {
            return Ok(timebase);
        }
        let timebase = on_apic(bsp, |apic| self.calibration.finish(apic))?;
        trace::publish(timebase.tsc.hz());
        self.timebase = Some(timebase);
        Ok(timebase)
    }
}

fn on_apic<R>(bsp: &PerCpuData, f: impl FnOnce(&mut LocalApic) -> R) -> R {
    bsp.with_apic(f).expect("the BSP's APIC is enabled before the bring-up")
}
