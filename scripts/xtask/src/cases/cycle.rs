//! Cases in which CPUs leave the run and come back, or are lost at a stage of their bring-up.

use super::{Case, Finished, case};

/// The stages at which a CPU can be lost, each with the kernel's message.
const STAGES: [(&str, &str); 6] = [
    ("real-mode", "it did not start, or was lost in real mode"),
    ("protected-mode", "it was lost in protected mode"),
    ("long-mode", "it was lost in long mode, before it claimed its slot"),
    ("claimed", "it was lost after it had claimed its slot, during its setup"),
    ("kernel", "it was lost after it had claimed its slot, during its setup"),
    ("set-up", "it was lost after its setup, or was too late"),
];

/// Returns the cases.
pub fn cases() -> Vec<Case> {
    let row = |name: &str, cycles: u64, options: &str, program: &str| {
        case(format!("cycle::{name}"), options, program)
            .shows(format!("after {cycles} cycles of leaving and coming back, no invariant is violated and as many frames are free as before"))
            .demand(all_are_done)
            .demand(every_cpu_ticks)
    };
    // CPU 2 leaves in cycle 2 and does not come back.
    let lost = STAGES.map(|(stage, lost)| {
        let options = format!("--smp 4 --cmdline 'cycle=9 die_ap=2 die_in={stage}'");
        case(format!("cycle::dies-in-{stage}"), &options, "hello")
            .status(1)
            .exits_on(3)
            .shows(format!("warning: CPU 2 did not come back in cycle 2: {lost}"))
            .complains(format!("did not come back in cycle 2: {lost}"))
            .complains("only 1 of 9 cycles")
            .waits()
    });
    let others = vec![
        row("under-stress", 60, "--smp 4 --cmdline cycle=60", "stress --mix null=1,ticks=1,clock=1,bad=1"),
        row("xapic", 9, "--cpu max,-x2apic --smp 4 --cmdline cycle=9", "stress"),
        // Wake-up IPIs reach CPUs at every stage of their cycle.
        row("while-ipis-arrive", 20, "--smp 3 --cmdline 'cycle=20 ipi_storm=1000'", "stress"),
        // The CPU finds an error in a machine-check bank, first from before the boot, and then from the run.
        row("stale-registers", 2, "--smp 2 --cmdline 'cycle=2 stale_ap=1'", "stress")
            .shows("APIC id 1 had a machine check before the boot, which is cleared: bank 1")
            .shows("APIC id 1 had a machine check after its last setup, which is cleared: bank 1"),
        // The program of CPU 1 fails, so CPU 1 declines to leave.
        case("cycle::failed-program", "--smp 2 --cmdline cycle=5", "fault ud2 1")
            .status(1)
            .exits_on(1)
            .killed_on(1, "#UD")
            .complains("of 5 cycles were done"),
        // One CPU gets two start-up IPIs each time it comes back. The second must have no effect.
        row("started-twice", 9, "--smp 4 --cmdline 'cycle=9 resend_ap=2'", "stress"),
        // A start-up IPI arrives while the BSP initialises the CPU's area again. The CPU must not use the area.
        row("started-while-its-area-is-reused", 9, "--smp 4 --cmdline 'cycle=9 early_ap=2'", "stress")
            .shows("CPU 2 was started while its area was reused, and parked"),
    ];
    let lost_at_first = STAGES.map(|(stage, lost)| {
        case(format!("ap::dies-in-{stage}"), &format!("--smp 4 --cmdline 'die_ap=2 die_in={stage}'"), "hello")
            .exits_on(3)
            .complains(format!("(APIC id 2) is missing: did not come online in time: {lost}"))
            .waits()
    });
    // One CPU gets two start-up IPIs at the first bring-up.
    let twice = case("ap::started-twice", "--smp 4 --cmdline resend_ap=2", "selftest").exits_on(4);
    others.into_iter().chain(lost).chain(lost_at_first).chain([twice]).collect()
}

/// Checks that all cycles were requested and done.
fn all_are_done(finished: &Finished) -> Result<(), String> {
    let record = &finished.json["cycles"];
    match (record["asked"].as_u64(), record["done"].as_u64()) {
        (Some(asked), Some(done)) if asked == done => Ok(()),
        _ => Err(format!("the JSON's cycles are {record}")),
    }
}

/// Checks that each CPU continued to handle ticks. A cycle takes at least 10 ms, which is one period of the 100 Hz
/// tick, and a CPU is out of the run only in its own cycles.
fn every_cpu_ticks(finished: &Finished) -> Result<(), String> {
    let cycles = finished.json["cycles"]["done"].as_u64().unwrap_or(0);
    match finished.cpus().iter().find(|cpu| cpu["ticks"].as_u64().unwrap_or(0) < cycles / 2) {
        None => Ok(()),
        Some(cpu) => Err(format!("CPU {} has {} ticks in {cycles} cycles", cpu["cpu"], cpu["ticks"])),
    }
}
