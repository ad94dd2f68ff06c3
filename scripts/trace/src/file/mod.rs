//! The trace file, `.rtrace`: its format, its header, and its writer.
//!
//! ```text
//!   magic     16 bytes, "ringside-rtrace\0"
//!   version   u32
//!   length    u32, number of bytes in the header
//!   header    JSON (see [`Header`])
//!   records   32 bytes each: all of the first CPU in the header, then of the second, and so on
//! ```
//!
//! Numbers are little-endian. A record is a [`kernel_abi::trace::Record`]. The records of a CPU are in the order of
//! their sequence numbers.
//!
//! The number of records of each CPU is known only at the end. Until then records are kept in an unnamed temporary file
//! per CPU, in the directory of the trace file. Memory use thus does not grow with the trace, and no file is left if
//! the tool is killed. The records are packed ([`kernel_abi::trace::packing`]), because disk writes take CPU time away
//! from the guest.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use kernel_abi::trace::packing::{LONGEST, Packing};
use kernel_abi::trace::{Kind, Record};
use output::Target;
use serde::{Deserialize, Serialize};

use super::error::Error;

/// The first bytes of a trace file.
pub const MAGIC: [u8; 16] = *b"ringside-rtrace\x00";
/// The format version that this tool writes and reads.
pub const VERSION: u32 = 1;
/// Number of bytes before the header.
pub const PREFIX: usize = MAGIC.len() + 4 + 4;
/// Number of records that are packed or unpacked together.
const BATCH: usize = 1024;

/// The handling of records when a ring was full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The oldest records were overwritten: the trace contains the last records of each CPU.
    #[default]
    Flight,
    /// The host drained the rings as they filled. A record was dropped if its ring was full.
    Stream,
}

/// The header of a trace file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Frequency of the TSC in hertz; 0 if it was never measured.
    pub tsc_hz: u64,
    /// The BSP's TSC at kernel start.
    pub boot_tsc: u64,
    /// Names of the kinds of events that were recorded.
    pub kinds: Vec<String>,
    /// What happened to records when a ring was full.
    pub mode: Mode,
    /// One entry per CPU.
    pub cpus: Vec<Cpu>,
    /// The command line of the run.
    pub command: Vec<String>,
}

/// One CPU of a trace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpu {
    /// Index in the CPU list; 0 is the BSP.
    pub cpu: u32,
    /// The APIC ID.
    pub apic_id: u32,
    /// The value to add to this CPU's TSC to get the BSP's.
    pub tsc_offset: i64,
    /// Number of records in this file.
    pub records: u64,
    /// Number of records that were dropped because the ring was full (stream mode).
    pub dropped: u64,
    /// Number of records that were overwritten before they were read (flight-recorder mode).
    pub overwritten: u64,
    /// Number of records that were started but never finished.
    #[serde(default)]
    pub torn: u64,
    /// Number of records that were sent over the console but did not arrive.
    #[serde(default)]
    pub lost: u64,
    /// The reason why the ring's header is invalid; `None` if it is valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damaged: Option<String>,
}

impl Header {
    /// Returns whether this kind of event was recorded.
    pub fn records_kind(&self, kind: Kind) -> bool {
        self.kinds.iter().any(|name| name == kind.name())
    }

    /// Returns the sum of a count over all CPUs. The counts come from the guest and may be invalid, so the sum
    /// saturates.
    pub fn total(&self, of: fn(&Cpu) -> u64) -> u64 {
        self.cpus.iter().map(of).fold(0, u64::saturating_add)
    }

    /// Describes the missing records for the user. Returns `None` if none are missing. A flight recorder overwrites
    /// records by design, so overwritten records count as missing only in stream mode.
    pub fn losses(&self) -> Option<String> {
        let overwritten = if self.mode == Mode::Stream { self.total(|cpu| cpu.overwritten) } else { 0 };
        let counts = [
            (self.total(|cpu| cpu.dropped), "dropped because a ring was full"),
            (overwritten, "overwritten before they were read"),
            (self.total(|cpu| cpu.torn), "never finished"),
            (self.total(|cpu| cpu.lost), "lost on the console"),
        ];
        let lost = counts.into_iter().filter(|(count, _)| *count != 0);
        let lost: Vec<_> = lost.map(|(count, how)| format!("{count} {how}")).collect();
        (!lost.is_empty()).then(|| format!("records are missing from the trace: {}", lost.join(", ")))
    }

    /// Returns the first CPU whose ring is damaged, and the reason.
    pub fn damage(&self) -> Option<(u32, &str)> {
        self.cpus.iter().find_map(|cpu| Some((cpu.cpu, cpu.damaged.as_deref()?)))
    }

    /// Returns the names of the kinds in a mask.
    pub fn kind_names(mask: u32) -> Vec<String> {
        Kind::ALL.iter().filter(|kind| mask & kind.bit() != 0).map(|kind| kind.name().to_owned()).collect()
    }
}

/// Writes a trace file. Records of different CPUs may be appended in any order.
pub struct Writer {
    path: PathBuf,
    lanes: Vec<Lane>,
    packed: Vec<u8>,
}

struct Lane {
    records: u64,
    packing: Packing,
    spill: BufWriter<File>,
}

impl Writer {
    /// Creates a writer for `cpus` CPUs. [`Writer::finish`] creates the file itself.
    pub fn create(path: &Path, cpus: usize) -> Result<Writer, Error> {
        let folder = output::spool_folder(path);
        let spill =
            || tempfile::tempfile_in(&folder).map_err(Error::io("create a temporary file in", &folder));
        let lane = || {
            let spill = BufWriter::with_capacity(64 * 1024, spill()?);
            Ok(Lane { records: 0, packing: Packing::default(), spill })
        };
        let lanes = (0..cpus).map(|_| lane()).collect::<Result<_, Error>>()?;
        Ok(Writer { path: path.to_owned(), lanes, packed: vec![0; BATCH * LONGEST] })
    }

    /// Appends the next records of a CPU. `lane` is the index of the CPU in the header.
    pub fn append(&mut self, lane: usize, records: &[Record]) -> Result<(), Error> {
        let lane = &mut self.lanes[lane];
        lane.records += records.len() as u64;
        for batch in records.chunks(BATCH) {
            let length = lane.packing.pack(batch, &mut self.packed);
            lane.spill
                .write_all(&self.packed[..length])
                .map_err(Error::io("spool records for", &self.path))?;
        }
        Ok(())
    }

    /// Writes the file: first the header, with the number of records of each CPU filled in, then the records.
    pub fn finish(self, mut header: Header) -> Result<Header, Error> {
        for (cpu, lane) in header.cpus.iter_mut().zip(&self.lanes) {
            cpu.records = lane.records;
        }
        let path = self.path.clone();
        self.join(&header).map_err(Error::io("write", &path))?;
        Ok(header)
    }

    fn join(self, header: &Header) -> io::Result<()> {
        let text = serde_json::to_vec(header)?;
        let length = u32::try_from(text.len()).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        let mut file = Target::create(&self.path)?;
        let mut front = Vec::with_capacity(PREFIX + text.len());
        front.extend(MAGIC);
        front.extend(VERSION.to_le_bytes());
        front.extend(length.to_le_bytes());
        front.extend(text);
        file.write_all(&front)?;
        let mut packed = self.packed;
        for lane in self.lanes {
            let mut spill = lane.spill.into_inner().map_err(io::IntoInnerError::into_error)?;
            spill.rewind()?;
            unpack(&mut spill, lane.records, &mut packed, &mut file)?;
        }
        file.finish()
    }
}

/// Reads `records` packed records and writes them unpacked.
fn unpack(from: &mut File, records: u64, packed: &mut [u8], to: &mut Target) -> io::Result<()> {
    let (mut packing, mut batch) = (Packing::default(), vec![Record::default(); BATCH]);
    let (mut left, mut filled) = (records, 0);
    while left != 0 {
        let read = match from.read(&mut packed[filled..]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        filled += read;
        let mut used = 0;
        loop {
            let (bytes, count) = packing.unpack(&packed[used..filled], &mut batch);
            to.write_all(bytemuck::cast_slice(&batch[..count]))?;
            (used, left) = (used + bytes, left - count as u64);
            if count < BATCH {
                break;
            }
        }
        if read == 0 && used == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        packed.copy_within(used..filled, 0);
        filled -= used;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
