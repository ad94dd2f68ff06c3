//! Reads a trace file in chunks, one CPU at a time.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytemuck::{Zeroable, cast_slice_mut};
use kernel_abi::trace::Record;

use super::error::Error;
use super::file::{Header, MAGIC, PREFIX, VERSION};
use super::input;
use super::layout::RECORD;

/// Number of records per read from one CPU.
const CHUNK: u64 = 4096;
/// Maximum length of the header in bytes.
pub const HEADER_MAX: u32 = 256 << 20;

/// An open trace file.
pub struct Reader {
    path: PathBuf,
    file: Arc<File>,
    header: Header,
    /// The file offset and the number of each CPU's records.
    lanes: Vec<(u64, u64)>,
}

impl Reader {
    /// Opens a trace file and checks its header. Truncated files are accepted too; see [`Reader::complete`].
    pub fn open(path: &Path) -> Result<Reader, Error> {
        let failed = || Error::io("read", path);
        let file = input::open(path).map_err(failed())?;
        let size = file.metadata().map_err(failed())?.len();
        let mut prefix = [0; PREFIX];
        if size < PREFIX as u64 {
            return Err(Error::NotATrace(path.to_owned()));
        }
        file.read_exact_at(&mut prefix, 0).map_err(failed())?;
        let word =
            |at: usize| u32::from_le_bytes([prefix[at], prefix[at + 1], prefix[at + 2], prefix[at + 3]]);
        let (version, length) = (word(MAGIC.len()), word(MAGIC.len() + 4));
        if !prefix.starts_with(&MAGIC) {
            return Err(Error::NotATrace(path.to_owned()));
        }
        if version != VERSION {
            return Err(Error::Version(path.to_owned(), version));
        }
        if length > HEADER_MAX {
            let reason = format!("a length of {length} bytes, over the limit of {} MiB", HEADER_MAX >> 20);
            return Err(Error::Header(path.to_owned(), reason));
        }
        let start = PREFIX as u64 + u64::from(length);
        if start > size {
            return Err(Error::Header(path.to_owned(), "the file ends inside the header".to_owned()));
        }
        let mut text = vec![0; length as usize];
        file.read_exact_at(&mut text, PREFIX as u64).map_err(failed())?;
        let header: Header = serde_json::from_slice(&text)
            .map_err(|error| Error::Header(path.to_owned(), error.to_string()))?;
        let lanes = lanes(&header, start, size)
            .ok_or_else(|| Error::Header(path.to_owned(), "impossible numbers of records".to_owned()))?;
        Ok(Reader { path: path.to_owned(), file: Arc::new(file), header, lanes })
    }

    /// Returns the file's header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Returns the number of complete records in the file.
    pub fn found(&self) -> u64 {
        self.lanes.iter().map(|(_, records)| records).sum()
    }

    /// Returns an error if the file is truncated.
    pub fn complete(&self) -> Result<(), Error> {
        let (found, expected) = (self.found(), self.header.cpus.iter().map(|cpu| cpu.records).sum());
        if found == expected {
            return Ok(());
        }
        Err(Error::Truncated { path: self.path.clone(), found, expected })
    }

    /// Returns the records of the CPU with this index in the header.
    pub fn records(&self, lane: usize) -> Records {
        let (at, left) = self.lanes[lane];
        Records {
            path: self.path.clone(),
            file: Arc::clone(&self.file),
            at,
            left,
            buffer: Vec::new(),
            used: 0,
        }
    }
}

/// Returns the file offset of each CPU's records and how many of them are complete. Returns `None` if the sums
/// overflow.
fn lanes(header: &Header, start: u64, size: u64) -> Option<Vec<(u64, u64)>> {
    let mut at = start;
    let mut lanes = Vec::with_capacity(header.cpus.len());
    for cpu in &header.cpus {
        let present = size.saturating_sub(at) / RECORD as u64;
        lanes.push((at, cpu.records.min(present)));
        at = at.checked_add(cpu.records.checked_mul(RECORD as u64)?)?;
    }
    Some(lanes)
}

/// Iterates over the records of one CPU, in the order in which the CPU wrote them.
pub struct Records {
    path: PathBuf,
    file: Arc<File>,
    at: u64,
    /// Number of records not read yet.
    left: u64,
    buffer: Vec<Record>,
    used: usize,
}

/// Reads the records of the first CPU in a trace file.
///
/// # Errors
/// If the file cannot be read or is no trace.
pub fn first_records(path: &Path) -> Result<Vec<Record>, Error> {
    let reader = Reader::open(path)?;
    if reader.lanes.is_empty() {
        return Ok(Vec::new());
    }
    let mut records = reader.records(0);
    std::iter::from_fn(|| records.next().transpose()).collect()
}

impl Records {
    /// Returns the next record.
    pub fn next(&mut self) -> Result<Option<Record>, Error> {
        if self.used == self.buffer.len() && !self.fill()? {
            return Ok(None);
        }
        let record = self.buffer[self.used];
        self.used += 1;
        Ok(Some(record))
    }

    fn fill(&mut self) -> Result<bool, Error> {
        let count = self.left.min(CHUNK);
        // `count` is at most `CHUNK`.
        self.buffer.resize(count as usize, Record::zeroed());
        let bytes = cast_slice_mut(self.buffer.as_mut_slice());
        self.file.read_exact_at(bytes, self.at).map_err(Error::io("read", &self.path))?;
        (self.at, self.left, self.used) = (self.at + count * RECORD as u64, self.left - count, 0);
        Ok(count != 0)
    }
}
