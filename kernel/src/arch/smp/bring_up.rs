//! Starting the other CPUs: INIT to all, a start-up IPI to each, a bounded wait, and a closed door for whoever comes
//! later. The handshake is drawn in `docs/ap-start.md`, its states are [`crate::online`]'s.

use core::fmt;
use core::hint::spin_loop;
use core::sync::atomic::Ordering;

use ap_trampoline::{ApSlot, InstallError, Parameters, SipiVector};
use kernel_abi::trace::{IPI_INIT, IPI_STARTUP, IPI_TO_OTHERS, Kind};
use spin::Once;
use x86_64::structures::paging::{Mapper, Page, PageTable, PageTableFlags, PhysFrame, Size4KiB};
use x86_64::{PhysAddr, VirtAddr};

use crate::arch::cpu::control::{BOOT_CR0, BOOT_CR4, BOOT_EFER, Features};
use crate::arch::cpu::tsc;
use crate::arch::devices::uart;
use crate::arch::memory::paging::{self, Audit, MapError};
use crate::arch::memory::physmem::{self, TableFrames};
use crate::arch::memory::table;
use crate::arch::panic::stop;
use crate::arch::percpu::{self, PerCpuData};
use crate::arch::provoke::{self, ApFaults};
use crate::arch::smp::this_cpu::{self, SyscallEntry};
use crate::arch::smp::tsc_sync;
use crate::clock::Rate;
use crate::cmdline::Place;
use crate::cpu::{ApicId, CpuId};
use crate::layout;
use crate::online::{self, Closed};
use crate::physmap::phys_to_virt;

/// The APs' slots, published before the first is offered.
static SLOTS: Once<&'static [ApSlot]> = Once::new();

/// What the other CPUs do, published before the first is offered its slot.
static UPCALLS: Once<Upcalls> = Once::new();

/// Between INIT and the first start-up IPI (MultiProcessor Specification 1.4, B.4).
const INIT_WAIT_NS: u64 = 10_000_000;
/// How long the first start-up IPI may take before it is sent again, to the silent ones only.
const SECOND_SIPI_AFTER_NS: u64 = 20_000_000;
/// How long the others may take in all. Long, because a busy host lets a virtual CPU wait, and a CPU that is
/// taken for lost is gone for the whole run; who comes at once does not make anybody wait.
const ARRIVAL_WAIT_NS: u64 = 5_000_000_000;

/// Why the other CPUs cannot be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmpError {
    /// No memory for stacks, tables or the trampoline.
    Memory(MapError),
    /// Memory below 1 MiB has no free page for the trampoline.
    NoLowPage,
    /// The trampoline refuses its parameters.
    Install(InstallError),
    /// The bring-up mappings break W^X.
    Audit(Audit),
}

impl fmt::Display for SmpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SmpError::Memory(error) => write!(f, "cannot start the other CPUs: {error}"),
            SmpError::NoLowPage => f.write_str("no free page below 1 MiB for the AP trampoline"),
            SmpError::Install(error) => error.fmt(f),
            SmpError::Audit(audit) => write!(f, "the bring-up mappings are wrong: {audit:?}"),
        }
    }
}

impl core::error::Error for SmpError {}

impl From<MapError> for SmpError {
    fn from(error: MapError) -> SmpError {
        SmpError::Memory(error)
    }
}

/// What the APs need of the layers above.
#[derive(Clone, Copy)]
pub struct Upcalls {
    /// Where `syscall` enters.
    pub syscall_entry: SyscallEntry,
    /// What a CPU does once it is online.
    pub online: fn(&'static PerCpuData) -> !,
}

/// What came of it.
pub struct Arrivals {
    /// The CPUs that are online, the BSP first: their dense index is their place here.
    pub online: &'static [&'static PerCpuData],
    /// The ones that are not.
    pub missing: &'static [ApicId],
    /// Memory that each CPU's area takes, page tables included, in KiB.
    pub area_kib: u64,
}

/// Starts all CPUs of the list but the first, which is this one.
///
/// # Errors
/// [`SmpError`]: the run cannot go on.
///
/// # Safety
/// On the BSP, once, with interrupts off, before the first program.
pub unsafe fn start_others(
    bsp: &'static PerCpuData,
    list: &'static [ApicId],
    tsc_rate: Rate,
    faults: ApFaults,
    own_uarts: bool,
    upcalls: Upcalls,
) -> Result<Arrivals, SmpError> {
    let free = physmem::free_count();
    UPCALLS.call_once(|| upcalls);
    let slots = offer_slots(bsp, list, own_uarts, faults)?;
    let area_kib = match slots.len() as u64 {
        0 => percpu::AREA_BYTES / 1024,
        others => (free - physmem::free_count()) * 4 / others,
    };
    let vector = if slots.is_empty() { None } else { Some(install_trampoline(slots)?) };
    if let Some(vector) = vector {
        // SAFETY: no other CPU runs yet, and the trampoline is in place.
        unsafe { bsp.with_apic(|apic| apic.send_init_to_others()) };
        bsp.trace(Kind::IpiSent, IPI_INIT, IPI_TO_OTHERS);
        tsc::wait_ns(tsc_rate, INIT_WAIT_NS);
        let is_called = |place| faults.gets_sipi(place);
        call_silent(bsp, slots, vector, is_called);
        provoke::at(bsp, Place::BringUp);
        if !wait_for_all(bsp, slots, tsc_rate, SECOND_SIPI_AFTER_NS) {
            call_silent(bsp, slots, vector, is_called);
            wait_for_all(bsp, slots, tsc_rate, ARRIVAL_WAIT_NS);
        }
    } else {
        // A machine of one CPU has called nobody.
        provoke::at(bsp, Place::BringUp);
    }
    let arrivals = close_doors(bsp, slots, area_kib)?;
    if let Some(vector) = vector {
        call_silent(bsp, slots, vector, |place| faults.gets_late_sipi(place));
    }
    Ok(arrivals)
}

/// Prepares a stack, per-CPU data and a slot for each CPU, and offers the slots.
fn offer_slots(
    bsp: &PerCpuData,
    list: &[ApicId],
    own_uarts: bool,
    faults: ApFaults,
) -> Result<&'static [ApSlot], SmpError> {
    let others = list.get(1..).unwrap_or(&[]);
    let slots = table::alloc(others.len(), |n| {
        let area = CpuId(n as u32 + 1);
        let data = layout::data_block(area).start;
        ApSlot::new(others[n].0, layout::syscall_stack(area).end, data)
    })?;
    for (n, &apic_id) in others.iter().enumerate() {
        // SAFETY: on the BSP, once for each index; the CPU does not run before its slot is offered.
        unsafe { percpu::create(CpuId(n as u32 + 1), apic_id) }?;
    }
    faults.arm();
    if own_uarts {
        share_out_uarts(bsp);
    }
    let slots = *SLOTS.call_once(|| slots);
    for slot in slots {
        assert!(online::offer(&slot.state), "a slot is offered twice");
        bsp.trace(Kind::ApState, slot.apic_id.into(), online::OFFERED.into());
    }
    Ok(slots)
}

/// Gives each CPU but the BSP, whose port is the console's, a serial port of its own, as far as there are any.
fn share_out_uarts(bsp: &PerCpuData) {
    let mut uarts = uart::others();
    let mut without = 0;
    for cpu in percpu::created().skip(1) {
        match uarts.next() {
            Some((place, uart)) => {
                say!(
                    bsp,
                    "serial port of the CPU with {}, number {} in the list: {place}",
                    cpu.apic_id,
                    cpu.area.0
                );
                *cpu.uart.borrow_mut() = Some(uart);
            }
            None => without += 1,
        }
    }
    if without > 0 {
        say!(bsp, "no serial port is left for {without} CPUs: they share the console");
    }
}

/// Puts the trampoline into a free page below 1 MiB, and its identity mapping, readable and executable, into a
/// PML4 of its own that shares the kernel's half. Both stay, for a CPU may come at any time; no program ever
/// has them.
fn install_trampoline(slots: &[ApSlot]) -> Result<SipiVector, SmpError> {
    const PAGE: u64 = 4096;
    let page = physmem::alloc_in(PAGE..0xa_0000).ok_or(SmpError::NoLowPage)?.start();
    // Real mode code loads CR3 with 32 bits.
    let pml4 = physmem::alloc_in(0x10_0000..1 << 32).ok_or(MapError::OutOfMemory)?.start();
    // SAFETY: a fresh frame for a table; the kernel's is only read.
    unsafe {
        let new = phys_to_virt(pml4).cast::<PageTable>();
        new.write(PageTable::new());
        let kernel = &*phys_to_virt(paging::kernel_pml4().start_address().as_u64()).cast::<PageTable>();
        for index in 256..512 {
            (&mut *new)[index] = kernel[index].clone();
        }
    }
    // SAFETY: nobody has loaded these tables yet; the page is identity-mapped, and written through the physical
    // map only.
    unsafe {
        let mut tables = paging::mapper(PhysFrame::containing_address(PhysAddr::new(pml4)));
        let frame = PhysFrame::<Size4KiB>::containing_address(PhysAddr::new(page));
        let virt = Page::containing_address(VirtAddr::new(page));
        tables
            .map_to(virt, frame, PageTableFlags::PRESENT, &mut TableFrames::default())
            .map_err(MapError::from)?
            .ignore();
    }
    let parameters = Parameters {
        page: page as u32,
        cr3: pml4 as u32,
        cr0: BOOT_CR0.bits() as u32,
        efer: BOOT_EFER.bits() as u32,
        cr4: BOOT_CR4.bits() as u32,
        slots: slots.as_ptr() as u64,
        slot_count: slots.len() as u32,
        entry: ap_entry as *const () as u64,
    };
    // SAFETY: the frame is ours, and no CPU runs in it yet.
    let bytes = unsafe { &mut *phys_to_virt(page).cast::<[u8; PAGE as usize]>() };
    let vector = ap_trampoline::install(bytes, &parameters).map_err(SmpError::Install)?;
    // From here on nobody writes the page, at any address.
    paging::protect_physmap_page(page);
    paging::audit(PhysFrame::containing_address(PhysAddr::new(pml4))).check().map_err(SmpError::Audit)?;
    Ok(vector)
}

/// A start-up IPI to each CPU that `is_called` and has not answered. Places count from the list's start, where
/// the BSP is 0.
fn call_silent(bsp: &PerCpuData, slots: &[ApSlot], vector: SipiVector, is_called: impl Fn(u32) -> bool) {
    for (slot, place) in slots.iter().zip(1..) {
        let silent = !matches!(slot.state.load(Ordering::Relaxed), online::CLAIMED | online::ONLINE);
        if silent && is_called(place) {
            // SAFETY: the vector is the trampoline's page.
            bsp.with_apic(|apic| unsafe { apic.send_sipi(vector.get(), ApicId(slot.apic_id)) });
            bsp.trace(Kind::IpiSent, IPI_STARTUP + u64::from(vector.get()), slot.apic_id.into());
        }
    }
}

/// Waits until all are online, at most for this long. Have all come?
fn wait_for_all(bsp: &PerCpuData, slots: &[ApSlot], tsc_rate: Rate, ns: u64) -> bool {
    let (start, patience) = (tsc::now(), tsc_rate.in_ns(ns));
    loop {
        if slots.iter().all(|slot| online::is_online(&slot.state)) {
            return true;
        }
        if tsc::now().wrapping_sub(start) >= patience {
            return false;
        }
        stop::park_if_stopping(bsp);
        tsc_sync::answer();
        spin_loop();
    }
}

/// Decides for each CPU whether it takes part, and numbers those that do without a gap.
fn close_doors(
    bsp: &'static PerCpuData,
    slots: &'static [ApSlot],
    area_kib: u64,
) -> Result<Arrivals, SmpError> {
    let came = |slot: &ApSlot| online::close(&slot.state) == Closed::Online;
    let count = slots.iter().filter(|slot| came(slot)).count();
    let cpus = table::alloc(1 + count, |_| bsp)?;
    let missing = table::alloc(slots.len() - count, |_| ApicId::default())?;
    let (mut next_online, mut next_missing) = (1, 0);
    for (slot, area) in slots.iter().zip(1..) {
        if came(slot) {
            // SAFETY: the area was made by `offer_slots`; the CPU waits for the run, and only what the BSP may
            // use is used.
            let cpu = unsafe { percpu::of(CpuId(area)) };
            cpu.number(CpuId(next_online as u32));
            cpus[next_online] = cpu;
            next_online += 1;
        } else {
            bsp.trace(Kind::ApState, slot.apic_id.into(), online::CLOSED.into());
            missing[next_missing] = ApicId(slot.apic_id);
            next_missing += 1;
        }
    }
    percpu::set_online(cpus);
    Ok(Arrivals { online: cpus, missing, area_kib })
}

/// Where the trampoline enters, on this CPU's syscall stack, with the bring-up tables and GDT, no IDT, interrupts
/// off, and its data's address as the slot's argument.
extern "sysv64" fn ap_entry(data: u64) -> ! {
    // SAFETY: the slot that this CPU claimed has the address of its own area's data, which `create` has filled in.
    let cpu = unsafe { &*core::ptr::with_exposed_provenance::<PerCpuData>(data as usize) };
    let upcalls = UPCALLS.get().expect("no slot is offered before");
    paging::load_kernel_tables();
    // SAFETY: this is the CPU that the data is for, and it comes here once.
    unsafe {
        this_cpu::load_tables(cpu);
    }
    provoke::at(cpu, Place::BringUp);
    // SAFETY: likewise; the BSP has masked the PICs and mapped the APIC's registers.
    unsafe { this_cpu::set_up(cpu, Features::detect(), upcalls.syscall_entry) };
    let slot = SLOTS.get().and_then(|slots| slots.get(cpu.area.index() - 1));
    cpu.trace(Kind::ApState, cpu.apic_id.0.into(), online::CLAIMED.into());
    if cpu.tracer.is_on() {
        tsc_sync::ask(cpu);
    }
    if !slot.is_some_and(|slot| online::arrive(&slot.state)) {
        stop::park();
    }
    cpu.trace(Kind::ApState, cpu.apic_id.0.into(), online::ONLINE.into());
    cpu.start_clock();
    (upcalls.online)(cpu)
}
