//! The boot sequence, with one step per line. A step depends only on earlier steps; where the order is
//! not obvious, a comment gives the reason. [`steps`] implements the steps that need more than one call.
//!
//! An AP has a shorter sequence, `ap_entry` in `smp::bring_up`: tables, registers, clock. Both sequences end in
//! `run::take_part`.

mod compare;
mod console;
mod steps;

use core::alloc::{GlobalAlloc, Layout};
use core::panic::PanicInfo;

use kernel::arch::boot;
use kernel::arch::boot::BootInfo;
use kernel::arch::cpu::control;
use kernel::arch::devices::{pic, serial};
use kernel::arch::entry::{idt, smap};
use kernel::arch::inject::{self, ApFaults};
use kernel::arch::interrupts::{apic, timer};
use kernel::arch::memory::acpi::Tables;
use kernel::arch::memory::{paging, physmem};
use kernel::arch::panic::stop;
use kernel::arch::percpu::counters;
use kernel::arch::percpu::{self, PerCpuData};
use kernel::arch::smp::bring_up::Upcalls;
use kernel::arch::smp::{bring_up, this_cpu};
use kernel::arch::task::programs::{self, Archive};
use kernel::arch::trace;
use kernel::cpu::CpuId;
use kernel::{run, syscall};

use self::steps::{or_end, or_refuse};

/// The embedded programs. They are part of the binary and not of the library, so that the library can be built without
/// them.
const PROGRAMS: Archive = Archive(include_bytes!(env!(
    "RINGSIDE_PROGRAMS",
    "build the kernel with `cargo xtask build`, which creates the archive of the programs"
)));

/// An allocator that never allocates. The `object` crate needs `alloc` to link even if it is only used for reading; no
/// function that the kernel calls allocates (invariant: NO-HEAP).
struct NoHeap;

// SAFETY: an allocator may return null to report that there is no memory. So `dealloc` is never called.
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

/// Rust entry point of the BSP. The boot code calls it on the boot stack, with the boot page tables, interrupts off,
/// and no IDT.
#[unsafe(no_mangle)]
fn kernel_main(info: &'static BootInfo) -> ! {
    serial::init();
    // SAFETY: called once, on the BSP, with the boot page tables.
    unsafe { console::show_early(info) };
    steps::configure_finish(info);
    // SAFETY: the boot GDT has the kernel's code segment, which the gates use. The kernel has not set the GS base yet
    // (invariant: GS-BASE).
    unsafe { idt::load_early() };
    // Check this before the memory map is used: a command line that is too long for the loader's buffer overwrites the
    // memory after it.
    steps::check_boot_info(info);
    let features = steps::features(info);
    // This must happen while the boot page tables map the kernel's text writable, and before any patched site is
    // executed.
    if features.smap {
        // SAFETY: called once, on the BSP. The CPU has SMAP, the boot page tables map the text writable, and no site
        // has been executed: any exception so far would have ended the run.
        unsafe { smap::enable_instructions() };
    }
    // SAFETY: called once, on the BSP, with the boot page tables.
    or_end(unsafe { physmem::init(info) });
    // From here on no page is both writable and executable.
    // SAFETY: called once, on the BSP, after the physical map exists.
    or_end(unsafe { paging::init(info) });
    // SAFETY: called once, on the BSP, directly after the boot page tables were replaced.
    unsafe { console::map_screen(info) };
    // The BSP's data block stores the BSP's APIC id, so read the id from the APIC first.
    or_end(apic::map_registers());
    // SAFETY: called with interrupts off, and the registers were mapped above.
    let apic_id = or_refuse(unsafe { apic::identify(features) });
    // SAFETY: called once for this index, before the BSP uses the area.
    or_end(unsafe { percpu::create(CpuId::BSP, apic_id) });
    // SAFETY: the area was created above, and this code runs on the BSP with interrupts off. The contents of the boot
    // stack are no longer needed; `info` is static.
    unsafe { this_cpu::enter(CpuId::BSP, bsp_main) }
}

/// Continues the boot on the BSP's syscall stack, which has a guard page.
extern "sysv64" fn bsp_main(bsp: &'static PerCpuData) -> ! {
    // Load the tables first: every exception is reported from here on. SAFETY: called once, on the CPU that the data
    // belongs to, with interrupts off and the kernel's page tables loaded.
    unsafe { this_cpu::load_tables(bsp) };
    // The boot code has already checked all other features.
    or_end(control::check_features());
    pic::mask_all();
    let info = boot::info();
    let features = steps::features(info);
    // SAFETY: called once, on the CPU that the data belongs to, with interrupts off. The tables are loaded, the PICs
    // masked, the APIC's registers mapped and its mode set.
    unsafe { this_cpu::set_up(bsp, features, &syscall::TABLES) };

    // Parse the command line before any slow step, so that an error in it is reported immediately.
    console::report_screen(bsp, info);
    let options = steps::options(info);
    steps::refuse_breach_of_unused(&options, features);
    let file = or_refuse(programs::find(info, options.program, PROGRAMS));

    // SAFETY: the boot loader passed this address. This code runs on the BSP, and no program has started yet. Nothing has
    // read the tables.
    let tables = unsafe {
        let rsdp = inject::break_tables(bsp, options.firmware_fault, info.rsdp);
        steps::or_one_cpu(bsp, Tables::find(rsdp))
    };
    // From here on the console uses the UART that the firmware's tables name.
    console::choose_uart(bsp, tables.as_ref());
    steps::read_power(tables.as_ref(), &options);
    // SAFETY: called once, on the BSP, and no program has started yet.
    let calibration = unsafe { steps::find_clocks(tables.as_ref(), info, &options) };
    let madt = tables.and_then(|tables| steps::or_one_cpu(bsp, tables.madt()));
    let cpus = steps::list_cpus(bsp, madt.as_ref());
    steps::refuse_absent_cpus(&options, cpus.list.len());

    // Set up tracing before the other CPUs start, because each CPU needs its ring when it starts. There is one ring for
    // each CPU in the list.
    or_refuse(trace::init(options.trace, cpus.list.len() as u32, info.tsc));
    bsp.attach_trace();
    let faults = ApFaults::of(&options);
    let upcalls = Upcalls { calls: &syscall::TABLES, online: run::take_part, measured: steps::report_clocks };
    // SAFETY: called once, on the BSP, with interrupts off, before the first program.
    let waiting =
        or_end(unsafe { bring_up::reset_others(bsp, features, cpus.list, calibration, faults, upcalls) });
    // The other CPUs now wait for at least 10 ms, so perform steps here on which they do not depend. Interrupts have
    // not been enabled yet.
    steps::mask_io_apics(bsp, madt.as_ref(), info, &options);
    // SAFETY: called once, on the BSP, with interrupts off, before the first program.
    let arrivals = or_end(unsafe { bring_up::start_others(bsp, waiting, options.own_uarts) });
    this_cpu::set_clock(bsp);
    let timebase = timer::timebase();

    // These steps follow bring-up because they depend on which CPUs came online.
    steps::refuse_failures_of_absent_cpus(&options, arrivals.online.len());
    compare::control_registers(&arrivals);
    compare::apics(bsp, &arrivals);
    compare::unused_features(bsp, &options);
    compare::time_stamp_counters(bsp, &arrivals, timebase);
    steps::report_missing(bsp, &arrivals, cpus.unreachable, info);
    steps::audit_mappings(bsp);
    steps::prepare_runtime_services(bsp, info, &options);
    or_end(counters::publish(arrivals.online, options.tick_hz, timebase.tsc.hz()));

    let boot = steps::boot_record(bsp, &options, cpus.list, &arrivals, timebase);
    // This is the last step that allocates memory: it stores the number of frames that are free before the first
    // program is loaded.
    let run = steps::prepare_run(options, file, &arrivals, boot);
    run::begin(bsp, run)
}
