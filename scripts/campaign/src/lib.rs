//! Boots whose random choices are determined by a seed. [`stress`] checks the console output and the counters of each
//! boot. [`hostile`] checks that the kernel survives attacks from ring 3. Both print a command that replays a failure.
#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "tests write their own files, and a failed write fails the test"
    )
)]

pub mod counters;
pub mod hostile;
pub mod stress;
