//! The local APIC and the I/O APICs, and the calibration of the TSC and of the APIC timer.

pub mod apic;
pub mod calibration;
pub mod eoi;
pub mod io_apic;
mod ipi;
mod left_over;
pub mod reference;
pub mod timer;
