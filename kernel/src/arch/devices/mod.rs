//! The machine's devices: serial ports and the console, the legacy interrupt controllers, QEMU's exit device.

pub mod pic;
pub mod qemu;
pub mod serial;
pub mod uart;
