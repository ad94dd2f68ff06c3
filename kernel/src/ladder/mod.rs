//! The init ladder: one step per line, in order. A step needs only earlier ones; where the order is not obvious, a
//! comment gives the reason. [`steps`] implements the steps that take more than a call.
//!
//! An AP has a shorter one, `ap_entry` in `smp::bring_up`: tables, registers, clock. Both end in `run::take_part`.

mod steps;

use core::alloc::{GlobalAlloc, Layout};
use core::panic::PanicInfo;

use kernel::arch::boot;
use kernel::arch::boot::BootInfo;
use kernel::arch::cpu::control::{self, Features};
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
use kernel::arch::task::programs::{self, Archive};
use kernel::arch::trace;
use kernel::cpu::CpuId;
use kernel::{run, syscall};

use self::steps::{or_end, or_refuse};

/// The embedded programs. They belong to the binary: the library needs none, so it is built together with them.
const PROGRAMS: Archive = Archive(include_bytes!(env!(
    "RINGSIDE_PROGRAMS",
    "build the kernel with `cargo xtask build`, which makes the archive of the programs"
)));

/// The allocator of a kernel without a heap. The `object` crate links `alloc` even if it only reads; nothing that the
/// kernel calls allocates (invariant: NO-HEAP).
struct NoHeap;

// SAFETY: an allocator may return null, which means that there is no memory, and so `dealloc` is never called.
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

/// Entry point of the BSP in Rust, called by the boot code: on the boot stack, with the boot page tables, interrupts
/// off, and no IDT.
#[unsafe(no_mangle)]
fn kernel_main(info: &'static BootInfo) -> ! {
    serial::init();
    // SAFETY: the boot GDT has the kernel's code segment, which the gates use. The kernel has not set the GS base yet
    // (invariant: GS-BASE).
    unsafe { idt::load_early() };
    // Before the memory map is used: a command line that is too long for the loader's buffer overwrites what follows.
    steps::check_boot_info(info);
    // While the boot page tables map the kernel's text writable, and before any of the patched sites is executed.
    if Features::detect().smap {
        // SAFETY: called once, on the BSP. The CPU has SMAP, the boot page tables map the text writable, and no site
        // has been executed: an exception so far would have ended the run.
        unsafe { smap::enable_instructions() };
    }
    // SAFETY: called once, on the BSP, with the boot page tables.
    or_end(unsafe { physmem::init(info) });
    // From here on no page is both writable and executable.
    // SAFETY: called once, on the BSP, after the physical map exists.
    or_end(unsafe { paging::init(info) });
    // The BSP's data holds its id, which only its APIC knows.
    or_end(apic::map_registers());
    // SAFETY: called with interrupts off, and the registers were mapped above.
    let apic_id = unsafe { apic::identify(Features::detect()) };
    // SAFETY: called once for this index, before the BSP uses the area.
    or_end(unsafe { percpu::create(CpuId::BSP, apic_id) });
    // SAFETY: the area was created above, this is the BSP, with interrupts off, and nothing on the boot stack is needed
    // any more: `info` is static.
    unsafe { this_cpu::enter(CpuId::BSP, bsp_main) }
}

/// Continues the boot on the BSP's syscall stack, which has a guard page.
extern "sysv64" fn bsp_main(bsp: &'static PerCpuData) -> ! {
    // First, because from here on every exception is reported. SAFETY: called once, on the CPU that the data belongs
    // to, with interrupts off and the kernel's page tables loaded.
    unsafe { this_cpu::load_tables(bsp) };
    // The boot code has checked all others.
    or_end(control::check_features());
    pic::mask_all();
    // SAFETY: called once, on the CPU that the data belongs to, with interrupts off. The tables are loaded, the PICs
    // masked, the APIC's registers mapped and its mode set.
    unsafe { this_cpu::set_up(bsp, Features::detect(), syscall::ENTRY) };

    // Before anything that takes time, so that an error on the command line is reported at once.
    let info = boot::info();
    let options = steps::options(info);
    let file = or_refuse(programs::find(info, options.program, PROGRAMS));

    // SAFETY: the address is the one that the boot loader passed; this is the BSP, and no program has started yet.
    let tables = or_end(unsafe { Tables::find(info.rsdp) });
    let timebase = steps::measure_clocks(bsp, &tables, info, &options);
    let cpus = steps::list_cpus(bsp, &tables);
    steps::refuse_absent_cpus(&options, cpus.list.len());

    // Before the other CPUs: each needs its ring when it starts. There is one ring for each CPU of the list.
    or_refuse(trace::init(options.trace, cpus.list.len() as u32, timebase.tsc.hz(), info.tsc));
    bsp.attach_trace();
    let faults = ApFaults::of(&options);
    let upcalls = Upcalls { syscall_entry: syscall::ENTRY, online: run::take_part };
    // SAFETY: called once, on the BSP, with interrupts off, before the first program.
    let arrivals = or_end(unsafe {
        bring_up::start_others(bsp, cpus.list, timebase.tsc, faults, options.own_uarts, upcalls)
    });
    // Not earlier, because the BSP waits for the other CPUs with interrupts off and would miss ticks.
    bsp.start_clock();

    // After the bring-up, because these steps depend on which CPUs came online.
    steps::refuse_failures_of_absent_cpus(&options, arrivals.online.len());
    steps::compare_control_registers(&arrivals);
    let warnings = steps::report_missing(bsp, &arrivals, cpus.unreachable, info)
        + steps::compare_apics(bsp, &arrivals)
        + u32::from(!cpus.bsp_listed);
    steps::audit_mappings(bsp);
    or_end(counters::publish(arrivals.online, options.tick_hz, timebase.tsc.hz()));

    let boot = steps::boot_record(bsp, &options, cpus.list, &arrivals, timebase);
    // The last step that allocates: it stores how many frames are free before the first program is loaded.
    let run = steps::prepare_run(options, file, &arrivals, boot, warnings);
    run::begin(bsp, run)
}
