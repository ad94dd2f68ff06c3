//! Paths in the checkout.

use std::path::{Path, PathBuf};

/// The target triple of the kernel and of the ring-3 programs.
pub const BARE_TARGET: &str = "x86_64-unknown-none";

/// The target triple of the UEFI loader, whose C calling convention is Microsoft's.
pub const UEFI_TARGET: &str = "x86_64-unknown-uefi";

/// Returns the checkout's top folder.
pub fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}

/// Returns cargo's target folder for bare-metal builds. It is separate because their compiler may differ from the host's.
pub fn bare_dir() -> PathBuf {
    root().join("target/bare")
}

/// Returns the folder in which cargo puts the ELF files for [`BARE_TARGET`].
pub fn bare_artifacts() -> PathBuf {
    bare_dir().join(BARE_TARGET).join("release")
}

/// Returns the path relative to the checkout's top folder, if it is inside.
pub fn relative(path: &Path) -> &Path {
    path.strip_prefix(root()).unwrap_or(path)
}
