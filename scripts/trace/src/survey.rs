//! Collects the data for a report page about one run, in one pass over its trace file.

use std::path::Path;

use super::command::pass;
use super::error::Error;
use super::file::Header;
use super::merge::{Filter, Merge};
use super::reader::Reader;
use super::stats::{Distribution, Report, Stats};
use super::timeline::Timeline;

/// Maximum number of slices and of marks on a page, for all CPUs together.
const LIMIT: usize = 40_000;

/// The data collected from a trace.
pub struct Survey {
    /// The header of the trace file.
    pub header: Header,
    /// The statistics of the trace.
    pub report: Report,
    /// The distribution of durations for each system call.
    pub distributions: Vec<Distribution>,
    /// The timeline of the last part of the trace.
    pub timeline: Timeline,
}

impl Survey {
    /// Surveys a trace file. `rename` assigns each CPU the number that the page shows.
    pub fn of(path: &Path, rename: impl Fn(&mut Header)) -> Result<Survey, Error> {
        let reader = Reader::open(path)?;
        let mut header = reader.header().clone();
        rename(&mut header);
        let mut timeline = Timeline::new(&header, LIMIT);
        let mut stats = Stats::new(&header, u32::MAX)?;
        pass(&mut Merge::new(&reader, Filter::all(&reader))?, &mut [&mut timeline, &mut stats])?;
        timeline.keep_last(LIMIT);
        let (report, distributions) = (stats.report()?, stats.distributions());
        Ok(Survey { header, report, distributions, timeline })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use kernel_abi::trace::{Kind, Record};

    use super::*;
    use crate::file::{Cpu, Writer};

    /// Surveys a trace file with these events on `cpus` CPUs. An event consists of nanoseconds, CPU, kind and first
    /// number.
    pub fn survey(cpus: u32, events: &[(u64, usize, Kind, u64)]) -> Survey {
        let folder = tempfile::tempdir().expect("cannot create a directory");
        let path = folder.path().join("x.rtrace");
        let mut writer = Writer::create(&path, cpus as usize).expect("cannot create a writer");
        for &(tsc, lane, kind, a) in events {
            let record = Record { tsc, a, kind: kind as u16, ..Record::default() };
            writer.append(lane, &[record]).expect("cannot append");
        }
        let cpus = (0..cpus).map(|cpu| Cpu { cpu, apic_id: 10 + cpu, ..Cpu::default() }).collect();
        let kinds = Header::kind_names(u32::MAX);
        writer.finish(Header { kinds, cpus, ..Header::default() }).expect("cannot finish");
        Survey::of(&path, |header| header.cpus.iter_mut().for_each(|cpu| cpu.cpu = 11 - cpu.apic_id))
            .expect("cannot read")
    }

    #[test]
    fn all_parts_use_the_callers_cpu_numbers() {
        let events =
            [(1000, 0, Kind::SyscallEnter, 4), (1040, 0, Kind::SyscallExit, 4), (1500, 1, Kind::Tick, 1)];
        let survey = survey(2, &events);
        assert_eq!(survey.report.events, 3);
        // The first CPU in the file is shown as CPU 1.
        assert_eq!((survey.report.cpus[0].cpu, survey.distributions[0].cpu), (1, 1));
        assert_eq!(survey.timeline.lanes[0].cpu.cpu, 1);
        assert_eq!(survey.distributions[0].classes, [(crate::stats::distribution::class(40), 1)]);
        assert_eq!((survey.timeline.lanes[0].slices.len(), survey.timeline.lanes[1].marks.len()), (1, 1));
    }
}
