//! Builds kernels with mutants and, if a case needs them, cargo features. They are built in a separate directory, so
//! that the normal kernel is not replaced.

use std::path::{Path, PathBuf};

use machine::build;
use machine::cargo;
use machine::cargo::Show;
use machine::error::Error;
use machine::toolchain::Toolchain;
use machine::tree::{BARE_TARGET, root};

use super::copy::Copy;
use super::mutant::Mutant;

/// Returns the directory for all files of the mutants.
pub fn folder() -> PathBuf {
    root().join("target/mutants")
}

/// Returns the copy of the tree with the edits of these mutants.
pub fn copy(mutants: &[&Mutant]) -> Result<Copy, Error> {
    Copy::with(&folder().join("tree"), mutants)
}

/// Returns the path of the kernel ELF with these mutants and features. The file exists only after it has been built.
pub fn path(mutants: &[&Mutant], features: &[&str]) -> PathBuf {
    folder().join("kernels").join(names(mutants, features).join("+"))
}

fn names<'a>(mutants: &[&'a Mutant], features: &[&'a str]) -> Vec<&'a str> {
    features.iter().copied().chain(mutants.iter().map(|mutant| mutant.name)).collect()
}

/// Builds the kernel with these mutants, these features and the latest programs, and returns the path of its ELF. All
/// such kernels share a build directory, so that unchanged crates are reused. Each ELF is copied to its own path.
pub fn with(mutants: &[&Mutant], features: &[&str], show: Show) -> Result<PathBuf, Error> {
    let copy = copy(mutants)?;
    let target = folder().join("bare");
    let mut command = Toolchain::find()?.build(BARE_TARGET, &target)?;
    command.current_dir(copy.folder());
    command.args(["--package", "kernel", "--bin", "kernel", "--features", &features.join(",")]);
    command.env("RINGSIDE_PROGRAMS", build::archive_path());
    cargo::build(command, &format!("the kernel with {}", names(mutants, features).join(" and ")), show)?;
    keep(&target.join(BARE_TARGET).join("release/kernel"), path(mutants, features))
}

fn keep(kernel: &Path, kept: PathBuf) -> Result<PathBuf, Error> {
    let folder = kept.parent().unwrap_or(&kept);
    std::fs::create_dir_all(folder).map_err(|error| Error::file("create", folder, error))?;
    std::fs::copy(kernel, &kept).map_err(|error| Error::file("write", &kept, error))?;
    Ok(kept)
}
