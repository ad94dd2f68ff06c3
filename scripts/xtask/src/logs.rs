//! The directory and the names of the test suite's logs.

use std::path::PathBuf;

use machine::tree::root;

/// Returns the directory of the logs. It has one log for each check or case.
pub fn log_folder() -> PathBuf {
    root().join("target/test-logs")
}

/// Converts the name of a check or case to a file name.
pub fn file_name(name: &str) -> String {
    name.replace("::", "-").replace(|c: char| !c.is_ascii_alphanumeric() && c != '.', "-")
}
