//! The areas of the CPUs: how one is made, and how the data in it is found.

use core::cell::{Cell, RefCell};
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering};

use crossbeam_utils::CachePadded;
use kernel_abi::counters::{CLASSES, Counters};
use kernel_abi::layout::PAGE_SIZE;
use kernel_abi::syscall::TABLE_LEN;
use spin::Once;

use super::block::{PerCpuData, Published};
use super::canary;
use super::provoked::Provoked;
use super::rare::Rare;
use super::time::Measured;
use crate::arch::cpu::gdt::{self, IST_RESERVED};
use crate::arch::interrupts::timer::TscClock;
use crate::arch::memory::paging::{self, MapError};
use crate::arch::memory::physmem;
use crate::arch::trace::Tracer;
use crate::clock::Rate;
use crate::cpu::{ApicId, CpuId};
use crate::layout::{self, IstStack};
use crate::line::LineBuffer;
use crate::repeat::Rounds;

/// The CPUs that are online, by dense index; the BSP sets it when bring-up is over.
static ONLINE: Once<&'static [&'static PerCpuData]> = Once::new();

/// How many areas there are.
static CREATED: AtomicU32 = AtomicU32::new(0);

/// How many bytes of frames a CPU's area takes, page tables aside.
pub const AREA_BYTES: u64 = layout::SYSCALL_STACK_SIZE
    + 4 * layout::IST_STACK_SIZE
    + (size_of::<PerCpuData>() as u64).next_multiple_of(PAGE_SIZE);

/// Maps a CPU's area and fills in its data: stacks, GDT, TSS, the IST stacks' top words.
///
/// # Errors
/// [`MapError`].
///
/// # Safety
/// On the BSP, once for each index, before the CPU runs.
pub unsafe fn create(id: CpuId, apic_id: ApicId) -> Result<(), MapError> {
    map(id)?;
    let place = ptr::with_exposed_provenance_mut::<PerCpuData>(layout::data_block(id).start as usize);
    // SAFETY: the block is mapped, aligned to a page, and nobody knows of it yet. The GDT refers to the TSS in its final
    // place.
    unsafe { place.write(fresh(place, id, apic_id)) };
    for stack in IstStack::ALL.map(|which| layout::ist_stack(id, which)) {
        let word = ptr::with_exposed_provenance_mut::<*const PerCpuData>((stack.end - IST_RESERVED) as usize);
        // SAFETY: the top of a stack that was just mapped; the CPU pushes below it.
        unsafe { word.write(place) };
    }
    // SAFETY: `place` is filled in, and its CPU does not run yet.
    let cpu = unsafe { &*place };
    cpu.tracer.attach(id.0, apic_id.0);
    for at in canary::places(id) {
        // SAFETY: the lowest word of a stack that was just mapped.
        unsafe { ptr::with_exposed_provenance_mut::<u64>(at as usize).write(canary::at(at)) };
    }
    CREATED.store(id.0 + 1, Ordering::Release);
    Ok(())
}

/// Maps the stacks and the data block, which are zero.
fn map(id: CpuId) -> Result<(), MapError> {
    let stacks = IstStack::ALL.map(|which| layout::ist_stack(id, which));
    let data = layout::data_block(id);
    let block = data.start..data.start + (size_of::<PerCpuData>() as u64).next_multiple_of(PAGE_SIZE);
    let syscall_stack = layout::syscall_stack(id);
    for range in stacks.into_iter().chain([syscall_stack, block]) {
        for page in range.step_by(PAGE_SIZE as usize) {
            let frame = physmem::alloc_zeroed().ok_or(MapError::OutOfMemory)?;
            // SAFETY: a fresh frame, in this CPU's own area.
            unsafe { paging::map_kernel_page(page, frame.start(), paging::KERNEL_DATA) }?;
        }
    }
    Ok(())
}

/// The data of a CPU that has done nothing, to be put to `place` and to stay there.
///
/// # Safety
/// It does: its GDT refers to its TSS.
#[inline(always)] // where it is to stay, not on the stack and then there
unsafe fn fresh(place: *const PerCpuData, id: CpuId, apic_id: ApicId) -> PerCpuData {
    // SAFETY: the caller keeps the TSS in place.
    let gdt = unsafe { gdt::gdt_for(&raw const (*place).tss) };
    PerCpuData {
        this: place,
        user_rsp: Cell::new(0),
        syscall_stack_top: layout::syscall_stack(id).end,
        counters: Counters {
            calls: [const { Cell::new(0) }; TABLE_LEN + 1],
            ticks: Cell::new(0),
            deviations: [const { Cell::new(0) }; CLASSES],
        },
        id: AtomicU32::new(id.0),
        area: id,
        apic_id,
        cpus_online: Cell::new(1),
        clock: Cell::new(TscClock::new(0, Rate::from_hz(1_000_000_000).expect("1 GHz is plausible"))),
        measured: Cell::new(Measured::NONE),
        rare: Rare::default(),
        apic: RefCell::new(None),
        uart: RefCell::new(None),
        line: RefCell::new(LineBuffer::new()),
        tracer: Tracer::off(),
        program: RefCell::new(None),
        after_program: Cell::new(None),
        rounds: Rounds::new(),
        provoked: Provoked::default(),
        gdt,
        tss: gdt::tss_for(id),
        magic: PerCpuData::MAGIC,
        published: CachePadded::new(Published::default()),
    }
}

/// The data of a CPU that [`create`] was called for.
///
/// # Safety
/// It was; and the caller, unless it is that CPU, uses only `published`, `number` and what never changes.
#[must_use]
pub unsafe fn of(id: CpuId) -> &'static PerCpuData {
    // SAFETY: the caller's promise; the block is never unmapped or moved.
    unsafe { &*ptr::with_exposed_provenance(layout::data_block(id).start as usize) }
}

/// The data of the CPU that this stack pointer's stack belongs to, if it is in the per-CPU areas: who asks runs on
/// it. For a CPU whose GS base is not set yet.
#[must_use]
pub(in crate::arch) fn of_stack(rsp: u64) -> Option<&'static PerCpuData> {
    created().nth(layout::cpu_of(rsp)?.index())
}

/// The data of every CPU in the list, by area.
pub fn created() -> impl Iterator<Item = &'static PerCpuData> {
    // SAFETY: `create` was called for these, in this order; callers in other CPUs use what `of` allows.
    (0..CREATED.load(Ordering::Acquire)).map(|area| unsafe { of(CpuId(area)) })
}

/// The CPUs that are online, by dense index; none before bring-up is over.
#[must_use]
pub fn online() -> &'static [&'static PerCpuData] {
    ONLINE.get().copied().unwrap_or(&[])
}

/// Sets which CPUs are online.
pub fn set_online(cpus: &'static [&'static PerCpuData]) {
    ONLINE.call_once(|| cpus);
}
