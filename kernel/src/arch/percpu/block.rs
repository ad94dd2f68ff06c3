//! One CPU's own data, reached through the GS base while in ring 0.
//!
//! The block lies in the CPU's area of [`crate::layout`], with its GDT and TSS. Its owner uses it through a shared
//! reference: what only the owner writes is a `Cell` or `RefCell`; what other CPUs read is set once and lies on
//! cache lines of its own. The syscall path writes nothing that another CPU writes.

use core::arch::asm;
use core::cell::{Cell, RefCell};
use core::mem::offset_of;
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering};

use crossbeam_utils::CachePadded;
use kernel_abi::counters::Counters;
use kernel_abi::syscall::TABLE_LEN;
use kernel_abi::trace::{IPI_TO_OTHERS, Kind};
use spin::Once;
use x86_64::structures::tss::TaskStateSegment;

use super::provoked::Provoked;
use super::rare::Rare;
use super::time::Measured;
use crate::alternation::Share;
use crate::arch::cpu::control::ControlState;
use crate::arch::cpu::gdt::Gdt;
use crate::arch::cpu::msr;
use crate::arch::devices::uart::Uart;
use crate::arch::interrupts::apic::{LocalApic, WAKE_VECTOR};
use crate::arch::interrupts::timer::TscClock;
use crate::arch::memory::loaded::Program;
use crate::arch::trace::Tracer;
use crate::cpu::{ApicId, CpuId};
use crate::layout;
use crate::line::LineBuffer;
use crate::repeat::{End, Rounds};

/// The longest line of a program's output that is kept whole, in bytes.
pub const LINE_MAX: usize = 512;

/// Everything that is this CPU's alone. Sits at [`layout::data_block`].
#[repr(C, align(64))]
pub struct PerCpuData {
    /// The address of this very block: the first word, so that `mov reg, gs:[0]` yields a reference.
    pub(in crate::arch) this: *const PerCpuData,
    /// Ring 3's stack pointer, between the entry's second instruction and its copy into the frame.
    pub(in crate::arch) user_rsp: Cell<u64>,
    /// One past the syscall stack's highest byte; equals TSS.RSP0.
    pub(in crate::arch) syscall_stack_top: u64,
    /// The writer of this CPU's trace; its first word is looked at on every entry.
    pub(in crate::arch) tracer: Tracer,
    /// What this CPU counts; the host reads along.
    pub(in crate::arch) counters: Counters<Cell<u64>>,
    /// This CPU's dense index: its place in the list of CPUs during bring-up, from then on its place among those
    /// that came. Set by the BSP while this CPU waits for the run.
    pub(super) id: AtomicU32,
    /// Which area of [`crate::layout`] this is: the place in the list of CPUs, for good.
    pub area: CpuId,
    /// Its local APIC's id.
    pub apic_id: ApicId,
    /// CPUs online: a copy, so that the system call reads no shared line.
    pub(super) cpus_online: Cell<u32>,
    /// TSC to nanoseconds, a copy likewise.
    pub(super) clock: Cell<TscClock>,
    pub(super) measured: Cell<Measured>,
    /// What is rare and reported outside of its handler.
    pub(in crate::arch) rare: Rare,
    /// The local APIC, once it is enabled.
    pub(in crate::arch) apic: RefCell<Option<LocalApic>>,
    /// This CPU's own serial port, if CPUs have one each.
    pub(in crate::arch) uart: RefCell<Option<Uart>>,
    /// The program's console line.
    pub line: RefCell<LineBuffer<LINE_MAX>>,
    /// The program, from its loading to its end.
    pub(in crate::arch) program: RefCell<Option<Program>>,
    /// What this CPU goes on with when the program has ended.
    pub(in crate::arch) after_program: Cell<Option<fn(&'static PerCpuData) -> !>>,
    /// How often the program was started, and how its latest copy ended.
    pub rounds: Rounds,
    /// What this CPU does on demand, for tests.
    pub(in crate::arch) provoked: Provoked,
    pub(in crate::arch) gdt: Gdt,
    pub(super) tss: TaskStateSegment,
    pub(super) magic: u64,
    /// What the BSP reads in the end.
    pub published: CachePadded<Published>,
}

/// Set once each by the owner, read by the BSP.
#[derive(Default)]
pub struct Published {
    /// Control registers, when the CPU came online.
    pub control: Once<ControlState>,
    /// Memory that the program takes, in KiB.
    pub program_kib: Once<u64>,
    /// How the program ended, with the counters.
    pub ended: Once<Ended>,
}

/// How a CPU's last copy of the program ended, and what the CPU had counted by then.
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
    /// With recording off and on, if that was switched.
    pub shares: Option<[Share; 2]>,
}

const _: () = {
    assert!(offset_of!(PerCpuData, this) == 0, "gs:[0] is the block's own address");
    assert!(offset_of!(PerCpuData, tracer) < 64, "what every entry touches is one cache line");
    assert!(size_of::<PerCpuData>() as u64 <= layout::PER_CPU_DATA_SIZE, "the block has this much room");
};

// SAFETY: a block is shared between CPUs only as `of` says: the atomics and `Once`s, and what never changes.
unsafe impl Sync for PerCpuData {}

impl PerCpuData {
    /// What `magic` holds.
    pub const MAGIC: u64 = u64::from_le_bytes(*b"per-CPU!");

    /// Where this CPU's GDT and its TSS lie.
    pub(in crate::arch) fn tables(&self) -> (u64, u64) {
        (ptr::from_ref(&self.gdt) as u64, &raw const self.tss as u64)
    }

    pub(in crate::arch) fn magic(&self) -> u64 {
        // SAFETY: a field of a live reference. Volatile: who asks suspects that something else wrote it.
        unsafe { (&raw const self.magic).read_volatile() }
    }

    /// This CPU's data, if this CPU has come far enough to have any.
    #[must_use]
    pub fn try_current() -> Option<&'static PerCpuData> {
        // The MSR, not `gs:[0]`: before there is data the base is 0 and the access would fault.
        layout::cpu_of(msr::gs_base())?;
        Some(PerCpuData::current())
    }

    /// Has this CPU set itself up, so that it can take an NMI?
    #[must_use]
    pub(in crate::arch) fn is_running(&self) -> bool {
        self.published.control.is_completed()
    }

    /// This CPU's dense index; 0 is the BSP.
    #[must_use]
    #[inline]
    pub fn id(&self) -> CpuId {
        CpuId(self.id.load(Ordering::Relaxed))
    }

    /// Gives the CPU its index among those that came.
    pub(in crate::arch) fn number(&self, id: CpuId) {
        self.id.store(id.0, Ordering::Relaxed);
    }

    /// Uses this CPU's local APIC; does nothing before it is enabled.
    pub fn with_apic<R>(&self, f: impl FnOnce(&mut LocalApic) -> R) -> Option<R> {
        self.apic.borrow_mut().as_mut().map(f)
    }

    /// This CPU's data.
    ///
    /// Only for code that runs behind an entry from ring 3, where the GS base is known to be ours.
    #[inline(always)]
    pub(in crate::arch) fn current() -> &'static PerCpuData {
        let this: *const PerCpuData;
        // SAFETY: the GS base is a block whose first word is its own address (invariant: GS-BASE).
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

    /// Lets this CPU record what `trace=` asks for; for the BSP, whose data is older than the rings.
    pub fn attach_trace(&self) {
        self.tracer.attach(self.area.0, self.apic_id.0);
    }

    /// Calls and time with recording off and on, if that was switched.
    #[must_use]
    pub fn shares(&self) -> Option<[Share; 2]> {
        self.provoked.alternation.shares()
    }

    /// Records nothing from here on.
    pub fn stop_trace(&self) {
        self.tracer.switch(false);
    }

    /// Wakes one CPU from its halt.
    pub fn wake(&self, to: ApicId) {
        self.trace(Kind::IpiSent, WAKE_VECTOR.into(), to.0.into());
        self.with_apic(|apic| apic.wake(to));
    }

    /// Wakes every other CPU.
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

    /// System calls so far, by number.
    #[must_use]
    pub fn calls(&self) -> [u64; TABLE_LEN + 1] {
        self.counters.calls.each_ref().map(Cell::get)
    }

    /// Timer ticks so far.
    #[must_use]
    pub fn ticks(&self) -> u64 {
        self.counters.ticks.get()
    }

    /// CPUs online.
    #[must_use]
    pub fn cpus_online(&self) -> u32 {
        self.cpus_online.get()
    }

    /// Takes over how many CPUs are online.
    pub fn set_cpus_online(&self, cpus: u32) {
        self.cpus_online.set(cpus);
    }

    /// Ends the interrupt in service.
    pub(in crate::arch) fn end_of_interrupt(&self) {
        self.with_apic(LocalApic::end_of_interrupt);
    }
}
