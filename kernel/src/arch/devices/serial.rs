//! The console: COM1, shared by all CPUs, one whole line at a time.

use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use spin::Mutex;
use x86_64::instructions::interrupts;

use crate::arch::devices::uart::{self, Uart};
use crate::text::Text;

/// The UART, once [`init`] has found one. Every holder has interrupts off, prints one line and lets go. The lock is not
/// fair, on purpose: a queue would let every CPU wait for the one whose turn it is, which a hypervisor may have put
/// to sleep. A program that prints leaves ring 0 after each line, so that it cannot keep the others out for long.
static UART: Mutex<Option<Uart>> = Mutex::new(None);

/// Set by the panicking CPU once the others are stopped: nobody is left to wait for.
static BROKEN_OPEN: AtomicBool = AtomicBool::new(false);

/// Sets up COM1. A machine without one runs on in silence.
pub fn init() {
    *UART.lock() = uart::open(uart::COM[0]);
}

/// Writes text to the console in one piece, interrupts off.
pub(in crate::arch) fn write(text: &[u8]) {
    interrupts::without_interrupts(|| {
        if BROKEN_OPEN.load(Ordering::Relaxed) {
            // SAFETY: the flag says that every other CPU is stopped, so the lock's holder, if there is one,
            // will neither go on nor come back.
            unsafe { UART.force_unlock() };
        }
        if let Some(uart) = UART.lock().as_mut() {
            uart.send_bytes_exact(text);
        }
    });
}

/// Runs `f` while the console's lock is held, as if in the middle of a line.
pub(in crate::arch) fn with_lock<R>(f: impl FnOnce() -> R) -> R {
    let _guard = UART.lock();
    f()
}

/// From now on the console's lock is no hindrance.
///
/// # Safety
/// Every other CPU is stopped for good, and this one does not hold the lock for code that goes on.
pub unsafe fn break_open() {
    BROKEN_OPEN.store(true, Ordering::Relaxed);
    if UART.is_locked() {
        // Somebody was stopped in the middle of a line: what comes now must not hang on to it.
        write(b"\n");
    }
}

/// The longest line, in bytes, line end included.
pub(in crate::arch) const LINE_MAX: usize = 640;

/// Formats one line and writes it to the console; what is too long is cut.
pub fn print(arguments: fmt::Arguments<'_>) {
    let line = Text::<{ LINE_MAX - 1 }>::of(arguments);
    with_line_end(line.as_str().as_bytes(), &[], write);
}

/// Puts both parts and a line end together.
pub(in crate::arch) fn with_line_end(prefix: &[u8], bytes: &[u8], send: impl FnOnce(&[u8])) {
    let mut line = [0; LINE_MAX];
    let mut len = 0;
    for &byte in prefix.iter().chain(bytes).take(LINE_MAX - 1).chain(b"\n") {
        line[len] = byte;
        len += 1;
    }
    send(&line[..len]);
}
