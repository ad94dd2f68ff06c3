//! Device drivers: serial ports, the screen and the console, the legacy interrupt controllers, and the end of a run.

pub mod finish;
pub mod pic;
pub mod screen;
pub mod serial;
pub mod uart;
