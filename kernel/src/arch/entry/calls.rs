//! The functions of the system-call tables (see [`crate::arch::percpu::CallTables`]).
//!
//! A leaf handler is called directly by [`syscall_entry`](crate::arch::entry::points::syscall_entry), which has saved
//! only the registers that a compiled function may overwrite. So a leaf must not panic, block or end the program. The
//! host check `check::leaf-handlers` verifies this in the compiled kernel.

use core::arch::naked_asm;

use kernel_abi::syscall::TABLE_LEN;

use crate::arch::entry::points::{FrameCalls, frame_entry};
use crate::arch::panic::check;
use crate::arch::percpu::{CallEntry, CallTables, PerCpuData, events};

/// The arguments of a system call, named after their registers.
///
/// Argument 4 is missing. It is in r10, and a compiled function expects it in rcx, which holds the index in the table.
/// No leaf handler needs it. One that does would have a function of its own in the table, which moves r10 to rcx.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the fields are named after the registers")]
pub struct Arguments {
    pub rdi: u64,
    pub rsi: u64,
    pub rdx: u64,
    pub r8: u64,
    pub r9: u64,
}

/// A leaf handler.
pub trait Leaf {
    /// Runs the call and returns its result.
    fn call(arguments: Arguments) -> u64;
}

/// The function of a leaf handler in the table that records nothing.
pub extern "sysv64" fn plain<L: Leaf>(rdi: u64, rsi: u64, rdx: u64, _index: u64, r8: u64, r9: u64) -> u64 {
    checked::<L>(Arguments { rdi, rsi, rdx, r8, r9 })
}

/// The function of a leaf handler in the table that records both events. The number of the call is its index.
pub extern "sysv64" fn recording<L: Leaf>(
    rdi: u64,
    rsi: u64,
    rdx: u64,
    number: u64,
    r8: u64,
    r9: u64,
) -> u64 {
    events::recorded(
        number,
        rdi,
        || checked::<L>(Arguments { rdi, rsi, rdx, r8, r9 }),
        // The slow function records both events with a check for room each.
        || selective::<L>(rdi, rsi, rdx, number, r8, r9),
    )
}

/// The function of a leaf handler in the table that records the events whose kind is enabled. The number of the call is
/// its index.
///
/// It is not inlined into [`recording`], which would then have to save the registers that this function uses.
#[inline(never)]
pub extern "sysv64" fn selective<L: Leaf>(
    rdi: u64,
    rsi: u64,
    rdx: u64,
    number: u64,
    r8: u64,
    r9: u64,
) -> u64 {
    let cpu = PerCpuData::current();
    events::syscall_enter(number, rdi, cpu);
    let result = checked::<L>(Arguments { rdi, rsi, rdx, r8, r9 });
    events::syscall_exit(number, result, cpu);
    result
}

/// Runs the call. In a build with the feature `checking`, checks the invariants before and after it.
#[inline(always)]
fn checked<L: Leaf>(arguments: Arguments) -> u64 {
    let cpu = PerCpuData::current();
    check::entry(cpu);
    let result = L::call(arguments);
    check::entry_flags(cpu, " after a call");
    result
}

/// The function for numbers beyond the table, whose index is not their number: passes the number, which is in rax.
///
/// On entry: as at the call in `syscall_entry`.
///
/// # Safety
/// Only `syscall_entry` may call this, through its table.
#[unsafe(naked)]
unsafe extern "sysv64" fn recording_number<L: Leaf>(
    rdi: u64,
    rsi: u64,
    rdx: u64,
    index: u64,
    r8: u64,
    r9: u64,
) -> u64 {
    naked_asm!("mov rcx, rax", "jmp {recording}", recording = sym recording::<L>)
}

/// Like [`recording_number`], for the table that records the events whose kind is enabled.
///
/// # Safety
/// As for [`recording_number`].
#[unsafe(naked)]
unsafe extern "sysv64" fn selective_number<L: Leaf>(
    rdi: u64,
    rsi: u64,
    rdx: u64,
    index: u64,
    r8: u64,
    r9: u64,
) -> u64 {
    naked_asm!("mov rcx, rax", "jmp {selective}", selective = sym selective::<L>)
}

/// The functions of one system call: one for each of the [`CallTables`].
#[derive(Clone, Copy)]
pub struct Functions {
    plain: CallEntry,
    recording: CallEntry,
    selective: CallEntry,
}

impl Functions {
    /// The functions of a leaf handler.
    #[must_use]
    pub const fn leaf<L: Leaf>() -> Functions {
        Functions { plain: plain::<L>, recording: recording::<L>, selective: selective::<L> }
    }

    /// The functions of the leaf handler for all numbers beyond the table.
    #[must_use]
    pub const fn beyond_the_table<L: Leaf>() -> Functions {
        Functions { plain: plain::<L>, recording: recording_number::<L>, selective: selective_number::<L> }
    }

    /// The functions of a system call that needs the whole frame. The handler's wrapper tests which events are enabled.
    #[must_use]
    pub const fn frame<C: FrameCalls>() -> Functions {
        Functions { plain: frame_entry::<C>, recording: frame_entry::<C>, selective: frame_entry::<C> }
    }
}

/// Builds the tables from the functions of each system call.
#[must_use]
pub const fn tables(functions: [Functions; TABLE_LEN + 1]) -> CallTables {
    let first = functions[0];
    let mut tables = CallTables {
        plain: [first.plain; TABLE_LEN + 1],
        recording: [first.recording; TABLE_LEN + 1],
        selective: [first.selective; TABLE_LEN + 1],
    };
    let mut n = 1;
    while n < functions.len() {
        tables.plain[n] = functions[n].plain;
        tables.recording[n] = functions[n].recording;
        tables.selective[n] = functions[n].selective;
        n += 1;
    }
    tables
}
