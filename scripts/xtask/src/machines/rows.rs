//! The rows of the table: what QEMU lists, and topologies.

/// Values of `-smp`: gaps in the APIC ids, absent CPUs, each level of the topology.
const TOPOLOGIES: [&str; 14] = [
    "1",
    "2,maxcpus=8",
    "3",
    "8",
    "3,cores=4,maxcpus=4",
    "4,threads=2",
    "4,cores=2,threads=2",
    "5,sockets=5",
    "6,sockets=2,cores=3",
    "6,dies=2,cores=3",
    "8,sockets=2,cores=2,threads=2",
    "12,sockets=2,dies=2,cores=3",
    "4,modules=2,cores=2",
    "16",
];

/// The rows without `--all`: machines that pass, machines that the kernel rejects, and one that QEMU rejects.
const FEW: [&str; 12] = [
    "--cpu qemu64",
    "--cpu qemu32",
    "--cpu EPYC",
    "--cpu Skylake-Server",
    "--cpu max,-x2apic",
    "--cpu max,-sse2",
    "--machine pc",
    "--machine pc-q35-3.1",
    "--machine microvm",
    "--machine microvm,pit=off",
    "--smp 3,cores=4,maxcpus=4",
    "--smp 0",
];

/// Returns the few rows. Each is the options of a run, separated by spaces.
pub fn few() -> Vec<String> {
    FEW.map(with_cpus).to_vec()
}

/// Returns all rows, from what QEMU prints with `-cpu help` and `-machine help`.
pub fn all(cpu_help: &str, machine_help: &str) -> Vec<String> {
    let models = models(cpu_help).into_iter().map(|name| format!("--cpu {name}"));
    let features = features(cpu_help).into_iter().map(|name| format!("--cpu max,-{name}"));
    let types = machine_types(machine_help).into_iter().map(|name| format!("--machine {name}"));
    let rows = models.chain(features).chain(types).map(|row| with_cpus(&row));
    rows.chain(TOPOLOGIES.map(|value| format!("--smp {value}"))).collect()
}

/// Adds two CPUs if the row gives no number of CPUs.
fn with_cpus(row: &str) -> String {
    if row.starts_with("--smp") { row.to_owned() } else { format!("--smp 2 {row}") }
}

/// The line in QEMU's help that follows the CPU models.
const FLAGS: &str = "Recognized CPUID flags:";

/// Returns the CPU models. QEMU 7.2 precedes each with `x86`.
fn models(help: &str) -> Vec<&str> {
    let lines = help.lines().skip(1).take_while(|line| *line != FLAGS);
    lines.filter_map(|line| line.strip_prefix("x86").unwrap_or(line).split_whitespace().next()).collect()
}

fn features(help: &str) -> Vec<&str> {
    let (_, flags) = help.split_once(FLAGS).unwrap_or_default();
    flags.split_whitespace().collect()
}

/// Returns the machine types of PCs.
fn machine_types(help: &str) -> Vec<&str> {
    let names = help.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    names.filter(|name| ["pc", "q35", "isapc", "microvm"].iter().any(|kind| name.starts_with(kind))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_is_parsed() {
        let old = "Available CPUs:\nx86 486          (alias)\nx86 max     Enables all\n\nRecognized CPUID flags:\n  3dnow abm\n  x2apic\n";
        let new = "Available CPUs:\n  486          (alias)\n  max     Enables all\n\nRecognized CPUID flags:\n  3dnow abm\n  x2apic\n";
        for help in [old, new] {
            assert_eq!(models(help), ["486", "max"]);
            assert_eq!(features(help), ["3dnow", "abm", "x2apic"]);
        }
        let types =
            "Supported machines are:\nmicrovm   x\npc   y\npc-q35-9.0  z\nnone  empty machine\nxenfv  w\n";
        assert_eq!(machine_types(types), ["microvm", "pc", "pc-q35-9.0"]);
        let rows = all(new, types);
        assert_eq!((rows.len(), rows[0].as_str()), (2 + 3 + 3 + TOPOLOGIES.len(), "--smp 2 --cpu 486"));
    }
}
