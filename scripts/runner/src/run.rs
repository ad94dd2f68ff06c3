//! The subcommand `run`: builds the kernel, boots it, shows the console, and determines the outcome of the run.

use std::ffi::OsString;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use machine::code::Code;
use machine::error::Error;
use machine::facts::{Facts, Line};
use machine::guest_memory::GuestMemory;
use machine::programs;
use machine::programs::Program;
use machine::qemu::{Machine, Wiring};
use machine::quoting::shell_quoted;
use machine::serial_ports::{SerialLogs, cpus};
use machine::session::{Cue, SessionResult};
use machine::tree::shown as shown_path;
use machine::verify::{Ending, Judgement, Outcome, judge};
use machine::{build, cmdline, report, session};
use output::{eprint, eprintln, print, printable_lines};

use crate::bochs;
use crate::many_cpus;
use crate::options::{Emulator, RunOptions, TraceMode, TraceVia};
use crate::qemu_text::collapsed;
use crate::recording;
use crate::recording::Recording;
use crate::screen::Screen;

/// The words after the command's name in its usage line.
pub const WORDS: &str = "[OPTIONS] [PROGRAM [ARGS...]]";
/// The command's description in one sentence.
pub const ABOUT: &str = "Builds everything, boots it under QEMU, and reports how the run ended";
/// The command's description for `--help`, with the exit statuses.
pub const LONG_ABOUT: &str = "Builds everything, boots it under QEMU, and reports how the run ended.\n\n\
    Exit status: 0: every CPU's program exited with code 0; 1: a program failed or was killed; 2: usage error; 3: kernel \
    panic or violated invariant; 4: time limit exceeded; 5: host failure (failed build, missing QEMU).";

/// Returns the default time limit of a run, in seconds; 0 means no limit.
pub fn default_timeout(options: &RunOptions) -> u64 {
    let machine = &options.machine;
    let seconds = 60 + machine.boot.firmware_seconds() + many_cpus::more_seconds(cpus(&machine.smp));
    if options.gdb { 0 } else { seconds }
}

/// Executes a run and returns its exit status. Writes JSON if requested, even after an error.
pub fn run(options: &RunOptions) -> Result<ExitCode, Error> {
    if options.list {
        print!("{}", programs::list(&programs::embedded()?));
        return Ok(ExitCode::SUCCESS);
    }
    attempt(options).inspect_err(|error| {
        let judgement =
            Judgement { outcome: error.outcome(), errors: vec![error.to_string()], warnings: Vec::new() };
        error.outcome().and_written(write_json(options, judgement, &Facts::default(), &[], Duration::ZERO));
    })
}

/// The program, the command line and the kernel of a run, derived from the user's options.
pub struct Plan {
    /// The program that the CPUs run; `None` selects the kernel's default.
    pub program: Option<Program>,
    /// The kernel's command line.
    pub cmdline: String,
    /// The kernel's ELF file.
    pub kernel: PathBuf,
}

impl Plan {
    /// Resolves the program and brings the build up to date.
    pub fn make(options: &RunOptions) -> Result<Plan, Error> {
        let (program, arguments) = match options.words.split_first() {
            Some((word, arguments)) => (Some(programs::resolve(word, &programs::embedded()?)?), arguments),
            None => (None, [].as_slice()),
        };
        let kernel = match &options.kernel {
            Some(kernel) => kernel.clone(),
            None if options.as_built => build::kernel_path(),
            None => build::everything(options.show())?.kernel,
        };
        let machine = &options.machine;
        let kernel = build::bootable(machine.boot, kernel, options.as_built)?;
        let name = program.as_ref().map(Program::name);
        let serial = machine.serial_dir.as_ref().map(|_| "serial=percpu");
        let trace = options.trace.as_ref().map(|kinds| match options.trace_mode {
            TraceMode::Flight => format!("trace={kinds}"),
            TraceMode::Stream => format!("trace={kinds} trace_mode=stream"),
        });
        let dump = options.dump_cpus.then_some("dump_cpus=yes");
        let via =
            trace.as_ref().filter(|_| options.trace_via == TraceVia::Serial).map(|_| "trace_via=serial");
        let repeat = options.repeat.map(|rounds| format!("repeat={rounds}"));
        let keys = [serial, repeat.as_deref(), trace.as_deref(), via, dump, machine.cmdline.as_deref()]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(" ");
        let keys = Some(keys.as_str()).filter(|keys| !keys.is_empty());
        let has_rate = keys.is_some_and(|keys| cmdline::value(keys, "tick_hz").is_some());
        let default_rate = if has_rate { None } else { many_cpus::tick_hz(cpus(&machine.smp)) };
        let cmdline = cmdline::compose(name, machine.tick_hz.or(default_rate), keys, arguments);
        Ok(Plan { program, cmdline, kernel })
    }

    /// Returns the machine that runs this plan.
    pub fn machine<'a>(&'a self, options: &'a RunOptions, gdb_port: Option<u16>) -> Machine<'a> {
        Machine {
            options: &options.machine,
            kernel: &self.kernel,
            module: match &self.program {
                Some(Program::File(path, _)) => Some(path),
                _ => None,
            },
            cmdline: &self.cmdline,
            gdb_port,
        }
    }
}

fn attempt(options: &RunOptions) -> Result<ExitCode, Error> {
    let plan = Plan::make(options)?;
    if options.emulator == Emulator::Bochs {
        return bochs::run(options, &plan);
    }
    let gdb_port = if options.gdb { Some(free_port()?) } else { None };
    let machine = plan.machine(options, gdb_port);
    let shown = machine.command_line(Wiring::Terminal)?;
    let mut screen = Screen::new(options, Code::of_command(&shown))?;
    screen.print(&shell_quoted(&shown));
    if let Some(port) = gdb_port {
        screen.print(&format!(
            "the machine is stopped; attach gdb with: gdb {} -ex 'target remote 127.0.0.1:{port}'",
            shell_quoted(&[shown_path(&plan.kernel).into()])
        ));
    }
    let seconds = options.timeout.unwrap_or_else(|| default_timeout(options));
    let limit = (seconds != 0).then(|| Duration::from_secs(seconds));
    let mut facts = Facts::default();
    let mut verdict_time = None;
    let mut last = Duration::ZERO;
    let create = |folder| SerialLogs::create(folder, cpus(&options.machine.smp));
    let mut serial_logs = options.machine.serial_dir.as_deref().map(create).transpose()?;
    let memory = match GuestMemory::create(&options.machine) {
        // Only a trace requires the memory to be a file.
        Err(_) if options.trace.is_none() => None,
        memory => memory?,
    };
    let recording = Recording::start(options, &shown, memory.as_ref())?;
    let mut mapped = memory.as_ref();
    let ended = loop {
        let words = machine.command_line(Wiring::Session)?;
        let words = mapped.map_or(words.clone(), |memory| memory.wire(words));
        let words = match &serial_logs {
            Some(logs) => logs.wire(words),
            None => words,
        };
        let ended = session::run(&words, limit, &options.monitor, |line, time| {
            let seen = facts.take(line);
            screen.print_console(line, &seen);
            if let Some(logs) = &mut serial_logs {
                logs.take(line);
            }
            if !facts.verdicts.is_empty() {
                verdict_time.get_or_insert(time);
            }
            last = time;
        })?;
        // If QEMU cannot use the file, for example because it runs in a container, start it without the file.
        let rejected = facts.lines == 0 && ended.ending == Ending::Status(1);
        if !rejected || recording.is_some() || mapped.take().is_none() {
            break ended;
        }
    };
    screen.code().add_kill_locations(&mut facts);
    let mut judgement = judgement(&ended, &facts);
    facts.incomplete =
        mapped.filter(|_| judgement.outcome.is_early()).map_or(Vec::new(), GuestMemory::incomplete_lines);
    facts.incomplete.iter().for_each(|line| screen.print_console(&line.line(), &Line::Text));
    for lost in [screen.finish_log(), serial_logs.map_or(Ok(()), SerialLogs::finish)] {
        if let Err(error) = lost {
            judgement.add_host_error(error.to_string());
        }
    }
    screen.print_results(&judgement, &facts, verdict_time);
    eprint!("{}", ended.monitor_output);
    for cue in &ended.cues_left {
        let Cue { text, command } = cue;
        match text.is_empty() {
            true => eprintln!(
                "{command:?} was not run in QEMU's monitor: the run ended without a pause or a timeout"
            ),
            false => {
                eprintln!("{command:?} was not run in QEMU's monitor: {text:?} did not appear on the console")
            }
        }
    }
    if let Some(registers) = &ended.registers {
        eprint!("{}", screen.code().named_registers(registers));
    }
    screen.print_problems(&judgement, ended.stderr.trim_end());
    let captured = match recording {
        Some(recording) => Some(recording.finish()),
        None if options.trace.is_some() => Some(recording::from_console(options, &facts.trace, &shown)),
        None => None,
    };
    if let Some(captured) = captured {
        let captured = captured.and_then(|summary| {
            screen.print(&recording::describe(&summary));
            recording::damage(&summary).map_or(Ok(()), Err)
        });
        match captured {
            Ok(()) => {}
            Err(error) => {
                eprintln!("error: {}", printable_lines(&error.to_string()));
                // A run that failed may have ended before it created trace rings.
                if judgement.outcome == Outcome::Pass {
                    judgement.add_host_error(error.to_string());
                }
            }
        }
    }
    let time = verdict_time.unwrap_or(last);
    let outcome = judgement.outcome;
    Ok(outcome.and_written(write_json(options, judgement, &facts, &shown, time)).exit_code())
}

/// Determines the outcome of a run, and adds QEMU's own messages to the errors if QEMU failed.
pub fn judgement(ended: &SessionResult, facts: &Facts) -> Judgement {
    let mut judgement = judge(ended.ending, facts);
    let stderr = ended.stderr.trim_end();
    if judgement.outcome == Outcome::Host && !stderr.is_empty() {
        judgement.errors.push(format!("QEMU printed: {}", collapsed(stderr)));
        if stderr.contains("Bad icount read") {
            judgement.errors.push("with --icount the CPU model must not have x2APIC".to_owned());
        }
    }
    judgement
}

/// Returns a free TCP port: gdb's usual port 1234 if it is free.
pub fn free_port() -> Result<u16, Error> {
    let listener = TcpListener::bind(("127.0.0.1", 1234)).or_else(|_| TcpListener::bind(("127.0.0.1", 0)));
    let port = listener.and_then(|listener| listener.local_addr()).map(|address| address.port());
    port.map_err(|error| Error::File("cannot find a free TCP port for gdb".to_owned(), error))
}

/// Writes the results, including errors of the other outputs.
pub fn write_json(
    options: &RunOptions,
    mut judgement: Judgement,
    facts: &Facts,
    qemu: &[OsString],
    time: Duration,
) -> Result<(), Error> {
    let Some(path) = &options.json else { return Ok(()) };
    // Add the errors of the standard streams. `main` prints them and adjusts the exit status.
    output::lost().into_iter().for_each(|lost| judgement.add_host_error(lost));
    let text = format!("{:#}\n", report::json(&judgement, facts, qemu, time));
    output::write(path, text).map_err(|error| Error::file("write", path, error))
}
