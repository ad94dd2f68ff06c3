//! How much of a write the kernel accepts: a model of this CPU's console line, and the memory that is written from.

use core::cell::Cell;
use core::sync::atomic::Ordering;

use kernel_abi::errno::Errno;
use kernel_abi::layout::{PAGE_SIZE, SHARED_PAGE, STACK_SIZE, STACK_TOP, USER_END};
use kernel_abi::syscall::WRITE_SERIAL_MAX;
use user::{shared_page, sys};

/// The longest line that the kernel prints unbroken, in bytes (`docs/syscall-abi.md`, "The console").
const LINE_MAX: usize = 512;
/// The byte that fills all written memory; the host tool recognises such lines by it.
const FILLER: u8 = b'~';
/// Words at the shared page's end that all copies rewrite, each with one of its fillers.
pub const SHARED_WORDS: usize = 32;
/// The fillers of those words.
const SHARED_FILLERS: [u64; 2] = [u64::from_ne_bytes([b'~'; 8]), u64::from_ne_bytes([b'='; 8])];

/// Bytes at the stack's top that hold the parsed arguments, and are then overwritten with filler.
const TOP: u64 = 128;

/// Two pages of lines, so that a page boundary is inside. Their lengths vary, since they decide how much is accepted.
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

// SAFETY: nothing writes it; it is not constant only so that the linker places it in writable pages.
unsafe impl Sync for Writable {}

static WRITABLE: Writable = Writable(core::cell::UnsafeCell::new(LINES));

/// Returns the start addresses of the memory that may be written to the console: read-only, writable, the stack's
/// lowest and highest bytes.
pub fn sources() -> [u64; 4] {
    [(&raw const CONSTANT.0) as u64, WRITABLE.0.get() as u64, STACK_TOP - STACK_SIZE, STACK_TOP - TOP]
}

/// Model of this CPU's console line in the kernel.
pub struct Console {
    /// Bytes of the incomplete line.
    fill: Cell<usize>,
}

impl Console {
    /// Starts with an empty line, and fills the memory to be written: call it after the arguments have been parsed.
    pub fn new() -> Console {
        let fill = |start: u64, len: usize| {
            let start = core::ptr::with_exposed_provenance_mut::<u8>(start as usize);
            // SAFETY: both ranges are in this program's stack: the arguments, already parsed, and its far end, which
            // no call of this program reaches.
            unsafe { start.write_bytes(FILLER, len) };
        };
        fill(STACK_TOP - STACK_SIZE, 2 * WRITE_SERIAL_MAX);
        fill(STACK_TOP - TOP, TOP as usize);
        rewrite_shared(0);
        Console { fill: Cell::new(0) }
    }

    /// Returns the expected rax of a write, and updates the model as if it had been made.
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
            // SAFETY: `readable` bytes are mapped there, all of them filler and line ends.
            unsafe { bytes.add(place).read_volatile() }
        });
        self.fill.set(fill);
        taken as u64
    }

    /// Ends an incomplete line, so that the next message starts in the first column.
    pub fn end_line(&self) {
        if self.fill.replace(0) != 0 {
            sys::write_all(b"\n");
        }
    }
}

/// Writes one of its fillers to each of the shared words. They contain no line end, so a write from there is accepted
/// completely, whatever another CPU writes concurrently.
pub fn rewrite_shared(random: u64) {
    let page = shared_page();
    for word in 0..SHARED_WORDS {
        let filler = SHARED_FILLERS[(random >> word & 1) as usize];
        page.word(PAGE_SIZE as usize / 8 - SHARED_WORDS + word).store(filler, Ordering::Relaxed);
    }
}

/// Returns how many bytes from this address on are readable, within the memory that may be written; 0 elsewhere.
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

/// Returns how many of `len` bytes are accepted into a line of `fill` bytes, and its new length: all bytes before the
/// one that would complete a second line.
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
    fn a_write_stops_before_completing_a_second_line() {
        let of = |fill, text: &[u8]| taken(fill, text.len(), |place| text[place]);
        assert_eq!(of(0, b"~~~"), (3, 3));
        assert_eq!(of(5, b"~\n~~"), (4, 2));
        assert_eq!(of(0, b"~\n~\n~"), (3, 1));
        assert_eq!(of(0, b"\n\n"), (1, 0));
        assert_eq!(of(LINE_MAX, b"~"), (1, 1));
        assert_eq!(of(LINE_MAX - 1, b"~~\n~"), (2, 1));
    }

    #[test]
    fn a_maximal_write_can_contain_two_line_ends() {
        let lines = LINES.0;
        assert!(lines.iter().all(|byte| [FILLER, b'\n'].contains(byte)));
        let two = |window: &[u8]| window.iter().filter(|byte| **byte == b'\n').count() >= 2;
        assert!(lines.windows(WRITE_SERIAL_MAX).any(two));
    }
}
