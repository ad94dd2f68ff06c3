//! Ends a run: writes the verdict to QEMU's `isa-debug-exit` device, which ends the QEMU process.

use kernel_abi::verdict::{DEBUG_EXIT_PORT, Verdict};
use x86_64::instructions::{hlt, interrupts, port::Port};

/// Ends QEMU with the exit status of the verdict. On a machine without the device, this CPU halts permanently.
pub fn exit(verdict: Verdict) -> ! {
    let mut port = Port::<u32>::new(DEBUG_EXIT_PORT);
    // SAFETY: the port belongs to the exit device. On a PC without that device no other device uses the port.
    unsafe { port.write(verdict as u32) };
    loop {
        interrupts::disable();
        hlt();
    }
}
