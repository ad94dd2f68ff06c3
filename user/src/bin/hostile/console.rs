//! A model of this CPU's console line, which predicts how many bytes of a write the kernel accepts, and the memory that
//! probes write to the console.

use core::cell::Cell;
use core::sync::atomic::Ordering;

use kernel_abi::errno::Errno;
use kernel_abi::layout::{PAGE_SIZE, SHARED_PAGE, STACK_SIZE, STACK_TOP, USER_END};
use kernel_abi::syscall::WRITE_SERIAL_MAX;
use user::{shared_page, sys};

/// The length of the longest line that the kernel prints unsplit, in bytes (`docs/syscall-abi.md`, "The console").
const LINE_MAX: usize = 512;
/// The byte that fills all memory that probes write. The host tool recognises lines that consist of this byte.
const FILLER: u8 = b'~';
/// Number of words at the end of the shared page that all copies rewrite, each word with a filler.
pub const SHARED_WORDS: usize = 32;
/// The two values that the shared words can have.
const SHARED_FILLERS: [u64; 2] = [u64::from_ne_bytes([b'~'; 8]), u64::from_ne_bytes([b'='; 8])];

/// Number of bytes at the top of the stack that hold the arguments, which are overwritten with filler after parsing.
const TOP: u64 = 128;

/// Two pages of lines, so that a page boundary lies inside. Line lengths vary, because they decide how much is
/// accepted.
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

/// Lines in read-only memory.
static CONSTANT: Lines = LINES;

/// Lines in readable and writable memory.
struct Writable(core::cell::UnsafeCell<Lines>);

// SAFETY: nothing writes the lines. They are in an UnsafeCell only so that the linker places them in writable pages.
unsafe impl Sync for Writable {}

static WRITABLE: Writable = Writable(core::cell::UnsafeCell::new(LINES));

/// Returns the start addresses of the memory that probes may write: read-only and writable lines, and the lowest and
/// highest bytes of the stack.
pub fn sources() -> [u64; 4] {
    [(&raw const CONSTANT.0) as u64, WRITABLE.0.get() as u64, STACK_TOP - STACK_SIZE, STACK_TOP - TOP]
}

/// The model of this CPU's console line in the kernel.
pub struct Console {
    /// Number of bytes in the incomplete line.
    fill: Cell<usize>,
}

impl Console {
    /// Creates the model of an empty line and fills the stack memory that probes write. Call it after the arguments
    /// have been parsed.
    pub fn new() -> Console {
        let fill = |start: u64, len: usize| {
            let start = core::ptr::with_exposed_provenance_mut::<u8>(start as usize);
            // SAFETY: both ranges are in this program's stack. One holds the arguments, which are already parsed. The
            // other is the lowest part, which no call of this program reaches.
            unsafe { start.write_bytes(FILLER, len) };
        };
        fill(STACK_TOP - STACK_SIZE, 2 * WRITE_SERIAL_MAX);
        fill(STACK_TOP - TOP, TOP as usize);
        rewrite_shared(0);
        Console { fill: Cell::new(0) }
    }

    /// Returns the expected rax of a write, and updates the model as if the write had been made.
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
            // SAFETY: `readable` bytes are mapped from this address on, all of them fillers and newlines.
            unsafe { bytes.add(place).read_volatile() }
        });
        self.fill.set(fill);
        taken as u64
    }

    /// Ends an incomplete line, so that the next message starts on a new line.
    pub fn end_line(&self) {
        if self.fill.replace(0) != 0 {
            sys::write_all(b"\n");
        }
    }
}

/// Writes one of the two fillers to each shared word. Fillers contain no newline, so a write of these words is accepted
/// completely, regardless of what another CPU stores concurrently.
pub fn rewrite_shared(random: u64) {
    let page = shared_page();
    for word in 0..SHARED_WORDS {
        let filler = SHARED_FILLERS[(random >> word & 1) as usize];
        page.word(PAGE_SIZE as usize / 8 - SHARED_WORDS + word).store(filler, Ordering::Relaxed);
    }
}

/// Returns how many bytes from this address on probes may write, or 0 outside the memory for writes.
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

/// Returns how many of `len` bytes the kernel accepts into a line of `fill` bytes, and the line's new length. It
/// accepts all bytes before the one that would complete a second line.
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
    fn a_maximal_write_can_contain_two_newlines() {
        let lines = LINES.0;
        assert!(lines.iter().all(|byte| [FILLER, b'\n'].contains(byte)));
        let two = |window: &[u8]| window.iter().filter(|byte| **byte == b'\n').count() >= 2;
        assert!(lines.windows(WRITE_SERIAL_MAX).any(two));
    }
}
