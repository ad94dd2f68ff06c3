//! Creates the per-CPU areas, and finds the data block in an area.

use core::cell::{Cell, RefCell};
use core::mem::{ManuallyDrop, offset_of};
use core::ops::Range;
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering};

use crossbeam_utils::CachePadded;
use kernel_abi::counters::{CLASSES, Counters};
use kernel_abi::layout::PAGE_SIZE;
use kernel_abi::syscall::TABLE_LEN;
use spin::Once;

use super::block::{PerCpuData, Published};
use super::canary;
use super::injected::Injected;
use super::rare::Rare;
use super::time::TickTimes;
use crate::arch::cpu::gdt::{self, IST_RESERVED};
use crate::arch::interrupts::eoi::Eoi;
use crate::arch::interrupts::timer::TscClock;
use crate::arch::memory::paging::{self, MapError};
use crate::arch::memory::physmem;
use crate::arch::trace::Tracer;
use crate::clock::Rate;
use crate::cpu::{ApicId, CpuId};
use crate::layout::{self, IstStack};
use crate::line::LineBuffer;
use crate::repeat::Rounds;
use crate::tick_work::TickWork;

/// The CPUs that are online, by dense index. Set by the BSP at the end of bring-up.
static ONLINE: Once<&'static [&'static PerCpuData]> = Once::new();

/// The number of areas created so far.
static CREATED: AtomicU32 = AtomicU32::new(0);

/// The memory of one CPU's area in bytes, without page tables.
pub const AREA_BYTES: u64 = layout::SYSCALL_STACK_SIZE
    + 4 * layout::IST_STACK_SIZE
    + (size_of::<PerCpuData>() as u64).next_multiple_of(PAGE_SIZE);

/// Maps a CPU's area and initialises it: the data block with GDT and TSS, the words of the IST stacks that hold the
/// block's address (invariant: IST-WORD), and the canaries.
///
/// # Errors
/// [`MapError`].
///
/// # Safety
/// Called on the BSP, once for each index, in ascending order, before that CPU runs.
pub unsafe fn create(id: CpuId, apic_id: ApicId) -> Result<(), MapError> {
    map(id)?;
    let place = ptr::with_exposed_provenance_mut::<PerCpuData>(layout::data_block(id).start as usize);
    // SAFETY: the block is mapped and page-aligned, and nothing else refers to it yet. The GDT refers to the TSS in
    // this block, which never moves.
    unsafe { place.write(fresh(place, id, apic_id)) };
    // SAFETY: the stacks were just mapped and are not in use yet.
    unsafe { prepare_stacks(id, place) };
    // SAFETY: the block is initialised, and its CPU is not running yet.
    let cpu = unsafe { &*place };
    cpu.tracer.attach(id.0, apic_id.0, &cpu.tick_work);
    CREATED.store(id.0 + 1, Ordering::Release);
    Ok(())
}

/// Writes the words at the tops of the IST stacks that hold the data block's address (invariant: IST-WORD), and the
/// canaries.
///
/// # Safety
/// The stacks of this area are mapped, and no CPU uses them. `place` is the address of the area's data block.
unsafe fn prepare_stacks(id: CpuId, place: *const PerCpuData) {
    for stack in IstStack::ALL.map(|which| layout::ist_stack(id, which)) {
        let word = ptr::with_exposed_provenance_mut::<*const PerCpuData>((stack.end - IST_RESERVED) as usize);
        // SAFETY: the word lies at the top of a stack that is mapped and not in use (guaranteed by the caller), above
        // everything that the CPU pushes.
        unsafe { word.write(place) };
    }
    for at in canary::addresses(id) {
        // SAFETY: the word is the lowest of a stack that is mapped and not in use (guaranteed by the caller).
        unsafe { ptr::with_exposed_provenance_mut::<u64>(at as usize).write(canary::at(at)) };
    }
}

/// The parts of a data block that only its CPU uses. The rest is what other CPUs may read at any time: the index, the
/// fields that never change, and `published`.
const OWN_PARTS: [Range<usize>; 2] = [
    0..offset_of!(PerCpuData, id),
    offset_of!(PerCpuData, apic_id) + size_of::<ApicId>()..offset_of!(PerCpuData, published),
];

/// Reinitialises a CPU's area, in place, after the CPU has left the run: zeroes the stacks and writes the initial data
/// over the CPU's own part of the block. The run's counts (system calls, ticks, starts of the program) and the CPU's
/// trace continue. `published` stays as it is, because other CPUs may read it meanwhile. Allocates nothing.
///
/// # Safety
/// Called on the BSP, with the slot's state `VACANT` after `online::reclaim`: the CPU uses neither its stacks nor its
/// data.
pub(in crate::arch) unsafe fn recreate(id: CpuId) {
    let place = ptr::with_exposed_provenance_mut::<PerCpuData>(layout::data_block(id).start as usize);
    // SAFETY: the GDT refers to the TSS at `place`, to which the data is copied below.
    let mut fresh = unsafe { ManuallyDrop::new(fresh(place, id, ApicId(0))) };
    {
        // SAFETY: the block was created, and its CPU does not use it (guaranteed by the caller), so the BSP may read
        // all of it.
        let old = unsafe { &*place };
        fresh.counters = old.counters.clone();
        fresh.rounds.continue_from(&old.rounds);
        fresh.tracer.continue_from(&old.tracer, &fresh.tick_work);
        *fresh.uart.borrow_mut() = old.uart.take();
        fresh.generation = old.generation + 1;
    }
    for part in OWN_PARTS {
        // SAFETY: both ranges lie in a `PerCpuData`, and no other CPU uses these parts of the block.
        unsafe {
            let from = (&raw const *fresh).cast::<u8>().add(part.start);
            place.cast::<u8>().add(part.start).copy_from_nonoverlapping(from, part.len());
        }
    }
    let stacks = IstStack::ALL.map(|which| layout::ist_stack(id, which));
    for stack in stacks.into_iter().chain([layout::syscall_stack(id)]) {
        let bytes = ptr::with_exposed_provenance_mut::<u8>(stack.start as usize);
        // SAFETY: the stack is mapped, and its CPU does not use it (guaranteed by the caller).
        unsafe { bytes.write_bytes(0, (stack.end - stack.start) as usize) };
    }
    // SAFETY: as above.
    unsafe { prepare_stacks(id, place) };
}

/// Maps the stacks and the data block to zeroed frames, without the guard pages (invariant: GUARD).
fn map(id: CpuId) -> Result<(), MapError> {
    let stacks = IstStack::ALL.map(|which| layout::ist_stack(id, which));
    let data = layout::data_block(id);
    let block = data.start..data.start + (size_of::<PerCpuData>() as u64).next_multiple_of(PAGE_SIZE);
    let syscall_stack = layout::syscall_stack(id);
    for range in stacks.into_iter().chain([syscall_stack, block]) {
        for page in range.step_by(PAGE_SIZE as usize) {
            let frame = physmem::alloc_zeroed().ok_or(MapError::OutOfMemory)?;
            // SAFETY: the frame is new (invariant: OWN-FRAMES), and the address lies in this CPU's area. No program
            // exists yet (invariant: KERNEL-HALF-FIXED).
            unsafe { paging::map_kernel_page(page, frame.start(), paging::KERNEL_DATA) }?;
        }
    }
    Ok(())
}

/// Builds the initial data of a CPU for the block at `place`.
///
/// # Safety
/// The result is written to `place` and never moves: its GDT refers to its TSS.
#[inline(always)] // so that the data is built in place, not copied from the stack
unsafe fn fresh(place: *const PerCpuData, id: CpuId, apic_id: ApicId) -> PerCpuData {
    // SAFETY: the caller guarantees that the block, and so its TSS, never moves.
    let gdt = unsafe { gdt::gdt_for(&raw const (*place).tss) };
    PerCpuData {
        this: place,
        user_rsp: Cell::new(0),
        syscall_stack_top: layout::syscall_stack(id).end,
        call_table: Cell::new(ptr::null()),
        counters: Counters {
            calls: [const { Cell::new(0) }; TABLE_LEN + 1],
            ticks: Cell::new(0),
            deviations: [const { Cell::new(0) }; CLASSES],
        },
        id: AtomicU32::new(id.0),
        area: id,
        apic_id,
        generation: 0,
        cpus_online: Cell::new(1),
        clock: Cell::new(TscClock::new(0, Rate::from_hz(1_000_000_000).expect("1 GHz must be a valid rate"))),
        call_tables: Cell::new(None),
        tick_work: TickWork::new(),
        tick_times: TickTimes::default(),
        eoi: Cell::new(Eoi::default()),
        rare: Rare::new(),
        apic: RefCell::new(None),
        uart: RefCell::new(None),
        printing: Cell::new(false),
        line: RefCell::new(LineBuffer::new()),
        tracer: Tracer::off(),
        program: RefCell::new(None),
        after_program: Cell::new(None),
        rounds: Rounds::new(),
        injected: Injected::default(),
        gdt,
        tss: gdt::tss_for(id),
        magic: PerCpuData::MAGIC,
        published: CachePadded::new(Published::default()),
    }
}

/// Returns a CPU's data.
///
/// # Safety
/// [`create`] was called for this CPU. Code on other CPUs uses only `published`, `id` and fields that never change
/// (invariant: OWNER-ONLY).
#[must_use]
pub unsafe fn of(id: CpuId) -> &'static PerCpuData {
    // SAFETY: the caller guarantees that `create` has initialised the block, which is never unmapped or moved.
    unsafe { &*ptr::with_exposed_provenance(layout::data_block(id).start as usize) }
}

/// Returns the data of the CPU whose area contains this stack pointer; `None` if no area does. A CPU whose GS base is
/// not set yet identifies itself by its stack pointer.
#[must_use]
pub(in crate::arch) fn of_stack(rsp: u64) -> Option<&'static PerCpuData> {
    created().nth(layout::cpu_of(rsp)?.index())
}

/// Iterates over the data of all CPUs for which [`create`] was called, in the order of the areas.
pub fn created() -> impl Iterator<Item = &'static PerCpuData> {
    // SAFETY: `create` was called for these CPUs, in this order. Callers use another CPU's data only as the invariant
    // OWNER-ONLY allows.
    (0..CREATED.load(Ordering::Acquire)).map(|area| unsafe { of(CpuId(area)) })
}

/// Returns the CPUs that are online, by dense index. Empty before the end of bring-up.
#[must_use]
pub fn online() -> &'static [&'static PerCpuData] {
    ONLINE.get().copied().unwrap_or(&[])
}

/// Sets which CPUs are online.
pub fn set_online(cpus: &'static [&'static PerCpuData]) {
    ONLINE.call_once(|| cpus);
}
