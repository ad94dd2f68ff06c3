//! The console: COM1, shared by all CPUs, written in complete lines.

use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use spin::Mutex;
use x86_64::instructions::interrupts;

use crate::arch::devices::uart::{self, Uart};
use crate::text::Text;

/// The UART, once [`init`] has found one. Every holder has interrupts off, writes one line and releases the lock. It is
/// deliberately not a ticket lock: with a queue every CPU would wait for the next in the queue, whose virtual CPU the
/// hypervisor may have descheduled. A program that prints leaves ring 0 after each line, so it cannot starve the
/// other CPUs.
static UART: Mutex<Option<Uart>> = Mutex::new(None);

/// Set by the panicking CPU once the others are stopped: the lock's holder may never release it.
static LOCK_BYPASSED: AtomicBool = AtomicBool::new(false);

/// Sets up COM1. On a machine without COM1 the kernel runs without console output.
pub fn init() {
    *UART.lock() = uart::open(uart::COM[0]);
}

/// Writes text to the console under its lock, with interrupts off.
pub(in crate::arch) fn write(text: &[u8]) {
    interrupts::without_interrupts(|| {
        if LOCK_BYPASSED.load(Ordering::Relaxed) {
            // SAFETY: the flag is set only after the other CPUs have stopped permanently or have not stopped within the
            // time limit (invariant: ONE-PANIC). A stopped holder of the lock never continues; one that does not stop
            // is broken.
            unsafe { UART.force_unlock() };
        }
        if let Some(uart) = UART.lock().as_mut() {
            uart.send_bytes_exact(text);
        }
    });
}

/// Runs `f` while this CPU holds the console's lock, for tests of a panic in the middle of a line.
pub(in crate::arch) fn with_lock<R>(f: impl FnOnce() -> R) -> R {
    let _guard = UART.lock();
    f()
}

/// Makes every later write bypass the console's lock.
///
/// # Safety
/// Every other CPU has stopped permanently, or has not stopped within the panic's time limit, and no code of
/// this CPU that holds the lock continues.
pub unsafe fn bypass_lock() {
    LOCK_BYPASSED.store(true, Ordering::Relaxed);
    if UART.is_locked() {
        // A CPU was stopped in the middle of a line: start a new one.
        write(b"\n");
    }
}

/// The longest line, in bytes, line end included.
pub(in crate::arch) const LINE_MAX: usize = 640;

/// Formats one line and writes it to the console; a line longer than [`LINE_MAX`] is cut.
pub fn print(arguments: fmt::Arguments<'_>) {
    let line = Text::<{ LINE_MAX - 1 }>::of(arguments);
    with_line_end(line.as_str().as_bytes(), &[], write);
}

/// Passes `prefix`, `bytes` and a line end to `send` as one line, cut to [`LINE_MAX`] bytes.
pub(in crate::arch) fn with_line_end(prefix: &[u8], bytes: &[u8], send: impl FnOnce(&[u8])) {
    let mut line = [0; LINE_MAX];
    let mut len = 0;
    for &byte in prefix.iter().chain(bytes).take(LINE_MAX - 1).chain(b"\n") {
        line[len] = byte;
        len += 1;
    }
    send(&line[..len]);
}
