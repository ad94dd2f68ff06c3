//! Per-CPU data: the data block, the area that contains the block and the CPU's stacks, and the functions that need
//! only this data (trace events, counters, lines of output).

#[macro_use]
pub mod print;

mod area;
mod block;
mod call_table;
pub mod canary;
pub mod counters;
mod dropped;
pub mod events;
pub mod injected;
pub mod rare;
pub mod time;

pub use self::area::{AREA_BYTES, create, created, of, online, set_online};
pub(in crate::arch) use self::area::{of_stack, recreate};
pub use self::block::{Ended, PerCpuData, Published};
pub use self::call_table::{CallEntry, CallTable, CallTables};
