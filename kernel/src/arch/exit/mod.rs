//! Exits from ring 0 to ring 3, and switches from one kernel stack to another.

pub mod points;
