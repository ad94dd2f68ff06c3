//! The steps of the boot sequence, in the order in which they run.

use kernel::arch::boot::BootInfo;
use kernel::arch::devices::{finish, serial};
use kernel::arch::inject;
use kernel::arch::interrupts::calibration::Calibration;
use kernel::arch::interrupts::io_apic::IoApic;
use kernel::arch::interrupts::reference;
use kernel::arch::interrupts::timer::Timebase;
use kernel::arch::memory::acpi::{FirmwareError, Tables};
use kernel::arch::memory::loaded::Common;
use kernel::arch::memory::{paging, physmem, runtime_services, table};
use kernel::arch::panic::stop;
use kernel::arch::percpu::PerCpuData;
use kernel::arch::smp::bring_up::BringUpResult;
use kernel::clock_source::Choice;
use kernel::cmdline::{Finish, Key, Options};
use kernel::cpu::ApicId;
use kernel::features::Features;
use kernel::plural::{Count, verb};
use kernel::run::Run;
use kernel::stage::Cause;
use kernel::topology::{self, ApicMode, Madt};
use kernel::{say, warn};
use kernel_abi::boot::COMMAND_LINE_MAX;
use kernel_abi::record::{BootRecord, Record, VerdictRecord};
use kernel_abi::verdict::Verdict;

/// Sets what the machine does after the verdict, as the command line requests, even if the line is otherwise invalid.
/// Without a request, the kernel writes to QEMU's exit device only if QEMU's own loader has started it, because on
/// another machine the port may belong to another device.
pub fn configure_finish(info: &BootInfo) {
    let default = if info.has_debug_exit { Finish::Exit } else { Finish::Stay };
    finish::configure(Options::requested_finish(info.command_line()).unwrap_or(default));
}

/// Ends the run if the loader has not passed valid boot information or the complete command line.
pub fn check_boot_info(info: &BootInfo) {
    if !info.found {
        stop::end(format_args!(
            "the loader's start info is not valid; a command line of more than {COMMAND_LINE_MAX} bytes overwrites it"
        ));
    }
    if let Some(list) = info.unmapped_list {
        stop::end(format_args!(
            "the loader's {list} does not lie completely below 4 GiB, so the kernel cannot read it"
        ));
    }
    if info.command_line_unmapped {
        refuse(format_args!("it does not lie completely below 4 GiB, so the kernel cannot read it"));
    }
    if info.command_line_truncated {
        refuse(format_args!(
            "it has more than {COMMAND_LINE_MAX} bytes, and the loader may have truncated it"
        ));
    }
}

/// Parses the command line. Ends the run if it is invalid.
pub fn options(info: &'static BootInfo) -> Options<'static> {
    or_refuse(Options::parse(info.command_line()))
}

/// Returns the optional features that the kernel uses: the BSP's features except those that the command line excludes.
pub fn features(info: &BootInfo) -> Features {
    Features::detect().without(Options::requested_without(info.command_line()))
}

/// Ends the run if `breach=` names a violation that nothing prevents, because its effect would not be a page fault.
pub fn refuse_breach_of_unused(options: &Options<'_>, used: Features) {
    let missing = options.breach.and_then(|violation| violation.guard().missing_from(used));
    if let (Some(violation), Some(missing)) = (options.breach, missing) {
        let reason = match options.without.common(missing) {
            Features::NONE => "the CPU lacks",
            _ => "without= leaves unused",
        };
        refuse(format_args!("breach={}: needs {missing}, which {reason}", violation.name()));
    }
}

/// Reads how to power off or reset the machine, if the command line requests one of the two after the verdict. Other
/// runs do not depend on these tables.
pub fn read_power(tables: Option<&Tables>, options: &Options<'_>) {
    if let (Some(tables), Some(Finish::Reboot | Finish::PowerOff)) = (tables, options.finish) {
        finish::set_power(tables.power());
    }
}

/// Returns the contents of a table, or warns that the table is not usable. An unusable table does not end the run,
/// because the BSP can run without the tables. Without the MADT, the lines of the I/O APICs stay as the firmware left
/// them.
pub fn or_one_cpu<T>(bsp: &PerCpuData, found: Result<T, FirmwareError>) -> Option<T> {
    found.inspect_err(|error| warn!(bsp, "{error}; continuing with one CPU")).ok()
}

/// Finds the clocks that the machine has, and prepares the measurement of the TSC and of the APIC timer against them.
///
/// # Safety
/// Called once, on the BSP, before the first program exists.
pub unsafe fn find_clocks(tables: Option<&Tables>, info: &BootInfo, options: &Options<'_>) -> Calibration {
    let (hpet, pm_timer) = (tables.and_then(Tables::hpet), tables.and_then(Tables::pm_timer));
    // SAFETY: guaranteed by the caller. The firmware's tables list the HPET.
    let counters = unsafe { reference::counters(hpet, pm_timer, info) };
    or_end(Calibration::new(info.tsc, reference::cpuid(), counters, options.tick_hz))
}

/// Prints which clock gave the rate of the TSC, and warns if a second clock contradicts it.
pub fn report_clocks(bsp: &PerCpuData, timebase: &Timebase) {
    match timebase.choice {
        Choice { used, check: Some(check) } if timebase.choice.is_confirmed() => {
            say!(bsp, "TSC: {used}, {check}");
        }
        Choice { used, check: Some(check) } => {
            warn!(bsp, "two clocks disagree: the TSC has {used}, but {check}; continuing with the first");
        }
        Choice { used, check: None } => say!(bsp, "TSC: {used}; no second clock checks it"),
    }
}

/// Masks all lines of the I/O APICs in the firmware's table, before interrupts are enabled for the first time.
pub fn mask_io_apics(bsp: &PerCpuData, madt: Option<&Madt<'_>>, info: &BootInfo, options: &Options<'_>) {
    for (index, address) in madt.into_iter().flat_map(Madt::io_apics).enumerate() {
        // SAFETY: called once for each index, on the BSP, before the first program. The firmware lists the address.
        match unsafe { IoApic::map(index, address, info) } {
            Ok(io_apic) => {
                if options.stray_interrupts {
                    inject::unmask_line_of_pit(&io_apic);
                }
                io_apic.mask_all();
            }
            Err(error) => {
                warn!(bsp, "the I/O APIC at {address:#x} is not used, and its lines are not masked: {error}")
            }
        }
    }
}

/// The CPUs in the firmware's table.
pub struct Cpus {
    /// The APIC ids of the CPUs, the BSP's first.
    pub list: &'static [ApicId],
    /// The number of additional CPUs that the current APIC mode cannot address.
    pub unreachable: usize,
}

/// Lists the CPUs in the firmware's table, the BSP first. Without a table there is only the BSP.
pub fn list_cpus(bsp: &PerCpuData, madt: Option<&Madt<'_>>) -> Cpus {
    let list = or_end(table::alloc(madt.map_or(1, Madt::upper_bound), |_| bsp.apic_id));
    let Some(madt) = madt else { return Cpus { list, unreachable: 0 } };
    let mode = if has_x2apic(bsp) { ApicMode::X2Apic } else { ApicMode::XApic };
    let found = or_end(topology::enumerate(madt, bsp.apic_id, mode, list));
    if madt.upper_bound() == 1 {
        warn!(bsp, "the firmware's list of CPUs (ACPI MADT) is empty; continuing with one CPU");
    } else if !found.bsp_listed {
        warn!(
            bsp,
            "the firmware's list of CPUs (ACPI MADT) does not contain the BSP, {}; continuing with it as CPU 0",
            bsp.apic_id
        );
    }
    Cpus { list: &list[..found.count], unreachable: found.unreachable }
}

/// Returns whether this CPU's local APIC is in x2APIC mode.
fn has_x2apic(cpu: &PerCpuData) -> bool {
    cpu.with_apic(|apic| apic.is_x2apic()).unwrap_or(false)
}

/// Ends the run if an option names a CPU that does not exist, because the option would have no effect.
pub fn refuse_absent_cpus(options: &Options<'_>, cpus: usize) {
    let failing = options.failures.requested().map(|(key, cpu, _)| (key, cpu));
    let others = [
        (Key::LoseAp, options.lose_ap),
        (Key::DelayAp, options.delay_ap),
        (Key::StaleAp, options.stale_ap),
        (Key::DieAp, options.die_ap),
        (Key::ResendAp, options.resend_ap),
        (Key::EarlyAp, options.early_ap),
    ];
    for (key, cpu) in failing.chain(others) {
        if let Some(cpu) = cpu.filter(|&cpu| cpu as usize >= cpus) {
            refuse(format_args!(
                "{}={cpu}: found {}, numbered from 0",
                key.name(),
                Count(cpus as u64, "CPU")
            ));
        }
    }
}

/// Ends the run if a CPU that must fail is not online, or if the failure needs more CPUs than are online. From here on,
/// a CPU's index is its position among the CPUs that are online.
pub fn refuse_failures_of_absent_cpus(options: &Options<'_>, online: usize) {
    for (key, cpu, _) in options.failures.requested() {
        if let Some(cpu) = cpu.filter(|&cpu| cpu as usize >= online) {
            refuse(format_args!(
                "{}={cpu}: {} came online, numbered from 0",
                key.name(),
                Count(online as u64, "CPU")
            ));
        }
    }
    if let Some(asked) = options.cycle
        && online < 2
    {
        refuse(format_args!("{}={asked}: needs 2 CPUs online, but only {online} is", Key::Cycle.name()));
    }
    let (place, needed) = (options.failures.place, options.failures.place.cpus_needed());
    if online < needed {
        refuse(format_args!(
            "fail_in={}: needs {} online, but only {online} {}",
            place.name(),
            Count(needed as u64, "CPU"),
            verb(online as u64, "is", "are")
        ));
    }
}

/// Warns about CPUs that are not online and about a truncated memory map.
pub fn report_missing(bsp: &PerCpuData, arrivals: &BringUpResult, unreachable: usize, info: &BootInfo) {
    for run in arrivals.missing.chunk_by(|a, b| a.0.0.checked_add(1) == Some(b.0.0) && a.1 == b.1) {
        let &[(first, cause), ..] = run else { continue };
        if let [.., (last, _)] = run
            && *last != first
        {
            let cpus = format_args!("the {} CPUs with APIC ids {} to {}", run.len(), first.0, last.0);
            match cause {
                Cause::Lacks(lacks) => warn!(bsp, "{cpus} lack {lacks}; continuing without them"),
                Cause::Lost(stage) => {
                    warn!(
                        bsp,
                        "{cpus} did not come online; for each of them: {stage}; continuing without them"
                    )
                }
            }
            continue;
        }
        match cause {
            Cause::Lacks(lacks) => warn!(bsp, "the CPU with {first} lacks {lacks}; continuing without it"),
            Cause::Lost(stage) => {
                warn!(bsp, "the CPU with {first} did not come online: {stage}; continuing without it")
            }
        }
    }
    if unreachable > 0 {
        warn!(
            bsp,
            "xAPIC mode cannot address the APIC ids of {}; they do not take part in the run",
            Count(unreachable as u64, "CPU")
        );
    }
    if info.truncated {
        warn!(bsp, "the memory map exceeds the kernel's buffer and was truncated");
    }
}

/// Walks all mappings and ends the run if a mapping violates W^X.
pub fn audit_mappings(bsp: &PerCpuData) {
    match paging::audit(paging::kernel_pml4()).check() {
        Ok(audit) => say!(
            bsp,
            "{} mappings; none is both writable and executable, none in the kernel's half is accessible to ring 3, and \
             none is write-back outside memory",
            audit.pages
        ),
        Err(audit) => stop::end(format_args!("the kernel's mappings are wrong: {audit:?}")),
    }
}

/// Maps the runtime services of UEFI firmware, if they are to reset the machine or to power it off after the verdict.
/// Runs after the bring-up, because their page tables contain the kernel's complete half.
pub fn prepare_runtime_services(bsp: &PerCpuData, info: &BootInfo, options: &Options<'_>) {
    if !matches!(options.finish, Some(Finish::Reboot | Finish::PowerOff)) {
        return;
    }
    // SAFETY: called on the BSP, with interrupts off, after the bring-up.
    if let Err(error) = unsafe { runtime_services::prepare(info) } {
        warn!(bsp, "{error}");
    }
}

/// Builds the boot record.
pub fn boot_record(
    bsp: &PerCpuData,
    options: &Options<'_>,
    list: &[ApicId],
    arrivals: &BringUpResult,
    timebase: &Timebase,
) -> BootRecord {
    BootRecord {
        cpus_found: list.len() as u32,
        cpus_online: arrivals.online.len() as u32,
        x2apic: has_x2apic(bsp),
        tick_hz: options.tick_hz,
        tsc_hz: timebase.tsc.hz(),
        apic_timer_hz: timebase.apic_timer.hz(),
        clock: timebase.choice.used.source,
        memory_kib: physmem::total() * 4,
        per_cpu_kib: arrivals.area_kib,
        bring_up_ns: arrivals.bring_up_ns,
    }
}

/// Allocates the memory that all copies of the program share, and builds the description of the run.
pub fn prepare_run(
    options: Options<'static>,
    file: &'static [u8],
    arrivals: &BringUpResult,
    boot: BootRecord,
) -> Run {
    let shared_page = or_end(physmem::alloc_zeroed().ok_or("no memory for the shared page"));
    // A test of the memory protection may overwrite the program's code, so each copy gets its own pages.
    let common = Common::new(file, shared_page, options.breach.is_some());
    Run {
        options,
        file,
        common,
        free_frames: physmem::free_count(),
        missing: arrivals.missing,
        online: arrivals.online,
        boot,
    }
}

/// Returns the value, or ends the run because the boot has failed.
pub fn or_end<T, E: core::fmt::Display>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| stop::end(format_args!("{error}")))
}

/// Returns the value, or ends the run because the command line is invalid on this machine.
pub fn or_refuse<T, E: core::fmt::Display>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| refuse(format_args!("{error}")))
}

fn refuse(error: core::fmt::Arguments<'_>) -> ! {
    serial::print(format_args!("[cpu0] ringside: command line: {error}"));
    let verdict = Verdict::BadCommandLine;
    serial::print_record(&Record::Verdict(VerdictRecord { verdict, records: 0, warnings: 0 }));
    finish::end_run(verdict)
}
