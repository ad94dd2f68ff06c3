//! Device drivers: serial ports and the console, the legacy interrupt controllers, and QEMU's exit device.

pub mod pic;
pub mod qemu;
pub mod serial;
pub mod uart;
