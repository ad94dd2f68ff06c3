//! The UEFI loader's library. [`image`], [`options`] and [`memory`] make the decisions, without `unsafe`, and are tested
//! on the host. [`load`] calls the firmware, and [`leave`] leaves it. The library compiles for the host too; only
//! execution needs the firmware.
#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]

extern crate alloc;

pub mod error;
pub mod image;
pub mod leave;
pub mod load;
pub mod memory;
pub mod options;
