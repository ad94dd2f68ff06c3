//! A trace as lines of text, for machines whose memory nobody can look into: the same structures that lie in memory, in
//! pieces that share a console with everything else.
//!
//! ```text
//!   @ringside trace line=0 part=start cpu=0 at=0 data=BASE64 crc=0123abcd      the Directory
//!   @ringside trace line=1 part=ring cpu=0 at=4000 data=BASE64 crc=...         CPU 0's RingHeader; 4000 is the first
//!   @ringside trace line=2 part=records cpu=0 at=4000 data=BASE64 crc=...      its records 4000 to 4011, and so on
//!   ...
//!   @ringside trace line=9 part=end cpu=0 at=0 data=BASE64 crc=...             the Directory once more
//! ```
//!
//! Lines are counted, so that a lost one is missed, and the last one says how many there were. The checksum is the
//! CRC-32 of zip and Ethernet over the line's bytes before ` crc=`: a damaged line is known for one, whatever part of
//! it was hit. What lines hold stands by itself, so that the others remain of use.

use core::fmt::{self, Write};

use base64::Engine;
use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use crc::{CRC_32_ISO_HDLC, Crc, Digest, Table};

use super::Record;
use crate::record::{Fields, MARK};

/// What these lines begin with.
pub const PREFIX: &str = "@ringside trace ";
/// The most records that a line has, so that it is no longer than the kernel's longest console line.
pub const RECORDS_MAX: usize = 12;
/// The most bytes that a line has in it.
pub const DATA_MAX: usize = RECORDS_MAX * size_of::<Record>();
/// The most bytes that a line has, without its end.
pub const LINE_MAX: usize =
    PREFIX.len() + NAMES + 2 * 10 + 20 + "records".len() + DATA_MAX.div_ceil(3) * 4 + 8;
/// Bytes of the fields' names and what stands between them.
const NAMES: usize = "line= part= cpu= at= data= crc=".len();

const _: () = assert!(DATA_MAX >= size_of::<super::RingHeader>(), "a ring's header fits into a line");
const _: () = assert!(DATA_MAX >= size_of::<super::Directory>(), "the directory fits into a line");

/// One table of 256 words: the sixteen of the fastest way would weigh as much as a tenth of the kernel.
static CRC: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISO_HDLC);

/// What a line holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The directory, in front of all else.
    Start,
    /// A ring's header, in front of its records.
    Ring,
    /// Some of its records.
    Records,
    /// The directory again, behind all else: the trace is complete if all lines before it are there.
    End,
}

impl Part {
    const ALL: [Part; 4] = [Part::Start, Part::Ring, Part::Records, Part::End];

    /// Its word in the line.
    const fn name(self) -> &'static str {
        match self {
            Part::Start => "start",
            Part::Ring => "ring",
            Part::Records => "records",
            Part::End => "end",
        }
    }
}

/// Where a line belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its number, from 0.
    pub line: u32,
    /// What it holds.
    pub part: Part,
    /// The ring's place in the directory; 0 for the directory itself.
    pub cpu: u32,
    /// Records that the ring's CPU had written before the first one that is sent here, or from here on.
    pub at: u64,
}

/// A line, to be written.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// Where it belongs.
    pub place: Place,
    /// What it holds, at most [`DATA_MAX`] bytes.
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

/// Passes text on and sums it up.
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

/// A line, read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Where it belongs.
    pub place: Place,
    data: [u8; DATA_MAX],
    length: usize,
}

impl Received {
    /// What it holds.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.data[..self.length]
    }
}

/// The line does not have the checksum that it says, or was never one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged;

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a line of the trace is damaged")
    }
}

impl core::error::Error for Damaged {}

/// Reads a console line, without its line end. `None`: it is none of these.
///
/// # Errors
/// [`Damaged`] if it begins like one of these.
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
        assert!(mark[n] == prefix[n], "no program can write a line that begins like a completion record");
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
    fn every_part_reads_back_as_written_and_is_no_longer_than_it_may_be() {
        let data: [u8; DATA_MAX] = core::array::from_fn(|n| (n * 7) as u8);
        for part in Part::ALL {
            for length in [0, 1, 2, 32, DATA_MAX] {
                let text = line(part, &data[..length]);
                assert!(text.len() <= LINE_MAX, "{} bytes", text.len());
                let received = parse(text.as_bytes()).expect("is one").expect("is whole");
                assert_eq!((received.place.part, received.data()), (part, &data[..length]));
                assert_eq!((received.place.line, received.place.at), (u32::MAX, u64::MAX));
            }
        }
        assert_eq!(line(Part::Records, &data).len(), LINE_MAX);
        assert_eq!(parse(b"@ringside verdict outcome=pass records=0 warnings=0"), None);
    }

    #[test]
    fn the_format_is_the_documented_one() {
        let place = Place { line: 3, part: Part::Records, cpu: 1, at: 24 };
        let text = Line { place, data: b"ringside" }.to_string();
        assert_eq!(text, "@ringside trace line=3 part=records cpu=1 at=24 data=cmluZ3NpZGU= crc=94467df9");
    }

    #[test]
    fn a_line_cut_off_anywhere_is_damaged() {
        let text = line(Part::Ring, &[1, 2, 3]);
        for end in PREFIX.len()..text.len() {
            assert_eq!(parse(&text.as_bytes()[..end]), Some(Err(Damaged)), "cut at {end}");
        }
    }

    #[test]
    fn a_byte_that_is_not_what_it_was_is_noticed_wherever_it_is() {
        let text = line(Part::Records, &[0; 64]);
        for at in PREFIX.len()..text.len() {
            for bit in 0..8 {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                // A hexadecimal digit is the same in either case.
                let same = bytes[at].eq_ignore_ascii_case(&text.as_bytes()[at]) && at + 8 >= text.len();
                assert!(same || parse(&bytes) == Some(Err(Damaged)), "bit {bit} of byte {at}");
            }
        }
    }
}
