//! Sends the trace rings over the console at the end of a run and after a panic. Used on machines whose memory the host
//! tool cannot read.

use core::sync::atomic::Ordering;

use bytemuck::{Zeroable, bytes_of, cast_slice};
use kernel_abi::trace::serial::{LINE_MAX, Line, Part, Place, RECORDS_MAX};
use kernel_abi::trace::{Directory, MAGIC, Record, RingHeader};

use super::rings::{SEND_AT_END, directory, ring_at};
use crate::arch::devices::serial;

const _: () = assert!(LINE_MAX < serial::LINE_MAX, "the console must not truncate a line of the trace");

/// Sends all rings, oldest records first, if the command line requests it.
pub fn send_if_requested() {
    if !SEND_AT_END.load(Ordering::Relaxed) {
        return;
    }
    // Without the frequency of the TSC, which `publish` stores, the host cannot use the trace.
    let Some(directory) = directory().filter(|directory| directory.magic == MAGIC) else { return };
    let mut sender = Sender { line: 0 };
    sender.send(Part::Start, 0, 0, bytes_of(directory));
    for cpu in 0..directory.cpus {
        sender.ring(directory, cpu);
    }
    sender.send(Part::End, 0, 0, bytes_of(directory));
}

/// Numbers the lines and sends them.
struct Sender {
    line: u32,
}

impl Sender {
    /// Sends one CPU's ring.
    fn ring(&mut self, directory: &Directory, cpu: u32) {
        let ring = ring_at(directory, cpu);
        // SAFETY: the directory's rings are never unmapped. At the end of a run no CPU records. After a panic, another
        // CPU or an NMI on this CPU may still record. So `head` is read once, and the reader recognises a record that
        // changed during the copy by its `sequence`.
        let header = unsafe { ring.read_volatile() };
        let capacity = u64::from(directory.capacity);
        let first = header.head.saturating_sub(capacity);
        self.send(Part::Ring, cpu, first, bytes_of(&header));
        let mut at = first;
        while at < header.head {
            let mut records = [Record::zeroed(); RECORDS_MAX];
            let count = (header.head - at).min(RECORDS_MAX as u64) as usize;
            for (number, record) in (at..).zip(&mut records[..count]) {
                // SAFETY: the capacity is a power of two, so the mask keeps the index below the capacity. The reader
                // recognises a record that changed during the copy by its `sequence`.
                *record = unsafe { record_of(ring, number & (capacity - 1)).read_volatile() };
            }
            self.send(Part::Records, cpu, at, cast_slice(&records[..count]));
            at += count as u64;
        }
    }

    /// Sends one line.
    fn send(&mut self, part: Part, cpu: u32, at: u64, data: &[u8]) {
        serial::print_for_host(format_args!(
            "{}",
            Line { place: Place { line: self.line, part, cpu, at }, data }
        ));
        self.line += 1;
    }
}

/// Returns the address of a record in a ring.
///
/// # Safety
/// `index` is less than the ring's capacity.
unsafe fn record_of(ring: *mut RingHeader, index: u64) -> *mut Record {
    // SAFETY: the records follow the header, and the caller guarantees that the index is less than the capacity.
    unsafe { ring.add(1).cast::<Record>().add(index as usize) }
}
