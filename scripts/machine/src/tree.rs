//! Where things lie in the checkout.

use std::path::{Path, PathBuf};

/// The target triple of the kernel and of the ring-3 programs.
pub const BARE_TARGET: &str = "x86_64-unknown-none";

/// The target triple of the UEFI loader, whose C calling convention is another one.
pub const UEFI_TARGET: &str = "x86_64-unknown-uefi";

/// The checkout's top folder.
pub fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}

/// Cargo's target folder for bare-metal builds: another compiler may make them than the host's.
pub fn bare_dir() -> PathBuf {
    root().join("target/bare")
}

/// Where cargo leaves the finished ELF files for [`BARE_TARGET`].
pub fn bare_artifacts() -> PathBuf {
    bare_dir().join(BARE_TARGET).join("release")
}

/// The path as a user in the checkout would write it.
pub fn relative(path: &Path) -> &Path {
    path.strip_prefix(root()).unwrap_or(path)
}
