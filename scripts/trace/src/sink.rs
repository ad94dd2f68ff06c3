//! Whatever takes events: a picture, a table, lines.

use super::error::Error;
use super::merge::Event;

/// Takes events in the order of time.
pub trait Sink {
    /// Takes the next event.
    fn event(&mut self, event: &Event) -> Result<(), Error>;

    /// There are no more events: writes out what is left.
    fn finish(&mut self) -> Result<(), Error>;
}
