//! Cases for the host tool itself: time limits, a missing QEMU, the printed QEMU command line, gdb.

use kernel_abi::verdict::Verdict;

use super::{Case, Finished, case, shell};

/// Returns the cases.
pub fn cases() -> Vec<Case> {
    let mut gdb = case(
        "tool::gdb-sees-every-cpu",
        "--smp 3 --ex 'info threads' --ex continue --ex backtrace --ex kill",
        "hello",
    );
    gdb.subcommand = "gdb";
    let firmware = "--smp 1 --qemu-arg=-bios --qemu-arg=target/test-logs/reset.bin";
    let mut reset = case("tool::guest-reset", firmware, "hello");
    reset.prepare = Some(|folder| output::write(folder.join("reset.bin"), resetting_firmware()));
    vec![
        case("tool::time-out-of-spin", "--smp 4 --timeout 5", "spin")
            .status(4)
            .demand(all_registers)
            // The function that each CPU executes.
            .complains(" (user/src/bin/spin.rs:"),
        case("tool::paused-by-qemu", "--smp 2 --monitor 'all others loop=>stop'", "spin")
            .status(5)
            .complains("QEMU paused the machine; its run state is \"paused\"")
            .complains("\nCPU#1\n"),
        case("tool::no-qemu", "--qemu /nonexistent", "hello")
            .status(5)
            .complains("cannot start /nonexistent"),
        case("tool::qemu-refuses", "--machine no-such-machine", "hello")
            .status(5)
            .complains("no-such-machine"),
        case("tool::machine-type-without-pvh", "--machine pc-q35-3.1", "hello")
            .status(2)
            .complains("machine types before 4.0 cannot start the kernel"),
        case("tool::too-little-memory", "--memory 2M", "hello").status(2).complains("at least 4 MiB"),
        case("tool::unknown-program", "", "no-such-program").status(2).complains("selftest"),
        case("tool::pasted-command-line", "--smp 2", "hello 'a b' '\"'").demand(runs_in_a_shell),
        // After a guest reset, QEMU exits with status 0, as after a normal shutdown.
        reset.status(3).complains("the guest was reset"),
        gdb.shows("Thread 1.3").shows("bsp_main ("),
    ]
}

fn all_registers(finished: &Finished) -> Result<(), String> {
    (0..4).try_for_each(|cpu| finished.has(&finished.stderr, &format!("\nCPU#{cpu}\n")))?;
    super::expect(finished.stderr.matches("RIP=").count(), 4, "CPUs whose RIP is shown")
}

fn runs_in_a_shell(finished: &Finished) -> Result<(), String> {
    let output = shell(finished.pasteable())?;
    super::expect(output.status.code(), Some(Verdict::Pass.qemu_status()), "QEMU's exit status in a shell")
}

/// Returns 64 KiB of firmware whose first instructions, at the reset vector, reset the machine.
fn resetting_firmware() -> Vec<u8> {
    // mov dx, 0xcf9; mov al, 6; out dx, al; hlt
    const CODE: [u8; 7] = [0xba, 0xf9, 0x0c, 0xb0, 0x06, 0xee, 0xf4];
    let mut image = vec![0; 0x1_0000];
    image[0xfff0..0xfff7].copy_from_slice(&CODE);
    image
}
