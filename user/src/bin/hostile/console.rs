//! What the kernel takes of a write: a model of this CPU's console line, and the memory that is written from.

use core::cell::Cell;
use core::sync::atomic::Ordering;

use kernel_abi::errno::Errno;
use kernel_abi::layout::{PAGE_SIZE, SHARED_PAGE, STACK_SIZE, STACK_TOP, USER_END};
use kernel_abi::syscall::WRITE_SERIAL_MAX;
use user::{shared_page, sys};

/// The longest line that the kernel keeps whole, in bytes (`docs/syscall-abi.md`, "The console").
const LINE_MAX: usize = 512;
/// What all written memory is filled with; the host tool knows a line of it by that.
const FILLER: u8 = b'~';
/// Words at the shared page's end that all copies rewrite, with a filler each of its own.
pub const SHARED_WORDS: usize = 32;
/// The fillers of those words.
const SHARED_FILLERS: [u64; 2] = [u64::from_ne_bytes([b'~'; 8]), u64::from_ne_bytes([b'='; 8])];

/// Bytes at the stack's top that hold arguments, which were read, and become filler.
const TOP: u64 = 128;

/// Two pages of lines, so that a page's end lies in them. Long and short lines: how far a call comes depends on them.
#[repr(align(4096))]
struct Lines([u8; 2 * PAGE_SIZE as usize]);

const LINES: Lines = {
    let mut lines = [FILLER; 2 * PAGE_SIZE as usize];
    let mut at = 150;
    while at < lines.len() {
        lines[at] = b'\n';
        at += 97;
    }
    Lines(lines)
};

/// Read-only.
static CONSTANT: Lines = LINES;

/// Readable and writable.
struct Writable(core::cell::UnsafeCell<Lines>);

// SAFETY: nobody writes it; it is not constant only for the pages it comes to lie in.
unsafe impl Sync for Writable {}

static WRITABLE: Writable = Writable(core::cell::UnsafeCell::new(LINES));

/// The beginnings of the memory that may be written to the console: read-only, writable, the stack's lowest and highest
/// bytes.
pub fn sources() -> [u64; 4] {
    [(&raw const CONSTANT.0) as u64, WRITABLE.0.get() as u64, STACK_TOP - STACK_SIZE, STACK_TOP - TOP]
}

/// This CPU's console line, as the kernel has to keep it.
pub struct Console {
    /// Bytes of a line that was begun.
    fill: Cell<usize>,
}

impl Console {
    /// Of a copy that has written nothing. Fills what can be written: to be called when the arguments have been read.
    pub fn new() -> Console {
        let fill = |start: u64, len: usize| {
            let start = core::ptr::with_exposed_provenance_mut::<u8>(start as usize);
            // SAFETY: both places are this program's stack: the arguments, which were read, and its far end, which
            // its calls never come near.
            unsafe { start.write_bytes(FILLER, len) };
        };
        fill(STACK_TOP - STACK_SIZE, 2 * WRITE_SERIAL_MAX);
        fill(STACK_TOP - TOP, TOP as usize);
        rewrite_shared(0);
        Console { fill: Cell::new(0) }
    }

    /// What a write has to come to: rax. The line is taken to be written.
    pub fn write(&self, address: u64, len: u64) -> u64 {
        if len == 0 {
            return 0;
        }
        if address >= USER_END || len > USER_END - address {
            return Errno::Fault.to_rax();
        }
        let readable = readable(address).min(len).min(WRITE_SERIAL_MAX as u64) as usize;
        if readable == 0 {
            return Errno::Fault.to_rax();
        }
        let bytes = core::ptr::with_exposed_provenance::<u8>(address as usize);
        let (taken, fill) = taken(self.fill.get(), readable, |place| {
            // SAFETY: so many bytes are readable there, all of them filler and line ends.
            unsafe { bytes.add(place).read_volatile() }
        });
        self.fill.set(fill);
        taken as u64
    }

    /// Ends a line that was begun, so that the next word stands in its first column.
    pub fn end_line(&self) {
        if self.fill.replace(0) != 0 {
            sys::write_all(b"\n");
        }
    }
}

/// Gives each of the shared words one of their fillers. No line ends: a write from there takes all that it is offered,
/// whatever another CPU does meanwhile.
pub fn rewrite_shared(random: u64) {
    let page = shared_page();
    for word in 0..SHARED_WORDS {
        let filler = SHARED_FILLERS[(random >> word & 1) as usize];
        page.word(PAGE_SIZE as usize / 8 - SHARED_WORDS + word).store(filler, Ordering::Relaxed);
    }
}

/// How many bytes from here on can be read, of the memory that can be written to the console; 0 elsewhere.
fn readable(address: u64) -> u64 {
    let [constant, writable, bottom, _] = sources();
    let lines = size_of::<Lines>() as u64;
    let shared = SHARED_PAGE + PAGE_SIZE;
    let regions = [
        (constant, constant + lines),
        (writable, writable + lines),
        (bottom, STACK_TOP),
        (shared - 8 * SHARED_WORDS as u64, shared),
    ];
    regions.iter().find(|(start, end)| (*start..*end).contains(&address)).map_or(0, |(_, end)| end - address)
}

/// How many of `len` bytes go into a line that has `fill`, and what it has then: as many as there are before the byte
/// that would complete a second line.
fn taken(mut fill: usize, len: usize, byte: impl Fn(usize) -> u8) -> (usize, usize) {
    let mut sent = false;
    for place in 0..len {
        let ends = byte(place) == b'\n';
        if ends || fill == LINE_MAX {
            if sent {
                return (place, fill);
            }
            sent = true;
            fill = 0;
        }
        if !ends {
            fill += 1;
        }
    }
    (len, fill)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_stops_in_front_of_a_second_line() {
        let of = |fill, text: &[u8]| taken(fill, text.len(), |place| text[place]);
        assert_eq!(of(0, b"~~~"), (3, 3));
        assert_eq!(of(5, b"~\n~~"), (4, 2));
        assert_eq!(of(0, b"~\n~\n~"), (3, 1));
        assert_eq!(of(0, b"\n\n"), (1, 0));
        assert_eq!(of(LINE_MAX, b"~"), (1, 1));
        assert_eq!(of(LINE_MAX - 1, b"~~\n~"), (2, 1));
    }

    #[test]
    fn the_written_memory_has_lines_of_all_lengths_that_matter() {
        let lines = LINES.0;
        assert!(lines.iter().all(|byte| [FILLER, b'\n'].contains(byte)));
        let two = |window: &[u8]| window.iter().filter(|byte| **byte == b'\n').count() >= 2;
        assert!(lines.windows(WRITE_SERIAL_MAX).any(two));
    }
}
