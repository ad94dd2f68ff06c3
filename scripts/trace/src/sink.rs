//! The interface of everything that consumes events, such as pictures, tables and text.

use super::error::Error;
use super::merge::Event;

/// Consumes events in time order.
pub trait Sink {
    /// Processes the next event.
    fn event(&mut self, event: &Event) -> Result<(), Error>;

    /// Writes the remaining output after the last event.
    fn finish(&mut self) -> Result<(), Error>;
}
