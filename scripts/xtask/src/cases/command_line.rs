//! Cases with invalid kernel command lines. The kernel rejects each with a message that names the key.

use std::io;
use std::path::Path;

use kernel_abi::boot::COMMAND_LINE_MAX;

use super::{Case, Finished, case, expect, shell};

/// The text before the argument in the kernel's command line of `run args ARGUMENT`.
const BEFORE: &str = "program=args -- ";
/// The longest such argument, in bytes.
const ARGUMENT_MAX: usize = COMMAND_LINE_MAX - BEFORE.len();

/// Returns the cases.
pub fn cases() -> Vec<Case> {
    let row = |name: &str, text: &str| {
        let option = shlex::try_quote(text).map_or_else(|_| String::new(), |word| word.into_owned());
        case(format!("cmdline::{name}"), &format!("--quiet --smp 2 --cmdline {option}"), "")
            .status(2)
            .complains("error: the kernel rejected its command line: ")
            .demand(reason_is_in_the_json)
    };
    vec![
        row("unknown-key", "colour=blue").complains("colour"),
        row("no-value", "tick_hz").complains("tick_hz"),
        row("bad-number", "tick_hz=fast").complains("tick_hz"),
        row("tick-0-hz", "tick_hz=0").complains("tick_hz"),
        row("tick-too-fast", "tick_hz=10001").complains("tick_hz"),
        row("repeat-0-times", "repeat=0").complains("repeat= takes a number from 1 to 1000000000"),
        row("deaths-unknown-value", "deaths=ignore").complains("deaths= takes 'end' or 'go-on'"),
        row("twice", "tick_hz=10 tick_hz=20").complains("tick_hz"),
        // The kernel must reject a failure that cannot be injected: otherwise its test would pass without it, or the
        // run would hang.
        row("failure-of-an-absent-cpu", "lose_ap=1 panic_cpu=1").complains("panic_cpu=1: 1 CPU came online"),
        row("console-held-by-nobody", "lose_ap=1 panic_cpu=0 fail_in=console-held")
            .complains("fail_in=console-held: needs 2 CPUs online, but only 1 is")
            .waits(),
        row("console-held-with-two-failing-cpus", "panic_cpu=0 overflow_cpu=1 fail_in=console-held")
            .complains("fail_in=console-held needs exactly one failing CPU"),
        row("floor-of-another-program", "floor=1")
            .complains("floor= is for measurements and needs program=lengths, not 'selftest'"),
        // If nothing prevents a violation, the violation has no effect that a test could check.
        row("breach-without-smap", "without=smap breach=read-user")
            .complains("breach=read-user: needs SMAP, which without= leaves unused"),
        row("breach-without-smep", "without=smap,smep breach=run-user")
            .complains("breach=run-user: needs SMEP, which without= leaves unused"),
        case("cmdline::breach-on-a-cpu-without-smap", "--cpu qemu64 --cmdline breach=read-user", "hello")
            .status(2)
            .complains("breach=read-user: needs SMAP, which the CPU lacks"),
        row("without-a-required-feature", "without=smap,sse2").complains(
            "without=sse2: the kernel cannot do without this feature; without= takes words from smep",
        ),
        // With APIC ids above 254, SeaBIOS leaves x2APIC mode on.
        case(
            "cmdline::without-x2apic-after-the-firmware",
            "--smp 2,sockets=3,cores=128,maxcpus=384 --memory 512M --cmdline without=x2apic",
            "hello",
        )
        .with_x2apic()
        .status(2)
        .complains("without=x2apic: the firmware left the local APIC in x2APIC mode"),
        row("cycle-of-one-cpu", "lose_ap=1 cycle=1").complains("cycle=1: needs 2 CPUs online, but only 1 is"),
        row("cycle-with-nmis", "cycle=1 nmi_storm=1").complains("cannot be combined"),
        row("open-quote", "program=\"hello"),
        // The longest line that QEMU passes. The program must receive all of its bytes.
        case("cmdline::longest", "--smp 1", &format!("args {}", "b".repeat(ARGUMENT_MAX)))
            .demand(all_arrived),
        case("cmdline::too-long", "--smp 1", &format!("args {}", "b".repeat(ARGUMENT_MAX + 1)))
            .status(2)
            .complains("command line has 4096 bytes, but QEMU passes at most 4095"),
        passed_to_qemu("truncated", ARGUMENT_MAX + 1)
            .status(2)
            .shows("command line: it has more than 4095 bytes"),
        // QEMU overwrites its start info with the rest of the line.
        passed_to_qemu("too-long-overwrites-start-info", ARGUMENT_MAX + 100)
            .status(3)
            .complains("the loader's start info is not valid; a command line of more than 4095 bytes"),
        unmapped("memory map", |folder| over_the_start_info(folder, "memory-map", START_INFO_LISTS)),
        unmapped("module list", |folder| over_the_start_info(folder, "module-list", START_INFO_MODULES)),
    ]
}

/// Checks that the errors in the JSON contain the kernel's reason.
fn reason_is_in_the_json(finished: &Finished) -> Result<(), String> {
    let error = finished.json["errors"][0].as_str().unwrap_or("");
    finished.has(&finished.stderr, &format!("error: {error}\n"))?;
    finished.has(error, "the kernel rejected its command line: ")
}

/// A line that is passed to QEMU as a property of the machine. The host tool rejects a long line in `-append`.
fn passed_to_qemu(name: &str, argument: usize) -> Case {
    let line = format!("--qemu-arg='append={BEFORE}{}'", "b".repeat(argument));
    case(format!("cmdline::{name}"), &format!("--smp 1 --qemu-arg=-machine {line}"), "hello")
}

/// A line with which QEMU overwrites its start info, so that the address of a list in the start info is above 4 GiB.
fn unmapped(list: &str, prepare: fn(&Path) -> io::Result<()>) -> Case {
    let name = list.replace(' ', "-");
    let mut case = case(
        format!("cmdline::{name}-above-4-gib"),
        &format!("--smp 1 --qemu target/test-logs/cmdline-{name}-qemu"),
        "hello",
    );
    case.prepare = Some(prepare);
    case.status(3).complains(format!("the loader's {list} does not lie completely below 4 GiB"))
}

/// The distance from the command line to the start info in QEMU's memory, in bytes.
const START_INFO: usize = 4096 + 32;
/// The number of bytes of the start info up to and including the address of the module list, after the magic number.
/// The number of modules is one of these bytes.
const START_INFO_MODULES: usize = 20;
/// The number of bytes up to and including the address of the memory map.
const START_INFO_LISTS: usize = 44;

/// Writes a script that starts QEMU with a command line that continues with a start info. The fields of the start info
/// are not 0, because a command line cannot contain a zero byte. A shell writes the script, because the line is not
/// UTF-8.
fn over_the_start_info(folder: &Path, name: &str, fields: usize) -> io::Result<()> {
    let magic = r"\170\305\156\063";
    let fields = r"\001".repeat(fields);
    let script = format!(
        "#!/bin/sh\nline=$(printf '%0{START_INFO}d{magic}{fields}' 0)\n\
         exec \"${{RINGSIDE_QEMU:-qemu-system-x86_64}}\" \"$@\" -machine append=\"$line\"\n"
    );
    let path = folder.join(format!("cmdline-{name}-qemu"));
    let command = format!("cat >'{0}' <<'END' && chmod 755 '{0}'\n{script}END", path.display());
    match shell(&command).map_err(io::Error::other)? {
        output if output.status.success() => Ok(()),
        output => Err(io::Error::other(String::from_utf8_lossy(&output.stderr))),
    }
}

/// Checks that the program has printed each byte of the longest argument.
fn all_arrived(finished: &Finished) -> Result<(), String> {
    let printed =
        finished.stdout.lines().filter(|line| line.starts_with("[cpu0] ") && !line.contains("] ringside: "));
    let bytes = printed.flat_map(str::bytes).filter(|&byte| byte == b'b').count();
    expect(bytes, ARGUMENT_MAX, "bytes of the argument")
}
