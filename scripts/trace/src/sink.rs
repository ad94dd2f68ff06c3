//! The interface of everything that consumes events: pictures, tables, text.

use super::error::Error;
use super::merge::Event;

/// Consumes events in the order of time.
pub trait Sink {
    /// Processes the next event.
    fn event(&mut self, event: &Event) -> Result<(), Error>;

    /// Writes the remaining output after the last event.
    fn finish(&mut self) -> Result<(), Error>;
}
