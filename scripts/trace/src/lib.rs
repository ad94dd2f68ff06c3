//! The trace, from rings in a guest's memory to pictures.
//!
//! ```text
//!   guest RAM --(capture)--> x.rtrace --(reader, merge)--> events --> perfetto, ctf, text, stats
//!   console --(console)----> x.rtrace
//! ```
//!
//! [`capture`] is for whoever runs QEMU, [`file`] for whoever has records from elsewhere, [`run`] is the subcommand.
//! `docs/tracing.md` is the book about all of it.
#![forbid(unsafe_code)]

pub mod capture;
mod clock;
mod command;
pub mod console;
mod ctf;
pub mod error;
pub mod file;
#[cfg(test)]
mod file_tests;
mod layout;
mod merge;
pub mod options;
pub mod palette;
mod perfetto;
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
