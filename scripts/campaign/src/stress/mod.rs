//! The subcommand `stress`: boots the program of that name with a seed, once or in a campaign, and checks the console,
//! the counts and the outcome of each boot.
//!
//! ```text
//!   options, seeds --> machine, boot --(console)--> watch: lines, console_line, counts --> problems
//!                      campaign: one boot per seed --> result (JSON), table, replay commands --> merge
//! ```
//!
//! See `docs/stress.md`.

mod boot;
mod campaign;
mod conclude;
mod console_line;
mod counts;
pub mod error;
mod evidence;
pub mod html;
mod jitter;
pub mod lines;
mod live;
mod log;
mod machine;
mod merge;
pub mod options;
mod problem;
mod progress;
mod result;
mod samples;
pub mod seeds;
mod serial_files;
mod table;
pub mod values;
mod watch;

pub use self::campaign::run;
pub use self::merge::run as merge;
