//! The measurement of the clocks during the time that the APs wait after INIT.

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

/// Returns whether the time after INIT is over.
pub(super) fn is_over(timebase: &Timebase, after_init: u64) -> bool {
    tsc::now().wrapping_sub(after_init) >= timebase.tsc.in_ns(INIT_WAIT_NS)
}

/// The measurement of the clocks during the time after INIT.
pub(super) struct Clocks<'a> {
    bsp: &'a PerCpuData,
    calibration: Calibration,
    /// The result. APs start only after it is published, because they use it.
    timebase: Option<&'static Timebase>,
}

impl<'a> Clocks<'a> {
    /// Prepares the measurement.
    pub fn new(bsp: &'a PerCpuData, calibration: Calibration) -> Clocks<'a> {
        Clocks { bsp, calibration, timebase: None }
    }

    fn with<R>(&mut self, f: impl FnOnce(&mut Calibration, &mut LocalApic) -> R) -> R {
        let calibration = &mut self.calibration;
        self.bsp
            .with_apic(|apic| f(calibration, apic))
            .expect("the BSP's APIC is enabled before the bring-up")
    }

    /// Starts the measurement.
    pub fn start(&mut self) {
        self.with(Calibration::start);
    }

    /// Reads the clocks if it is time to do so. Returns the result if there is one.
    pub fn poll(&mut self) -> Result<Option<&'static Timebase>, SmpError> {
        if self.timebase.is_none() && self.with(|calibration, apic| calibration.poll(apic)) {
            self.finish()?;
        }
        Ok(self.timebase)
    }

    /// Waits for the result.
    pub fn finish(&mut self) -> Result<&'static Timebase, SmpError> {
        if let Some(timebase) = self.timebase {
            return Ok(timebase);
        }
        let timebase = self.with(Calibration::finish)?;
        trace::publish(timebase.tsc.hz());
        self.timebase = Some(timebase);
        Ok(timebase)
    }
}
