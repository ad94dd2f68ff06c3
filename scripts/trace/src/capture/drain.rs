//! Stream mode: a thread that drains the rings while the guest runs.
//!
//! ```text
//!   searching --(1)--> draining --(2)--> last poll --(3)--> trace file
//! ```
//!
//! 1. The thread has found a valid directory of rings in guest memory.
//! 2. [`Drain::stop`]: the guest has stopped, so a record that is still unfinished is torn.
//! 3. The thread has read every ring up to its head.
//!
//! For each ring the thread reads `head` (which the CPU writes), then the records before it, and then writes `tail`. On
//! x86, stores become visible in program order, and loads are not reordered with later stores. In addition, each access
//! here is a separate system call. A CPU that reads `tail` may therefore reuse the positions before it.

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kernel_abi::trace::{Kind, Record, reading};
use rustix::time::{ClockId, clock_gettime};

use super::Summary;
use super::guest_ram::{Chipset, GuestRam};
use super::rings::{Buffer, Ring, Rings, Totals};
use crate::error::Error;
use crate::file::Writer;

/// Pause after a poll in which no ring had many records. A ring of 64 Ki records fills in 30 ms at two million per
/// second.
const PAUSE: Duration = Duration::from_millis(1);
/// If any CPU had more records than this, the thread polls again without a pause.
const BUSY_RECORDS: u64 = 8 * 1024;
/// Minimum pause between two searches for the directory: the longer of this time and this multiple of the duration of
/// the last search.
const SEARCH_PAUSE: (Duration, u32) = (Duration::from_millis(5), 4);

/// One CPU's progress, for a live display.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Number of records read.
    pub records: u64,
    /// Number of system calls entered.
    pub syscalls: u64,
    /// Number of timer ticks.
    pub ticks: u64,
    /// The kind and the TSC of the last record.
    pub last: Option<(Kind, u64)>,
}

/// A thread that drains the rings of a running guest.
pub struct Drain {
    shared: Arc<Shared>,
    thread: JoinHandle<Result<Summary, Error>>,
}

struct Shared {
    stop: AtomicBool,
    progress: Mutex<Vec<Progress>>,
}

impl Drain {
    /// Starts a thread that searches for rings in `memory` and drains them into the trace file `path`. `memory` is the
    /// file of the guest's memory-backend-file, opened for reading and writing. The guest need not have started yet.
    pub fn start(
        memory: File,
        chipset: Chipset,
        path: PathBuf,
        command: Vec<String>,
    ) -> Result<Drain, Error> {
        let failed = |error| Error::Io("cannot access the guest's memory".to_owned(), error);
        let ram = GuestRam::new(memory, chipset).map_err(failed)?;
        let shared = Arc::new(Shared { stop: AtomicBool::new(false), progress: Mutex::default() });
        let thread_shared = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("trace-drain".to_owned());
        let thread = thread
            .spawn(move || run(&ram, path, &command, &thread_shared))
            .map_err(|error| Error::Io("cannot start the thread that drains the trace".to_owned(), error))?;
        Ok(Drain { shared, thread })
    }

    /// Returns each CPU's progress; empty until the thread has found the rings.
    pub fn progress(&self) -> Vec<Progress> {
        // If the thread has panicked, `stop` reports it.
        self.shared.progress.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Drains the remaining records and writes the trace file. Call it only after the guest has stopped or exited:
    /// records written later are lost.
    pub fn stop(self) -> Result<Summary, Error> {
        self.shared.stop.store(true, Ordering::Release);
        self.thread.join().unwrap_or(Err(Error::DrainDied))
    }
}

fn run(ram: &GuestRam, path: PathBuf, command: &[String], shared: &Shared) -> Result<Summary, Error> {
    let rings = search(ram, shared)?;
    let searched = cpu_time();
    let mut readers: Vec<_> = rings.rings().map(RingReader::new).collect();
    let mut writer = Writer::create(&path, readers.len())?;
    *shared.progress.lock().unwrap_or_else(PoisonError::into_inner) =
        vec![Progress::default(); readers.len()];
    let mut buffer = Buffer::new()?;
    loop {
        // Load the flag before the poll, so that the last poll sees everything the guest wrote before it stopped.
        let last = shared.stop.load(Ordering::Acquire);
        let mut busy = false;
        for (n, reader) in readers.iter_mut().enumerate() {
            busy |= reader.drain(ram, last, &mut buffer, &mut |records| writer.append(n, records))?;
        }
        let mut progress = shared.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.iter_mut().zip(&readers).for_each(|(to, reader)| *to = reader.progress);
        drop(progress);
        if last {
            break;
        }
        if !busy {
            std::thread::sleep(PAUSE);
        }
    }
    let drained = cpu_time().saturating_sub(searched);
    let mut cpus = Vec::new();
    for reader in &readers {
        cpus.push(reader.ring.describe(ram, reader.totals)?);
    }
    let header = writer.finish(rings.refreshed(ram)?.header(command, cpus))?;
    Ok(Summary { path, header, drained })
}

/// Returns this thread's CPU time.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap_or_default()
}

/// Searches for the directory until it is found, or until one search after `stop` was called has failed.
fn search(ram: &GuestRam, shared: &Shared) -> Result<Rings, Error> {
    loop {
        let last = shared.stop.load(Ordering::Acquire);
        let started = Instant::now();
        match Rings::find(ram) {
            Err(Error::NoDirectory | Error::BadDirectory { .. }) if !last => {}
            found => return found,
        }
        std::thread::sleep(SEARCH_PAUSE.0.max(started.elapsed() * SEARCH_PAUSE.1));
    }
}

/// The state of a ring that is being read.
struct RingReader {
    ring: Ring,
    next: u64,
    totals: Totals,
    progress: Progress,
}

impl RingReader {
    fn new(ring: Ring) -> RingReader {
        RingReader { ring, next: 0, totals: Totals::default(), progress: Progress::default() }
    }

    /// Drains the ring. Returns whether it had so many records that more are expected soon.
    fn drain(
        &mut self,
        ram: &GuestRam,
        last: bool,
        buffer: &mut Buffer,
        append: &mut impl FnMut(&[Record]) -> Result<(), Error>,
    ) -> Result<bool, Error> {
        let first = self.next;
        // Read only up to the head seen first: a CPU that writes as fast as we read must not block the others.
        let mut end = None;
        loop {
            let progress = &mut self.progress;
            let taken = self.ring.read_records(ram, self.next, last, buffer, &mut |records| {
                progress.count(records);
                append(records)
            })?;
            self.totals.add(&taken);
            let stuck = taken.next == self.next;
            if !stuck {
                self.next = taken.next;
                self.ring.publish_tail(ram, self.next)?;
            }
            if stuck || self.next >= *end.get_or_insert(taken.head) {
                return Ok(self.next - first > BUSY_RECORDS);
            }
        }
    }
}

impl Progress {
    fn count(&mut self, records: &[Record]) {
        self.records += records.len() as u64;
        self.syscalls += reading::count(records, Kind::SyscallEnter);
        self.ticks += reading::count(records, Kind::Tick);
        if let Some(record) = records.last() {
            self.last = Kind::from_number(record.kind).map(|kind| (kind, record.tsc));
        }
    }
}
