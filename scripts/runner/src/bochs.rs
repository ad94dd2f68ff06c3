//! The subcommand `run` with `--emulator bochs`.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use machine::bochs::Bochs;
use machine::code::Code;
use machine::error::Error;
use machine::facts::Facts;
use machine::iso::Contents;
use machine::quoting::shell_quoted;
use machine::session;
use machine::verify::{Outcome, judge};
use output::eprint;

use crate::options::{RunOptions, TraceVia};
use crate::recording;
use crate::run::{Plan, default_timeout, write_json};
use crate::screen::Screen;

/// Runs the plan on Bochs, and determines the outcome as for a run on QEMU.
pub fn run(options: &RunOptions, plan: &Plan) -> Result<ExitCode, Error> {
    let only_qemu = [
        ("--gdb", options.gdb),
        ("--monitor", !options.monitor.is_empty()),
        ("--trace without --trace-via serial", options.trace.is_some() && options.trace_via == TraceVia::Ram),
    ];
    if let Some((name, _)) = only_qemu.into_iter().find(|(_, given)| *given) {
        return Err(Error::Usage(format!(
            "{name} needs QEMU: Bochs has no monitor, and the host cannot map the memory of its guest"
        )));
    }
    let machine = plan.machine(options, None);
    let contents = Contents { kernel: machine.kernel, module: machine.module, cmdline: machine.cmdline };
    let bochs = Bochs::prepare(&options.machine, contents)?;
    let words = bochs.words();
    let mut screen = Screen::new(options, code(contents))?;
    screen.print(&shell_quoted(words));

    let seconds = options.timeout.unwrap_or_else(|| default_timeout(options));
    let limit = (seconds != 0).then(|| Duration::from_secs(seconds));
    let (mut facts, mut verdict_time, mut last) = (Facts::default(), None, Duration::ZERO);
    let ended = session::run(words, limit, &[], |line, time| {
        let seen = facts.take(line);
        screen.print_console(line, &seen);
        if !facts.verdicts.is_empty() {
            verdict_time.get_or_insert(time);
        }
        last = time;
    })?;
    screen.code().add_kill_locations(&mut facts);
    let ending = bochs.ending(ended.ending, &facts)?;
    let mut judgement = judge(ending, &facts);
    if let Err(error) = screen.finish_log() {
        judgement.add_host_error(error.to_string());
    }
    screen.print_results(&judgement, &facts, verdict_time);
    if judgement.outcome == Outcome::Panic && facts.panics.is_empty() {
        eprint!("{}\n", bochs.registers());
    }
    screen.print_problems(&judgement, ended.stderr.trim_end());
    if options.trace.is_some() {
        let summary = recording::from_console(options, &facts.trace, words)?;
        screen.print(&recording::describe(&summary));
    }
    let outcome = judgement.outcome;
    let written = write_json(options, judgement, &facts, words, verdict_time.unwrap_or(last));
    Ok(outcome.and_written(written).exit_code())
}

/// Returns the code of the run.
fn code(contents: Contents<'_>) -> Code {
    let mut words: Vec<OsString> = vec!["-kernel".into(), contents.kernel.into()];
    words.extend(["-append".into(), contents.cmdline.into()]);
    words.extend(contents.module.into_iter().flat_map(|module| ["-initrd".into(), module.into()]));
    Code::of_command(&words)
}
