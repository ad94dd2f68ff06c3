//! Where the suite keeps its logs, and how they are named.

use std::path::PathBuf;

use machine::tree::root;

/// Where the logs are kept, one a check or case.
pub fn log_folder() -> PathBuf {
    root().join("target/test-logs")
}

/// A name as part of a path.
pub fn file_name(name: &str) -> String {
    name.replace("::", "-").replace(|c: char| !c.is_ascii_alphanumeric() && c != '.', "-")
}
