//! Flight-recorder mode: copies the records from the rings after the guest has stopped.

use std::path::Path;
use std::time::Duration;

use super::Summary;
use super::guest_ram::GuestRam;
use super::rings::{Buffer, Rings, Totals};
use crate::error::Error;
use crate::file::Writer;

/// Writes the records in the rings to a trace file, in order, CPU by CPU.
///
/// Call it after the guest has stopped or exited. If the guest is running, records that a CPU overwrites during the
/// copy are left out, and an unfinished record counts as torn. `command` is the run's command line, for the file
/// header.
pub fn flight(ram: &GuestRam, path: &Path, command: &[String]) -> Result<Summary, Error> {
    let rings = Rings::find(ram)?;
    let rings_of_cpus: Vec<_> = rings.rings().collect();
    let mut writer = Writer::create(path, rings_of_cpus.len())?;
    let (mut buffer, mut cpus) = (Buffer::new()?, Vec::new());
    for (lane, ring) in rings_of_cpus.iter().enumerate() {
        // Stop at this head: with a running guest, reading up to the current head might never end.
        let head = ring.header(ram)?.head;
        let (mut next, mut totals) = (0, Totals::default());
        while next < head {
            let mut append = |records: &[_]| writer.append(lane, records);
            let taken = ring.read_records(ram, next, true, &mut buffer, &mut append)?;
            totals.add(&taken);
            if taken.head_decreased {
                break;
            }
            next = taken.next.max(next + 1);
        }
        cpus.push(ring.describe(ram, totals)?);
    }
    let header = writer.finish(rings.header(command, cpus))?;
    Ok(Summary { path: path.to_owned(), header, drained: Duration::ZERO })
}
