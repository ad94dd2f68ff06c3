//! One CPU's own data: the block, the area that it lies in with the CPU's stacks, and what writes only there: trace events,
//! counters, lines of output.

#[macro_use]
pub mod print;

mod area;
mod block;
pub mod canary;
pub mod counters;
pub mod events;
pub mod provoked;
pub mod rare;
pub mod time;

pub(in crate::arch) use self::area::of_stack;
pub use self::area::{AREA_BYTES, create, created, of, online, set_online};
pub use self::block::{Ended, LINE_MAX, PerCpuData, Published};
