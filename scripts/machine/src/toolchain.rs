//! Finds the compiler for bare-metal code and sets up its environment.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bare;
use crate::error::Error;
use crate::tree::{BARE_TARGET, UEFI_TARGET, root};

/// Debian's tools are named by absolute paths because rustup's come first in PATH.
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
/// The source of `core`, from the package rust-web-src.
const DEBIAN_SOURCE: &str = "/usr/lib/rustlib/src/rust/library/core";

/// The source of the bare-metal `core` library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// The `rustc` in PATH has both bare-metal targets, as installed by rustup.
    WithTargets {
        /// The directory of this toolchain.
        sysroot: PathBuf,
    },
    /// Debian's packages. `core` is built from its source.
    Debian,
}

impl Toolchain {
    /// Finds a toolchain. Like `setup.sh`, it prefers rustup's to Debian's.
    pub fn find() -> Result<Toolchain, Error> {
        let has_target =
            |sysroot: &Path, target| sysroot.join("lib/rustlib").join(target).join("lib").is_dir();
        let found = sysroot("rustc")?;
        match &found {
            Ok(sysroot) if has_target(sysroot, BARE_TARGET) && has_target(sysroot, UEFI_TARGET) => {
                return Ok(Toolchain::WithTargets { sysroot: sysroot.clone() });
            }
            _ => {}
        }
        let exists = |path| Path::new(path).exists();
        if exists(DEBIAN_SOURCE) && exists(DEBIAN_CARGO) && exists(DEBIAN_RUSTC) {
            return Ok(Toolchain::Debian);
        }
        // Report this error separately: otherwise a rustc that fails under a memory limit would be taken for one
        // without targets.
        let failed = found.err().flatten();
        Err(Error::Host(failed.unwrap_or_else(|| {
            "no Rust toolchain that can build for bare metal. Run ./scripts/setup.sh, or\n    \
             rustup target add x86_64-unknown-none x86_64-unknown-uefi"
                .to_owned()
        })))
    }

    /// Returns the command `cargo build --release --target TARGET`. The caller adds the packages to build. The user's
    /// configuration does not change what is built (see [`crate::bare`]).
    pub fn build(&self, target: &str, target_dir: &Path) -> Result<Command, Error> {
        let mut command = match self {
            Toolchain::WithTargets { sysroot } => {
                let mut command = clean_cargo("cargo");
                // Use the compiler that `find` examined, even if `build.rustc` names another one.
                let rustc = sysroot.join("bin/rustc");
                command.env("RUSTC", if rustc.exists() { rustc } else { "rustc".into() });
                command
            }
            Toolchain::Debian => {
                let mut command = clean_cargo(DEBIAN_CARGO);
                command.env_remove("RUSTUP_TOOLCHAIN");
                command.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
                command
            }
        };
        command.args(["build", "--release", "--locked", "--target", target, "--target-dir"]).arg(target_dir);
        bare::configure(&mut command, target, self.linker(target))?;
        if *self == Toolchain::Debian {
            // All crates use only `core` and `alloc`. The `mem` feature provides memcpy, memset and memcmp, as there is
            // no libc.
            command.args(["-Zbuild-std=core,alloc", "-Zbuild-std-features=compiler-builtins-mem"]);
        }
        Ok(command)
    }

    /// Returns the linker. rustup's toolchain includes rust-lld, the default linker of these targets. Distributions
    /// provide lld instead.
    fn linker(&self, target: &str) -> &'static str {
        let has_lld = |sysroot: &PathBuf| {
            let folders = std::fs::read_dir(sysroot.join("lib/rustlib")).into_iter().flatten().flatten();
            folders.into_iter().any(|folder| folder.path().join("bin/rust-lld").exists())
        };
        match self {
            Toolchain::WithTargets { sysroot } if has_lld(sysroot) => "rust-lld",
            _ if target == UEFI_TARGET => "lld-link",
            _ => "ld.lld",
        }
    }
}

/// Returns the directory of a compiler's toolchain. If there is no such compiler, returns `Err(None)`; if it failed,
/// `Err` with its message.
///
/// # Errors
/// If the compiler exists but the system cannot start it.
fn sysroot(rustc: &str) -> Result<Result<PathBuf, Option<String>>, Error> {
    let output = match Command::new(rustc).args(["--print", "sysroot"]).current_dir(root()).output() {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Err(None)),
        Err(error) => return Err(Error::File(format!("cannot start {rustc}"), error)),
    };
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Ok(Err(Some(format!("{rustc} does not run ({}): {}", output.status, stderr.trim_end()))));
    }
    Ok(Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim_end())))
}

/// Returns the cargo for host builds: the cargo that started this tool, or else the cargo that `setup.sh` found, or
/// else the cargo in PATH.
pub fn host_cargo() -> Command {
    let program = ["CARGO", "RINGSIDE_CARGO"].into_iter().find_map(std::env::var_os);
    let program = program.unwrap_or_else(|| "cargo".into());
    let mut command = clean_cargo(&program);
    if program == DEBIAN_CARGO {
        // Otherwise Debian's cargo would use rustc, rustfmt and clippy of another toolchain that comes first in PATH.
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once("/usr/bin".into()).chain(std::env::split_paths(&path));
        command.env("RUSTC", DEBIAN_RUSTC);
        if let Ok(path) = std::env::join_paths(folders) {
            command.env("PATH", path);
        }
    }
    command
}

/// Returns a cargo command with the environment of the user's shell, without the variables that decide what is built.
/// The user or an outer cargo may have set them. RUSTFLAGS would override the flags in `.cargo/config.toml`, RUSTC
/// would replace the compiler, and the child would take package variables for its own. Variables that decide how the
/// build runs or where packages come from are kept.
fn clean_cargo(program: impl AsRef<std::ffi::OsStr>) -> Command {
    const REMOVED: [&str; 11] = [
        "RUSTC",
        "RUSTC_BOOTSTRAP",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTDOC",
        "RUSTFLAGS",
        "RUSTDOCFLAGS",
        "OUT_DIR",
        "TARGET",
        "HOST",
        "PROFILE",
        "DEP_",
    ];
    const KEPT: [&str; 7] = [
        "CARGO_HOME",
        "CARGO_NET_",
        "CARGO_HTTP_",
        "CARGO_REGISTRIES_",
        "CARGO_SOURCE_",
        "CARGO_BUILD_JOBS",
        "CARGO_BUILD_RUSTC_WRAPPER",
    ];
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        let is_cargos = text == "CARGO" || text.starts_with("CARGO_");
        if REMOVED.contains(&text) || (is_cargos && !KEPT.iter().any(|kept| text.starts_with(kept))) {
            command.env_remove(name);
        }
    }
    if std::env::var_os("CARGO").is_some() {
        // `cargo run` adds the libraries of its toolchain to this path, and another rustc must not load them.
        command.env_remove("LD_LIBRARY_PATH");
    }
    command.current_dir(root());
    command
}
