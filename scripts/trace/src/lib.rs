//! Traces: captures them from rings in guest memory, converts them, computes statistics, and draws timelines.
//!
//! ```text
//!   guest RAM --(capture)--> x.rtrace --(reader, merge)--> events --> perfetto, ctf, text, stats
//!   console --(console)----> x.rtrace
//! ```
//!
//! Code that runs QEMU uses [`capture`]. Code that has records from another source uses [`file`]. [`run`] is the
//! subcommand. `docs/tracing.md` is the manual.
#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "tests write their own files, and a failed write fails the test"
    )
)]

pub mod capture;
mod clock;
mod command;
pub mod console;
mod ctf;
pub mod error;
pub mod file;
pub mod input;
mod layout;
mod merge;
pub mod options;
pub mod palette;
mod perfetto;
pub mod places;
mod reader;
pub mod shape;
mod sink;
pub mod spans;
pub mod stats;
pub mod survey;
mod svg;
mod synthetic;
#[cfg(test)]
mod tests;
mod text;
pub mod timeline;

pub use self::command::run;
pub use self::reader::first_records;
