//! The QEMU cases. Each case tests one behaviour. It states the command to run, the required exit status, and further
//! requirements.

mod boot;
mod command_line;
mod cycle;
mod elf;
mod failures;
mod faults;
mod firmware;
mod guards;
mod hostile;
mod inject;
mod machine_checks;
mod machines;
mod names;
mod panics;
mod programs;
mod repeat;
mod report;
mod screen;
mod stress;
mod tool;
mod trace;
mod trace_readers;
mod uart;

pub use programs::round_trip_figure;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use machine::executable;
use machine::tree::{bare_artifacts, relative, root};
use serde_json::Value;

use crate::broken::Defect;
use crate::logs::file_name;

/// The default time limit of a case in seconds. It is long because the host may be busy.
pub const TIME_LIMIT: u32 = 120;

/// A requirement of a case beyond the exit status. The error describes how it is violated.
type Demand = Box<dyn Fn(&Finished) -> Result<(), String> + Send>;

/// A QEMU case.
pub struct Case {
    /// The name that `test` lists and filters.
    pub name: String,
    /// The kernel's cargo features that the case needs.
    pub features: &'static [&'static str],
    subcommand: &'static str,
    options: Vec<String>,
    program: Vec<String>,
    /// Creates the files that the case needs, in the log directory.
    prepare: Option<fn(&Path) -> std::io::Result<()>>,
    /// A variable of the host tool's environment, with its value.
    variable: Option<(&'static str, PathBuf)>,
    /// The defect to add to the program's file, if any.
    defect: Option<&'static Defect>,
    status: i32,
    demands: Vec<Demand>,
    /// Whether the run waits several seconds for a CPU that does not arrive. The suite runs such cases at the same
    /// time.
    pub waits: bool,
    /// The first version of QEMU that can run the case, and what earlier versions lack.
    since: Option<((u32, u32), &'static str)>,
}

/// The result of running a case.
pub struct Finished {
    /// Exit status of the host tool; `None` if it was killed by a signal.
    pub status: Option<i32>,
    /// The host tool's standard output: the QEMU command line, the console and the table of results.
    pub stdout: String,
    /// The host tool's standard error: warnings, errors and registers.
    pub stderr: String,
    /// The result as JSON.
    pub json: Value,
}

/// Returns all cases.
pub fn all() -> Vec<Case> {
    let groups = [
        machines::cases(),
        machines::lacking(),
        boot::cases(),
        programs::cases(),
        repeat::cases(),
        elf::cases(),
        faults::cases(),
        names::cases(),
        guards::cases(),
        panics::cases(),
        cycle::cases(),
        failures::cases(),
        machine_checks::cases(),
        firmware::cases(),
        uart::cases(),
        screen::cases(),
        command_line::cases(),
        inject::cases(),
        stress::cases(),
        report::cases(),
        hostile::cases(),
        trace::cases(),
        tool::cases(),
    ];
    groups.into_iter().flatten().collect()
}

/// Creates a case that runs `xtask run OPTIONS PROGRAM...` and must pass. Both strings are split into words as a shell
/// splits them.
fn case(name: impl Into<String>, options: &str, program: &str) -> Case {
    let split = |text| shlex::split(text).unwrap_or_default();
    Case {
        name: name.into(),
        features: &[],
        subcommand: "run",
        options: split(options),
        program: split(program),
        prepare: None,
        variable: None,
        defect: None,
        status: 0,
        demands: Vec::new(),
        waits: false,
        since: None,
    }
}

impl Case {
    /// Requires this exit status of the host tool instead of 0.
    fn status(mut self, status: i32) -> Case {
        self.status = status;
        self
    }

    /// Marks the case as one that waits several seconds for a CPU that does not arrive.
    fn waits(mut self) -> Case {
        self.waits = true;
        self
    }

    /// Ignores the case on versions of QEMU whose TCG has no x2APIC. They also reject APIC ids above 255.
    fn with_x2apic(self) -> Case {
        self.since((9, 0), "x2APIC under TCG")
    }

    /// Ignores the case on versions of QEMU before `first`, which do not have `what`.
    fn since(mut self, first: (u32, u32), what: &'static str) -> Case {
        self.since = Some((first, what));
        self
    }

    /// Returns why this version of QEMU cannot run the case, if it cannot.
    pub fn reason_to_ignore(&self, (major, minor): (u32, u32)) -> Option<String> {
        let (_, what) = self.since.filter(|(first, _)| (major, minor) < *first)?;
        Some(format!("QEMU {major}.{minor} has no {what}"))
    }

    /// Uses a kernel with the feature `checking`, which checks its invariants on every system call.
    fn checking(mut self) -> Case {
        self.features = &["checking"];
        self
    }

    /// Adds a requirement.
    fn demand(mut self, demand: fn(&Finished) -> Result<(), String>) -> Case {
        self.demands.push(Box::new(demand));
        self
    }

    /// Requires this text on standard output, which includes the console.
    fn shows(mut self, text: impl Into<String>) -> Case {
        let text = text.into();
        self.demands.push(Box::new(move |finished| finished.has(&finished.stdout, &text)));
        self
    }

    /// Requires that this text does not occur on standard output, which includes the console.
    fn hides(mut self, text: &'static str) -> Case {
        self.demands.push(Box::new(move |finished| match finished.has(&finished.stdout, text) {
            Ok(()) => Err(format!("{text:?} was printed")),
            Err(_) => Ok(()),
        }));
        self
    }

    /// Requires a line of standard output that begins with `start` and contains `rest`.
    fn shows_line(mut self, start: String, rest: &'static str) -> Case {
        self.demands.push(Box::new(move |finished| {
            let found = finished.stdout.lines().any(|line| line.starts_with(&start) && line.contains(rest));
            if found { Ok(()) } else { Err(format!("no line starts with {start:?} and contains {rest:?}")) }
        }));
        self
    }

    /// Requires this text on standard error.
    fn complains(mut self, text: impl Into<String>) -> Case {
        let text = text.into();
        self.demands.push(Box::new(move |finished| finished.has(&finished.stderr, &text)));
        self
    }

    /// Requires that the program exited with code 0 on `count` CPUs.
    fn exits_on(mut self, count: usize) -> Case {
        self.demands.push(Box::new(move |finished| {
            let exited = finished.cpus().iter().filter(|cpu| cpu["outcome"] == "exited" && cpu["code"] == 0);
            expect(exited.count(), count, "CPUs that exited with code 0")
        }));
        self
    }

    /// Requires that the program was killed on `count` CPUs, for a reason that contains `reason`.
    fn killed_on(mut self, count: usize, reason: impl Into<String>) -> Case {
        let reason = reason.into();
        self.demands.push(Box::new(move |finished| {
            let killed: Vec<_> = finished.cpus().iter().filter(|cpu| cpu["outcome"] == "killed").collect();
            expect(killed.len(), count, "CPUs whose program was killed")?;
            killed.iter().try_for_each(|cpu| match cpu["reason"].as_str() {
                Some(text) if text.contains(&reason) => Ok(()),
                text => Err(format!("the reason is {text:?}, which does not contain {reason:?}")),
            })
        }));
        self
    }

    /// Runs the case with a time limit in seconds. If `kernel` is given, it replaces the normal kernel. The error
    /// describes the failure and names the log and the command that repeats the case.
    pub fn run(&self, folder: &Path, kernel: Option<&Path>, time_limit: u32) -> Result<(), String> {
        let base = folder.join(file_name(&self.name));
        let log = base.with_added_extension("log");
        let program = self.program_words(&base)?;
        let shown: Vec<_> = self.options.iter().cloned().chain(program.iter().cloned()).collect();
        let tool = match self.subcommand {
            "run" => "./scripts/run.sh".to_owned(),
            other => format!("cargo xtask {other}"),
        };
        let replay =
            format!("{tool} {}", shlex::try_join(shown.iter().map(String::as_str)).unwrap_or_default());
        if let Some(prepare) = self.prepare {
            prepare(folder).map_err(|error| format!("cannot prepare the case: {error}"))?;
        }
        let finished = self.start(&base, &program, kernel, time_limit)?;
        let raw = std::fs::read(base.with_added_extension("console")).unwrap_or_default();
        let text = format!(
            "$ {replay}\n{}\n--- standard error\n{}\n--- console, unchanged\n{}\n--- facts\n{:#}\n",
            finished.stdout,
            finished.stderr,
            String::from_utf8_lossy(&raw),
            finished.json
        );
        output::write(&log, text).map_err(|error| format!("cannot write {}: {error}", log.display()))?;
        self.check(&finished).map_err(|error| {
            format!("{error}\n\nreproduce with: {replay}\nlog: {}", relative(&log).display())
        })
    }

    /// Returns the program and its arguments. A program file with a defect is written to the log directory, so that the
    /// case can be repeated.
    fn program_words(&self, base: &Path) -> Result<Vec<String>, String> {
        let Some(defect) = self.defect else { return Ok(self.program.clone()) };
        let mut words = self.program.clone();
        let path = base.with_added_extension("elf");
        let valid = std::fs::read(program_path(&words[0])).map_err(|error| error.to_string())?;
        // Strip sections that no loader reads. Otherwise a file that is cut in half might still contain all segments.
        let valid = executable::stripped(&valid).map_err(|error| error.to_string())?;
        output::write(&path, defect.apply(valid)?).map_err(|error| error.to_string())?;
        words[0] = relative(&path).display().to_string();
        Ok(words)
    }

    fn start(
        &self,
        base: &Path,
        program: &[String],
        kernel: Option<&Path>,
        time_limit: u32,
    ) -> Result<Finished, String> {
        let facts = base.with_added_extension("json");
        let console = base.with_added_extension("console");
        let _ = std::fs::remove_file(&facts);
        let _ = std::fs::remove_file(&console);
        // Use `/proc/self/exe`, because the checks may have replaced the executable file with a newer build.
        let mut command = Command::new("/proc/self/exe");
        command.arg(self.subcommand).arg("--as-built");
        command.arg("--json").arg(&facts);
        // `stress` itself keeps the console of a failed boot, and `inject` reports the kernel's messages.
        if !matches!(self.subcommand, "stress" | "inject") {
            command.arg("--log").arg(&console);
        }
        if !self.options.iter().any(|word| word == "--timeout") {
            command.args(["--timeout", &time_limit.to_string()]);
        }
        if let Some(kernel) = kernel {
            command.arg("--kernel").arg(kernel);
        }
        command.args(&self.options).args(program).envs(self.variable.iter().cloned());
        let output = command.stdin(Stdio::null()).current_dir(root()).output();
        let output = output.map_err(|error| format!("cannot start the host tool: {error}"))?;
        let json = std::fs::read_to_string(&facts).ok().and_then(|text| serde_json::from_str(&text).ok());
        Ok(Finished {
            status: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            json: json.unwrap_or_default(),
        })
    }

    fn check(&self, finished: &Finished) -> Result<(), String> {
        if finished.status != Some(self.status) {
            return Err(format!(
                "exit status {:?} instead of {}\n{}",
                finished.status, self.status, finished.stderr
            ));
        }
        self.demands.iter().try_for_each(|demand| demand(finished))
    }
}

impl Finished {
    /// Returns the results of all CPUs.
    fn cpus(&self) -> &[Value] {
        self.json["cpus"].as_array().map_or(&[], Vec::as_slice)
    }

    /// Returns the result of one CPU.
    fn cpu(&self, number: usize) -> Result<&Value, String> {
        self.cpus().iter().find(|cpu| cpu["cpu"] == number).ok_or(format!("there is no CPU {number}"))
    }

    fn has(&self, text: &str, part: &str) -> Result<(), String> {
        if text.contains(part) { Ok(()) } else { Err(format!("{part:?} was not printed")) }
    }

    /// Returns QEMU's command line, quoted for a shell. It is the first line of the output.
    fn pasteable(&self) -> &str {
        self.stdout.lines().next().unwrap_or("")
    }
}

fn expect<T: PartialEq + std::fmt::Debug>(found: T, expected: T, what: &str) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found:?} instead of {expected:?}")) }
}

/// Returns the path of the ELF file of a program in `user/`.
fn program_path(name: &str) -> PathBuf {
    bare_artifacts().join(name)
}

/// Runs a shell command.
fn shell(command: &str) -> Result<std::process::Output, String> {
    let words: [OsString; 2] = ["-c".into(), command.into()];
    let output = Command::new("sh").args(words).stdin(Stdio::null()).current_dir(root()).output();
    output.map_err(|error| format!("cannot start sh: {error}"))
}
