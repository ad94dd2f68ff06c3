//! The init ladder: one step a line, in order. What a step needs, an earlier one has made; where the order is not
//! obvious, the reason stands beside it. What a step is made of is in [`steps`].
//!
//! An AP climbs a shorter one, `smp::ap_entry`: tables, registers, clock. Both end in `run::take_part`.

mod steps;

use core::alloc::{GlobalAlloc, Layout};
use core::panic::PanicInfo;

use kernel::arch::boot;
use kernel::arch::boot::BootInfo;
use kernel::arch::cpu::control::Features;
use kernel::arch::devices::{pic, serial};
use kernel::arch::entry::{idt, smap};
use kernel::arch::interrupts::apic;
use kernel::arch::memory::acpi::Tables;
use kernel::arch::memory::{paging, physmem};
use kernel::arch::panic::stop;
use kernel::arch::percpu::counters;
use kernel::arch::percpu::{self, PerCpuData};
use kernel::arch::provoke::ApFaults;
use kernel::arch::smp::bring_up::Upcalls;
use kernel::arch::smp::{bring_up, this_cpu};
use kernel::arch::task::programs;
use kernel::arch::trace;
use kernel::cpu::CpuId;
use kernel::{run, syscall};

use self::steps::{or_end, or_refuse};

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
        // SAFETY: SMAP is there, and the boot tables are on.
        unsafe { smap::enable_instructions() };
    }
    // SAFETY: once, on the BSP, with the boot tables on.
    or_end(unsafe { physmem::init(info) });
    // SAFETY: once, on the BSP, after the physical map. From here on no page is both writable and executable.
    or_end(unsafe { paging::init(info) });
    // SAFETY: once for this index; the BSP does not use it before.
    or_end(unsafe { percpu::create(CpuId::BSP, apic::initial_id()) });
    // SAFETY: nothing on the boot stack is needed any more.
    unsafe { this_cpu::enter(CpuId::BSP, bsp_main) }
}

/// The BSP, on a stack with a guard page.
extern "sysv64" fn bsp_main(bsp: &'static PerCpuData) -> ! {
    // First: from here on whatever goes wrong ends in a report.
    // SAFETY: this is the BSP, for the first time.
    unsafe { this_cpu::load_tables(bsp) };
    pic::mask_all();
    or_end(apic::map_registers());
    // SAFETY: the PICs are masked, the registers mapped, and the tables loaded.
    unsafe { this_cpu::set_up(bsp, Features::detect(), syscall::ENTRY) };

    // Before anything that takes time: a mistake on the command line is reported at once.
    let info = boot::info();
    let options = steps::options(info);
    let file = or_refuse(programs::find(info, options.program));

    // SAFETY: the loader's RSDP, before the first program.
    let tables = or_end(unsafe { Tables::find(info.rsdp) });
    let timebase = steps::measure_clocks(bsp, &tables, info, &options);
    let cpus = steps::list_cpus(bsp, &tables);
    steps::refuse_absent_cpus(&options, cpus.list.len());

    // Before the other CPUs: each finds its ring when it starts, and the rings are as many as the CPUs of the list.
    or_refuse(trace::init(options.trace, cpus.list.len() as u32, timebase.tsc.hz(), info.tsc));
    bsp.attach_trace();
    let faults = ApFaults::of(&options);
    let upcalls = Upcalls { syscall_entry: syscall::ENTRY, online: run::take_part };
    // SAFETY: once, before the first program.
    let arrivals = or_end(unsafe {
        bring_up::start_others(bsp, cpus.list, timebase.tsc, faults, options.own_uarts, upcalls)
    });
    // Not earlier: while the BSP waits for the others, with interrupts off, it would miss its ticks.
    bsp.start_clock();

    // After all CPUs have arrived: what follows depends on which ones did.
    steps::refuse_failures_of_absent_cpus(&options, arrivals.online.len());
    steps::compare_control_registers(&arrivals);
    let warnings = steps::report_missing(bsp, &arrivals, cpus.unreachable, info);
    steps::audit_mappings(bsp);
    or_end(counters::publish(arrivals.online, options.tick_hz, timebase.tsc.hz()));

    let boot = steps::boot_record(bsp, &options, cpus.list, &arrivals, timebase);
    // Last of all that allocates: it notes how many frames are free before the first program is loaded.
    let run = steps::prepare_run(options, file, &arrivals, boot, warnings);
    run::begin(bsp, run)
}
