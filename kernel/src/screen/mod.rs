//! The screen: a frame buffer on which the console's lines and the results are readable.
//!
//! [`Mode`] checks the frame buffer that the loader reports. [`Cells`] holds the screen's text, and the text that the
//! frame buffer shows. [`draw`] turns cells into pixels. [`Results`] turns the completion records into a human-readable
//! table.
//!
//! The frame buffer is never read. Reads are slow, and [`Cells`] holds everything that they could return.
#![forbid(unsafe_code)]

mod cells;
pub mod draw;
mod font;
mod mode;
mod results;

pub use self::cells::{COLUMNS_MAX, Cells, Colour, ROWS_MAX};
pub use self::mode::{Mode, ScreenError};
pub use self::results::{Results, SHOWN_MAX};
