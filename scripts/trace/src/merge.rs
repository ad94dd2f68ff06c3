//! Merges the records of all CPUs into one stream of events, ordered by time.

use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
use std::collections::{BinaryHeap, VecDeque};

use kernel_abi::trace::{Kind, Record};

use super::clock::Clock;
use super::error::Error;
use super::reader::{Reader, Records};

/// The maximum distance, in positions, between a record and its place in time order. The kernel reserves a record's
/// position and reads its timestamp non-atomically. An NMI between the two adds records with later positions and
/// earlier times, or with earlier positions and later times. NMIs do not nest, and rarely follow each other so closely
/// that this window is too small.
const WINDOW: usize = 8;

/// An event of the merged stream.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// Nanoseconds since kernel start. Never less than in the previous event of any CPU.
    pub ns: u64,
    /// The index of the CPU in the trace file's header.
    pub lane: usize,
    /// The kind of the record; `None` if this tool does not know the kind.
    pub kind: Option<Kind>,
    /// The record.
    pub record: Record,
}

/// Selects which events to convert.
#[derive(Clone, Debug)]
pub struct Filter {
    /// The indices of the selected CPUs in the header.
    pub lanes: Vec<usize>,
    /// Mask of the selected kinds. `u32::MAX` also selects unknown kinds.
    pub kinds: u32,
}

impl Filter {
    /// Returns the filter that selects all events.
    pub fn all(reader: &Reader) -> Filter {
        Filter { lanes: (0..reader.header().cpus.len()).collect(), kinds: u32::MAX }
    }

    fn selects(&self, kind: Option<Kind>) -> bool {
        self.kinds & kind.map_or(0, Kind::bit) != 0 || self.kinds == u32::MAX
    }
}

/// The merged events of a trace file.
pub struct Merge {
    lanes: Vec<Lane>,
    /// For each CPU with records left, the time of its next record in ticks, and its index in `lanes`.
    next: BinaryHeap<Reverse<(u64, usize)>>,
    filter: Filter,
    backward: u64,
}

impl Merge {
    /// Merges the events of a file that the filter selects.
    pub fn new(reader: &Reader, filter: Filter) -> Result<Merge, Error> {
        let cpu = |lane: &usize| Lane::new(reader, *lane);
        let mut lanes: Vec<_> = filter.lanes.iter().map(cpu).collect();
        let mut next = BinaryHeap::with_capacity(lanes.len());
        for (n, lane) in lanes.iter_mut().enumerate() {
            if let Some(ticks) = lane.fill()? {
                next.push(Reverse((ticks, n)));
            }
        }
        Ok(Merge { lanes, next, filter, backward: 0 })
    }

    /// Returns the next event.
    pub fn next(&mut self) -> Result<Option<Event>, Error> {
        while let Some(mut top) = self.next.peek_mut() {
            let Reverse((ticks, n)) = *top;
            let lane = &mut self.lanes[n];
            let Some((_, record)) = lane.window.pop_front() else { break };
            match lane.fill()? {
                Some(later) if later < ticks => {
                    // The record is more positions out of order than an NMI can cause, so the clock ran backward.
                    self.backward += 1;
                    lane.window[0].0 = ticks;
                }
                Some(later) => *top = Reverse((later, n)),
                None => drop(PeekMut::pop(top)),
            }
            let kind = Kind::from_number(record.kind);
            if self.filter.selects(kind) {
                return Ok(Some(Event { ns: lane.clock.nanoseconds(ticks), lane: lane.lane, kind, record }));
            }
        }
        Ok(None)
    }

    /// Returns the number of records at which their CPU's clock ran backward. Such a record gets the time of the
    /// previous record.
    pub fn backward(&self) -> u64 {
        self.backward
    }
}

/// The records of one CPU, of which the next few are sorted by time.
struct Lane {
    lane: usize,
    clock: Clock,
    records: Records,
    window: VecDeque<(u64, Record)>,
}

impl Lane {
    fn new(reader: &Reader, lane: usize) -> Lane {
        let clock = Clock::new(reader.header(), reader.header().cpus[lane].tsc_offset);
        Lane { lane, clock, records: reader.records(lane), window: VecDeque::with_capacity(WINDOW + 1) }
    }

    /// Fills the window. Returns the time of the first record in it.
    fn fill(&mut self) -> Result<Option<u64>, Error> {
        while self.window.len() < WINDOW {
            let Some(record) = self.records.next()? else { break };
            let ticks = self.clock.ticks(record.tsc);
            let at = self.window.iter().rposition(|(earlier, _)| *earlier <= ticks).map_or(0, |n| n + 1);
            self.window.insert(at, (ticks, record));
        }
        Ok(self.window.front().map(|(ticks, _)| *ticks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::{Cpu, Header, Writer};

    /// Merges records with these TSC offsets and time stamps. Returns the time, CPU and `a` of each event (`a` numbers
    /// the records of a CPU), and the number of records at which a clock ran backward.
    fn merged(cpus: &[(i64, &[u64])], filter: impl Fn(&mut Filter)) -> (Vec<(u64, usize, u64)>, u64) {
        let folder = tempfile::tempdir().expect("cannot create a directory");
        let path = folder.path().join("x");
        let mut writer = Writer::create(&path, cpus.len()).expect("cannot create a writer");
        let mut header = Header { tsc_hz: 1_000_000_000, boot_tsc: 100, ..Header::default() };
        for (lane, (tsc_offset, stamps)) in cpus.iter().enumerate() {
            header.cpus.push(Cpu { tsc_offset: *tsc_offset, ..Cpu::default() });
            for (n, tsc) in stamps.iter().enumerate() {
                let kind = if n % 2 == 0 { Kind::User } else { Kind::Tick } as u16;
                let record = Record { tsc: *tsc, a: n as u64, kind, ..Record::default() };
                writer.append(lane, &[record]).expect("cannot append");
            }
        }
        writer.finish(header).expect("cannot finish");
        let reader = Reader::open(&path).expect("cannot open");
        let mut selected = Filter::all(&reader);
        filter(&mut selected);
        let mut merge = Merge::new(&reader, selected).expect("cannot merge");
        let mut events = Vec::new();
        while let Some(event) = merge.next().expect("cannot read") {
            events.push((event.ns, event.lane, event.record.a));
        }
        (events, merge.backward())
    }

    #[test]
    fn clocks_are_corrected_before_they_are_compared() {
        let (events, _) = merged(&[(0, &[110, 130]), (-1000, &[1105, 1120, 1140])], |_| ());
        assert_eq!(events, [(5, 1, 0), (10, 0, 0), (20, 1, 1), (30, 0, 1), (40, 1, 2)]);
    }

    #[test]
    fn record_of_an_nmi_is_sorted_by_time() {
        let (events, backward) = merged(&[(0, &[110, 130, 129, 140])], |_| ());
        assert_eq!(events, [(10, 0, 0), (29, 0, 2), (30, 0, 1), (40, 0, 3)]);
        assert_eq!(backward, 0);
    }

    #[test]
    fn merged_time_is_monotonic_and_backward_clocks_are_counted() {
        let mut stamps: Vec<u64> = (0..20).map(|n| 200 + n).collect();
        stamps.extend([150, 300]);
        let (events, backward) = merged(&[(0, &stamps)], |_| ());
        assert_eq!(events.len(), 22);
        assert!(events.is_sorted_by_key(|event| event.0), "{events:?}");
        assert_eq!(backward, 1);
    }

    #[test]
    fn filters_select_cpus_and_kinds() {
        let cpus: [(i64, &[u64]); 2] = [(0, &[110, 120]), (0, &[115, 125])];
        assert_eq!(merged(&cpus, |filter| filter.lanes = vec![1]).0, [(15, 1, 0), (25, 1, 1)]);
        assert_eq!(merged(&cpus, |filter| filter.kinds = Kind::Tick.bit()).0, [(20, 0, 1), (25, 1, 1)]);
    }
}
