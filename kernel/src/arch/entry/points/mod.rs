//! The entry points of ring 0: `syscall`, interrupts and exceptions, each with its return to the interrupted code.
//!
//! The assembly only saves and restores registers and switches stacks and the GS base; Rust makes every decision. Most
//! vectors enter through [`stubs`] and [`trap`], the timer's through [`tick`], and `syscall` through [`syscall`]. NMI,
//! #DB, #MC and #DF use [`paranoid`], and the NMI also uses [`nmi`]. The end of each file declares the labels whose
//! addresses other code needs.

mod nmi;
mod paranoid;
mod stubs;
mod syscall;
mod tick;
mod trap;

pub(in crate::arch) use self::paranoid::ringside_clac_paranoid;
pub(in crate::arch) use self::stubs::stubs;
pub use self::syscall::{FrameCalls, frame_entry, syscall_entry};
pub(in crate::arch) use self::tick::ringside_clac_tick;
pub(in crate::arch) use self::trap::ringside_clac_trap;
