//! Cases that start the kernel through boot protocols other than PVH, power off or reset the machine, or run on Bochs.

use kernel_abi::boot::COMMAND_LINE_MAX;
use machine::tree::relative;

use super::{Case, case, expect, program_path};
use crate::broken::LAST_PAGE;

/// Returns the cases. They are few, because UEFI firmware takes seconds to start.
pub fn cases() -> Vec<Case> {
    let uefi = |name: &str, options: &str, program: &str| {
        case(format!("boot::uefi-{name}"), &format!("--boot uefi {options}"), program)
    };
    let mut last_page = case("emulator::bochs-program-in-the-last-page", "--emulator bochs --smp 2", "hello");
    last_page.defect = Some(&LAST_PAGE);
    // With `--memory` the host tool would reject this size. The firmware prints a message and waits for a key; the tool
    // detects the message and ends the run.
    let mut memory = uefi(
        "too-little-memory",
        "--smp 1 --qemu-arg=-readconfig --qemu-arg=target/test-logs/uefi-memory.cfg",
        "hello",
    )
    .status(3)
    .complains("the kernel was not started: the firmware found nothing that it can start");
    memory.prepare =
        Some(|folder| output::write(folder.join("uefi-memory.cfg"), "[memory]\n  size = \"32M\"\n"));
    vec![
        memory,
        case("boot::iso", "--boot iso --smp 4", "selftest").exits_on(4),
        // Before Rust code runs, a failure is written to the exit device only if the command line requests it, which that
        // of the host tool does. With PVH it is written unless the command line requests something else.
        case("boot::iso-lacking", "--boot iso --smp 1 --cpu max,-nx", "hello")
            .status(3)
            .complains("CPU 0 panicked: this CPU lacks NX"),
        lacking_stay("iso-lacking-stay", "--boot iso"),
        lacking_stay("pvh-lacking-stay", ""),
        // GRUB loads the program's file as a module and joins the arguments to the command line.
        case(
            "boot::iso-module",
            "--boot iso --smp 1",
            &format!("{} a 'b c' 'x\"y' \"it's\"", relative(&program_path("args")).display()),
        )
        .exits_on(1)
        .shows("argv[2]=<b c>")
        .shows(r#"argv[3]=<x\"y>"#)
        .shows(r"argv[4]=<it\'s>"),
        // The kernel powers the machine off after its verdict. With -no-shutdown QEMU then pauses the machine. A reset
        // would not cause a pause.
        case("boot::power-off", "--smp 2 --cmdline verdict=poweroff --qemu-arg=-no-shutdown", "hello")
            .status(5)
            .shows("hello from ring 3 on cpu 1")
            .complains("its run state is \"shutdown\""),
        case("boot::reboot", "--smp 2 --cmdline verdict=reboot", "hello")
            .status(3)
            .shows("hello from ring 3 on cpu 1")
            .complains("the guest was reset"),
        // CPUID reports the TSC frequency of the modelled CPU, not that of Bochs's TSC.
        case("emulator::bochs-intel", "--emulator bochs --smp 2", "selftest")
            .exits_on(2)
            .complains(" kHz by the HPET, but 1497600 kHz by CPUID leaf 0x15; continuing with the first"),
        case("emulator::bochs-amd", "--emulator bochs --smp 2 --cpu ryzen", "fault sysenter 1")
            .status(1)
            .exits_on(1)
            .killed_on(1, "#GP"),
        // If the kernel accepted this program, only an emulator that checks the target of `sysretq` would show the
        // effect.
        last_page.status(1).killed_on(2, "cannot load: "),
        case("emulator::bochs-panic", "--emulator bochs --smp 2 --cmdline panic_cpu=1", "hello")
            .status(3)
            .complains("CPU 1 panicked: requested by panic_cpu=1"),
        case("boot::iso-empty-argument", "--boot iso --smp 1", "args ''")
            .status(2)
            .complains("GRUB cannot pass \"\""),
        uefi("smp-4", "--smp 4", "selftest")
            .exits_on(4)
            .shows("[loader] ringside: starting the kernel at 0x200000"),
        // A machine without x2APIC, with another CPU model and the other chipset.
        uefi("xapic-pc", "--smp 3 --machine pc --cpu qemu64 --dump-cpus", "selftest").exits_on(3),
        // The loader reads the command line and the program from files on its partition.
        uefi("own-program", "--smp 2", &format!("{} a 'b c'", relative(&program_path("args")).display()))
            .exits_on(2)
            .shows("[loader] ringside: starting the kernel")
            .shows("b c"),
        // The host tool adds `verdict=exit`.
        uefi("longest-command-line", "--smp 1", &format!("args {}", "b".repeat(COMMAND_LINE_MAX - 29)))
            .exits_on(1)
            .demand(|finished| {
                // Once in QEMU's command line, and once from the program.
                let (sent, all) = (finished.stdout.matches('b').count(), 2 * (COMMAND_LINE_MAX - 29));
                if sent >= all { Ok(()) } else { Err(format!("only {sent} of {all} bytes are shown")) }
            }),
        uefi("bad-command-line", "--smp 1 --cmdline colour=blue", "hello").status(2).complains("colour"),
        // The kernel's symbols name the functions, as with PVH.
        uefi("panic", "--smp 2 --cmdline panic_cpu=1", "hello")
            .status(3)
            .complains("CPU 1 panicked")
            .shows("backtrace"),
        uefi("trace", "--smp 2 --trace all --trace-out target/test-logs/boot-uefi.rtrace", "hello")
            .demand(|finished| expect(finished.json["outcome"].as_str(), Some("pass"), "outcome")),
        // A disk image, with the program and its arguments in files.
        case(
            "boot::image",
            "--boot image --smp 2",
            &format!("{} a 'b c'", relative(&program_path("args")).display()),
        )
        .exits_on(2)
        .shows("[loader] ringside: starting the kernel")
        .shows("b c"),
        // Without ACPI tables, only the runtime services of the firmware can power the machine off. They get the FPU's
        // control words that their calling convention requires, not those of the last program.
        uefi(
            "power-off",
            "--smp 2 --cmdline 'verdict=poweroff firmware_fault=no-rsdp' --qemu-arg=-no-shutdown",
            "probe fpu",
        )
        .status(5)
        .exits_on(1)
        .demand(|finished| {
            // The host tool prints the registers of a paused machine, CPU 0 first.
            let first = finished.stderr.lines().find(|line| line.starts_with("FCW="));
            let (fcw, mxcsr) = first.and_then(|line| line.split_once(' ')).unwrap_or_default();
            let mxcsr = mxcsr.split("MXCSR=").nth(1);
            expect((fcw, mxcsr), ("FCW=037f", Some("00001f80")), "FPU control words")
        })
        .complains("its run state is \"shutdown\""),
        uefi("reboot", "--smp 4 --cmdline verdict=reboot", "hello")
            .status(3)
            .shows("hello from ring 3 on cpu 3")
            .complains("the guest was reset"),
        uefi("no-firmware", "--firmware /nonexistent", "hello").status(5).complains("/nonexistent"),
    ]
}

/// A failure before Rust code runs, with `verdict=stay`. When the kernel has printed its verdict, the host tool stops the
/// machine. If the kernel wrote to the exit device, QEMU would end instead.
fn lacking_stay(name: &str, boot: &str) -> Case {
    let options = "--smp 1 --cpu max,-nx --cmdline verdict=stay --monitor 'ringside verdict=>stop'";
    case(format!("boot::{name}"), &format!("{boot} {options}"), "hello")
        .status(5)
        .shows("kernel panic on CPU 0: this CPU lacks NX")
        .complains("its run state is \"paused\"")
}
