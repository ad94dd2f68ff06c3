//! The local APIC, and the clocks that are measured by its timer.

pub mod apic;
pub mod timer;
