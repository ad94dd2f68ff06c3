//! A CPU's data block, which ring 0 reaches through the GS base (invariant: GS-BASE).
//!
//! The block lies in the CPU's area (see [`crate::layout`]) and contains the CPU's GDT and TSS. The CPU accesses its
//! own block through a shared reference, so fields that only this CPU writes are `Cell` or `RefCell`. Fields that other
//! CPUs read at the end of a run are set once and have their own cache lines. The system-call path writes no cache line
//! that another CPU writes.

use core::arch::asm;
use core::cell::{Cell, RefCell};
use core::mem::offset_of;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crossbeam_utils::CachePadded;
use kernel_abi::counters::{Counters, LINE_MAX};
use kernel_abi::syscall::TABLE_LEN;
use kernel_abi::trace::{IPI_TO_OTHERS, Kind};
use spin::Once;
use x86_64::structures::tss::TaskStateSegment;

use super::call_table::{CallTable, Tables};
use super::dropped::Dropped;
use super::injected::Injected;
use super::rare::Rare;
use super::time::TickTimes;
use crate::alternation::Share;
use crate::arch::cpu::control::ControlState;
use crate::arch::cpu::gdt::Gdt;
use crate::arch::cpu::msr;
use crate::arch::cpu::tsc::TscState;
use crate::arch::devices::uart::Uart;
use crate::arch::interrupts::apic::{ApicState, LocalApic, WAKE_VECTOR};
use crate::arch::interrupts::eoi::Eoi;
use crate::arch::interrupts::timer::TscClock;
use crate::arch::memory::loaded::Program;
use crate::arch::trace::Tracer;
use crate::cpu::{ApicId, CpuId};
use crate::features::Features;
use crate::layout;
use crate::line::LineBuffer;
use crate::repeat::{End, Rounds};
use crate::tick_work::TickWork;

/// A CPU's data. Lies at [`layout::data_block`].
#[repr(C, align(64))]
pub struct PerCpuData {
    /// The address of this block. It is the first word, so that `mov reg, gs:[0]` loads it.
    pub(in crate::arch) this: *const PerCpuData,
    /// The user stack pointer. Valid from the second instruction of the system-call entry until its exit has read it, or
    /// until the entry of a frame handler has pushed it into the frame.
    pub(in crate::arch) user_rsp: Cell<u64>,
    /// The end of the syscall stack, one past its highest byte. Equal to TSS.RSP0.
    pub(in crate::arch) syscall_stack_top: u64,
    /// The table through which the system-call entry calls: one of `call_tables`, or null before they are set.
    pub(in crate::arch) call_table: Cell<*const CallTable>,
    /// The writer of this CPU's trace ring.
    pub(in crate::arch) tracer: Tracer,
    /// This CPU's counters, which the host tool reads while the kernel runs.
    pub(in crate::arch) counters: Counters<Cell<u64>>,
    /// This CPU's dense index: during bring-up its position in the list of CPUs, afterwards its position among the CPUs
    /// that are online. The BSP sets it before the run starts.
    pub(super) id: AtomicU32,
    /// The index of this CPU's area in [`crate::layout`]. Equal to the CPU's position in the list of CPUs; never
    /// changes.
    pub area: CpuId,
    /// The id of this CPU's local APIC.
    pub apic_id: ApicId,
    /// How many times this CPU has left the run and its data has been reinitialised.
    pub generation: u32,
    /// The number of CPUs online. A per-CPU copy, so that the system call reads no shared cache line.
    pub(super) cpus_online: Cell<u32>,
    /// The conversion from TSC to nanoseconds. Also a per-CPU copy, so that the system call reads no shared cache line.
    pub(super) clock: Cell<TscClock>,
    /// The tables from which `call_table` is chosen.
    pub(super) call_tables: Tables,
    /// The work of this CPU's ticks other than counting.
    pub(in crate::arch) tick_work: TickWork,
    /// The times of this CPU's ticks.
    pub(super) tick_times: TickTimes,
    /// How this CPU sends an EOI. Set with `apic`, before the CPU first enables interrupts.
    pub(in crate::arch) eoi: Cell<Eoi>,
    /// Rare exceptions, which are reported outside of their handlers.
    pub(in crate::arch) rare: Rare,
    /// The local APIC, once it is enabled.
    pub(in crate::arch) apic: RefCell<Option<LocalApic>>,
    /// This CPU's own serial port, if it has one.
    pub(in crate::arch) uart: RefCell<Option<Uart>>,
    /// Whether this CPU is writing a line of program output. Interrupts may then arrive while the UART is in use.
    pub(in crate::arch) printing: Cell<bool>,
    /// The incomplete line of the program's output. The host reads it if the run ends before the line is complete.
    pub line: RefCell<LineBuffer<LINE_MAX>>,
    /// The program, while it is loaded.
    pub(in crate::arch) program: RefCell<Option<Program>>,
    /// The function that this CPU calls after the program has ended.
    pub(in crate::arch) after_program: Cell<Option<fn(&'static PerCpuData) -> !>>,
    /// The number of starts of the program, each of which loads a new copy, and the result of the last copy.
    pub rounds: Rounds,
    /// The state of this CPU's test hooks.
    pub(in crate::arch) injected: Injected,
    pub(in crate::arch) gdt: Gdt,
    pub(super) tss: TaskStateSegment,
    pub(super) magic: u64,
    /// The values that other CPUs read.
    pub published: CachePadded<Published>,
}

/// Values that other CPUs read: the BSP at the end of the run, a panicking CPU, and CPUs that write to the console.
#[derive(Default)]
pub struct Published {
    /// The features that this CPU lacks and the BSP uses. Set if that is why the CPU takes no part in the run.
    pub lacks: Once<Features>,
    /// The control registers at the time the CPU came online.
    pub control: Once<ControlState>,
    /// The mode of the local APIC, and the APIC id from CPUID. Set when the CPU came online.
    pub apic: Once<ApicState>,
    /// The state of the time-stamp counter. Set when the CPU came online.
    pub tsc: Once<TscState>,
    /// The program's memory, in KiB.
    pub program_kib: Once<u64>,
    /// The result of the program, with the counters at its end.
    pub ended: Once<Ended>,
    /// Whether the CPU waits for its turn at the console. Set by the owner, cleared by the CPU that passes the turn to
    /// it.
    pub waits_for_turn: AtomicBool,
    /// The number of output bytes that were dropped.
    pub dropped: Dropped,
    /// Whether the BSP has asked the CPU to leave the run. Set by the BSP before the wake-up IPI that the CPU reacts to,
    /// and cleared by the BSP before the CPU comes back.
    pub must_leave: AtomicBool,
    /// Whether the CPU has left and has not set itself up again. It must get no NMI then.
    pub(in crate::arch) away: AtomicBool,
    /// Whether the panicking CPU has sent this CPU an NMI to stop it. Only the panicking CPU writes this flag.
    pub stop_requested: AtomicBool,
    /// Whether the CPU has stopped permanently because another CPU panicked.
    pub stopped: AtomicBool,
    /// The number of warnings that the CPU has printed.
    warnings: AtomicU32,
}

impl Published {
    /// Counts a warning. Called by [`warn!`](crate::warn).
    pub fn count_warning(&self) {
        self.warnings.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how many warnings the CPU has printed. The number is exact once later actions of the CPU, such as its
    /// arrival at a gate, have been observed.
    #[must_use]
    pub fn warnings(&self) -> u32 {
        self.warnings.load(Ordering::Relaxed)
    }
}

/// The result of a CPU's last copy of the program, and the CPU's counters at the end of that copy.
#[derive(Clone, Copy)]
pub struct Ended {
    /// How the copy ended.
    pub end: End,
    /// The number of copies started.
    pub starts: u32,
    /// The number of copies killed.
    pub killed: u32,
    /// The count of system calls by number; the last element counts calls with a number beyond the table.
    pub calls: [u64; TABLE_LEN + 1],
    /// Timer ticks since the CPU came online.
    pub ticks: u64,
    /// The tick's measured rate.
    pub tick_millihertz: u64,
    /// The number of system calls and the time spent with recording off and on, if the run alternates between the two.
    pub shares: Option<[Share; 2]>,
}

impl Ended {
    /// The result of a CPU that has no counters. The program did not end; the caller sets how.
    pub const NOTHING: Ended = Ended {
        end: End::Offline,
        starts: 0,
        killed: 0,
        calls: [0; TABLE_LEN + 1],
        ticks: 0,
        tick_millihertz: 0,
        shares: None,
    };
}

const _: () = {
    assert!(offset_of!(PerCpuData, this) == 0, "gs:[0] must be the block's own address");
    assert!(
        offset_of!(PerCpuData, tracer) < 64,
        "the fields that every system call uses must lie in the first cache line"
    );
    assert!(size_of::<PerCpuData>() as u64 <= layout::PER_CPU_DATA_SIZE, "the data must fit in the block");
};

// SAFETY: code on other CPUs uses only the atomics, the `Once`s and fields that never change (invariant: OWNER-ONLY).
unsafe impl Sync for PerCpuData {}

/// Reads a word of 8 or 4 bytes (`"r"` or `"e"`) of the running CPU's data, zero-extended. Expands to one instruction; an
/// access through [`PerCpuData::current`] takes two.
macro_rules! own_word {
    ($size:literal, $offset:expr) => {{
        let word: u64;
        // SAFETY: the GS base is the address of this CPU's data (invariant: GS-BASE), and the word is only read. A write
        // to the lower half of a register clears its upper half.
        unsafe {
            asm!(
                concat!("mov {word:", $size, "}, gs:[{offset}]"),
                word = out(reg) word,
                offset = const $offset,
                options(nostack, readonly, preserves_flags)
            );
        }
        word
    }};
}

impl PerCpuData {
    /// The value of `magic`.
    pub const MAGIC: u64 = u64::from_le_bytes(*b"per-CPU!");

    /// Returns the addresses of this CPU's GDT and TSS.
    pub(in crate::arch) fn tables(&self) -> (u64, u64) {
        (ptr::from_ref(&self.gdt) as u64, &raw const self.tss as u64)
    }

    /// Reads the magic number, which the self-checks compare to detect an overwritten block.
    pub(in crate::arch) fn magic(&self) -> u64 {
        // SAFETY: the pointer is to a field of `self`. The read is volatile because the caller checks for unexpected
        // writes.
        unsafe { (&raw const self.magic).read_volatile() }
    }

    /// Returns this CPU's data, if its GS base is set.
    #[must_use]
    pub fn try_current() -> Option<&'static PerCpuData> {
        // Read the MSR instead of `gs:[0]`, which would fault while the base is not set.
        layout::cpu_of(msr::gs_base())?;
        Some(PerCpuData::current())
    }

    /// Returns whether this CPU has completed its setup, has not left the run, and can handle an NMI.
    #[must_use]
    pub(in crate::arch) fn is_running(&self) -> bool {
        self.published.control.is_completed() && !self.published.away.load(Ordering::SeqCst)
    }

    /// Returns whether this CPU has stopped for a panic or need not stop.
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

    /// Returns the number of timer ticks of the running CPU, with one instruction.
    #[inline(always)]
    #[must_use]
    pub fn current_ticks() -> u64 {
        own_word!("r", offset_of!(PerCpuData, counters) + offset_of!(Counters<u64>, ticks))
    }

    /// Returns the dense index of the running CPU, with one instruction.
    #[inline(always)]
    #[must_use]
    pub fn current_id() -> u64 {
        own_word!("e", offset_of!(PerCpuData, id))
    }

    /// Returns the running CPU's copy of the number of CPUs online, with one instruction.
    #[inline(always)]
    #[must_use]
    pub fn current_cpus_online() -> u64 {
        own_word!("e", offset_of!(PerCpuData, cpus_online))
    }

    /// Returns this CPU's data.
    ///
    /// Call it only while the invariant GS-BASE holds: after an entry from ring 3, or after checking the base.
    #[inline(always)]
    pub(crate) fn current() -> &'static PerCpuData {
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

    /// Returns the number of system calls and the time spent with recording off and on, if the run alternates between
    /// the two.
    #[must_use]
    pub fn shares(&self) -> Option<[Share; 2]> {
        self.injected.alternation.shares()
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
    #[inline(always)]
    pub(in crate::arch) fn end_of_interrupt(&self) {
        self.eoi.get().send();
    }
}
