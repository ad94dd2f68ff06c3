//! The exits from ring 0.

pub mod points;
