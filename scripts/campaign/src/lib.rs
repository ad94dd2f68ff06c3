//! Runs determined by a seed: [`stress`] checks the console and the counters of each boot, [`hostile`] that the kernel
//! survives what ring 3 can do. Both print the command that replays a failure.
#![forbid(unsafe_code)]

pub mod counters;
pub mod hostile;
pub mod stress;
