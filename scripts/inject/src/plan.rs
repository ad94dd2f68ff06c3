//! What is struck where: the machine, its kernel, and the boots that the options come to.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use machine::error::Error;
use machine::qemu::{Machine, Wiring};
use machine::{build, cmdline, qemu, serial_ports};

use super::boots::{Boot, can};
use super::code::Code;
use super::error::InjectError;
use super::guest::Guest;
use super::options::{InjectOptions, TICK_HZ};
use super::paths;
use super::tally::Strike;
use super::trip::{Deed, Wish};

/// The program that goes each way.
const PROGRAM: &str = "paths";

/// A boot and what is done in it.
pub struct Errand {
    /// The boot.
    pub boot: Boot,
    /// What strikes.
    pub deed: Deed,
    /// Where.
    pub wish: Wish,
}

/// All that the boots have in common.
pub struct Plan<'a> {
    /// What the user asked for.
    pub options: &'a InjectOptions,
    /// The kernel's road.
    pub code: Code,
    /// The CPUs that are struck.
    pub cpus: Vec<usize>,
    kernel: PathBuf,
    count: usize,
    at: Option<u64>,
}

impl Plan<'_> {
    /// Builds the kernel and reads it.
    pub fn make(options: &InjectOptions) -> Result<Plan<'_>, Error> {
        let count = serial_ports::cpus(&options.machine.smp) as usize;
        if count < 3 {
            let text = "an injection takes three CPUs at least: the BSP, an AP, and one that wakes both";
            return Err(Error::Usage(text.to_owned()));
        }
        let cpus = match options.on {
            None => vec![0, count - 1],
            Some(cpu) if cpu < count => vec![cpu],
            Some(cpu) => return Err(Error::Usage(format!("there is no CPU {cpu}: they are counted from 0"))),
        };
        qemu::version(&options.machine.qemu)?;
        let kernel = match &options.kernel {
            Some(kernel) => kernel.clone(),
            None => build::asked_for(&options.feature, &options.mutant, options.as_built)?,
        };
        let code = Code::load(&kernel)?;
        paths::demand_all(&code)?;
        let usage = |error: InjectError| Error::Usage(error.to_string());
        let at = options.at.as_deref().map(|text| code.parse(text)).transpose().map_err(usage)?;
        let plan = Plan { options, code, cpus, kernel, count, at };
        let known = Boot::all(&plan.cpus).into_iter().flat_map(Boot::paths).collect::<BTreeSet<_>>();
        if let Some(path) = options.path.as_ref().filter(|path| !known.contains(path.as_str())) {
            return Err(Error::Usage(format!("there is no path {path:?}; see --list")));
        }
        Ok(plan)
    }

    /// The boots that it takes, each with what is done in it.
    pub fn errands(&self, deed: Deed, every: u16) -> Result<Vec<Errand>, Error> {
        let boots = Boot::all(&self.cpus).into_iter().filter(|&boot| can(boot, deed));
        let wish = Wish { cpus: self.cpus.clone(), path: self.options.path.clone(), at: self.at };
        let all = boots.map(|boot| Errand { boot, deed, wish: wish.clone() });
        if deed != Deed::MachineCheck {
            let mut wanted = Vec::new();
            for errand in all {
                if !self.strikes_of(&errand)?.is_empty() {
                    wanted.push(errand);
                }
            }
            return Ok(wanted);
        }
        // Each instruction once, on whichever path comes first; with a hostile stack pointer once more for each.
        let mut errands = Vec::new();
        let mut seen = BTreeSet::new();
        for errand in all {
            for (path, cpu, address) in self.strikes_of(&errand)? {
                let hostile = paths::is_hostile(path).then_some(path);
                if seen.insert((hostile, cpu, address)) {
                    let wish = Wish { cpus: vec![cpu], path: Some(path.to_owned()), at: Some(address) };
                    errands.push(Errand { boot: errand.boot, deed, wish });
                }
            }
        }
        Ok(errands.into_iter().step_by(every.into()).collect())
    }

    /// All strikes of these boots.
    pub fn strikes(&self, errands: &[Errand]) -> Result<Vec<Strike>, Error> {
        let mut strikes = Vec::new();
        for errand in errands {
            strikes.extend(self.strikes_of(errand)?);
        }
        Ok(strikes)
    }

    fn strikes_of(&self, errand: &Errand) -> Result<Vec<Strike>, Error> {
        let mut strikes = Vec::new();
        for name in errand.boot.paths() {
            for address in paths::walk_of(name, &self.code)? {
                if errand.wish.has(name, address) && errand.deed.strikes(name, self.code.at(address)?) {
                    let cpus = errand.boot.cpus(&errand.wish.cpus);
                    strikes.extend(cpus.into_iter().map(|cpu| (name, cpu, address)));
                }
            }
        }
        Ok(strikes)
    }

    /// Starts the machine of a boot.
    pub fn start(&self, errand: &Errand) -> Result<Guest, InjectError> {
        let machine = &self.options.machine;
        let keys = [errand.boot.kernel_key(), machine.cmdline.clone()];
        let keys = keys.into_iter().flatten().collect::<Vec<_>>().join(" ");
        let keys = (!keys.is_empty()).then_some(keys);
        let ending = [errand.boot.ending().to_owned()];
        let tick_hz = machine.tick_hz.unwrap_or(TICK_HZ);
        let line = cmdline::compose(Some(PROGRAM), Some(tick_hz), keys.as_deref(), &ending);
        let machine =
            Machine { options: machine, kernel: &self.kernel, module: None, cmdline: &line, gdb_port: None };
        let limit = Duration::from_secs(self.options.timeout);
        Guest::start(machine.command_line(Wiring::Session), self.count, Some(limit))
    }

    /// The paths with their instructions, for a person.
    pub fn list(&self) -> Result<String, Error> {
        let mut text = String::new();
        let mut seen = BTreeSet::new();
        for name in Boot::all(&self.cpus).into_iter().flat_map(Boot::paths).filter(|name| seen.insert(*name))
        {
            let _ = writeln!(text, "{name}");
            for address in paths::walk_of(name, &self.code)? {
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
