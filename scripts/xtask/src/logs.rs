//! The folder of the suite's logs, and their names.

use std::path::PathBuf;

use machine::tree::root;

/// The folder of the logs, one for each check or case.
pub fn log_folder() -> PathBuf {
    root().join("target/test-logs")
}

/// Converts a name of a check or case to part of a path.
pub fn file_name(name: &str) -> String {
    name.replace("::", "-").replace(|c: char| !c.is_ascii_alphanumeric() && c != '.', "-")
}
