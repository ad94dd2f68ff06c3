//! The init ladder. What a step needs, an earlier one has made; where the order is not obvious, the reason stands
//! beside it.

use core::alloc::{GlobalAlloc, Layout};
use core::panic::PanicInfo;

use kernel::arch::acpi::Tables;
use kernel::arch::boot::BootInfo;
use kernel::arch::control::Features;
use kernel::arch::percpu::{self, PerCpuData};
use kernel::arch::smp::{self, Arrivals, Sabotage};
use kernel::arch::{
    apic, boot, counters, idt, paging, physmem, pic, programs, qemu, serial, smap, stop, table, timer, trace,
};
use kernel::cmdline::{Key, Options, Place};
use kernel::cpu::{ApicId, CpuId};
use kernel::run::{self, Run};
use kernel::say;
use kernel::topology::{self, ApicMode};
use kernel_abi::record::{BootRecord, VerdictRecord};
use kernel_abi::verdict::Verdict;

/// There is no heap. The `object` crate links `alloc` even where it only reads; nothing that is called allocates.
struct NoHeap;

// SAFETY: null is what an allocator returns when it has nothing.
unsafe impl GlobalAlloc for NoHeap {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 {
        core::ptr::null_mut()
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static NO_HEAP: NoHeap = NoHeap;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    stop::panic(info)
}

/// The BSP, on the boot stack and the boot tables, interrupts off, no IDT.
#[unsafe(no_mangle)]
fn kernel_main(info: &'static BootInfo) -> ! {
    serial::init();
    // SAFETY: the boot GDT has the code segment that the gates name.
    unsafe { idt::load_early() };
    // While the boot tables let the kernel's text be written, and before any of it that has a place for them runs.
    if Features::detect().smap {
        // SAFETY: so it is.
        unsafe { smap::enable_instructions() };
    }
    // SAFETY: once, on the BSP, with the boot tables on.
    or_end(unsafe { physmem::init(info) });
    // SAFETY: likewise. From here on no page is both writable and executable.
    or_end(unsafe { paging::init(info) });
    // SAFETY: once for this index; the BSP does not use it before.
    or_end(unsafe { percpu::create(CpuId::BSP, apic::initial_id()) });
    // SAFETY: nothing on the boot stack is needed any more.
    unsafe { percpu::enter(CpuId::BSP, bsp_main) }
}

/// The BSP, on a stack with a guard page.
extern "sysv64" fn bsp_main(bsp: &'static PerCpuData) -> ! {
    // SAFETY: this is the BSP, for the first time.
    unsafe { bsp.load_tables() };
    let info = boot::info();
    pic::mask_all();
    or_end(apic::map_registers());
    // SAFETY: the PICs are masked, the registers mapped, and the tables loaded.
    unsafe { bsp.set_up(Features::detect()) };

    // Before anything takes time: whoever made a mistake wants to know.
    let options = options(info);
    let file = or_refuse(programs::find(info, options.program));

    // SAFETY: the loader's RSDP, before the first program.
    let tables = or_end(unsafe { Tables::find(info.rsdp) });
    let pm_timer = or_end(tables.pm_timer());
    let timebase = bsp.with_apic(|apic| or_end(timer::init(info.tsc, pm_timer, apic, options.tick_hz)));
    let timebase = or_end(timebase.ok_or("the BSP has no local APIC"));

    let (list, unreachable) = cpu_list(bsp, &tables);
    refuse_absent_cpus(&options, list.len());
    or_refuse(trace::init(options.trace, list.len() as u32, timebase.tsc.hz(), info.tsc));
    bsp.attach_trace();
    let sabotage = Sabotage {
        lose: options.lose_ap,
        delay: options.delay_ap,
        failures: Some(options.failures).filter(|failures| failures.place == Place::BringUp),
    };
    // SAFETY: once, before the first program.
    let arrivals = or_end(unsafe { smp::start_others(bsp, list, timebase.tsc, sabotage, options.own_uarts) });
    // Not earlier: while the BSP waits for the others, with interrupts off, it would miss its ticks.
    bsp.start_clock();
    refuse_failures_of_absent_cpus(&options, arrivals.online.len());
    compare_control_registers(&arrivals);
    let warnings = tell_missing(bsp, &arrivals, unreachable, info);
    audit_mappings(bsp);

    let boot = BootRecord {
        cpus_found: list.len() as u32,
        cpus_online: arrivals.online.len() as u32,
        x2apic: bsp.with_apic(|apic| apic.is_x2apic()).unwrap_or(false),
        tick_hz: options.tick_hz,
        tsc_hz: timebase.tsc.hz(),
        apic_timer_hz: timebase.apic_timer.hz(),
        memory_kib: physmem::total() * 4,
        per_cpu_kib: arrivals.area_kib,
    };
    or_end(counters::publish(arrivals.online, options.tick_hz, timebase.tsc.hz()));
    let shared = or_end(physmem::alloc_zeroed().ok_or("no memory for the shared page"));
    let run = Run {
        options,
        file,
        shared,
        free_frames: physmem::free_count(),
        missing: arrivals.missing,
        online: arrivals.online,
        boot,
        warnings,
    };
    run::begin(bsp, run)
}

/// The command line's options, or the end of the run.
fn options(info: &'static BootInfo) -> Options<'static> {
    or_refuse(Options::parse(info.command_line()))
}

/// Options that name a CPU which is not there end the run: whoever gave one waits for what will not happen.
fn refuse_absent_cpus(options: &Options<'_>, cpus: usize) {
    let failing = options.failures.deeds().map(|(key, cpu, _)| (key, cpu));
    let others = [(Key::LoseAp, options.lose_ap), (Key::DelayAp, options.delay_ap)];
    for (key, cpu) in failing.chain(others) {
        if let Some(cpu) = cpu.filter(|&cpu| cpu as usize >= cpus) {
            refuse(format_args!("{}={cpu}: there are {cpus} CPUs, counted from 0", key.name()));
        }
    }
}

/// From here on a CPU's number is its place among those that came. One that is to fail has to be among them, and to have
/// another beside it if that one is to hold the console's lock.
fn refuse_failures_of_absent_cpus(options: &Options<'_>, online: usize) {
    for (key, cpu, _) in options.failures.deeds() {
        if let Some(cpu) = cpu.filter(|&cpu| cpu as usize >= online) {
            refuse(format_args!("{}={cpu}: {online} CPUs came online, counted from 0", key.name()));
        }
    }
    if options.failures.place == Place::ConsoleHeld && online < 2 {
        refuse(format_args!("fail_in=console-held: there is no other CPU that could hold it"));
    }
}

/// All CPUs that the firmware lists, the BSP first, and how many of them this APIC mode cannot reach.
fn cpu_list(bsp: &PerCpuData, tables: &Tables) -> (&'static [ApicId], usize) {
    let madt = or_end(tables.madt());
    let list = or_end(table::alloc(topology::upper_bound(madt.cpus()), |_| ApicId::default()));
    let x2apic = bsp.with_apic(|apic| apic.is_x2apic()).unwrap_or(false);
    let mode = if x2apic { ApicMode::X2Apic } else { ApicMode::XApic };
    let found = or_end(topology::enumerate(madt.cpus(), bsp.apic_id, mode, list));
    if !found.bsp_listed {
        say!(bsp, "warning: the firmware's table does not list the BSP, {}", bsp.apic_id);
    }
    (&list[..found.count], found.unreachable)
}

/// Control registers must not differ from CPU to CPU: a program would see on which one it runs.
fn compare_control_registers(arrivals: &Arrivals) {
    let of = |cpu: &PerCpuData| *or_end(cpu.published.control.get().ok_or("a CPU is online and not set up"));
    let expected = of(arrivals.online[CpuId::BSP.index()]);
    for cpu in arrivals.online {
        let actual = of(cpu);
        if actual != expected {
            stop::end(format_args!("{} has {actual}, but the BSP has {expected}", cpu.id()));
        }
    }
}

/// Says who did not come. Returns the number of warnings.
fn tell_missing(bsp: &PerCpuData, arrivals: &Arrivals, unreachable: usize, info: &BootInfo) -> u32 {
    for apic_id in arrivals.missing {
        say!(bsp, "warning: the CPU with {apic_id} did not come online; going on without it");
    }
    if unreachable > 0 {
        say!(
            bsp,
            "warning: {unreachable} CPUs have APIC ids that xAPIC mode cannot reach; going on without them"
        );
    }
    if info.truncated {
        say!(bsp, "warning: the memory map or the command line is longer than there is room for");
    }
    arrivals.missing.len() as u32 + u32::from(unreachable > 0) + u32::from(info.truncated)
}

/// Walks all mappings: the proof of W^X.
fn audit_mappings(bsp: &PerCpuData) {
    match paging::audit(paging::kernel_pml4()).check() {
        Ok(audit) => say!(
            bsp,
            "{} mappings, none writable and executable, none for ring 3 in the kernel's half",
            audit.pages
        ),
        Err(audit) => stop::end(format_args!("the kernel's mappings are wrong: {audit:?}")),
    }
}

/// The value, or the end of the run as a failed boot.
fn or_end<T, E: core::fmt::Display>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| stop::end(format_args!("{error}")))
}

/// The value, or the end of the run because the command line asks for what there is not.
fn or_refuse<T, E: core::fmt::Display>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| refuse(format_args!("{error}")))
}

fn refuse(error: core::fmt::Arguments<'_>) -> ! {
    serial::print(format_args!("[cpu0] ringside: command line: {error}"));
    let verdict = Verdict::BadCommandLine;
    serial::print(format_args!("{}", VerdictRecord { verdict, records: 0, warnings: 0 }));
    qemu::exit(verdict)
}
