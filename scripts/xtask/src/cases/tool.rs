//! Cases for the host tool itself: time limits, a missing QEMU, the printed QEMU command line, gdb.

use std::ops::Range;
use std::os::unix::fs::PermissionsExt;

use kernel_abi::verdict::Verdict;
use machine::tree::root;

use super::{Case, Finished, case, shell};

/// Returns the cases.
pub fn cases() -> Vec<Case> {
    let gdb = |name: &str| {
        let options = "--smp 3 --ex 'info threads' --ex continue --ex backtrace --ex kill";
        let mut gdb = case(format!("tool::{name}"), options, "hello").shows("Thread 1.3").shows("bsp_main (");
        gdb.subcommand = "gdb";
        gdb
    };
    let mut other_settings = gdb("gdb-with-user-settings");
    // gdb reads this file before ~/.gdbinit.
    other_settings.variable = Some(("XDG_CONFIG_HOME", root().join("target/test-logs/config")));
    other_settings.prepare = Some(|folder| {
        std::fs::create_dir_all(folder.join("config/gdb"))?;
        output::write(folder.join("config/gdb/gdbinit"), GDBINIT)
    });
    let firmware = "--smp 1 --qemu-arg=-bios --qemu-arg=target/test-logs/reset.bin";
    let mut reset = case("tool::guest-reset", firmware, "hello");
    reset.prepare = Some(|folder| output::write(folder.join("reset.bin"), resetting_firmware()));
    let mut killed =
        case("tool::partial-lines-after-a-kill", "--smp 3 --qemu target/test-logs/killed-qemu", "spin");
    killed.prepare = Some(|folder| {
        let path = folder.join("killed-qemu");
        output::write(&path, KILLED_QEMU)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))
    });
    vec![
        partial_lines(case("tool::time-out-of-spin", "--smp 4 --timeout 6", "spin"), 0..4)
            .status(4)
            .demand(all_registers)
            // The function that each CPU executes.
            .complains(" (user/src/bin/spin.rs:"),
        case("tool::paused-by-qemu", "--smp 2 --monitor 'all others loop=>stop'", "spin")
            .status(5)
            .complains("QEMU paused the machine; its run state is \"paused\"")
            .complains("\nCPU#1\n"),
        partial_lines(case("tool::partial-lines-after-a-panic", &format!("--smp 3 {PANIC}"), "spin"), 0..2)
            .status(3),
        partial_lines(
            case(
                "tool::partial-lines-after-a-reset",
                "--smp 3 --monitor 'all others loop=>system_reset'",
                "spin",
            ),
            0..2,
        )
        .status(3),
        partial_lines(killed, 0..2).status(5).complains("signal 9"),
        case("tool::no-qemu", "--qemu /nonexistent", "hello")
            .status(5)
            .complains("cannot start /nonexistent"),
        case("tool::qemu-refuses", "--machine no-such-machine", "hello")
            .status(5)
            .complains("unsupported machine type"),
        case("tool::machine-type-without-pvh", "--machine pc-q35-3.1", "hello")
            .status(2)
            .complains("machine types before 4.0 cannot start the kernel"),
        case("tool::too-little-memory", "--memory 2M", "hello").status(2).complains("at least 4 MiB"),
        case("tool::unknown-program", "", "no-such-program").status(2).complains("selftest"),
        case("tool::pasted-command-line", "--smp 2", "hello 'a b' '\"'").demand(runs_in_a_shell),
        // After a guest reset, QEMU exits with status 0, as after a normal shutdown.
        reset.status(3).complains("the guest was reset"),
        gdb("gdb-sees-every-cpu"),
        other_settings,
    ]
}

/// Settings of another project, each of which prevents gdb from attaching or from stopping in `bsp_main`.
const GDBINIT: &str = "set architecture i386\nset endian big\nset osabi none\nset non-stop on\nset confirm on\n\
    set pagination on\nset disassembly-flavor intel\nset remotetimeout 0\nset remote Z-packet off\n\
    set remote hardware-breakpoint-limit 0\n";

/// A machine check on CPU 1 while all CPUs loop.
const PANIC: &str = "--monitor 'all others loop=>mce 1 4 0xb600000000000136 0x5 0x1000 0'";

/// A QEMU that is killed when all CPUs loop. The process that kills it does not keep the console open.
const KILLED_QEMU: &str = r#"#!/bin/sh
log=target/test-logs/tool-partial-lines-after-a-kill.console
(until grep -q 'all others loop' $log; do kill -0 $$ || exit; sleep 0.1; done; kill -KILL $$) >/dev/null 2>&1 &
exec "${RINGSIDE_QEMU:-qemu-system-x86_64}" "$@"
"#;

/// Requires the incomplete lines of the program `spin` on these CPUs, on the screen, in the log and in the JSON.
fn partial_lines(case: Case, cpus: Range<u32>) -> Case {
    cpus.fold(case, |case, cpu| {
        let text = format!("spin: cpu {cpu} loops ... ");
        let mut case = case.shows(format!("\n[cpu{cpu}, partial] {text}\n"));
        let name = super::file_name(&case.name);
        case.demands.push(Box::new(move |finished| {
            let path = root().join(format!("target/test-logs/{name}.console"));
            let log =
                std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            finished.has(&log, &format!("\n[cpu{cpu}, partial] {text}\n"))?;
            let lines = finished.json["begun"].as_array().map_or(&[][..], Vec::as_slice);
            let found = lines.iter().any(|line| line["cpu"] == cpu && line["text"] == *text);
            if found { Ok(()) } else { Err(format!("the JSON lacks {text:?}: {lines:?}")) }
        }));
        case
    })
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
