//! Cases that trace real runs: the trace is read from memory, from the console, and by other tools.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use kernel_abi::syscall::TABLE_LEN;
use machine::build::kernel_path;

use super::trace_readers::{self as compare, convert};
use super::{Case, Finished, case, expect};
use crate::logs::log_folder;

/// Kinds of events that no longer occur once a trace is being sent over the console.
const SETTLED: &str = "syscall,tick,fault,program,boot,user";

/// Returns the cases.
pub fn cases() -> Vec<Case> {
    let traced = |name: &str, options: &str, program: &str| {
        let file = format!("target/test-logs/{name}.rtrace");
        let summary = format!("events in {file}, 0 dropped");
        case(format!("trace::{name}"), &format!("{options} --trace-out {file}"), program).shows(summary)
    };
    vec![
        traced("in-memory", "--smp 4 --trace all", "selftest").exits_on(4),
        traced("as-a-stream", "--smp 2 --trace program,boot --trace-mode stream", "hello").exits_on(2),
        traced("over-serial", "--smp 2 --trace program,boot --trace-via serial", "hello")
            .exits_on(2)
            .hides("@ringside")
            .demand(|_| both_programs_are_in("over-serial.rtrace")),
        // The host reads the same trace both from memory and from the console.
        traced(
            "over-serial-matches-memory",
            &format!("--smp 3 --trace {SETTLED} --cmdline 'trace_via=serial trace_records=512'"),
            "selftest",
        )
        .exits_on(3)
        .demand(the_console_has_what_memory_has),
        traced(
            "over-serial-after-a-panic",
            "--smp 2 --trace all --trace-via serial --cmdline panic_cpu=1",
            "hello",
        )
        .status(3)
        .complains("CPU 1 panicked: ")
        .demand(the_panic_is_the_end),
        traced("names-code", "--smp 2 --trace all", "fault ud2 1").status(1).demand(|_| {
            let text = text("names-code.rtrace")?;
            let named = |event: &str, source: &str| {
                let mut lines = text.lines().filter(|line| line.contains(event));
                let found = lines.any(|line| line.contains(" in ") && line.contains(source));
                if found { Ok(()) } else { Err(format!("no{event}has a place with {source:?}")) }
            };
            named(" fault vector=#UD rip=", " (user/src/bin/fault.rs:")?;
            // Ticks that interrupt the idle loop, which is in assembly.
            named(" tick ", " in ringside_idle_resume")
        }),
        traced(
            "numbers-beyond-the-table",
            "--smp 1 --trace syscall",
            "stress --calls 300 --mix bad=1,null=1 --seed 1",
        )
        .demand(numbers_are_recorded),
        traced("babeltrace2-reads-the-same", "--smp 4 --trace all", "selftest").demand(babeltrace2_agrees),
        traced("perfetto-reads-the-same", "--smp 4 --trace all", "selftest").demand(perfetto_agrees),
    ]
}

/// Returns the text of a trace that a case wrote.
fn text(name: &str) -> Result<String, String> {
    text_with(name, &[])
}

/// Like the function above, with further options.
fn text_with(name: &str, options: &[(&str, &Path)]) -> Result<String, String> {
    let path = scratch(name)?.join("text");
    convert(&log_folder().join(name), &[&[("--text", path.as_path())], options].concat())?;
    std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
}

/// Creates a directory for converted trace files.
fn scratch(name: &str) -> Result<PathBuf, String> {
    let folder = log_folder().join(name).with_extension("made");
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(folder)
}

fn both_programs_are_in(name: &str) -> Result<(), String> {
    let text = text(name)?;
    for (cpu, kind) in [(0, "program_start"), (0, "program_end"), (1, "program_start"), (1, "program_end")] {
        let event = format!("cpu{cpu} {kind} ");
        expect(text.matches(&event).count(), 1, &event)?;
    }
    Ok(())
}

fn the_console_has_what_memory_has(_: &Finished) -> Result<(), String> {
    const NAME: &str = "over-serial-matches-memory";
    // The log of the console does not have the command line, which names the ELF files.
    let kernel = kernel_path();
    let symbols = [("--symbols", kernel.as_path())];
    let memory = text_with(&format!("{NAME}.rtrace"), &symbols)?;
    // The trace that the tool extracts from the console log.
    let console = text_with(&format!("trace-{NAME}.console"), &symbols)?;
    expect(console == memory, true, "whether the trace sent over the console equals the one in memory")?;
    expect(memory.lines().count(), 3 * 512, "the number of events, which must fill the rings")
}

/// Checks that system calls with numbers beyond the table are recorded with their numbers, not with their index in the
/// table, 16. `stress` uses many different numbers.
fn numbers_are_recorded(_: &Finished) -> Result<(), String> {
    let text = text("numbers-beyond-the-table.rtrace")?;
    let numbers = |event: &str| -> BTreeSet<u64> {
        let lines = text.lines().filter_map(|line| line.split_once(event)?.1.split(' ').next());
        lines.filter_map(|number| u64::from_str_radix(number, 16).ok()).collect()
    };
    for event in [" syscall_enter number=0x", " syscall_exit number=0x"] {
        let beyond = numbers(event).range(TABLE_LEN as u64 + 1..).count();
        if beyond < 10 {
            return Err(format!(
                "only {beyond} calls beyond the table are recorded with their numbers:{event}"
            ));
        }
    }
    Ok(())
}

/// Checks that the trace contains the events before the panic, and that CPU 1's program was not started.
fn the_panic_is_the_end(_: &Finished) -> Result<(), String> {
    let text = text("over-serial-after-a-panic.rtrace")?;
    for event in ["cpu0 ipi_sent vector=INIT", "cpu1 ap_state apic_id=1 state=online"] {
        expect(text.contains(event), true, event)?;
    }
    expect(text.contains("cpu1 program_start"), false, "CPU 1 started its program")
}

fn babeltrace2_agrees(_: &Finished) -> Result<(), String> {
    const NAME: &str = "babeltrace2-reads-the-same.rtrace";
    compare::with_babeltrace2(&log_folder().join(NAME), &scratch(NAME)?).and_then(enough)
}

fn perfetto_agrees(_: &Finished) -> Result<(), String> {
    const NAME: &str = "perfetto-reads-the-same.rtrace";
    let output = compare::with_perfetto(&log_folder().join(NAME), &scratch(NAME)?)?;
    let slices = output.split(' ').next().and_then(|word| word.parse().ok());
    slices.ok_or(format!("the comparison printed {output:?}")).and_then(enough)
}

/// Checks that enough events were compared: a comparison of empty traces would find no difference.
fn enough(compared: usize) -> Result<(), String> {
    if compared > 1000 { Ok(()) } else { Err(format!("only {compared} events were compared")) }
}
