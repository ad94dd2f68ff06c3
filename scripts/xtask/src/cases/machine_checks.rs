//! Cases with machine checks raised by QEMU's monitor. The kernel's report names the CPU and the contents of the bank.

use super::{Case, case};

/// The status of bank 4 (SDM 3B, 16.3.2). Flags: valid, uncorrected, enabled, address valid, context corrupt. Error
/// code: data read error in the level-2 data cache.
const STATUS: &str = "0xb600000000000136";

/// Returns the cases.
pub fn cases() -> Vec<Case> {
    // The last CPU prints when all others loop. It may still be in the kernel when the machine check is raised, so the
    // rows name another CPU. The tick rate is 1 Hz, so that a looping CPU is almost always in ring 3.
    let spinning = "--tick-hz 1";
    vec![
        row("in-ring-3-of-cpu-0", &format!("--smp 2 {spinning}"), 0, "spin: all others loop", "spin", 3),
        row("in-ring-3-of-cpu-2", &format!("--smp 4 {spinning}"), 2, "spin: all others loop", "spin", 3),
        // The bank with the lower number held another error before the boot.
        row(
            "after-a-stale-one",
            &format!("--smp 3 --cmdline stale_ap=1 {spinning}"),
            1,
            "spin: all others loop",
            "spin",
            3,
        ),
        row("idle", "--smp 4", 3, "spin: the others have exited", "spin 0", 0),
        row(
            "xapic",
            &format!("--smp 3 --machine pc --cpu qemu64 {spinning}"),
            1,
            "spin: all others loop",
            "spin",
            3,
        ),
    ]
}

fn row(name: &str, options: &str, cpu: u32, cue: &str, program: &str, ring: u32) -> Case {
    // CPU, bank, status, MCG_STATUS (machine check in progress, RIP valid), address, MCi_MISC.
    let command = format!("mce {cpu} 4 {STATUS} 0x5 0x123000 0");
    case(format!("machine-check::{name}"), &format!("{options} --monitor '{cue}=>{command}'"), program)
        .status(3)
        .complains(format!(
            "CPU {cpu} panicked: machine check (#MC) in ring {ring}: bank 4, status {STATUS}, address 0x123000, \
             MCG_STATUS 0x5"
        ))
}
