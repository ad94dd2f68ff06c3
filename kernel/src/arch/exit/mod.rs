//! Exits from ring 0 to ring 3, and from one kernel stack to another.

pub mod points;
