//! Builds the programs, their archive, and the kernel that embeds it.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::archive::{pack, write_if_changed};
use crate::cargo::Show;
use crate::error::Error;
use crate::toolchain::Toolchain;
use crate::tree::{BARE_TARGET, bare_artifacts, bare_dir, relative, root};
use crate::{cargo, executable, programs};

/// The largest size, in bytes, of the stripped kernel without programs.
pub const KERNEL_LIMIT: usize = 512 * 1024;

/// The result of a build.
pub struct Built {
    /// The kernel's ELF, with symbols and line tables.
    pub kernel: PathBuf,
    /// The archive that is embedded in it.
    pub archive: PathBuf,
    /// The programs in the archive, and their stripped sizes in bytes.
    pub programs: Vec<(String, usize)>,
}

/// Returns the path of the kernel's ELF; the file need not exist yet.
pub fn kernel_path() -> PathBuf {
    bare_artifacts().join("kernel")
}

/// Returns the path of the ELF of a kernel with these cargo features; the file need not exist yet.
fn featured_kernel_path(features: &[String]) -> PathBuf {
    featured_dir(features).join(BARE_TARGET).join("release/kernel")
}

/// Returns the target folder for these features. A kernel with features has its own, so that it is never mistaken for
/// the default kernel and does not cause that one to be rebuilt.
fn featured_dir(features: &[String]) -> PathBuf {
    if features.is_empty() { bare_dir() } else { root().join(format!("target/bare-{}", features.join("+"))) }
}

/// Returns the path of the programs' archive; the file need not exist yet.
pub fn archive_path() -> PathBuf {
    bare_dir().join("programs.tar")
}

/// Builds programs and kernel. With [`Show::Slow`] the very first build shows its progress from the start.
pub fn everything(show: Show) -> Result<Built, Error> {
    with_features(&[], show)
}

/// Builds as [`everything`] does, with these cargo features in the kernel.
pub fn with_features(features: &[String], show: Show) -> Result<Built, Error> {
    let toolchain = Toolchain::find()?;
    let path = featured_kernel_path(features);
    let first = show == Show::Slow && !path.exists();
    let show = if first { Show::Progress } else { show };
    let mut user = toolchain.build(BARE_TARGET, &bare_dir());
    // The kernel's library too: it needs no archive, and compiles beside the programs. `setup.sh` starts the same build
    // early the first time.
    user.args(["--package", "user", "--package", "kernel", "--lib"]);
    user.args(programs::embedded()?.iter().flat_map(|program| ["--bin", &program.name]));
    cargo::build(user, "the programs and the kernel's library", show)?;
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

/// Builds a kernel with mutants and features, or uses its last build; returns its ELF's path.
pub type BuildMutants = fn(mutants: &[String], features: &[String], as_built: bool) -> Result<PathBuf, Error>;

static BUILD_MUTANTS: OnceLock<BuildMutants> = OnceLock::new();

/// Registers the function that builds kernels with mutants, which is in the command line's crate.
pub fn build_mutants_with(build: BuildMutants) {
    BUILD_MUTANTS.set(build).unwrap_or_else(|_| unreachable!("registered once, at the start"));
}

/// Builds the kernel that `--feature` and `--mutant` select and returns its ELF's path. With `as_built` it uses the last
/// build.
pub fn selected_kernel(features: &[String], mutants: &[String], as_built: bool) -> Result<PathBuf, Error> {
    if !mutants.is_empty() {
        let build = BUILD_MUTANTS.get().expect("registered at the start");
        return build(mutants, features, as_built);
    }
    if as_built {
        return Ok(featured_kernel_path(features));
    }
    Ok(with_features(features, Show::Slow)?.kernel)
}

/// Builds the kernel's library, which includes the system-call module, for `target`. UEFI's C calling convention is
/// Microsoft's: code that does not pin its convention would be wrong there, and this build detects it.
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

/// Returns the size of the stripped kernel in bytes, with the programs' archive and without it.
pub fn kernel_sizes() -> Result<(usize, usize), Error> {
    let total = executable::stripped(&read(&kernel_path())?)?.len();
    let archive = std::fs::metadata(archive_path()).map_or(0, |data| data.len());
    Ok((total, total.saturating_sub(usize::try_from(archive).unwrap_or(total))))
}

/// Prints the files that a build made and their sizes.
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
