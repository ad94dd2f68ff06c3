//! The kernel library.
#![cfg_attr(not(test), no_std)]

pub mod cpu;
pub mod frames;
pub mod layout;
