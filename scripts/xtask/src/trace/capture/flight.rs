//! The flight recorder: what survived in the rings when the guest has stopped.

use std::path::Path;
use std::time::Duration;

use super::Summary;
use super::guest_ram::GuestRam;
use super::rings::{Buffer, Rings};
use crate::trace::error::Error;
use crate::trace::file::Writer;

/// What is wrong with a ring whose CPU has taken less places than it had before.
pub const WENT_BACK: &str = "its head went back";

/// Writes the records that are in the rings to a trace file, in order, CPU by CPU.
///
/// To be called when the guest is stopped or gone. While it runs, the records that a CPU overwrites meanwhile are
/// left out, and its unfinished record counts as torn. `command` is the run's command line, for the file's header.
pub fn flight(ram: &GuestRam, path: &Path, command: &[String]) -> Result<Summary, Error> {
    let rings = Rings::find(ram)?;
    let mut cpus = Vec::new();
    for ring in rings.rings() {
        cpus.push(ring.describe(ram)?);
    }
    let mut writer = Writer::create(path, cpus.len())?;
    let mut buffer = Buffer::new()?;
    for (lane, ring) in rings.rings().enumerate() {
        // What comes after this look is not waited for: a running guest would never let us end.
        let head = ring.header(ram)?.head;
        let mut next = 0;
        while next < head {
            let mut append = |records: &[_]| writer.append(lane, records);
            let taken = ring.take(ram, next, true, &mut buffer, &mut append)?;
            cpus[lane].torn += taken.torn;
            cpus[lane].overwritten += taken.overwritten;
            if taken.went_back {
                cpus[lane].damaged = Some(WENT_BACK.to_owned());
                break;
            }
            next = taken.next.max(next + 1);
        }
    }
    let header = writer.finish(rings.header(command, cpus))?;
    Ok(Summary { path: path.to_owned(), header, drained: Duration::ZERO })
}
