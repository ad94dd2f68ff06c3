//! The panic handler: prints a message on the console, then exits with the exit code of a Rust panic.

use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::{ExitCode, println, sys};

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    static PANICKING: AtomicBool = AtomicBool::new(false);

    // Formatting the message may panic again; in that case exit without a message.
    if !PANICKING.swap(true, Ordering::Relaxed) {
        println!("{info}");
    }
    sys::exit(ExitCode::PANIC)
}
