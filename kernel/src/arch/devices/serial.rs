//! The console: a UART and the screen, if the machine has them. All CPUs share it and write complete lines.

use core::fmt;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use kernel_abi::record::Record;
use spin::Mutex;
use x86_64::instructions::interrupts;

use crate::arch::devices::screen::Screen;
use crate::arch::devices::uart::{self, Uart};
use crate::screen::Mode;
use crate::text::Text;

/// The console's devices. A machine may have none of them.
struct Console {
    uart: Option<Uart>,
    screen: Option<Screen>,
}

/// The console. The lock holder writes one line and releases the lock. Two kinds of CPUs wait for the lock: CPUs that
/// write a kernel line, with interrupts off, and the one CPU whose turn it is to write a program's line (see
/// [`crate::arch::percpu::print`]). A kernel line waits for at most one program's line. A program's line waits for all
/// kernel lines that other CPUs are about to write. A program causes at most one kernel line on its CPU, when it is
/// killed at the end of the CPU's last round. Other kernel lines report rare interrupts, at most one line of each kind
/// per tick or interrupt, so only an external source of interrupts can delay a program's line without bound.
static CONSOLE: Mutex<Console> = Mutex::new(Console { uart: None, screen: None });

/// Set by the panicking CPU once the others are stopped, because a stopped CPU may hold the lock.
static LOCK_BYPASSED: AtomicBool = AtomicBool::new(false);

/// The number of CPUs that are about to write a kernel line. They take precedence over the CPU whose turn it is.
static KERNEL_LINES: AtomicU32 = AtomicU32::new(0);

/// The number of bytes passed to [`print`] that were dropped.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// What the screen shows for a line.
#[derive(Clone, Copy)]
enum Shown<'a> {
    /// The line itself.
    Line,
    /// The record that the line contains, in human-readable form.
    Record(&'a Record<'a>),
    /// Nothing, because the line is for the host tool only.
    Nothing,
}

/// Sets up COM1. On a machine without COM1 and without a screen the kernel runs without console output.
pub fn init() {
    CONSOLE.lock().uart = uart::open(uart::COM[0], Some(uart::BAUD));
}

/// Sets the address of the screen's frame buffer, or removes it. Lines that are written while there is no address are
/// drawn later.
///
/// # Safety
/// The frame buffer of the mode is mapped at this address, writable, until this function is called again. The mode is
/// the same in all calls.
pub unsafe fn set_screen(mode: Mode, address: Option<*mut u32>) {
    let mut console = CONSOLE.lock();
    if console.screen.is_none() {
        console.screen = Screen::new(mode);
    }
    if let Some(screen) = &mut console.screen {
        // SAFETY: the caller guarantees what `set_address` requires.
        unsafe { screen.set_address(address) };
    }
}

/// Removes the screen from the console.
pub fn remove_screen() {
    CONSOLE.lock().screen = None;
}

/// Returns whether the console has a screen.
pub fn has_screen() -> bool {
    CONSOLE.lock().screen.is_some()
}

/// Replaces the console's UART. With `None`, the console has no UART.
pub fn set_uart(uart: Option<Uart>) {
    CONSOLE.lock().uart = uart;
}

/// Writes a kernel line to the console under the console lock, with interrupts off. Returns the number of bytes dropped
/// because the UART did not become ready in time.
pub(in crate::arch) fn write(text: &[u8]) -> usize {
    write_shown(text, Shown::Line)
}

/// Does the same as [`write`]. The line is drawn before it is sent to the UART, because the UART may take seconds.
/// After the lock has been bypassed, the line is sent to the UART first, because the cause of the panic may be a fault
/// in the drawing code, which would occur again.
fn write_shown(text: &[u8], shown: Shown<'_>) -> usize {
    interrupts::without_interrupts(|| {
        let is_bypassed = LOCK_BYPASSED.load(Ordering::Relaxed);
        if is_bypassed {
            // SAFETY: the flag is set only after every other CPU has stopped permanently or has failed to stop within
            // the timeout (invariant: ONE-PANIC). A stopped lock holder never continues, and a CPU that did not stop is
            // broken.
            unsafe { CONSOLE.force_unlock() };
        }
        KERNEL_LINES.fetch_add(1, Ordering::Relaxed);
        let dropped = {
            let Console { uart, screen } = &mut *CONSOLE.lock();
            let mut send = || uart.as_mut().map_or(0, |uart| uart.send(text, spin_loop));
            let sent = is_bypassed.then(&mut send);
            if let Some(screen) = screen {
                match shown {
                    Shown::Line => screen.add_line(text),
                    Shown::Record(record) => screen.add_record(record),
                    Shown::Nothing => {}
                }
                screen.draw(&|| ());
            }
            sent.unwrap_or_else(send)
        };
        KERNEL_LINES.fetch_sub(1, Ordering::Relaxed);
        dropped
    })
}

/// Writes a line of program output to the console. It must be this CPU's turn. Calls `pause` repeatedly while it waits
/// for the lock, and `poll` while it draws or waits for the UART. Both may handle interrupts whose handlers do not print.
/// `poll` must return, because this CPU holds the lock.
pub(in crate::arch) fn write_in_turn(line: &[u8], pause: impl Fn(), poll: impl Fn()) -> usize {
    loop {
        if KERNEL_LINES.load(Ordering::Relaxed) == 0
            && let Some(mut console) = CONSOLE.try_lock()
        {
            let Console { uart, screen } = &mut *console;
            if let Some(screen) = screen {
                screen.add_line(line);
                screen.draw(&poll);
            }
            return uart.as_mut().map_or(0, |uart| uart.send(line, poll));
        }
        pause();
    }
}

/// Runs `f` while this CPU holds the console lock. Used by tests of a panic in the middle of a line.
pub(in crate::arch) fn with_lock<R>(f: impl FnOnce() -> R) -> R {
    let _guard = CONSOLE.lock();
    f()
}

/// Makes all later writes bypass the console lock.
///
/// # Safety
/// Every other CPU has stopped permanently, or has not stopped within the panic path's timeout. Code on this CPU that
/// holds the lock never resumes.
pub unsafe fn bypass_lock() {
    LOCK_BYPASSED.store(true, Ordering::Relaxed);
    if CONSOLE.is_locked() {
        // A CPU may have stopped in the middle of a line.
        // SAFETY: by the caller's contract the lock holder never continues (invariant: ONE-PANIC).
        unsafe { CONSOLE.force_unlock() };
        let Console { uart, screen } = &mut *CONSOLE.lock();
        uart.iter_mut().for_each(Uart::abandon_line);
        screen.iter_mut().for_each(Screen::abandon_drawing);
    }
}

/// Returns whether a panicking CPU has stopped waiting for the console lock.
pub(in crate::arch) fn is_bypassed() -> bool {
    LOCK_BYPASSED.load(Ordering::Relaxed)
}

/// The maximum length of a line in bytes, including its newline.
pub(in crate::arch) const LINE_MAX: usize = 640;

/// Formats one line and writes it to the console. A line longer than [`LINE_MAX`] is truncated.
pub fn print(arguments: fmt::Arguments<'_>) {
    print_shown(arguments, Shown::Line);
}

/// Writes a record to the console. The screen shows it in human-readable form.
pub fn print_record(record: &Record<'_>) {
    print_shown(format_args!("{record}"), Shown::Record(record));
}

/// Writes a line that is for the host tool only. The screen does not show it.
pub fn print_for_host(arguments: fmt::Arguments<'_>) {
    print_shown(arguments, Shown::Nothing);
}

fn print_shown(arguments: fmt::Arguments<'_>, shown: Shown<'_>) {
    let dropped = write_shown(Line::of(arguments).as_bytes(), shown);
    DROPPED.fetch_add(dropped as u64, Ordering::Relaxed);
}

/// Returns the number of bytes passed to [`print`] that were dropped.
pub(in crate::arch) fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// A line including its newline, truncated to [`LINE_MAX`] bytes.
pub(in crate::arch) struct Line {
    bytes: [u8; LINE_MAX],
    len: usize,
}

impl Line {
    /// Formats a line.
    pub fn of(arguments: fmt::Arguments<'_>) -> Line {
        Line::new(Text::<{ LINE_MAX - 1 }>::of(arguments).as_str().as_bytes(), &[])
    }

    /// Joins a prefix and text.
    pub fn new(prefix: &[u8], text: &[u8]) -> Line {
        let mut line = Line { bytes: [0; LINE_MAX], len: 0 };
        for &byte in prefix.iter().chain(text).take(LINE_MAX - 1).chain(b"\n") {
            line.bytes[line.len] = byte;
            line.len += 1;
        }
        line
    }

    /// Returns the bytes of the line.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}
