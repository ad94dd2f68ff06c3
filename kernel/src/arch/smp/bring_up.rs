//! Starts the other CPUs (APs): sends INIT to all and a start-up IPI to each, and waits for a bounded time. Each AP has
//! a slot, which it claims when it starts. After the wait the BSP closes the slots, and an AP that is late parks.
//! `docs/ap-start.md` has a diagram of the handshake; [`crate::online`] defines its states.

use core::fmt;
use core::hint::spin_loop;
use core::sync::atomic::Ordering;

use ap_trampoline::{ApSlot, InstallError, Parameters, Report, SipiVector};
use kernel_abi::trace::{IPI_INIT, IPI_STARTUP, IPI_TO_OTHERS, Kind};
use spin::Once;
use x86_64::structures::paging::{Mapper, Page, PageTable, PageTableFlags, PhysFrame, Size4KiB};
use x86_64::{PhysAddr, VirtAddr};

use crate::arch::cpu::control::{self, BOOT_CR0, BOOT_CR4, BOOT_EFER, Lacking};
use crate::arch::cpu::tsc;
use crate::arch::devices::uart;
use crate::arch::inject::{self, ApFaults};
use crate::arch::memory::paging::{self, Audit, MapError};
use crate::arch::memory::physmem::{self, TableFrames};
use crate::arch::memory::table;
use crate::arch::panic::stop;
use crate::arch::percpu::{self, PerCpuData};
use crate::arch::smp::this_cpu::{self, SyscallEntry};
use crate::arch::smp::tsc_sync;
use crate::clock::Rate;
use crate::cmdline::Place;
use crate::cpu::{ApicId, CpuId};
use crate::features::{FeatureSet, Features, MissingFeatures};
use crate::layout;
use crate::online::{self, Closed};
use crate::physmap::phys_to_virt;
use crate::plural::Count;

/// The slots of all APs, published before the first slot is offered.
static SLOTS: Once<&'static [ApSlot]> = Once::new();

/// The report in which APs record features that they lack, published before the first SIPI.
static REPORT: Once<&'static Report> = Once::new();

/// The optional features that the kernel uses, which the BSP has. Published before the first slot is offered.
static FEATURES: Once<Features> = Once::new();

/// Functions that the APs call, published before the first slot is offered.
static UPCALLS: Once<Upcalls> = Once::new();

/// Time between INIT and the first start-up IPI (MultiProcessor Specification 1.4, B.4).
const INIT_WAIT_NS: u64 = 10_000_000;
/// Time between the first start-up IPI and the second, which is sent only to CPUs that have not claimed their slots.
const SECOND_SIPI_AFTER_NS: u64 = 20_000_000;
/// Longest time to wait for the other CPUs after the second start-up IPI. The limit is long because a busy host may
/// deschedule a virtual CPU, and a late CPU takes no part in the run. The wait ends as soon as all CPUs are online.
const ARRIVAL_WAIT_NS: u64 = 5_000_000_000;

/// The reason why the other CPUs cannot be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmpError {
    /// There is not enough memory for stacks, tables or the trampoline.
    Memory(MapError),
    /// Memory below 1 MiB has no free page for the trampoline.
    NoLowPage,
    /// The trampoline rejects its parameters.
    Install(InstallError),
    /// The bring-up page tables violate W^X, or map a user-accessible page in the kernel's half.
    Audit(Audit),
}

impl fmt::Display for SmpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SmpError::Memory(error) => write!(f, "cannot start the other CPUs: {error}"),
            SmpError::NoLowPage => f.write_str("no free page below 1 MiB for the AP trampoline"),
            SmpError::Install(error) => error.fmt(f),
            SmpError::Audit(audit) => write!(f, "the bring-up page tables' mappings are wrong: {audit:?}"),
        }
    }
}

impl core::error::Error for SmpError {}

impl From<MapError> for SmpError {
    fn from(error: MapError) -> SmpError {
        SmpError::Memory(error)
    }
}

/// Functions of higher layers that the APs call.
#[derive(Clone, Copy)]
pub struct Upcalls {
    /// Entry point of `syscall`.
    pub syscall_entry: SyscallEntry,
    /// Called by each AP once it is online.
    pub online: fn(&'static PerCpuData) -> !,
}

/// The result of the bring-up.
pub struct BringUpResult {
    /// The CPUs that are online, the BSP first. A CPU's dense index is its index in this slice.
    pub online: &'static [&'static PerCpuData],
    /// The CPUs that did not come online, each with what it lacks if that is the reason.
    pub missing: &'static [(ApicId, Option<MissingFeatures>)],
    /// Memory used by one CPU's area, page tables included, in KiB.
    pub area_kib: u64,
    /// The BSP's TSC before it started the other CPUs.
    pub tsc_before: u64,
    /// The BSP's TSC after all online CPUs had arrived.
    pub tsc_after: u64,
}

/// Starts all CPUs in the list except the first, which is the BSP. Each must have `features`, the optional features that
/// the kernel uses.
///
/// # Errors
/// [`SmpError`]: the run cannot continue.
///
/// # Safety
/// Called once, on the BSP, with interrupts off, before the first program. `upcalls.syscall_entry` is an instance
/// of `syscall_entry` (see [`SyscallEntry`]).
pub unsafe fn start_others(
    bsp: &'static PerCpuData,
    features: Features,
    list: &'static [ApicId],
    tsc_rate: Rate,
    faults: ApFaults,
    own_uarts: bool,
    upcalls: Upcalls,
) -> Result<BringUpResult, SmpError> {
    let (free, tsc_before) = (physmem::free_count(), tsc::now());
    UPCALLS.call_once(|| upcalls);
    FEATURES.call_once(|| features);
    let slots = offer_slots(bsp, list, own_uarts, faults)?;
    let area_kib = match slots.len() as u64 {
        0 => percpu::AREA_BYTES / 1024,
        others => (free - physmem::free_count()) * 4 / others,
    };
    let x2apic = bsp.with_apic(|apic| apic.is_x2apic()).unwrap_or(false);
    let vector = if slots.is_empty() { None } else { Some(install_trampoline(slots, x2apic)?) };
    if let Some(vector) = vector {
        // SAFETY: no other CPU runs kernel code yet, so INIT cannot interrupt any, and the trampoline is in place.
        unsafe { bsp.with_apic(|apic| apic.send_init_to_others()) };
        bsp.trace(Kind::IpiSent, IPI_INIT, IPI_TO_OTHERS);
        tsc::wait_ns(tsc_rate, INIT_WAIT_NS);
        let gets_sipi = |position| faults.gets_sipi(position);
        send_sipis(bsp, slots, vector, gets_sipi);
        inject::at(bsp, Place::BringUp);
        if !wait_for_all(bsp, slots, tsc_rate, SECOND_SIPI_AFTER_NS) {
            send_sipis(bsp, slots, vector, gets_sipi);
            wait_for_all(bsp, slots, tsc_rate, ARRIVAL_WAIT_NS);
        }
    } else {
        // There is no other CPU to start.
        inject::at(bsp, Place::BringUp);
    }
    let (cpus, missing) = close_slots(bsp, slots)?;
    let arrivals =
        BringUpResult { online: cpus, missing, area_kib, tsc_before, tsc_after: tsc::now_in_order() };
    if let Some(vector) = vector {
        send_sipis(bsp, slots, vector, |position| faults.gets_late_sipi(position));
    }
    Ok(arrivals)
}

/// Prepares stacks, per-CPU data and a slot for each of the other CPUs, and offers the slots.
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
        // SAFETY: the BSP calls this once for each index, and the CPU does not run kernel code before its slot is
        // offered (invariant: SLOT-ONCE).
        unsafe { percpu::create(CpuId(n as u32 + 1), apic_id) }?;
    }
    faults.arm();
    if own_uarts {
        assign_uarts(bsp);
    }
    let slots = *SLOTS.call_once(|| slots);
    for slot in slots {
        assert!(online::offer(&slot.state), "a slot was offered twice");
        bsp.trace(Kind::ApState, slot.apic_id.into(), online::OFFERED.into());
    }
    Ok(slots)
}

/// Assigns a serial port to each CPU until no port is left. The BSP uses the console's port and gets no other.
fn assign_uarts(bsp: &PerCpuData) {
    let mut uarts = uart::others();
    let mut without = 0;
    for cpu in percpu::created().skip(1) {
        match uarts.next() {
            Some((port, uart)) => {
                say!(
                    bsp,
                    "the CPU at position {} in the list of CPUs ({}) uses this serial port: {port}",
                    cpu.area.0,
                    cpu.apic_id
                );
                *cpu.uart.borrow_mut() = Some(uart);
            }
            None => without += 1,
        }
    }
    if without > 0 {
        say!(bsp, "no serial port is left for {}: the console is shared", Count(without, "CPU"));
    }
}

/// Copies the trampoline to a free page below 1 MiB, and maps that page at its physical address, readable and
/// executable, in a separate PML4 that shares the kernel's half. The page and the PML4 are never freed, because a late
/// CPU may use them at any time. No program's page tables contain this mapping. `x2apic` is the mode of the BSP's APIC.
/// Publishes [`REPORT`].
fn install_trampoline(slots: &[ApSlot], x2apic: bool) -> Result<SipiVector, SmpError> {
    const PAGE: u64 = 4096;
    let page = physmem::alloc_in(PAGE..0xa_0000).ok_or(SmpError::NoLowPage)?.start();
    // The trampoline loads CR3 before it enters long mode, so the PML4 must lie below 4 GiB.
    let pml4 = physmem::alloc_in(0x10_0000..1 << 32).ok_or(MapError::OutOfMemory)?.start();
    // SAFETY: the frame has just been allocated, so nothing else uses it (invariant: OWN-FRAMES). The kernel's PML4 is
    // only read.
    unsafe {
        let new = phys_to_virt(pml4).cast::<PageTable>();
        new.write(PageTable::new());
        let kernel = &*phys_to_virt(paging::kernel_pml4().start_address().as_u64()).cast::<PageTable>();
        for index in 256..512 {
            (&mut *new)[index] = kernel[index].clone();
        }
    }
    // SAFETY: no CPU has loaded these tables yet. The new mapping is not writable; the page is written through the
    // physical map alone (invariant: W^X).
    unsafe {
        let mut tables = paging::mapper(PhysFrame::containing_address(PhysAddr::new(pml4)));
        let frame = PhysFrame::<Size4KiB>::containing_address(PhysAddr::new(page));
        let virt = Page::containing_address(VirtAddr::new(page));
        tables
            .map_to(virt, frame, PageTableFlags::PRESENT, &mut TableFrames::default())
            .map_err(MapError::from)?
            .ignore();
    }
    // The CPUs write the report before they enable paging, so its address must fit in 32 bits.
    let report = physmem::alloc_in(0x10_0000..1 << 32).ok_or(MapError::OutOfMemory)?.start();
    // SAFETY: the frame has just been allocated, so nothing else uses it (invariant: OWN-FRAMES), and it is never
    // freed. A zeroed report is valid. Other CPUs write only its atomics.
    REPORT.call_once(|| unsafe {
        phys_to_virt(report).write_bytes(0, PAGE as usize);
        &*phys_to_virt(report).cast::<Report>()
    });
    let parameters = Parameters {
        page: page as u32,
        cr3: pml4 as u32,
        cr0: BOOT_CR0.bits() as u32,
        efer: BOOT_EFER.bits() as u32,
        cr4: BOOT_CR4.bits() as u32,
        slots: slots.as_ptr() as u64,
        slot_count: slots.len() as u32,
        entry: ap_entry as *const () as u64,
        x2apic,
        apic_registers: layout::APIC_REGISTERS,
        basic_features: FeatureSet::REQUIRED.basic,
        extended_features: FeatureSet::REQUIRED.extended,
        report: report as u32,
    };
    // SAFETY: the frame was allocated above and has no other user (invariant: OWN-FRAMES), and no CPU executes it yet.
    let bytes = unsafe { &mut *phys_to_virt(page).cast::<[u8; PAGE as usize]>() };
    let vector = ap_trampoline::install(bytes, &parameters).map_err(SmpError::Install)?;
    // From here on the page is not writable at any address (invariant: W^X).
    paging::protect_physmap_page(page);
    paging::audit(PhysFrame::containing_address(PhysAddr::new(pml4))).check().map_err(SmpError::Audit)?;
    Ok(vector)
}

/// Sends a start-up IPI to each CPU that has not claimed its slot and for which `gets_sipi` returns true. `gets_sipi`
/// takes the CPU's position in the list, where the BSP is 0.
fn send_sipis(bsp: &PerCpuData, slots: &[ApSlot], vector: SipiVector, gets_sipi: impl Fn(u32) -> bool) {
    for (slot, position) in slots.iter().zip(1..) {
        if !has_claimed(slot) && gets_sipi(position) {
            // SAFETY: the vector selects the trampoline's page, where the CPU starts.
            bsp.with_apic(|apic| unsafe { apic.send_sipi(vector.get(), ApicId(slot.apic_id)) });
            bsp.trace(Kind::IpiSent, IPI_STARTUP + u64::from(vector.get()), slot.apic_id.into());
        }
    }
}

/// Returns what the CPU of a slot lacks, if it has reported that. `area` is the index of the CPU's area. `claimed` says
/// whether the slot has been claimed.
fn missing_features(slots: &[ApSlot], slot: &ApSlot, area: u32, claimed: bool) -> Option<MissingFeatures> {
    let listed = slots.iter().map(|slot| slot.apic_id);
    let required =
        REPORT.get().and_then(|report| report.row(slot.apic_id).get()).and_then(|(basic, extended)| {
            online::missing_features(FeatureSet { basic, extended }, slot.apic_id, claimed, listed)
        });
    // SAFETY: `offer_slots` has created the area, and only `published` is used (invariant: OWNER-ONLY).
    let optional = || unsafe { percpu::of(CpuId(area)) }.published.lacks.get().copied();
    required.map(MissingFeatures::Required).or_else(|| optional().map(MissingFeatures::UsedByBsp))
}

/// Returns whether the wait for a CPU is over: the CPU is online, or has reported that it lacks a feature.
fn is_decided(slots: &[ApSlot], slot: &ApSlot, area: u32) -> bool {
    online::is_online(&slot.state) || missing_features(slots, slot, area, has_claimed(slot)).is_some()
}

/// Returns whether the CPU of a slot has claimed it.
fn has_claimed(slot: &ApSlot) -> bool {
    matches!(slot.state.load(Ordering::Relaxed), online::CLAIMED | online::ONLINE)
}

/// Waits at most `ns` nanoseconds until each CPU is online or has reported that it lacks a feature. Returns false if
/// the wait timed out.
fn wait_for_all(bsp: &PerCpuData, slots: &[ApSlot], tsc_rate: Rate, ns: u64) -> bool {
    let (start, timeout) = (tsc::now(), tsc_rate.in_ns(ns));
    loop {
        if slots.iter().zip(1..).all(|(slot, area)| is_decided(slots, slot, area)) {
            return true;
        }
        if tsc::now().wrapping_sub(start) >= timeout {
            return false;
        }
        stop::park_if_stopping(bsp);
        tsc_sync::reply();
        spin_loop();
    }
}

/// The result of [`close_slots`]: [`BringUpResult::online`] and [`BringUpResult::missing`].
type Closing = (&'static [&'static PerCpuData], &'static [(ApicId, Option<MissingFeatures>)]);

/// Closes the slots, which fixes the set of CPUs that take part in the run, and assigns dense indices to these CPUs.
fn close_slots(bsp: &'static PerCpuData, slots: &'static [ApSlot]) -> Result<Closing, SmpError> {
    let cpus = table::alloc(1 + slots.len(), |_| bsp)?;
    let missing = table::alloc(slots.len(), |_| (ApicId::default(), None))?;
    let (mut next_online, mut next_missing) = (1, 0);
    for (slot, area) in slots.iter().zip(1..) {
        let closed = online::close(&slot.state);
        if closed == Closed::Online {
            // SAFETY: `offer_slots` has created the area. The CPU has started, so here the BSP writes only its index,
            // and later uses only the fields that other CPUs may use (invariant: OWNER-ONLY).
            let cpu = unsafe { percpu::of(CpuId(area)) };
            cpu.set_id(CpuId(next_online as u32));
            cpus[next_online] = cpu;
            next_online += 1;
        } else {
            bsp.trace(Kind::ApState, slot.apic_id.into(), online::CLOSED.into());
            let claimed = closed == Closed::Late;
            missing[next_missing] = (ApicId(slot.apic_id), missing_features(slots, slot, area, claimed));
            next_missing += 1;
        }
    }
    let (cpus, missing) = (&cpus[..next_online], &missing[..next_missing]);
    percpu::set_online(cpus);
    Ok((cpus, missing))
}

/// Kernel entry point of an AP. Only the trampoline jumps here.
///
/// On entry: long mode; interrupts off; rsp in this CPU's syscall stack; the bring-up page tables and GDT; no IDT; no
/// TSS; GS base 0 (the reset value); rdi = the address of the CPU's data.
///
/// On exit: the CPU is online and runs `Upcalls::online`, or is parked if it was late.
extern "sysv64" fn ap_entry(data: u64) -> ! {
    // SAFETY: the slot that this CPU claimed (invariant: SLOT-ONCE) holds the address of the CPU's `PerCpuData`, which
    // `percpu::create` has initialised.
    let cpu = unsafe { &*core::ptr::with_exposed_provenance::<PerCpuData>(data as usize) };
    let upcalls = UPCALLS.get().expect("UPCALLS must be set before a slot is offered");
    paging::load_kernel_tables();
    // SAFETY: `cpu` is this CPU's own data, and this CPU calls this once, with interrupts off and the kernel's page
    // tables loaded.
    unsafe {
        this_cpu::load_tables(cpu);
    }
    inject::at(cpu, Place::BringUp);
    if let Err(Lacking(missing)) = control::check_features() {
        if let Some(report) = REPORT.get() {
            report.row(cpu.apic_id.0).set(missing.basic, missing.extended);
        }
        stop::park();
    }
    let features = *FEATURES.get().expect("FEATURES is set before a slot is offered");
    if let Some(missing) = features.missing_from(Features::detect()) {
        cpu.published.lacks.call_once(|| missing);
        stop::park();
    }
    inject::stale_registers(cpu, upcalls.syscall_entry as *const () as u64);
    // SAFETY: `cpu` is this CPU's own data, and this CPU calls this once, with interrupts off, after `load_tables`. The
    // BSP has masked the PICs and mapped the APIC's registers. `upcalls.syscall_entry` is an instance of
    // `syscall_entry` (guaranteed by the caller of `start_others`).
    // The trampoline has set the APIC's mode to the BSP's, which `features` implies.
    unsafe { this_cpu::set_up(cpu, features, upcalls.syscall_entry) };
    let slot = SLOTS.get().and_then(|slots| slots.get(cpu.area.index() - 1));
    cpu.trace(Kind::ApState, cpu.apic_id.0.into(), online::CLAIMED.into());
    if cpu.tracer.is_on() {
        tsc_sync::measure_offset(cpu);
    }
    if !slot.is_some_and(|slot| online::arrive(&slot.state)) {
        stop::park();
    }
    cpu.trace(Kind::ApState, cpu.apic_id.0.into(), online::ONLINE.into());
    this_cpu::start_clock(cpu);
    (upcalls.online)(cpu)
}
