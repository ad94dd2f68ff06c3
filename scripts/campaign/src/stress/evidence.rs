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
    /// The evaluated trace, or the reason why there is none.
    pub trace: Result<Survey, String>,
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
    /// Returns the trace's path if `keep`, and the evidence if `show`.
    ///
    /// Damaged rings are reported in `warnings`.
    pub fn collect(
        self,
        keep: bool,
        show: bool,
        warnings: &mut Vec<String>,
    ) -> (Option<PathBuf>, Option<Evidence>) {
        if !keep && !show {
            return (None, None);
        }
        let (kept_path, part) = self.log.trace();
        let captured = self.capture(&part, warnings);
        let trace = show.then(|| captured.and_then(|()| self.survey(&part)));
        let kept = keep && std::fs::rename(&part, &kept_path).is_ok();
        if !kept {
            // This fails if the file does not exist.
            let _ = std::fs::remove_file(&part);
        }
        let kept = kept.then(|| relative(&kept_path).to_owned());
        let (samples, counters, clock) = self.live.map(Live::finish).unwrap_or_default();
        let boot = self.facts.boots.first().copied();
        let evidence = |trace| Evidence { boot, qemu: self.qemu, samples, counters, clock, trace };
        (kept, trace.map(evidence))
    }

    /// Writes the records of the guest's trace rings to a file. The error explains why there is no trace.
    fn capture(&self, part: &Path, warnings: &mut Vec<String>) -> Result<(), String> {
        let memory =
            self.memory.ok_or("the machine's options do not let the host read the guest's memory")?;
        let ram = memory.ram().map_err(|error| error.to_string())?;
        match flight(&ram, part, std::slice::from_ref(&self.qemu)) {
            Ok(summary) => {
                warnings.extend(damage(&summary).map(|error| error.to_string()));
                Ok(())
            }
            Err(Error::NoDirectory) if !self.recorded => Err("nothing was recorded: --trace off".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Evaluates the trace file. Renumbers its CPUs to the indices that programs see, which differ if a CPU did not
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
