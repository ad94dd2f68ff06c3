//! The tables through which the system-call entry calls.

use core::cell::Cell;

use kernel_abi::syscall::TABLE_LEN;
use kernel_abi::trace::Kind;

use super::block::PerCpuData;

/// A function that the system-call entry calls. It gets arguments 1, 2, 3, 5 and 6 of the system call in their places,
/// and its index in the table in the place of argument 4.
pub type CallEntry = unsafe extern "sysv64" fn(u64, u64, u64, u64, u64, u64) -> u64;

/// The functions by system-call number. The last one is for all numbers beyond the table.
pub type CallTable = [CallEntry; TABLE_LEN + 1];

/// The tables among which a CPU chooses by the kinds of events that it records.
pub struct CallTables {
    /// Records nothing.
    pub plain: CallTable,
    /// Records the entry and the exit of each call.
    pub recording: CallTable,
    /// Records the entry or the exit, if its kind is enabled.
    pub selective: CallTable,
}

impl CallTables {
    /// Returns the table for a mask of enabled kinds.
    fn choose(&self, kinds: u32) -> &CallTable {
        const BOTH: u32 = Kind::SyscallEnter.bit() | Kind::SyscallExit.bit();
        match kinds & BOTH {
            0 => &self.plain,
            BOTH => &self.recording,
            _ => &self.selective,
        }
    }
}

/// The tables of a CPU, once they are set.
pub(super) type Tables = Cell<Option<&'static CallTables>>;

impl PerCpuData {
    /// Sets the tables through which this CPU's system-call entry calls.
    pub(in crate::arch) fn set_call_tables(&self, tables: &'static CallTables) {
        self.call_tables.set(Some(tables));
        self.choose_call_table();
    }

    /// Chooses the table that fits the kinds of events that this CPU records. Called after each change of the kinds.
    fn choose_call_table(&self) {
        if let Some(tables) = self.call_tables.get() {
            self.call_table.set(tables.choose(self.tracer.kinds.get()));
        }
    }

    /// Attaches this CPU's trace ring. Only the BSP needs this call: its data is created before the rings.
    pub fn attach_trace(&self) {
        self.tracer.attach(self.area.0, self.apic_id.0, &self.tick_work);
        self.choose_call_table();
    }

    /// Turns recording on or off.
    pub(in crate::arch) fn switch_trace(&self, on: bool) {
        self.tracer.switch(on, &self.tick_work);
        self.choose_call_table();
    }

    /// Stops recording on this CPU.
    pub fn stop_trace(&self) {
        self.switch_trace(false);
    }
}
