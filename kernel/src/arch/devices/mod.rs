//! Device drivers: serial ports and the console, the legacy interrupt controllers, and the end of a run.

pub mod finish;
pub mod pic;
pub mod serial;
pub mod uart;
