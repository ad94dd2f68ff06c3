//! Derives the machine, the kernel, the boots and the injections from the options.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use machine::error::Error;
use machine::qemu::{Machine, Wiring};
use machine::{build, cmdline, qemu, serial_ports};

use super::boots::{Boot, supports};
use super::code::Code;
use super::driver::{Event, Selection};
use super::error::InjectError;
use super::guest::Guest;
use super::options::{InjectOptions, TICK_HZ};
use super::paths;
use super::tally::Injection;

/// The ring-3 program that makes its CPU take each path.
const PROGRAM: &str = "paths";

/// A boot and its injections.
pub struct Job {
    /// The boot.
    pub boot: Boot,
    /// The injected event.
    pub event: Event,
    /// Where the event is injected.
    pub selection: Selection,
}

/// Configuration shared by all boots.
pub struct Plan<'a> {
    /// The user's options.
    pub options: &'a InjectOptions,
    /// The kernel's entry and exit code.
    pub code: Code,
    /// The CPUs on which injections are made, by QEMU's index.
    pub cpus: Vec<usize>,
    kernel: PathBuf,
    count: usize,
    at: Option<u64>,
}

impl Plan<'_> {
    /// Checks the options, builds the kernel and reads its code.
    pub fn make(options: &InjectOptions) -> Result<Plan<'_>, Error> {
        let count = serial_ports::cpus(&options.machine.smp) as usize;
        if count < 3 {
            let text = "inject needs at least three CPUs (--smp 3): the BSP, an AP, and one that wakes both";
            return Err(Error::Usage(text.to_owned()));
        }
        let cpus = match options.on {
            None => vec![0, count - 1],
            Some(cpu) if cpu < count => vec![cpu],
            Some(cpu) => {
                return Err(Error::Usage(format!("there is no CPU {cpu}: CPUs are numbered from 0")));
            }
        };
        qemu::version(&options.machine.qemu)?;
        let kernel = match &options.kernel {
            Some(kernel) => kernel.clone(),
            None => build::selected_kernel(&options.feature, &options.mutant, options.as_built)?,
        };
        let kernel = build::bootable(options.machine.boot, kernel, options.as_built)?;
        let code = Code::load(&kernel)?;
        paths::check_coverage(&code)?;
        let usage = |error: InjectError| Error::Usage(error.to_string());
        let at = options.at.as_deref().map(|text| code.parse(text)).transpose().map_err(usage)?;
        let plan = Plan { options, code, cpus, kernel, count, at };
        let known = Boot::all(&plan.cpus).into_iter().flat_map(Boot::paths).collect::<BTreeSet<_>>();
        if let Some(path) = options.path.as_ref().filter(|path| !known.contains(path.as_str())) {
            return Err(Error::Usage(format!("there is no path {path:?}; see --list")));
        }
        Ok(plan)
    }

    /// Returns the boots that the selection needs for this event. An injection that ends the run needs its own boot;
    /// only every `every`th of these boots is returned.
    pub fn jobs(&self, event: Event, every: u16) -> Result<Vec<Job>, Error> {
        let boots = Boot::all(&self.cpus).into_iter().filter(|&boot| supports(boot, event));
        let selection = Selection { cpus: self.cpus.clone(), path: self.options.path.clone(), at: self.at };
        let all = boots.map(|boot| Job { boot, event, selection: selection.clone() });
        // If the injection ends the run, inject at each instruction once, on the first path that contains it, and once
        // more with each hostile stack pointer.
        let (mut required, mut jobs) = (Vec::new(), Vec::new());
        let mut seen = BTreeSet::new();
        for job in all {
            if !job.boot.ends_with_injection(event) {
                if !self.injections_of(&job)?.is_empty() {
                    required.push(job);
                }
                continue;
            }
            for (path, cpu, address) in self.injections_of(&job)? {
                let hostile = paths::is_hostile(path).then_some(path);
                if seen.insert((hostile, cpu, address)) {
                    let selection =
                        Selection { cpus: vec![cpu], path: Some(path.to_owned()), at: Some(address) };
                    jobs.push(Job { boot: job.boot, event, selection });
                }
            }
        }
        required.extend(jobs.into_iter().step_by(every.into()));
        Ok(required)
    }

    /// Returns all injections of these boots.
    pub fn injections(&self, jobs: &[Job]) -> Result<Vec<Injection>, Error> {
        let mut injections = Vec::new();
        for job in jobs {
            injections.extend(self.injections_of(job)?);
        }
        Ok(injections)
    }

    fn injections_of(&self, job: &Job) -> Result<Vec<Injection>, Error> {
        let mut injections = Vec::new();
        for name in job.boot.paths() {
            for address in paths::addresses_of(name, &self.code)? {
                if job.selection.includes(name, address)
                    && job.event.is_injected_at(name, self.code.at(address)?)
                {
                    let cpus = job.boot.cpus(&job.selection.cpus);
                    injections.extend(cpus.into_iter().map(|cpu| (name, cpu, address)));
                }
            }
        }
        Ok(injections)
    }

    /// Returns QEMU's command line for a boot.
    pub fn command_line(&self, job: &Job) -> Result<Vec<OsString>, Error> {
        let machine = &self.options.machine;
        let keys = [job.boot.kernel_key(), machine.cmdline.clone()];
        let keys = keys.into_iter().flatten().collect::<Vec<_>>().join(" ");
        let keys = (!keys.is_empty()).then_some(keys);
        let ending = [job.boot.ending().to_owned()];
        let tick_hz = machine.tick_hz.unwrap_or(TICK_HZ);
        let line = cmdline::compose(Some(PROGRAM), Some(tick_hz), keys.as_deref(), &ending);
        let machine =
            Machine { options: machine, kernel: &self.kernel, module: None, cmdline: &line, gdb_port: None };
        machine.command_line(Wiring::Session)
    }

    /// Starts a machine with this command line.
    pub fn start(&self, words: Vec<OsString>) -> Result<Guest, InjectError> {
        let limit = Duration::from_secs(self.options.timeout);
        Guest::start(words, self.count, Some(limit))
    }

    /// Formats the paths with their instructions.
    pub fn list(&self) -> Result<String, Error> {
        let mut text = String::new();
        let mut seen = BTreeSet::new();
        for name in Boot::all(&self.cpus).into_iter().flat_map(Boot::paths).filter(|name| seen.insert(*name))
        {
            let _ = writeln!(text, "{name}");
            for address in paths::addresses_of(name, &self.code)? {
                let _ = writeln!(
                    text,
                    "  {:<24} {}",
                    self.code.place(address).to_string(),
                    self.code.at(address)?
                );
            }
        }
        for (name, why) in paths::UNREACHABLE {
            let _ = writeln!(text, "{name}: not reached: {why}");
        }
        Ok(text)
    }
}
