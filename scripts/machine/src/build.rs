//! Builds the programs, their archive, and the kernel that embeds the archive.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use output::println;

use crate::archive::{pack, write_if_changed};
use crate::cargo::Show;
use crate::error::Error;
use crate::options::Boot;
use crate::toolchain::Toolchain;
use crate::tree::{BARE_TARGET, UEFI_TARGET, bare_artifacts, bare_dir, relative, root};
use crate::{cargo, executable, programs, uefi};

/// Maximum size of the stripped kernel without programs, in bytes.
pub const KERNEL_LIMIT: usize = 512 * 1024;

/// The result of a build.
pub struct Built {
    /// The kernel's ELF file, with symbols and line tables.
    pub kernel: PathBuf,
    /// The archive embedded in the kernel.
    pub archive: PathBuf,
    /// The programs in the archive with their stripped sizes in bytes.
    pub programs: Vec<(String, usize)>,
}

/// Returns the path of the kernel's ELF file, which need not exist yet.
pub fn kernel_path() -> PathBuf {
    bare_artifacts().join("kernel")
}

/// Returns the path of the ELF file of a kernel with these cargo features. The file need not exist yet.
fn featured_kernel_path(features: &[String]) -> PathBuf {
    featured_dir(features).join(BARE_TARGET).join("release/kernel")
}

/// Returns the target directory for these features. A kernel with features has its own directory, so that it is never
/// mistaken for the default kernel and does not cause the default kernel to be rebuilt.
fn featured_dir(features: &[String]) -> PathBuf {
    if features.is_empty() { bare_dir() } else { root().join(format!("target/bare-{}", features.join("+"))) }
}

/// Returns the path of the program archive, which need not exist yet.
pub fn archive_path() -> PathBuf {
    bare_dir().join("programs.tar")
}

/// Builds the programs and the kernel. With [`Show::Slow`], the very first build shows its progress from the start.
pub fn everything(show: Show) -> Result<Built, Error> {
    with_features(&[], show)
}

/// Like [`everything`], but with these cargo features in the kernel.
pub fn with_features(features: &[String], show: Show) -> Result<Built, Error> {
    let toolchain = Toolchain::find()?;
    let path = featured_kernel_path(features);
    let first = show == Show::Slow && !path.exists();
    let show = if first { Show::Progress } else { show };
    let mut user = toolchain.build(BARE_TARGET, &bare_dir())?;
    // Also build the kernel's library: it does not need the archive, so it can compile in parallel with the programs.
    // On the first run `setup.sh` starts the same build early.
    user.args(["--package", "user", "--package", "kernel", "--lib"]);
    user.args(programs::embedded()?.iter().flat_map(|program| ["--bin", &program.name]));
    cargo::build(user, "the programs and the kernel's library", show)?;
    let programs = stripped_programs()?;
    let archive = archive_path();
    write_if_changed(&archive, &pack(&programs)?)?;
    let mut kernel = toolchain.build(BARE_TARGET, &featured_dir(features))?;
    if !features.is_empty() {
        kernel.args(["--features", &features.join(",")]);
    }
    kernel.args(["--package", "kernel", "--bin", "kernel"]).env("RINGSIDE_PROGRAMS", &archive);
    cargo::build(kernel, "the kernel", show)?;
    let programs = programs.into_iter().map(|(name, bytes)| (name, bytes.len())).collect();
    Ok(Built { kernel: path, archive, programs })
}

/// Builds a kernel with mutants and features, or uses the last build of it. Returns the path of its ELF file.
pub type BuildMutants = fn(mutants: &[String], features: &[String], as_built: bool) -> Result<PathBuf, Error>;

/// The functions for mutants, which are in the command-line crate.
pub struct Mutants {
    /// See [`BuildMutants`].
    pub build: BuildMutants,
    /// Checks that there are mutants with these names.
    pub check: fn(mutants: &[String]) -> Result<(), Error>,
}

static MUTANTS: OnceLock<Mutants> = OnceLock::new();

/// Registers the functions for mutants.
pub fn register_mutants(mutants: Mutants) {
    MUTANTS.set(mutants).unwrap_or_else(|_| unreachable!("the functions must be registered only once"));
}

/// Checks that there are mutants with these names.
pub fn check_mutants(mutants: &[String]) -> Result<(), Error> {
    let check = MUTANTS.get().map(|functions| functions.check);
    check.map_or(Ok(()), |check| check(mutants))
}

/// Builds the kernel selected by `--feature` and `--mutant`. Returns the path of its ELF file. With `as_built` it uses
/// the last build.
pub fn selected_kernel(features: &[String], mutants: &[String], as_built: bool) -> Result<PathBuf, Error> {
    if !mutants.is_empty() {
        let build = MUTANTS.get().expect("the functions must be registered at the start").build;
        return build(mutants, features, as_built);
    }
    if as_built {
        return Ok(featured_kernel_path(features));
    }
    Ok(with_features(features, Show::Slow)?.kernel)
}

/// Builds the loader that this boot protocol needs, if any, and returns the kernel's path. With `as_built` it uses the
/// last build of the loader, if that is newer than the kernel.
pub fn bootable(boot: Boot, kernel: PathBuf, as_built: bool) -> Result<PathBuf, Error> {
    let written = |path: &Path| path.metadata().and_then(|data| data.modified());
    let is_built = || match (written(&kernel), written(&uefi::loader_path(&kernel))) {
        (Ok(kernel), Ok(loader)) => kernel <= loader,
        _ => false,
    };
    if boot.uses_firmware() && !(as_built && is_built()) {
        loader(&kernel)?;
    }
    Ok(kernel)
}

/// Builds the UEFI loader that contains a kernel, in the directory of the kernel's ELF file. The kernel in it has no
/// symbols, because the loader does not load them.
fn loader(kernel: &Path) -> Result<(), Error> {
    let stripped = kernel.with_added_extension("stripped");
    write_if_changed(&stripped, &executable::stripped(&read(kernel)?)?)?;
    let stripped = std::path::absolute(&stripped).map_err(|error| Error::file("find", &stripped, error))?;
    let mut command = Toolchain::find()?.build(UEFI_TARGET, &bare_dir())?;
    command.args(["--package", "kernel_efi", "--bin", "kernel_efi"]).env("RINGSIDE_KERNEL", &stripped);
    cargo::build(command, "the UEFI loader", Show::Slow)?;
    let built = bare_dir().join(UEFI_TARGET).join("release/kernel_efi.efi");
    write_if_changed(&uefi::loader_path(kernel), &read(&built)?)
}

/// Builds the kernel's library, which includes the system-call module, for `target`. UEFI uses Microsoft's C calling
/// convention. Code that does not declare its calling convention would be wrong there, which this build detects.
pub fn kernel_library(target: &str) -> Result<(), Error> {
    let mut library = Toolchain::find()?.build(target, &bare_dir())?;
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

/// Returns the size in bytes of the stripped kernel, with and without the program archive.
pub fn kernel_sizes() -> Result<(usize, usize), Error> {
    let total = executable::stripped(&read(&kernel_path())?)?.len();
    let archive = std::fs::metadata(archive_path()).map_or(0, |data| data.len());
    Ok((total, total.saturating_sub(usize::try_from(archive).unwrap_or(total))))
}

/// Prints the files produced by a build, and their sizes.
pub fn print(built: &Built) -> Result<(), Error> {
    let kib = |bytes: usize| format!("{:.1} KiB", bytes as f64 / 1024.0);
    for (name, size) in &built.programs {
        println!("program  {name:12} {}", kib(*size));
    }
    let (with, without) = kernel_sizes()?;
    println!(
        "archive  {} with {}",
        relative(&built.archive).display(),
        output::count(built.programs.len() as u64, "program")
    );
    println!("kernel   {}", relative(&built.kernel).display());
    println!(
        "         stripped: {} with the programs, {} without (limit {})",
        kib(with),
        kib(without),
        kib(KERNEL_LIMIT)
    );
    Ok(())
}
