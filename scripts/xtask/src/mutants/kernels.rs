//! Kernels with cargo features: the one that checks itself, and the mutants. They are built beside the usual one, so
//! that neither takes the other's place.

use std::path::{Path, PathBuf};

use machine::build;
use machine::cargo;
use machine::cargo::Show;
use machine::error::Error;
use machine::toolchain::Toolchain;
use machine::tree::{BARE_TARGET, root};

/// Where everything about mutants is kept.
pub fn folder() -> PathBuf {
    root().join("target/mutants")
}

/// The kernel's ELF with these features, with the programs that were built last. All are built in one folder, where
/// only the kernel differs, and each is kept under its own name.
pub fn with(features: &[&str], show: Show) -> Result<PathBuf, Error> {
    let target = folder().join("bare");
    let mut command = Toolchain::find()?.build(BARE_TARGET, &target);
    command.args(["--package", "kernel", "--bin", "kernel", "--features", &features.join(",")]);
    command.env("RINGSIDE_PROGRAMS", build::archive_path());
    cargo::build(command, &format!("the kernel with {}", features.join(" and ")), show)?;
    keep(&target.join(BARE_TARGET).join("release/kernel"), &features.join("+"))
}

fn keep(kernel: &Path, name: &str) -> Result<PathBuf, Error> {
    let kept = folder().join("kernels").join(name);
    let folder = kept.parent().unwrap_or(&kept);
    std::fs::create_dir_all(folder).map_err(|error| Error::file("create", folder, error))?;
    std::fs::copy(kernel, &kept).map_err(|error| Error::file("write", &kept, error))?;
    Ok(kept)
}
