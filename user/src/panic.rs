//! The panic handler: a message on the console, then the exit code that Rust programs panic with.

use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::{ExitCode, println, sys};

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    static PANICKING: AtomicBool = AtomicBool::new(false);

    // Formatting the message may panic again: then exit without a message.
    if !PANICKING.swap(true, Ordering::Relaxed) {
        println!("{info}");
    }
    sys::exit(ExitCode::PANIC)
}
