//! The steps of the boot sequence that compare the CPUs with each other after the bring-up.

use kernel::arch::interrupts::apic::ApicState;
use kernel::arch::interrupts::timer::Timebase;
use kernel::arch::panic::stop;
use kernel::arch::percpu::PerCpuData;
use kernel::arch::smp::bring_up::BringUpResult;
use kernel::clock::{self, TscOrder};
use kernel::cmdline::Options;
use kernel::cpu::CpuId;
use kernel::features::Features;
use kernel::plural::Count;
use kernel::{say, warn};
use spin::Once;

use super::steps::or_end;

/// Returns a value that a CPU published when it set itself up.
fn published<T: Copy>(value: &Once<T>) -> T {
    *or_end(value.get().ok_or("a CPU came online without being set up"))
}

/// Ends the run if control registers differ between CPUs. A program could then behave differently depending on its CPU
/// (invariant: SAME-CONTROL).
pub fn control_registers(arrivals: &BringUpResult) {
    let of = |cpu: &PerCpuData| published(&cpu.published.control);
    let expected = of(arrivals.online[CpuId::BSP.index()]);
    for cpu in arrivals.online {
        let actual = of(cpu);
        if actual != expected {
            stop::end(format_args!("{} has {actual}, but the BSP has {expected}", cpu.id()));
        }
    }
}

/// The largest number of CPUs for which the same warning is printed individually.
const WARNINGS_MAX: u64 = 8;

/// Ends the run if the APICs' modes or register addresses differ between CPUs (invariant: SAME-CONTROL). Warns about
/// each CPU whose CPUID reports a different APIC id than its APIC. The kernel uses the APIC's id, because IPIs are sent
/// to it.
pub fn apics(bsp: &PerCpuData, arrivals: &BringUpResult) {
    let of = |cpu: &PerCpuData| published(&cpu.published.apic);
    let expected = of(bsp);
    let mut count = 0;
    for cpu in arrivals.online {
        let (id, actual) = (cpu.id(), of(cpu));
        if actual.base != expected.base {
            stop::end(format_args!("{id} has {actual}, but the BSP has {expected}"));
        }
        let ApicState { cpuid_id, .. } = actual;
        if cpuid_id != cpu.apic_id {
            count += 1;
            if count <= WARNINGS_MAX {
                warn!(bsp, "{id} has a local APIC with {}, but its CPUID reports {cpuid_id}", cpu.apic_id);
            }
        }
    }
    if count > WARNINGS_MAX {
        warn!(bsp, "the CPUID of {} reports another APIC id too", Count(count - WARNINGS_MAX, "more CPU"));
    }
}

/// Prints which features of `without=` are unused although the CPU has them, and ends the run if one of them is on. CR4
/// and IA32_APIC_BASE have been read back on each CPU, and are equal on all CPUs.
pub fn unused_features(bsp: &PerCpuData, options: &Options<'_>) {
    if options.without == Features::NONE {
        return;
    }
    let (control, apic) = (published(&bsp.published.control), published(&bsp.published.apic));
    let on = Features { x2apic: apic.is_x2apic(), ..control.features() };
    let (wrong, unused) = (options.without.common(on), options.without.common(Features::detect()));
    if wrong != Features::NONE {
        stop::end(format_args!("{wrong} must be unused, but the BSP has {control}, {apic}"));
    }
    let cr4 = control.cr4();
    match unused {
        Features::NONE => say!(bsp, "without={}: the CPU has none of these features", options.without),
        _ => say!(bsp, "unused, although the CPU has them: {unused}; all CPUs have CR4={cr4:#x}, {apic}"),
    }
}

/// Warns about CPUs on which `SYS_CLOCK_NS` is wrong, because the TSC's rate may change or the TSC is not synchronised
/// with the BSP's. The kernel does not adjust the counters.
pub fn time_stamp_counters(bsp: &PerCpuData, arrivals: &BringUpResult, timebase: &Timebase) {
    let of = |cpu: &PerCpuData| published(&cpu.published.tsc);
    let expected = of(bsp);
    if let Some(cpu) = arrivals.online.iter().find(|cpu| of(cpu).rate_may_change) {
        warn!(
            bsp,
            "{} has no invariant TSC: SYS_CLOCK_NS is wrong after a change of its frequency",
            cpu.id()
        );
    }
    let mut count = 0;
    for cpu in arrivals.online.iter().skip(1) {
        let (id, actual) = (cpu.id(), of(cpu));
        let order = clock::tsc_order(arrivals.tsc_before, actual.at_set_up, arrivals.tsc_after);
        let other_adjust =
            actual.adjust.is_some() && expected.adjust.is_some() && actual.adjust != expected.adjust;
        count += u64::from(order != TscOrder::InStep || other_adjust);
        if count > WARNINGS_MAX {
            continue;
        }
        if let (Some(adjust), Some(expected)) = (actual.adjust, expected.adjust)
            && adjust != expected
        {
            warn!(
                bsp,
                "{id} has IA32_TSC_ADJUST={adjust:#x}, but the BSP has {expected:#x}: their clocks differ"
            );
        }
        let ns = |ticks| timebase.tsc.to_ns().ns(ticks);
        match order {
            TscOrder::InStep => {}
            TscOrder::Behind(by) => warn!(bsp, "{id} has a TSC at least {} ns behind the BSP's", ns(by)),
            TscOrder::Ahead(by) => warn!(bsp, "{id} has a TSC at least {} ns ahead of the BSP's", ns(by)),
        }
    }
    if count > WARNINGS_MAX {
        warn!(bsp, "the TSC of {} differs from the BSP's too", Count(count - WARNINGS_MAX, "more CPU"));
    }
}
