//! A CPU's data block, which ring 0 reaches through the GS base (invariant: GS-BASE).
//!
//! The block lies in the CPU's area of [`crate::layout`] and contains the CPU's GDT and TSS. Its owner uses it through
//! a shared reference: what only the owner writes is a `Cell` or `RefCell`. What other CPUs read at the end of a run is
//! set once and lies on cache lines of its own. The system-call path writes no cache line that another CPU writes.

use core::arch::asm;
use core::cell::{Cell, RefCell};
use core::mem::offset_of;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crossbeam_utils::CachePadded;
use kernel_abi::counters::Counters;
use kernel_abi::syscall::TABLE_LEN;
use kernel_abi::trace::{IPI_TO_OTHERS, Kind};
use spin::Once;
use x86_64::structures::tss::TaskStateSegment;

use super::dropped::Dropped;
use super::provoked::Provoked;
use super::rare::Rare;
use super::time::Measured;
use crate::alternation::Share;
use crate::arch::cpu::control::ControlState;
use crate::arch::cpu::gdt::Gdt;
use crate::arch::cpu::msr;
use crate::arch::devices::uart::Uart;
use crate::arch::interrupts::apic::{ApicState, LocalApic, WAKE_VECTOR};
use crate::arch::interrupts::timer::TscClock;
use crate::arch::memory::loaded::Program;
use crate::arch::trace::Tracer;
use crate::cpu::{ApicId, CpuId};
use crate::layout;
use crate::line::LineBuffer;
use crate::repeat::{End, Rounds};

/// The longest line of a program's output that is not split, in bytes.
pub const LINE_MAX: usize = 512;

/// A CPU's data. Lies at [`layout::data_block`].
#[repr(C, align(64))]
pub struct PerCpuData {
    /// The address of this block. It is the first word, so that `mov reg, gs:[0]` loads it.
    pub(in crate::arch) this: *const PerCpuData,
    /// Ring 3's stack pointer, from the entry's second instruction until it is copied to the frame.
    pub(in crate::arch) user_rsp: Cell<u64>,
    /// The end of the syscall stack, one past its highest byte. Equal to TSS.RSP0.
    pub(in crate::arch) syscall_stack_top: u64,
    /// The writer of this CPU's trace. Every system call reads its first word.
    pub(in crate::arch) tracer: Tracer,
    /// This CPU's counters, which the host tool reads while the kernel runs.
    pub(in crate::arch) counters: Counters<Cell<u64>>,
    /// This CPU's dense index: during bring-up its place in the list of CPUs, afterwards its place among the CPUs that
    /// are online. The BSP sets it while this CPU waits for the run.
    pub(super) id: AtomicU32,
    /// The index of this CPU's area in [`crate::layout`]: its place in the list of CPUs, which never changes.
    pub area: CpuId,
    /// The id of this CPU's local APIC.
    pub apic_id: ApicId,
    /// How many CPUs are online: a copy, so that the system call reads no cache line of another CPU's.
    pub(super) cpus_online: Cell<u32>,
    /// The conversion from TSC to nanoseconds: a copy for the same reason.
    pub(super) clock: Cell<TscClock>,
    /// The timer ticks whose rate is measured.
    pub(super) measured: Cell<Measured>,
    /// Rare exceptions, which are reported outside of their handlers.
    pub(in crate::arch) rare: Rare,
    /// The local APIC, once it is enabled.
    pub(in crate::arch) apic: RefCell<Option<LocalApic>>,
    /// This CPU's own serial port, if it has one.
    pub(in crate::arch) uart: RefCell<Option<Uart>>,
    /// This CPU is writing a line of a program's output. It may be interrupted, but its UART is in use.
    pub(in crate::arch) printing: Cell<bool>,
    /// The line of output that the program has begun.
    pub line: RefCell<LineBuffer<LINE_MAX>>,
    /// The program, while it is loaded.
    pub(in crate::arch) program: RefCell<Option<Program>>,
    /// The function with which this CPU continues after the program's end.
    pub(in crate::arch) after_program: Cell<Option<fn(&'static PerCpuData) -> !>>,
    /// How often the program was started, and how its last copy ended.
    pub rounds: Rounds,
    /// The state of this CPU's test hooks.
    pub(in crate::arch) provoked: Provoked,
    pub(in crate::arch) gdt: Gdt,
    pub(super) tss: TaskStateSegment,
    pub(super) magic: u64,
    /// What other CPUs read.
    pub published: CachePadded<Published>,
}

/// Values that are set once each and read by another CPU: by the BSP at the end of the run, or by a panicking CPU.
#[derive(Default)]
pub struct Published {
    /// The control registers, from when the CPU came online.
    pub control: Once<ControlState>,
    /// The local APIC's mode, and its id by CPUID; set at the same time.
    pub apic: Once<ApicState>,
    /// How much memory the program takes, in KiB.
    pub program_kib: Once<u64>,
    /// How the program ended, with the counters.
    pub ended: Once<Ended>,
    /// The CPU waits for its turn at the console: set by the owner, cleared by the CPU that gives it the turn.
    pub waits_for_turn: AtomicBool,
    /// The bytes of output that were dropped.
    pub dropped: Dropped,
    /// The panicking CPU, the only writer, has sent this CPU an NMI to stop it.
    pub stop_requested: AtomicBool,
    /// The CPU has stopped permanently, because another one panics.
    pub stopped: AtomicBool,
}

/// How a CPU's last copy of the program ended, and the CPU's counters at that time.
#[derive(Clone, Copy)]
pub struct Ended {
    /// How the copy ended.
    pub end: End,
    /// How many copies were started.
    pub starts: u32,
    /// How many of them were killed.
    pub killed: u32,
    /// System calls by number; the last counts the numbers beyond the table.
    pub calls: [u64; TABLE_LEN + 1],
    /// Timer ticks since the CPU came online.
    pub ticks: u64,
    /// The tick's measured rate.
    pub tick_millihertz: u64,
    /// System calls and time with recording off and on, if the run alternates between them.
    pub shares: Option<[Share; 2]>,
}

const _: () = {
    assert!(offset_of!(PerCpuData, this) == 0, "gs:[0] must be the block's own address");
    assert!(
        offset_of!(PerCpuData, tracer) < 64,
        "what every system call uses must lie in the first cache line"
    );
    assert!(size_of::<PerCpuData>() as u64 <= layout::PER_CPU_DATA_SIZE, "the data must fit in the block");
};

// SAFETY: of another CPU's block, code uses only atomics, `Once`s and fields that never change (invariant: OWNER-ONLY).
unsafe impl Sync for PerCpuData {}

impl PerCpuData {
    /// The value of `magic`.
    pub const MAGIC: u64 = u64::from_le_bytes(*b"per-CPU!");

    /// Returns the addresses of this CPU's GDT and TSS.
    pub(in crate::arch) fn tables(&self) -> (u64, u64) {
        (ptr::from_ref(&self.gdt) as u64, &raw const self.tss as u64)
    }

    /// Reads the magic number, by which the self-checks detect a block that was overwritten.
    pub(in crate::arch) fn magic(&self) -> u64 {
        // SAFETY: the pointer is to a field of `self`. Volatile, because the caller checks for an unexpected write.
        unsafe { (&raw const self.magic).read_volatile() }
    }

    /// Returns this CPU's data, if its GS base is set.
    #[must_use]
    pub fn try_current() -> Option<&'static PerCpuData> {
        // This reads the MSR instead of `gs:[0]`: while the base is not set, that access would fault.
        layout::cpu_of(msr::gs_base())?;
        Some(PerCpuData::current())
    }

    /// Whether this CPU has set itself up, so that it can handle an NMI.
    #[must_use]
    pub(in crate::arch) fn is_running(&self) -> bool {
        self.published.control.is_completed()
    }

    /// Whether this CPU has stopped for a panic, or does not have to.
    #[must_use]
    pub(in crate::arch) fn has_stopped_if_requested(&self) -> bool {
        let Published { stop_requested, stopped, .. } = &*self.published;
        !stop_requested.load(Ordering::Relaxed) || stopped.load(Ordering::Acquire)
    }

    /// Returns this CPU's dense index; 0 is the BSP.
    #[must_use]
    #[inline]
    pub fn id(&self) -> CpuId {
        CpuId(self.id.load(Ordering::Relaxed))
    }

    /// Sets the CPU's index among those that are online.
    pub(in crate::arch) fn set_id(&self, id: CpuId) {
        self.id.store(id.0, Ordering::Relaxed);
    }

    /// Calls `f` with this CPU's local APIC; does nothing before the APIC is enabled.
    pub fn with_apic<R>(&self, f: impl FnOnce(&mut LocalApic) -> R) -> Option<R> {
        self.apic.borrow_mut().as_mut().map(f)
    }

    /// Returns this CPU's data.
    ///
    /// Only for code that runs while the invariant GS-BASE holds: after an entry from ring 3, or after a check of the
    /// base.
    #[inline(always)]
    pub(in crate::arch) fn current() -> &'static PerCpuData {
        let this: *const PerCpuData;
        // SAFETY: the GS base is the address of this CPU's block, whose first word is that address (invariant:
        // GS-BASE).
        unsafe {
            asm!(
                "mov {}, gs:[{}]",
                out(reg) this,
                const offset_of!(PerCpuData, this),
                options(nostack, pure, readonly, preserves_flags)
            );
            &*this
        }
    }

    /// Attaches this CPU's trace ring. Only the BSP needs it: its data is created before the rings.
    pub fn attach_trace(&self) {
        self.tracer.attach(self.area.0, self.apic_id.0);
    }

    /// Returns system calls and time with recording off and on, if the run alternates between them.
    #[must_use]
    pub fn shares(&self) -> Option<[Share; 2]> {
        self.provoked.alternation.shares()
    }

    /// Switches this CPU's trace off.
    pub fn stop_trace(&self) {
        self.tracer.switch(false);
    }

    /// Sends the wake-up IPI to one CPU.
    pub fn wake(&self, to: ApicId) {
        self.trace(Kind::IpiSent, WAKE_VECTOR.into(), to.0.into());
        self.with_apic(|apic| apic.wake(to));
    }

    /// Sends the wake-up IPI to all other CPUs.
    pub fn wake_others(&self) {
        self.trace(Kind::IpiSent, WAKE_VECTOR.into(), IPI_TO_OTHERS);
        self.with_apic(LocalApic::wake_others);
    }

    /// Counts a system call, by its number or, for numbers beyond the table, by the table's length.
    #[inline]
    pub fn count_syscall(&self, number: usize) {
        let count = &self.counters.calls[number];
        count.set(count.get().wrapping_add(1));
    }

    /// Returns the number of system calls so far, by system-call number.
    #[must_use]
    pub fn calls(&self) -> [u64; TABLE_LEN + 1] {
        self.counters.calls.each_ref().map(Cell::get)
    }

    /// Returns the number of timer ticks so far.
    #[must_use]
    pub fn ticks(&self) -> u64 {
        self.counters.ticks.get()
    }

    /// Returns the number of CPUs online.
    #[must_use]
    pub fn cpus_online(&self) -> u32 {
        self.cpus_online.get()
    }

    /// Sets the copy of the number of CPUs online.
    pub fn set_cpus_online(&self, cpus: u32) {
        self.cpus_online.set(cpus);
    }

    /// Sends the EOI for the interrupt in service.
    pub(in crate::arch) fn end_of_interrupt(&self) {
        self.with_apic(LocalApic::end_of_interrupt);
    }
}
