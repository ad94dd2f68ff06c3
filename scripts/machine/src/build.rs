//! Builds what is booted: the programs, their archive, and the kernel that carries it.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::archive::{pack, write_if_changed};
use crate::cargo::Show;
use crate::error::Error;
use crate::toolchain::Toolchain;
use crate::tree::{BARE_TARGET, bare_artifacts, bare_dir, relative, root};
use crate::{cargo, executable, programs};

/// What the kernel may weigh, stripped and without programs, in bytes.
pub const KERNEL_LIMIT: usize = 512 * 1024;

/// What a build made.
pub struct Built {
    /// The kernel's ELF, with symbols and line tables.
    pub kernel: PathBuf,
    /// The archive that it carries.
    pub archive: PathBuf,
    /// The programs in it, and their stripped sizes.
    pub programs: Vec<(String, usize)>,
}

/// Where the kernel's ELF is, built or not.
pub fn kernel_path() -> PathBuf {
    bare_artifacts().join("kernel")
}

/// Where the ELF of a kernel with these cargo features is, built or not.
fn featured_kernel_path(features: &[String]) -> PathBuf {
    featured_dir(features).join(BARE_TARGET).join("release/kernel")
}

/// A kernel with features has a folder of its own: it must never be taken for the usual one, nor make it be
/// built again.
fn featured_dir(features: &[String]) -> PathBuf {
    if features.is_empty() { bare_dir() } else { root().join(format!("target/bare-{}", features.join("+"))) }
}

/// Where the archive of the programs is, made or not.
pub fn archive_path() -> PathBuf {
    bare_dir().join("programs.tar")
}

/// Builds programs and kernel. With [`Show::Slow`] the first build of all shows its progress from the start.
pub fn everything(show: Show) -> Result<Built, Error> {
    with_features(&[], show)
}

/// As [`everything`], with these cargo features in the kernel.
pub fn with_features(features: &[String], show: Show) -> Result<Built, Error> {
    let toolchain = Toolchain::find()?;
    let path = featured_kernel_path(features);
    let first = show == Show::Slow && !path.exists();
    let show = if first { Show::Progress } else { show };
    let mut user = toolchain.build(BARE_TARGET, &bare_dir());
    user.args(["--package", "user", "--bins"]);
    cargo::build(user, "the programs", show)?;
    let programs = stripped_programs()?;
    let archive = archive_path();
    write_if_changed(&archive, &pack(&programs)?)?;
    let mut kernel = toolchain.build(BARE_TARGET, &featured_dir(features));
    if !features.is_empty() {
        kernel.args(["--features", &features.join(",")]);
    }
    kernel.args(["--package", "kernel", "--bin", "kernel"]).env("RINGSIDE_PROGRAMS", &archive);
    cargo::build(kernel, "the kernel", show)?;
    let programs = programs.into_iter().map(|(name, bytes)| (name, bytes.len())).collect();
    Ok(Built { kernel: path, archive, programs })
}

/// Builds a kernel with mutants and features, or says where it was built last.
pub type BuildMutants = fn(mutants: &[String], features: &[String], as_built: bool) -> Result<PathBuf, Error>;

static BUILD_MUTANTS: OnceLock<BuildMutants> = OnceLock::new();

/// Registers what builds kernels with mutants: only the command line knows of them.
pub fn build_mutants_with(build: BuildMutants) {
    BUILD_MUTANTS.set(build).unwrap_or_else(|_| unreachable!("it is registered once, at the start"));
}

/// The kernel that a user asks for with `--feature` and `--mutant`: built, or where it was built last.
pub fn asked_for(features: &[String], mutants: &[String], as_built: bool) -> Result<PathBuf, Error> {
    if !mutants.is_empty() {
        let build = BUILD_MUTANTS.get().expect("it is registered at the start");
        return build(mutants, features, as_built);
    }
    if as_built {
        return Ok(featured_kernel_path(features));
    }
    Ok(with_features(features, Show::Slow)?.kernel)
}

/// Builds the kernel's library, the system-call module in it, for a target of its own. UEFI's C calling
/// convention is Microsoft's: code that pins none would be broken there, and here is the place to see it.
pub fn kernel_library(target: &str) -> Result<(), Error> {
    let mut library = Toolchain::find()?.build(target, &bare_dir());
    library.args(["--package", "kernel", "--lib"]);
    cargo::build(library, "the kernel's library", Show::Trouble)
}

fn stripped_programs() -> Result<Vec<(String, Vec<u8>)>, Error> {
    let folder = bare_artifacts();
    let strip = |program: programs::Embedded| {
        Ok((program.name.clone(), executable::stripped(&read(&folder.join(program.name))?)?))
    };
    programs::embedded()?.into_iter().map(strip).collect()
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|error| Error::file("read", path, error))
}

/// The kernel's weight in bytes, stripped: with the programs, and without their archive.
pub fn kernel_sizes() -> Result<(usize, usize), Error> {
    let whole = executable::stripped(&read(&kernel_path())?)?.len();
    let archive = std::fs::metadata(archive_path()).map_or(0, |data| data.len());
    Ok((whole, whole.saturating_sub(usize::try_from(archive).unwrap_or(whole))))
}

/// Says what a build made.
pub fn print(built: &Built) -> Result<(), Error> {
    let kib = |bytes: usize| format!("{:.1} KiB", bytes as f64 / 1024.0);
    for (name, size) in &built.programs {
        println!("program  {name:12} {}", kib(*size));
    }
    let (with, without) = kernel_sizes()?;
    println!("archive  {} with {} programs", relative(&built.archive).display(), built.programs.len());
    println!("kernel   {}", relative(&built.kernel).display());
    println!(
        "         stripped: {} with the programs, {} without (limit {})",
        kib(with),
        kib(without),
        kib(KERNEL_LIMIT)
    );
    Ok(())
}
