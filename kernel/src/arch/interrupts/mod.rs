//! The local APIC, and the calibration of the TSC and of the APIC timer.

pub mod apic;
pub mod timer;
