//! Quotes the words of QEMU's command line.

use std::ffi::OsString;
use std::path::Path;

/// Doubles commas: in QEMU's options a comma ends a value, and two commas represent one.
pub fn escape_commas(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

/// Quotes a command line for the user's shell.
pub fn shell_quoted(words: &[OsString]) -> String {
    let texts: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    // Only a NUL character cannot be quoted, and no process argument contains one.
    shlex::try_join(texts.iter().map(|text| &**text)).unwrap_or_else(|_| texts.join(" "))
}
