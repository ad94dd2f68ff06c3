//! Cases with a panic on a given CPU, and with an AP that does not come online.

use super::{Case, Finished, case};

/// Returns the cases.
pub fn cases() -> Vec<Case> {
    let panic = |cpu: u32| {
        case(format!("panic::on-cpu-{cpu}"), &format!("--smp 4 --cmdline panic_cpu={cpu}"), "hello")
            .status(3)
            .shows(format!("kernel panic on CPU {cpu}: "))
            .complains(format!("CPU {cpu} panicked: "))
            .demand(has_a_symbolised_backtrace)
    };
    let absent = |name: &str, key: &str| {
        case(format!("ap::{name}"), &format!("--smp 4 --cmdline {key}=2"), "selftest")
            .exits_on(3)
            .complains("(APIC id 2) is missing: ")
            .demand(only_apic_id_2_is_missing)
            .waits()
    };
    let overflow = case("panic::stack-overflow", "--smp 4 --cmdline overflow_cpu=2", "hello")
        .status(3)
        .complains("CPU 2 panicked: double fault (#DF): the syscall stack of CPU 2 overflowed");
    let writing = case("panic::while-all-write", "--smp 4 --cmdline panic_cpu=3", "probe talk")
        .status(3)
        .complains("CPU 3 panicked: ")
        .demand(the_others_are_silent);
    // The other CPUs execute no kernel code that checks for a panic, so only an NMI stops them.
    let looping =
        case("panic::while-others-loop", "--smp 4 --cmdline 'panic_cpu=0 fail_in=syscall'", "probe loop")
            .status(3)
            .complains("CPU 0 panicked: ")
            .shows("[cpu0]   3 of 3 other CPUs stopped");
    // The failing CPU has come back and has not enabled its local APIC yet.
    let coming_back = |name: &str, options: &str, key: &str, report: &str| {
        let options = format!("--smp 4 {options} --cmdline 'cycle=3 {key}=2 fail_in=come-back'");
        case(format!("panic::{name}"), &options, "probe loop")
            .status(3)
            .complains(format!("CPU 2 panicked: {report}"))
            .shows("[cpu2]   3 of 3 other CPUs stopped")
    };
    let coming_back = [
        coming_back("in-come-back", "", "panic_cpu", "requested by panic_cpu=2"),
        coming_back("in-come-back-xapic", "--cpu max,-x2apic", "panic_cpu", "requested by panic_cpu=2"),
        coming_back(
            "overflow-in-come-back",
            "",
            "overflow_cpu",
            "double fault (#DF): the syscall stack of CPU 2",
        ),
    ];
    // One of three CPUs lacks features. With NX missing, the entries of the bring-up tables would be invalid; with 64-bit
    // mode missing, the CPU could not reach its slot.
    let lacking = [
        ("sse2", "sse2=off", "SSE2"),
        ("nx", "nx=off", "NX"),
        ("lm", "lm=off", "64-bit mode"),
        ("cmov", "cmov=off", "CMOV"),
        ("syscall", "syscall=off", "SYSCALL"),
        ("smap", "smap=off", "SMAP, which the BSP uses"),
        ("x2apic", "x2apic=off", "x2APIC, which the BSP uses"),
        (
            "smep-umip-rdtscp",
            "smep=off,umip=off,rdtscp=off,rdpid=off",
            "SMEP, UMIP, RDTSCP and RDPID, which the BSP uses",
        ),
    ]
    .map(|(name, properties, lacks)| {
        let device = "--qemu-arg=-device --qemu-arg=max-x86_64-cpu,core-id=0,thread-id=0";
        let options = format!(
            "--smp 1,sockets=3,maxcpus=3 --cpu max {device},socket-id=1 {device},socket-id=2,{properties}"
        );
        let case = case(format!("ap::without-{name}"), &options, "selftest");
        let case = if name == "x2apic" { case.with_x2apic() } else { case };
        case.exits_on(2)
            .shows(format!("warning: the CPU with APIC id 2 lacks {lacks}; continuing without it"))
            .complains(format!("(APIC id 2) is missing: lacks {lacks}"))
            .demand(only_apic_id_2_is_missing)
    });
    // Equal warnings about CPUs with consecutive APIC ids are one warning.
    let device = "--qemu-arg=-device --qemu-arg=max-x86_64-cpu,core-id=0,thread-id=0,sse2=off";
    let several = case(
        "ap::several-without-sse2",
        &format!("--smp 1,sockets=4,maxcpus=4 --cpu max {device},socket-id=1 {device},socket-id=2"),
        "hello",
    )
    .exits_on(1)
    .shows("warning: the 2 CPUs with APIC ids 1 to 2 lack SSE2; continuing without them")
    .hides("warning: the CPU with APIC id");
    let others = [
        panic(0),
        panic(2),
        overflow,
        writing,
        looping,
        absent("lost", "lose_ap"),
        absent("late", "delay_ap"),
        several,
    ];
    others.into_iter().chain(coming_back).chain(lacking).collect()
}

/// Checks that the backtrace has a frame with a file and line of the kernel.
fn has_a_symbolised_backtrace(finished: &Finished) -> Result<(), String> {
    let frame = |line: &&str| line.contains("(kernel/src/") && line.contains(".rs:");
    match finished.stdout.lines().filter(frame).count() {
        0 => Err("there is no frame with a file and line of the kernel".to_owned()),
        _ => Ok(()),
    }
}

/// Checks that no other CPU prints anything after the first line of the panic message. Lines with `[cpuN, partial]` are
/// allowed: the host tool prints them, with text of a stopped CPU that it has read from the guest's memory.
fn the_others_are_silent(finished: &Finished) -> Result<(), String> {
    const PANIC: &str = "kernel panic on CPU ";
    let mut lines = finished.stdout.lines().skip_while(|line| !line.starts_with(PANIC));
    let panicking = lines.next().and_then(|line| line[PANIC.len()..].split(':').next()).unwrap_or("");
    let own = format!("[cpu{panicking}]");
    let is_others =
        |line: &&str| line.starts_with("[cpu") && !line.starts_with(&own) && !line.contains(", partial] ");
    match lines.find(is_others) {
        Some(line) => Err(format!("another CPU continued: {line}")),
        None => Ok(()),
    }
}

/// Checks that only the CPU with APIC id 2 is missing. CPU indices cannot be used, because they are assigned in the
/// order in which CPUs come online.
fn only_apic_id_2_is_missing(finished: &Finished) -> Result<(), String> {
    let missing = finished.cpus().iter().filter(|cpu| cpu["outcome"] == "missing");
    let ids: Vec<_> = missing.filter_map(|cpu| cpu["apic_id"].as_u64()).collect();
    super::expect(ids, vec![2], "APIC ids of missing CPUs")
}
