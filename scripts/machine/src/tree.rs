//! Paths in the source tree.

use std::path::{Path, PathBuf};

/// The target triple of the kernel and of the ring-3 programs.
pub const BARE_TARGET: &str = "x86_64-unknown-none";

/// The target triple of the UEFI loader, which uses Microsoft's C calling convention.
pub const UEFI_TARGET: &str = "x86_64-unknown-uefi";

/// Returns the top directory of the source tree.
pub fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}

/// Returns cargo's target directory for bare-metal builds. It is separate because their compiler may differ from the
/// host's compiler.
pub fn bare_dir() -> PathBuf {
    root().join("target/bare")
}

/// Returns the directory in which cargo places the ELF files for [`BARE_TARGET`].
pub fn bare_artifacts() -> PathBuf {
    bare_dir().join(BARE_TARGET).join("release")
}

/// Returns a path as it is shown to the user: relative to the current directory, if it is inside that directory.
pub fn shown(path: &Path) -> PathBuf {
    let inside =
        std::env::current_dir().ok().and_then(|folder| Some(path.strip_prefix(folder).ok()?.to_owned()));
    inside.unwrap_or_else(|| path.to_owned())
}

/// Returns a path relative to the top directory of the source tree, if it is inside the tree.
pub fn relative(path: &Path) -> &Path {
    path.strip_prefix(root()).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_is_shown_relative_only_to_the_current_directory() {
        let folder = std::env::current_dir().expect("there must be a current directory");
        assert_eq!(shown(&folder.join("a/b")), Path::new("a/b"));
        assert_eq!(shown(Path::new("/nonexistent/a")), Path::new("/nonexistent/a"));
        assert_eq!(shown(Path::new("a")), Path::new("a"));
    }
}
