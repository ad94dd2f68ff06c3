//! Starts the other CPUs (APs): sends each an INIT and a start-up IPI, and waits for a bounded time. Each AP has
//! a slot, which it claims when it starts. After the wait the BSP closes the slots, and an AP that is late parks.
//! `docs/ap-start.md` has a diagram of the handshake; [`crate::online`] defines its states.

use core::hint::spin_loop;

use ap_trampoline::{ApSlot, SipiVector};
use kernel_abi::trace::{IPI_INIT, IPI_STARTUP, Kind};
use spin::Once;

use super::arrivals::{self, Wait, close_slots, has_claimed};
use super::clocks::{self, Clocks};
use super::error::SmpError;
use super::this_cpu;
use super::trampoline;
use super::tsc_sync;
use super::uarts::{self, Uarts};
use crate::arch::cpu::control::{self, Lacking};
use crate::arch::cpu::tsc;
use crate::arch::devices::uart;
use crate::arch::entry::points::syscall_entry;
use crate::arch::inject::{self, ApFaults};
use crate::arch::interrupts::calibration::Calibration;
use crate::arch::interrupts::timer::Timebase;
use crate::arch::memory::paging;
use crate::arch::memory::{physmem, table};
use crate::arch::panic::{check, stop};
use crate::arch::percpu::{self, CallTables, PerCpuData};
use crate::cmdline::{ApStop, Place};
use crate::cpu::{ApicId, CpuId};
use crate::features::Features;
use crate::layout;
use crate::online;
use crate::stage::Cause;

/// The slots of all APs, published before the first slot is offered.
static SLOTS: Once<&'static [ApSlot]> = Once::new();

/// The optional features that the kernel uses, which the BSP has. Published before the first slot is offered.
static FEATURES: Once<Features> = Once::new();

/// The start-up vectors, published before the first slot is offered.
static VECTORS: Once<Vectors> = Once::new();

/// The start-up vectors: one for the trampoline, and, if a test has requested it, one for a copy of the trampoline that
/// stops a CPU.
struct Vectors {
    normal: SipiVector,
    stopping: Option<SipiVector>,
}

/// Functions of higher layers, published before the first slot is offered.
static UPCALLS: Once<Upcalls> = Once::new();

/// Time between INIT and the first start-up IPI (MultiProcessor Specification 1.4, B.4).
pub(super) const INIT_WAIT_NS: u64 = 10_000_000;

/// Time without an arrival after which the second start-up IPI is sent to the CPUs that have not claimed their slots.
pub(super) const SECOND_SIPI_AFTER_NS: u64 = 20_000_000;
/// Time without an arrival after which the BSP stops waiting, after the second start-up IPI. The limit is long because a
/// busy host may deschedule a virtual CPU, and a late CPU takes no part in the run. The wait ends as soon as all CPUs
/// are online.
pub(super) const ARRIVAL_WAIT_NS: u64 = 5_000_000_000;

/// Functions of higher layers that the bring-up calls.
#[derive(Clone, Copy)]
pub struct Upcalls {
    /// The tables of the system calls.
    pub calls: &'static CallTables,
    /// Called by each AP once it is online.
    pub online: fn(&'static PerCpuData) -> !,
    /// Called by the BSP once the clocks are measured.
    pub measured: fn(&PerCpuData, &Timebase),
}

/// The result of the bring-up.
pub struct BringUpResult {
    /// The CPUs that are online, the BSP first. A CPU's dense index is its index in this slice.
    pub online: &'static [&'static PerCpuData],
    /// The CPUs that did not come online, each with the reason.
    pub missing: &'static [(ApicId, Cause)],
    /// Memory used by one CPU's area, page tables included, in KiB.
    pub area_kib: u64,
    /// Time from the first INIT to the last arrival, in nanoseconds; 0 if there is no other CPU.
    pub bring_up_ns: u64,
    /// The BSP's TSC before it started the other CPUs.
    pub tsc_before: u64,
    /// The BSP's TSC after all online CPUs had arrived.
    pub tsc_after: u64,
}

/// The state of the bring-up between the INITs and the start-up IPIs.
pub struct Waiting {
    slots: &'static [ApSlot],
    faults: ApFaults,
    clocks: Clocks,
    tsc_before: u64,
    /// The BSP's TSC before the first INIT and after the last one.
    init: [u64; 2],
}

/// Sends INIT to all CPUs in the list except the first, which is the BSP, and starts the measurement of the clocks.
/// Each CPU must have `features`, the optional features that the kernel uses. The wait after INIT is the same for all
/// of them. [`start_others`] starts them.
///
/// # Errors
/// [`SmpError`]: the run cannot continue.
///
/// # Safety
/// Called once, on the BSP, with interrupts off, before the first program.
pub unsafe fn reset_others(
    bsp: &'static PerCpuData,
    features: Features,
    list: &'static [ApicId],
    calibration: Calibration,
    faults: ApFaults,
    upcalls: Upcalls,
) -> Result<Waiting, SmpError> {
    let tsc_before = tsc::now();
    UPCALLS.call_once(|| upcalls);
    FEATURES.call_once(|| features);
    faults.arm(bsp);
    let slots = vacant_slots(list.get(1..).unwrap_or(&[]))?;
    require_memory(slots.len() as u64)?;
    let first_init = tsc::now();
    for slot in slots {
        // SAFETY: no other CPU runs kernel code yet.
        unsafe { send_init(bsp, slot) };
    }
    let init = [first_init, tsc::now()];
    Ok(Waiting { slots, faults, clocks: Clocks::start(bsp, calibration), tsc_before, init })
}

/// Starts the CPUs to which [`reset_others`] has sent INIT. Before that, the BSP prepares their areas and completes the
/// measurement of the clocks, which the CPUs use from their start.
///
/// # Errors
/// [`SmpError`]: the run cannot continue.
///
/// # Safety
/// Called once, on the BSP, with interrupts off, before the first program.
pub unsafe fn start_others(
    bsp: &'static PerCpuData,
    waiting: Waiting,
    own_uarts: bool,
) -> Result<BringUpResult, SmpError> {
    let Waiting { slots, faults, mut clocks, tsc_before, init: [first_init, after_init] } = waiting;
    if slots.is_empty() {
        // There is no other CPU to start.
        (upcalls().measured)(bsp, clocks.finish(bsp)?);
        inject::at(bsp, Place::BringUp);
        let (online, missing) = close_slots(bsp, slots)?;
        let (area_kib, tsc_after) = (percpu::AREA_BYTES / 1024, tsc::now_in_order());
        return Ok(BringUpResult { online, missing, area_kib, bring_up_ns: 0, tsc_before, tsc_after });
    }
    let x2apic = bsp.with_apic(|apic| apic.is_x2apic()).unwrap_or(false);
    let entry = ap_entry as *const () as u64;
    let vector = trampoline::install(slots, entry, x2apic, None)?;
    let stopping = match faults.stop_in_trampoline() {
        None => None,
        stop => Some(trampoline::install(slots, entry, x2apic, stop)?),
    };
    VECTORS.call_once(|| Vectors { normal: vector, stopping });

    let free = physmem::free_count();
    let mut uarts = own_uarts.then(uarts::others);
    // The number of slots whose CPUs have been sent their first start-up IPI. It is sent as soon as the CPU's slot is
    // offered and the wait after INIT is over, so that the first CPUs set themselves up while the BSP prepares the
    // areas of the last ones.
    let mut started = 0;
    let start = |from: usize, to: usize| {
        for (slot, position) in slots.iter().zip(1..).take(to).skip(from) {
            if faults.gets_sipi(position) {
                send_sipi(bsp, slot, faults, position, 0);
            }
        }
        to
    };
    for (at, slot) in slots.iter().enumerate() {
        // SAFETY: this is called once for each slot, in order, and the CPU does not run kernel code yet.
        unsafe { prepare(bsp, slot, CpuId(at as u32 + 1), faults, &mut uarts) }?;
        // An AP that is traced needs the BSP's replies to measure its TSC (`tsc_sync`).
        if let Some(timebase) = clocks.poll(bsp)?
            && !bsp.tracer.is_on()
            && clocks::is_over(timebase, after_init)
        {
            started = start(started, at + 1);
        }
    }
    if let Some(uarts) = uarts {
        uarts.report(bsp);
    }
    let area_kib = (free - physmem::free_count()) * 4 / slots.len() as u64;
    let timebase = clocks.finish(bsp)?;
    (upcalls().measured)(bsp, timebase);
    while !clocks::is_over(timebase, after_init) {
        spin_loop();
    }
    start(started, slots.len());
    inject::at(bsp, Place::BringUp);
    let mut arrivals = Wait::new(bsp, slots, timebase.tsc);
    if !arrivals.for_all(SECOND_SIPI_AFTER_NS) {
        for (slot, position) in slots.iter().zip(1..) {
            if !has_claimed(slot) && faults.gets_sipi(position) {
                send_sipi(bsp, slot, faults, position, 0);
            }
        }
        arrivals.for_all(ARRIVAL_WAIT_NS);
    }
    let bring_up_ns = timebase.tsc.to_ns().ns(arrivals.latest.wrapping_sub(first_init));
    let (online, missing) = close_slots(bsp, slots)?;
    let arrivals =
        BringUpResult { online, missing, area_kib, bring_up_ns, tsc_before, tsc_after: tsc::now_in_order() };
    for (slot, position) in slots.iter().zip(1..) {
        if faults.gets_late_sipi(position) {
            send_sipi(bsp, slot, faults, position, 0);
        }
    }
    Ok(arrivals)
}

fn upcalls() -> &'static Upcalls {
    UPCALLS.get().expect("UPCALLS must be set before a slot is offered")
}

/// Returns the slot of an AP.
pub(super) fn slot_of(cpu: &PerCpuData) -> Option<&'static ApSlot> {
    SLOTS.get().and_then(|slots| slots.get(cpu.area.index().checked_sub(1)?))
}

/// Checks that there is enough memory for the areas of this many CPUs.
fn require_memory(cpus: u64) -> Result<(), SmpError> {
    let (each_kib, free_kib) = (percpu::AREA_BYTES / 1024, physmem::free_count() * 4);
    let needed_kib = cpus * each_kib;
    if needed_kib <= free_kib {
        return Ok(());
    }
    let least_kib = physmem::total() * 4 - free_kib + needed_kib;
    Err(SmpError::TooLittleMemory { cpus, each_kib, free_kib, least_kib })
}

/// Allocates and publishes a vacant slot for each of the other CPUs. The slot at index n refers to the area n + 1.
fn vacant_slots(others: &[ApicId]) -> Result<&'static [ApSlot], SmpError> {
    let slots = table::alloc(others.len(), |n| {
        let area = CpuId(n as u32 + 1);
        ApSlot::new(others[n].0, layout::syscall_stack(area).end, layout::data_block(area).start)
    })?;
    Ok(*SLOTS.call_once(|| slots))
}

/// Creates the area of the CPU of a vacant slot, and offers the slot.
///
/// # Safety
/// Called on the BSP, once for each slot, in ascending order. `area` is the index of the slot's area.
unsafe fn prepare(
    bsp: &PerCpuData,
    slot: &ApSlot,
    area: CpuId,
    faults: ApFaults,
    uarts: &mut Option<Uarts<impl Iterator<Item = (uart::Place, uart::Uart)>>>,
) -> Result<(), SmpError> {
    // SAFETY: the caller calls this once for each area, in ascending order, and the CPU does not run kernel code before
    // its slot is offered (invariant: SLOT-ONCE).
    unsafe { percpu::create(area, ApicId(slot.apic_id)) }?;
    // SAFETY: the area was created above, and its CPU is not running yet.
    let cpu = unsafe { percpu::of(area) };
    faults.arm(cpu);
    if let Some(uarts) = uarts {
        uarts.assign(bsp, cpu);
    }
    assert!(online::offer(&slot.state), "a slot was offered twice");
    bsp.trace(Kind::ApState, slot.apic_id.into(), online::OFFERED.into());
    Ok(())
}

/// Sends INIT to the CPU of a slot, which then waits for a start-up IPI.
///
/// # Safety
/// The CPU runs no kernel code, because INIT resets it.
pub(super) unsafe fn send_init(bsp: &PerCpuData, slot: &ApSlot) {
    // SAFETY: the CPU runs no kernel code (guaranteed by the caller).
    bsp.with_apic(|apic| unsafe { apic.send_init(ApicId(slot.apic_id)) });
    bsp.trace(Kind::IpiSent, IPI_INIT, slot.apic_id.into());
}

/// Sends a start-up IPI to the CPU of a slot, or two if a test has requested it. `position` is the CPU's position in the
/// list of CPUs, and `generation` counts how often it has left.
pub(super) fn send_sipi(bsp: &PerCpuData, slot: &ApSlot, faults: ApFaults, position: u32, generation: u32) {
    let vectors = VECTORS.get().expect("the trampoline must be installed before a CPU is started");
    let stopping = vectors.stopping.filter(|_| faults.stops_in_trampoline(position, generation));
    let vector = stopping.unwrap_or(vectors.normal).get();
    for _ in 0..faults.sipis(position) {
        // SAFETY: the vector selects a page of the trampoline, where the CPU starts.
        bsp.with_apic(|apic| unsafe { apic.send_sipi(vector, ApicId(slot.apic_id)) });
        bsp.trace(Kind::IpiSent, IPI_STARTUP + u64::from(vector), slot.apic_id.into());
    }
}

/// Kernel entry point of an AP. Only the trampoline jumps here.
///
/// On entry: long mode; interrupts off; rsp on this CPU's syscall stack; the bring-up page tables and GDT; no IDT; no
/// TSS; GS base 0 (the reset value); rdi = the address of the CPU's data.
///
/// On exit: the CPU is online and runs `Upcalls::online`, or is parked if it was late.
extern "sysv64" fn ap_entry(data: u64) -> ! {
    // SAFETY: the slot that this CPU claimed (invariant: SLOT-ONCE) holds the address of the CPU's `PerCpuData`, which
    // `percpu::create` has initialised.
    let cpu = unsafe { &*core::ptr::with_exposed_provenance::<PerCpuData>(data as usize) };
    let upcalls = upcalls();
    paging::load_kernel_tables();
    // SAFETY: `cpu` is this CPU's own data, and this CPU calls this once, with interrupts off and the kernel's page
    // tables loaded.
    unsafe {
        this_cpu::load_tables(cpu);
    }
    inject::at(cpu, Place::BringUp);
    // Only a CPU that has come back has published its control registers.
    if cpu.published.control.is_completed()
        && let Err(broken) = check::fresh(cpu)
    {
        stop::end(format_args!("broken invariant on {}: {broken}", cpu.id()));
    }
    if let Err(Lacking(missing)) = control::check_features() {
        if let Some(row) = trampoline::row(cpu.apic_id.0) {
            row.set_missing(missing.basic, missing.extended);
        }
        stop::park();
    }
    let features = *FEATURES.get().expect("FEATURES is set before a slot is offered");
    if let Some(missing) = features.missing_from(Features::detect()) {
        cpu.published.lacks.call_once(|| missing);
        stop::park();
    }
    inject::stop_at(cpu, ApStop::Kernel);
    inject::stale_registers(cpu, syscall_entry as *const () as u64);
    // SAFETY: `cpu` is this CPU's own data, and this CPU calls this once, with interrupts off, after `load_tables`. The
    // BSP has masked the PICs and mapped the APIC's registers. The trampoline has set the APIC's mode to the BSP's,
    // which `features` implies.
    unsafe { this_cpu::set_up(cpu, features, upcalls.calls) };
    let slot = slot_of(cpu);
    cpu.trace(Kind::ApState, cpu.apic_id.0.into(), online::CLAIMED.into());
    // INIT does not change the TSC, so the offset of a CPU that has come back is still valid.
    if cpu.tracer.is_on() && cpu.generation == 0 {
        tsc_sync::measure_offset(cpu);
    }
    inject::stop_at(cpu, ApStop::SetUp);
    if !slot.is_some_and(|slot| online::arrive(&slot.state)) {
        stop::park();
    }
    arrivals::count();
    cpu.trace(Kind::ApState, cpu.apic_id.0.into(), online::ONLINE.into());
    this_cpu::set_clock(cpu);
    (upcalls.online)(cpu)
}
