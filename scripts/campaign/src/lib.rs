//! Runs whose choices come from a seed: [`stress`] checks all that can be known of each boot, [`hostile`] that the kernel
//! survives what ring 3 can do. Both print how a failure is replayed.
#![forbid(unsafe_code)]

pub mod counters;
pub mod hostile;
pub mod stress;
