//! The format of a trace as lines of text, for machines whose memory the host cannot read. The lines contain the same
//! structures as the memory, in pieces, and share the console with all other output.
//!
//! ```text
//!   @ringside trace line=0 part=start cpu=0 at=0 data=BASE64 crc=0123abcd      the Directory
//!   @ringside trace line=1 part=ring cpu=0 at=4000 data=BASE64 crc=...         CPU 0's RingHeader; 4000 is the first
//!   @ringside trace line=2 part=records cpu=0 at=4000 data=BASE64 crc=...      its records 4000 to 4011, and so on
//!   ...
//!   @ringside trace line=9 part=end cpu=0 at=0 data=BASE64 crc=...             the Directory once more
//! ```
//!
//! Lines are numbered, so that a lost line is detected. The number of the last line gives the total. The checksum is
//! CRC-32 (as in zip and Ethernet) over the bytes of the line before ` crc=`, so damage in any part of a line is
//! detected. Each line can be decoded independently, so the other lines remain usable.

use core::fmt::{self, Write};

use base64::Engine;
use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use crc::{CRC_32_ISO_HDLC, Crc, Digest, Table};

use super::Record;
use crate::record::{Fields, MARK};

/// The prefix of every trace line.
pub const PREFIX: &str = "@ringside trace ";
/// The maximum number of records in a line. A line with that many records does not exceed the kernel's maximum console
/// line.
pub const RECORDS_MAX: usize = 12;
/// The maximum number of data bytes in a line.
pub const DATA_MAX: usize = RECORDS_MAX * size_of::<Record>();
/// The maximum length of a line, without its newline.
pub const LINE_MAX: usize =
    PREFIX.len() + NAMES + 2 * 10 + 20 + "records".len() + DATA_MAX.div_ceil(3) * 4 + 8;
/// The length of the names and separators of all fields.
const NAMES: usize = "line= part= cpu= at= data= crc=".len();

const _: () = assert!(DATA_MAX >= size_of::<super::RingHeader>(), "a ring header must fit in a line");
const _: () = assert!(DATA_MAX >= size_of::<super::Directory>(), "the directory must fit in a line");

/// Use one table of 256 words. The sixteen tables of the fastest algorithm would take a tenth of the kernel's size.
static CRC: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISO_HDLC);

/// The contents of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The directory, before all other lines.
    Start,
    /// A ring's header, before its records.
    Ring,
    /// Some of the records of a ring.
    Records,
    /// The directory again, after all other lines. The trace is complete if no earlier line is missing.
    End,
}

impl Part {
    const ALL: [Part; 4] = [Part::Start, Part::Ring, Part::Records, Part::End];

    /// Returns the name of the part in a line.
    const fn name(self) -> &'static str {
        match self {
            Part::Start => "start",
            Part::Ring => "ring",
            Part::Records => "records",
            Part::End => "end",
        }
    }
}

/// The position of a line in the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The number of the line, from 0.
    pub line: u32,
    /// The contents of the line.
    pub part: Part,
    /// The ring's index in the directory; 0 for the directory itself.
    pub cpu: u32,
    /// The number of records that the CPU wrote before the first record in this line, or, in a header line, before the
    /// first record after the header.
    pub at: u64,
}

/// A line to be written.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// The position of the line.
    pub place: Place,
    /// The data of the line, at most [`DATA_MAX`] bytes.
    pub data: &'a [u8],
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { line, part, cpu, at } = self.place;
        let data = Base64Display::new(self.data, &STANDARD);
        let mut summed = Summed { inner: f, digest: CRC.digest() };
        write!(summed, "{PREFIX}line={line} part={} cpu={cpu} at={at} data={data}", part.name())?;
        let sum = summed.digest.finalize();
        write!(f, " crc={sum:08x}")
    }
}

/// Forwards text and computes its checksum.
struct Summed<'a, 'b> {
    inner: &'a mut fmt::Formatter<'b>,
    digest: Digest<'static, u32, Table<1>>,
}

impl fmt::Write for Summed<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.digest.update(text.as_bytes());
        self.inner.write_str(text)
    }
}

/// A parsed line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// The position of the line.
    pub place: Place,
    data: [u8; DATA_MAX],
    length: usize,
}

impl Received {
    /// Returns the data of the line.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.data[..self.length]
    }
}

/// The error if a trace line has a wrong checksum or cannot be parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged;

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a line of the trace is damaged")
    }
}

impl core::error::Error for Damaged {}

/// Parses a console line without its newline. Returns `None` if the line is not a trace line.
///
/// # Errors
/// [`Damaged`] if the line has the prefix but cannot be parsed.
pub fn parse(line: &[u8]) -> Option<Result<Received, Damaged>> {
    let body = line.strip_prefix(PREFIX.as_bytes())?;
    Some(received(line, body).ok_or(Damaged))
}

fn received(line: &[u8], body: &[u8]) -> Option<Received> {
    let body = core::str::from_utf8(body).ok()?;
    let (_, sum) = body.rsplit_once(" crc=")?;
    let summed = &line[..line.len() - sum.len() - " crc=".len()];
    if sum.len() != 8 || u32::from_str_radix(sum, 16).ok()? != CRC.checksum(summed) {
        return None;
    }
    let mut fields = Fields(body);
    let line = fields.number("line")?;
    let name = fields.text("part")?;
    let part = Part::ALL.into_iter().find(|part| part.name() == name)?;
    let place = Place { line, part, cpu: fields.number("cpu")?, at: fields.number("at")? };
    let mut data = [0; DATA_MAX];
    let length = STANDARD.decode_slice(fields.text("data")?, &mut data).ok()?;
    Some(Received { place, data, length })
}

const _: () = {
    let (mark, prefix) = (MARK.as_bytes(), PREFIX.as_bytes());
    let mut n = 0;
    while n < mark.len() {
        assert!(
            mark[n] == prefix[n],
            "a trace line must start like a completion record, which no program can forge"
        );
        n += 1;
    }
};

#[cfg(test)]
mod tests {
    use std::string::{String, ToString};

    use super::*;

    fn line(part: Part, data: &[u8]) -> String {
        let place = Place { line: u32::MAX, part, cpu: u32::MAX, at: u64::MAX };
        Line { place, data }.to_string()
    }

    #[test]
    fn every_part_round_trips_within_the_maximum_length() {
        let data: [u8; DATA_MAX] = core::array::from_fn(|n| (n * 7) as u8);
        for part in Part::ALL {
            for length in [0, 1, 2, 32, DATA_MAX] {
                let text = line(part, &data[..length]);
                assert!(text.len() <= LINE_MAX, "{} bytes", text.len());
                let received = parse(text.as_bytes())
                    .expect("there must be a trace line")
                    .expect("there must be an undamaged line");
                assert_eq!((received.place.part, received.data()), (part, &data[..length]));
                assert_eq!((received.place.line, received.place.at), (u32::MAX, u64::MAX));
            }
        }
        assert_eq!(line(Part::Records, &data).len(), LINE_MAX);
        assert_eq!(parse(b"@ringside verdict outcome=pass records=0 warnings=0"), None);
    }

    #[test]
    fn format_is_as_documented() {
        let place = Place { line: 3, part: Part::Records, cpu: 1, at: 24 };
        let text = Line { place, data: b"ringside" }.to_string();
        assert_eq!(text, "@ringside trace line=3 part=records cpu=1 at=24 data=cmluZ3NpZGU= crc=94467df9");
    }

    #[test]
    fn truncated_line_is_damaged() {
        let text = line(Part::Ring, &[1, 2, 3]);
        for end in PREFIX.len()..text.len() {
            assert_eq!(parse(&text.as_bytes()[..end]), Some(Err(Damaged)), "cut at {end}");
        }
    }

    #[test]
    fn flipped_bit_is_detected() {
        let text = line(Part::Records, &[0; 64]);
        for at in PREFIX.len()..text.len() {
            for bit in 0..8 {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                // A hexadecimal digit of the checksum may be upper or lower case.
                let same = bytes[at].eq_ignore_ascii_case(&text.as_bytes()[at]) && at + 8 >= text.len();
                assert!(same || parse(&bytes) == Some(Err(Damaged)), "bit {bit} of byte {at}");
            }
        }
    }
}
