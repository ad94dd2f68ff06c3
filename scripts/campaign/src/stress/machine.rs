//! Prepares the kernel and QEMU's command lines for the boots of a campaign.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use machine::build;
use machine::cmdline;
use machine::error::Error;
use machine::guest_memory::GuestMemory;
use machine::options::MachineOptions;
use machine::qemu;
use machine::qemu::{Machine, Wiring};
use machine::serial_ports;

use super::error::StressError;
use super::options::{LoadOptions, OFF};
use super::seeds::Seed;

/// Maximum number of records in each CPU's trace ring. It holds about 30000 system calls, more than a boot makes by
/// default.
const RECORDS_MAX: u64 = 64 * 1024;
/// All trace rings together take at most this fraction (1/N) of the guest's memory.
const RINGS_SHARE: u64 = 16;

/// The name of the user program.
pub const PROGRAM: &str = "stress";

/// Time allowed for the boot without the workload, in seconds, on a slow and busy host.
const BOOT_SECONDS: u64 = 120;
/// The lowest assumed rate of system calls over all CPUs, with `--one-insn` and interrupt stress.
const CALLS_PER_SECOND_MIN: u64 = 500;

/// The machine options and the kernel shared by all boots of a campaign.
pub struct Setup {
    /// The user's options, with the accelerator's options added.
    machine: MachineOptions,
    /// The kernel's ELF.
    pub kernel: PathBuf,
}

impl Setup {
    /// Builds the kernel, and asks QEMU for its version if an option depends on it.
    pub fn make(load: &LoadOptions, as_built: bool) -> Result<Setup, Error> {
        let mut machine = load.machine.clone();
        if load.one_insn {
            require_tcg(&machine.accel)?;
            let version = qemu::version(&machine.qemu)?;
            enable_one_insn(&mut machine, version);
        }
        let kernel = build::selected_kernel(&load.feature, &load.mutant, as_built)?;
        let kernel = build::bootable(machine.boot, kernel, as_built)?;
        Ok(Setup { machine, kernel })
    }

    /// Returns QEMU's command line for one seed.
    pub fn command_line(
        &self,
        load: &LoadOptions,
        seed: Seed,
        wiring: Wiring<'_>,
    ) -> Result<Vec<OsString>, Error> {
        let cmdline = kernel_cmdline(load, seed);
        let options = MachineOptions { serial_dir: serial_dir(load, seed), ..self.machine.clone() };
        let machine = Machine {
            options: &options,
            kernel: &self.kernel,
            module: None,
            cmdline: &cmdline,
            gdb_port: None,
        };
        machine.command_line(wiring)
    }
}

/// Returns the directory for the CPUs' output in this seed's boot, if each CPU has its own serial port.
pub fn serial_dir(load: &LoadOptions, seed: Seed) -> Option<PathBuf> {
    load.machine.serial_dir.as_ref().map(|folder| folder.join(seed.to_string()))
}

/// Returns the kernel's command line, including the program's arguments.
fn kernel_cmdline(load: &LoadOptions, seed: Seed) -> String {
    let mut keys = Vec::new();
    for (key, rate) in [("ipi_storm", load.ipi_storm), ("nmi_storm", load.nmi_storm)] {
        keys.extend((rate != 0).then(|| format!("{key}={rate}")));
    }
    keys.extend(load.machine.serial_dir.as_ref().map(|_| "serial=percpu".to_owned()));
    keys.extend(trace_keys(load));
    keys.extend(load.machine.cmdline.clone());
    let keys = (!keys.is_empty()).then(|| keys.join(" "));
    let mut arguments = Vec::new();
    let mut push = |name: &str, value: Option<String>| {
        arguments.extend(value.into_iter().flat_map(|value| [name.to_owned(), value]));
    };
    push("--calls", load.calls().map(|calls| calls.to_string()));
    push("--seconds", load.seconds.map(|seconds| seconds.to_string()));
    push("--mix", load.mix.clone());
    push("--seed", Some(seed.to_string()));
    cmdline::compose(Some(PROGRAM), load.machine.tick_hz, keys.as_deref(), &arguments)
}

/// Returns the trace keys for the kernel's command line. The same keys in the user's `--cmdline` override them.
fn trace_keys(load: &LoadOptions) -> Vec<String> {
    let user_keys = load.machine.cmdline.as_deref().unwrap_or("");
    let given = |key: &str| user_keys.split_ascii_whitespace().any(|word| word.starts_with(key));
    // Tracing is useless if the host cannot map the guest's memory to read the trace.
    let Some(memory) = GuestMemory::size_of(&load.machine) else { return Vec::new() };
    if load.trace == OFF || given("trace=") {
        return Vec::new();
    }
    let mut keys = vec![format!("trace={}", load.trace)];
    if !given("trace_records=") {
        keys.push(format!("trace_records={}", records(load, memory)));
    }
    keys
}

/// Returns the number of records in each CPU's ring. All rings together take at most [`RINGS_SHARE`] of the memory.
fn records(load: &LoadOptions, memory: u64) -> u64 {
    const RECORD: u64 = size_of::<kernel_abi::trace::Record>() as u64;
    let cpus = u64::from(serial_ports::cpus(&load.machine.smp).max(1));
    let room = memory / RINGS_SHARE / RECORD / cpus;
    // Round down to a power of two, because the kernel would round up.
    let below = if room == 0 { 0 } else { 1 << room.ilog2() };
    below.clamp(64, RECORDS_MAX)
}

/// Returns the time limit of a boot, or `None` for no limit.
pub fn limit(load: &LoadOptions, jobs: u16) -> Option<Duration> {
    let seconds = load.timeout.unwrap_or_else(|| {
        let firmware = load.machine.boot.firmware_seconds();
        let cpus = u64::from(serial_ports::cpus(&load.machine.smp).max(1));
        let calls = load.calls().map(|calls| calls.saturating_mul(cpus) / CALLS_PER_SECOND_MIN);
        let load = [calls, load.seconds].into_iter().flatten().min().unwrap_or(0);
        load.saturating_mul(u64::from(jobs)).saturating_add(BOOT_SECONDS + u64::from(jobs) * firmware)
    });
    (seconds != 0).then(|| Duration::from_secs(seconds))
}

/// Makes QEMU translate one instruction per block. Since QEMU 8.1 this is an option of the accelerator; earlier
/// versions use `-singlestep`, which later ones reject.
fn enable_one_insn(machine: &mut MachineOptions, version: (u32, u32)) {
    if version >= (8, 1) {
        machine.accel += ",one-insn-per-tb=on";
    } else {
        machine.qemu_arg.push("-singlestep".to_owned());
    }
}

/// Rejects `--one-insn` with another accelerator: only TCG has translation blocks.
fn require_tcg(accel: &str) -> Result<(), StressError> {
    match accel.split(',').next() {
        Some("tcg") => Ok(()),
        _ => Err(StressError::NotTcg(accel.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stress::options::StressOptions;

    fn load(text: &str) -> LoadOptions {
        let words = shlex::split(text).expect("cannot split into words");
        machine::options::parse::<StressOptions>(words).expect("cannot parse").load
    }

    #[test]
    fn kernel_gets_interrupt_rates_and_program_gets_workload() {
        let load = load(
            "--tick-hz 1000 --ipi-storm 5 --nmi-storm 6 --cmdline trace=user --calls 7 --mix null=1 --trace tick",
        );
        assert_eq!(
            kernel_cmdline(&load, Seed(0xab)),
            "program=stress tick_hz=1000 ipi_storm=5 nmi_storm=6 trace=user -- --calls 7 --mix null=1 --seed 0xab"
        );
    }

    #[test]
    fn defaults_pass_calls_and_seed() {
        let line = |text: &str| kernel_cmdline(&load(text), Seed(1));
        assert_eq!(line("--trace off"), "program=stress -- --calls 20000 --seed 0x1");
        assert_eq!(line("--seconds 5 --trace off"), "program=stress -- --seconds 5 --seed 0x1");
    }

    #[test]
    fn rings_fit_in_memory_and_user_keys_override() {
        for (text, keys) in [
            ("", "trace=all trace_records=65536"),
            ("--trace tick,user --smp 16", "trace=tick,user trace_records=16384"),
            ("--smp 64", "trace=all trace_records=4096"),
            ("--smp 3 --memory 1G", "trace=all trace_records=65536"),
            ("--smp 288 --memory 1G", "trace=all trace_records=4096"),
            ("--cmdline trace_records=64", "trace=all"),
            ("--cmdline 'tick_hz=5 trace=user'", ""),
            ("--trace off", ""),
            ("--memory 1G,slots=2", ""),
        ] {
            assert_eq!(trace_keys(&load(text)).join(" "), keys, "{text}");
        }
    }

    #[test]
    fn one_insn_option_depends_on_qemu_version() {
        for (version, accel, arguments) in [
            ((10, 0), "tcg,thread=multi,one-insn-per-tb=on", vec![]),
            ((8, 1), "tcg,thread=multi,one-insn-per-tb=on", vec![]),
            ((8, 0), "tcg,thread=multi", vec!["-singlestep"]),
            ((7, 2), "tcg,thread=multi", vec!["-singlestep"]),
        ] {
            let mut machine = load("--accel tcg,thread=multi").machine;
            enable_one_insn(&mut machine, version);
            assert_eq!(machine.accel, accel);
            assert_eq!(machine.qemu_arg, arguments);
        }
    }

    #[test]
    fn time_limit_follows_workload() {
        assert_eq!(limit(&load("--timeout 0"), 1), None);
        assert_eq!(limit(&load("--timeout 7"), 3), Some(Duration::from_secs(7)));
        assert_eq!(limit(&load("--seconds 60"), 1), Some(Duration::from_secs(180)));
        assert!(limit(&load("--smp 8"), 1) > limit(&load("--smp 4"), 1));
        assert!(limit(&load("--smp 8"), 2) > limit(&load("--smp 8"), 1));
    }

    #[test]
    fn one_insn_requires_tcg() {
        assert_eq!(require_tcg("tcg,thread=single"), Ok(()));
        assert_eq!(require_tcg("kvm"), Err(StressError::NotTcg("kvm".to_owned())));
    }
}
