//! Collects a boot's evidence for the report: trace, counters and samples.

use std::path::{Path, PathBuf};

use kernel_abi::record::BootRecord;
use machine::facts::Facts;
use machine::guest_memory::GuestMemory;
use machine::tree::relative;
use runner::recording::damage;
use trace::capture::flight;
use trace::error::Error;
use trace::file::Header;
use trace::survey::Survey;

use super::live::Live;
use super::log::BootLog;
use super::samples::Samples;
use crate::counters::{CounterPages, Snapshot};

/// Data about one boot for the report, in addition to its result.
pub struct Evidence {
    /// The kernel's record of the machine.
    pub boot: Option<BootRecord>,
    /// QEMU's command line, to be pasted into a shell.
    pub qemu: String,
    /// Each CPU's calls over time.
    pub samples: Samples,
    /// Each CPU's counters at the end, by dense index.
    pub counters: Vec<Snapshot>,
    /// The counters' location and clock; `None` if they were not found.
    pub clock: Option<CounterPages>,
    /// The analysed trace, or the reason why there is none.
    pub trace: Result<Survey, String>,
}

/// The collected trace and evidence.
#[derive(Default)]
pub struct Collected {
    /// The path of the trace, if it is kept.
    pub trace: Option<PathBuf>,
    /// The data for the report, if the report shows this boot.
    pub evidence: Option<Evidence>,
    /// Warnings about damaged rings.
    pub warnings: Vec<String>,
    /// The reason why the trace could not be read or written.
    pub lost: Option<String>,
}

/// Collects the trace and the evidence after QEMU has exited.
pub struct Collector<'a> {
    /// The guest's memory; `None` if the host cannot map it.
    pub memory: Option<&'a GuestMemory>,
    /// Whether tracing was enabled in the guest.
    pub recorded: bool,
    /// The boot's log. A kept trace is stored in the same directory.
    pub log: &'a BootLog,
    /// The kernel's records from the console.
    pub facts: &'a Facts,
    /// QEMU's command line.
    pub qemu: String,
    /// The guest's counters after the final poll.
    pub live: Option<Live>,
}

impl Collector<'_> {
    /// Collects the trace if `keep` is set, and the evidence if `show` is set.
    pub fn collect(self, keep: bool, show: bool) -> Collected {
        let mut collected = Collected::default();
        if !keep && !show {
            return collected;
        }
        // The file for a trace that is not kept. Dropping it removes the file.
        let temporary = tempfile::Builder::new().suffix(".rtrace").tempfile();
        let path = match &temporary {
            _ if keep => self.log.trace(),
            Ok(file) => file.path().to_owned(),
            Err(_) => std::env::temp_dir(),
        };
        let captured = self.capture(&path, &mut collected);
        if keep && captured.is_ok() {
            collected.trace = Some(relative(&path).to_owned());
        }
        if show {
            let trace = captured.and_then(|()| self.survey(&path));
            let (samples, counters, clock) = self.live.map(Live::finish).unwrap_or_default();
            let boot = self.facts.boots.first().copied();
            collected.evidence = Some(Evidence { boot, qemu: self.qemu, samples, counters, clock, trace });
        }
        collected
    }

    /// Writes the records of the guest's trace rings to a file. The error explains why there is no trace.
    fn capture(&self, path: &Path, collected: &mut Collected) -> Result<(), String> {
        let memory =
            self.memory.ok_or("the machine's options do not let the host read the guest's memory")?;
        let ram = memory.ram().map_err(|error| error.to_string())?;
        match flight(&ram, path, std::slice::from_ref(&self.qemu)) {
            Ok(summary) => {
                collected.warnings.extend(damage(&summary).map(|error| error.to_string()));
                Ok(())
            }
            Err(Error::NoDirectory) if !self.recorded => Err("nothing was recorded: --trace off".to_owned()),
            Err(error) => {
                if let Error::Io(..) = error {
                    collected.lost = Some(error.to_string());
                }
                Err(error.to_string())
            }
        }
    }

    /// Analyses the trace file. Renumbers its CPUs to the indices that programs see, which differ if a CPU did not
    /// come online.
    fn survey(&self, path: &Path) -> Result<Survey, String> {
        let rename = |header: &mut Header| {
            for cpu in &mut header.cpus {
                if let Some(known) = self.facts.cpus.iter().find(|known| known.apic_id == cpu.apic_id) {
                    cpu.cpu = known.cpu;
                }
            }
        };
        Survey::of(path, rename).map_err(|error| error.to_string())
    }
}
