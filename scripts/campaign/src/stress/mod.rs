//! The subcommand `stress`: boots the program of that name with a seed, once or in a campaign, and looks at all
//! that can be known of each boot.
//!
//! ```text
//!   options, seeds --> machine, boot --(console)--> watch: lines, said, counts --> problems
//!                      campaign: one boot a seed --> result (JSON), table, replay commands --> merge
//! ```
//!
//! `docs/stress.md` is the book about it.

mod boot;
mod campaign;
mod conclude;
mod counts;
pub mod error;
mod evidence;
mod html;
mod jitter;
mod keep;
pub mod lines;
mod live;
mod machine;
mod merge;
pub mod options;
mod ports;
mod problem;
mod progress;
mod result;
mod said;
mod samples;
pub mod seeds;
mod table;
pub mod values;
mod watch;

pub use self::campaign::run;
pub use self::merge::run as merge;
