//! The traces over the console, at the end of a run and after a panic: for machines whose memory nobody can look into.

use core::sync::atomic::Ordering;

use kernel_abi::trace::serial::{LINE_MAX, Line, Part, Place, RECORDS_MAX};
use kernel_abi::trace::{Directory, Record, RingHeader};
use zerocopy::{FromZeros, IntoBytes};

use super::rings::{SENT_AT_THE_END, directory, ring_at};
use crate::arch::devices::serial;

const _: () = assert!(LINE_MAX < serial::LINE_MAX, "a line of the trace is not cut by the console");

/// Sends all rings, oldest records first, if the command line asks for it.
pub fn send_if_wanted() {
    if !SENT_AT_THE_END.load(Ordering::Relaxed) {
        return;
    }
    let Some(directory) = directory() else { return };
    let mut sender = Sender { line: 0 };
    sender.send(Part::Start, 0, 0, directory.as_bytes());
    for cpu in 0..directory.cpus {
        sender.ring(directory, cpu);
    }
    sender.send(Part::End, 0, 0, directory.as_bytes());
}

/// Counts the lines.
struct Sender {
    line: u32,
}

impl Sender {
    fn ring(&mut self, directory: &Directory, cpu: u32) {
        let ring = ring_at(directory, cpu);
        // SAFETY: a ring of the directory's, mapped for good. At the end of a run its writer has stopped; after a panic it
        // may not have, and an NMI may strike: `head` is read once, and the reader knows a record that changed
        // meanwhile by its sequence.
        let header = unsafe { ring.read_volatile() };
        let capacity = u64::from(directory.capacity);
        let first = header.head.saturating_sub(capacity);
        self.send(Part::Ring, cpu, first, header.as_bytes());
        let mut at = first;
        while at < header.head {
            let mut records = [Record::new_zeroed(); RECORDS_MAX];
            let count = (header.head - at).min(RECORDS_MAX as u64) as usize;
            for (number, record) in (at..).zip(&mut records[..count]) {
                // SAFETY: as above; the index is below the capacity, a power of two.
                *record = unsafe { record_of(ring, number & (capacity - 1)).read_volatile() };
            }
            self.send(Part::Records, cpu, at, records[..count].as_bytes());
            at += count as u64;
        }
    }

    fn send(&mut self, part: Part, cpu: u32, at: u64, data: &[u8]) {
        serial::print(format_args!("{}", Line { place: Place { line: self.line, part, cpu, at }, data }));
        self.line += 1;
    }
}

/// Where a ring has a record.
///
/// # Safety
/// `index` is below the ring's capacity.
unsafe fn record_of(ring: *mut RingHeader, index: u64) -> *mut Record {
    // SAFETY: the records follow the header, and the caller says that there are so many.
    unsafe { ring.add(1).cast::<Record>().add(index as usize) }
}
