//! What a page can show of a boot beyond its result: where its time went.

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

use super::keep::Keep;
use super::live::Live;
use super::samples::Samples;
use crate::counters::{CounterPages, Snapshot};

/// Of one boot.
pub struct Evidence {
    /// What the kernel found.
    pub boot: Option<BootRecord>,
    /// QEMU's command line, to be pasted into a shell.
    pub qemu: String,
    /// How the calls grew.
    pub samples: Samples,
    /// What each CPU had counted in the end, by dense index.
    pub counters: Vec<Snapshot>,
    /// The clock of those counters, if they were found.
    pub clock: Option<CounterPages>,
    /// What is in the trace, or why there is nothing.
    pub trace: Result<Survey, String>,
}

/// What is left when QEMU has ended.
pub struct Aftermath<'a> {
    /// The guest's memory, if the host has it.
    pub memory: Option<&'a GuestMemory>,
    /// Did the guest record anything?
    pub recorded: bool,
    /// The boot's log, beside which a trace is kept.
    pub keep: &'a Keep,
    /// What the console said.
    pub facts: &'a Facts,
    /// QEMU's command line.
    pub qemu: String,
    /// The look into the guest's memory, the last one taken.
    pub live: Option<Live>,
}

impl Aftermath<'_> {
    /// Where the trace is, if it is to be kept, and what a page can show, if one is to.
    ///
    /// A ring that is damaged is told in `warnings`.
    pub fn take(
        self,
        keep: bool,
        show: bool,
        warnings: &mut Vec<String>,
    ) -> (Option<PathBuf>, Option<Evidence>) {
        if !keep && !show {
            return (None, None);
        }
        let (stays, part) = self.keep.trace();
        let captured = self.capture(&part, warnings);
        let trace = show.then(|| captured.and_then(|()| self.survey(&part)));
        let kept = keep && std::fs::rename(&part, &stays).is_ok();
        if !kept {
            // It may not be there.
            let _ = std::fs::remove_file(&part);
        }
        let kept = kept.then(|| relative(&stays).to_owned());
        let (samples, counters, clock) = self.live.map(Live::finish).unwrap_or_default();
        let boot = self.facts.boots.first().copied();
        let evidence = |trace| Evidence { boot, qemu: self.qemu, samples, counters, clock, trace };
        (kept, trace.map(evidence))
    }

    /// Takes what the guest's rings hold. The error says why there is no trace.
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

    /// Reads the trace file. Its CPUs get the numbers that programs know them by: they differ if a CPU did not come.
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
