//! Kernels with mutants, and with cargo features if a case needs them. They are built in a folder of their own, so that
//! they do not replace the usual one.

use std::path::{Path, PathBuf};

use machine::build;
use machine::cargo;
use machine::cargo::Show;
use machine::error::Error;
use machine::toolchain::Toolchain;
use machine::tree::{BARE_TARGET, root};

use super::copy::Copy;
use super::mutant::Mutant;

/// The folder of everything that mutants need.
pub fn folder() -> PathBuf {
    root().join("target/mutants")
}

/// The copy of the tree, with these mutants in it.
pub fn copy(mutants: &[&Mutant]) -> Result<Copy, Error> {
    Copy::with(&folder().join("tree"), mutants)
}

/// The path of the ELF of the kernel with these mutants and features, built or not.
pub fn path(mutants: &[&Mutant], features: &[&str]) -> PathBuf {
    folder().join("kernels").join(names(mutants, features).join("+"))
}

fn names<'a>(mutants: &[&'a Mutant], features: &[&'a str]) -> Vec<&'a str> {
    features.iter().copied().chain(mutants.iter().map(|mutant| mutant.name)).collect()
}

/// Builds the kernel with these mutants and features and the latest programs, and returns its ELF. All are built in one
/// folder, where only the kernel differs, and each is copied to a name of its own.
pub fn with(mutants: &[&Mutant], features: &[&str], show: Show) -> Result<PathBuf, Error> {
    let copy = copy(mutants)?;
    let target = folder().join("bare");
    let mut command = Toolchain::find()?.build(BARE_TARGET, &target);
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
