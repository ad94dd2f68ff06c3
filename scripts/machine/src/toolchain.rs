//! Finds the compiler for bare-metal code and sets up its environment.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::Error;
use crate::tree::{BARE_TARGET, UEFI_TARGET, root};

/// Debian's tools are named by absolute paths because rustup's come first in PATH.
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
/// The source of `core`, from the package rust-web-src.
const DEBIAN_SOURCE: &str = "/usr/lib/rustlib/src/rust/library/core";

/// The compiler flags for bare-metal builds. They equal those in `.cargo/config.toml`, which a test checks. They are
/// passed in the environment, which overrides the flags in all configuration files. The user's configuration could
/// contain `target-cpu=native`, and the kernel would then use instructions that other CPU models lack.
const BARE_FLAGS: [&str; 2] = ["-C", "force-frame-pointers=yes"];

/// The cargo configuration for bare-metal builds, relative to the root of the tree.
const BARE_CONFIGURATION: &str = "scripts/bare.toml";

/// The source of the bare-metal `core` library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// The `rustc` in PATH has both bare-metal targets, as installed by rustup.
    WithTargets,
    /// Debian's packages. `core` is built from its source.
    Debian,
}

impl Toolchain {
    /// Finds a toolchain. Like `setup.sh`, it prefers rustup's to Debian's.
    pub fn find() -> Result<Toolchain, Error> {
        let has_target =
            |sysroot: &Path, target| sysroot.join("lib/rustlib").join(target).join("lib").is_dir();
        if let Some(sysroot) = sysroot("rustc")
            && has_target(&sysroot, BARE_TARGET)
            && has_target(&sysroot, UEFI_TARGET)
        {
            return Ok(Toolchain::WithTargets);
        }
        let exists = |path| Path::new(path).exists();
        if exists(DEBIAN_SOURCE) && exists(DEBIAN_CARGO) && exists(DEBIAN_RUSTC) {
            return Ok(Toolchain::Debian);
        }
        Err(Error::Host(
            "no Rust toolchain that can build for bare metal. Run ./scripts/setup.sh, or\n    \
             rustup target add x86_64-unknown-none x86_64-unknown-uefi"
                .to_owned(),
        ))
    }

    /// Returns the command `cargo build --release --target TARGET`. The caller adds the packages to build.
    pub fn build(self, target: &str, target_dir: &Path) -> Command {
        let mut command = match self {
            Toolchain::WithTargets => clean_cargo("cargo"),
            Toolchain::Debian => {
                let mut command = clean_cargo(DEBIAN_CARGO);
                command.env_remove("RUSTUP_TOOLCHAIN");
                command.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
                // Debian's rustc does not include rust-lld, the default linker of these targets.
                command.env("CARGO_TARGET_X86_64_UNKNOWN_NONE_LINKER", "ld.lld");
                command.env("CARGO_TARGET_X86_64_UNKNOWN_UEFI_LINKER", "lld-link");
                command
            }
        };
        // Use cargo's separator instead of a space, so that flags may contain spaces.
        command.env("CARGO_ENCODED_RUSTFLAGS", BARE_FLAGS.join("\x1f"));
        command.args(["build", "--release", "--locked", "--target", target, "--target-dir"]).arg(target_dir);
        command.arg("--config").arg(root().join(BARE_CONFIGURATION));
        if self == Toolchain::Debian {
            // All crates use only `core` and `alloc`. The `mem` feature provides memcpy, memset and memcmp, as there is
            // no libc.
            command.args(["-Zbuild-std=core,alloc", "-Zbuild-std-features=compiler-builtins-mem"]);
        }
        command
    }
}

fn sysroot(rustc: &str) -> Option<PathBuf> {
    let output = Command::new(rustc).args(["--print", "sysroot"]).current_dir(root()).output().ok()?;
    let path = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| PathBuf::from(path.trim_end()))
}

/// Returns the cargo for host builds: the one that started this tool, or else the one that `setup.sh` found, or else
/// the one in PATH.
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

/// Returns a cargo command with the environment of the user's shell, without the variables that decide what is built,
/// which are the user's or those of an outer cargo. Their RUSTFLAGS would override those in `.cargo/config.toml`, their
/// RUSTC would be used, and package variables would be taken for those of the child. Variables that decide how it is
/// built or where packages come from are kept.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_builds_have_the_flags_of_this_tree_alone() {
        let configuration =
            std::fs::read_to_string(root().join(".cargo/config.toml")).expect("it can be read");
        for target in [BARE_TARGET, UEFI_TARGET] {
            let section = format!("[target.{target}]\nrustflags = {BARE_FLAGS:?}\n");
            assert!(configuration.contains(&section), ".cargo/config.toml lacks {section}");
            let command = Toolchain::WithTargets.build(target, Path::new("x"));
            let flags = command.get_envs().find(|(name, _)| *name == "CARGO_ENCODED_RUSTFLAGS");
            assert_eq!(flags.and_then(|(_, flags)| flags), Some("-C\x1fforce-frame-pointers=yes".as_ref()));
        }
    }

    /// Builds a package with this configuration in its parent folder and these variables. Returns the compiler's command
    /// line and cargo's messages.
    fn verbose_build(configuration: &str, variables: &[(&str, &str)]) -> String {
        let folder = tempfile::tempdir().expect("a folder");
        let package = folder.path().join("package");
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        };
        write(".cargo/config.toml", configuration);
        write("package/Cargo.toml", "[package]\nname = \"tiny\"\nversion = \"0.1.0\"\nedition = \"2024\"\n");
        write("package/Cargo.lock", "version = 4\n\n[[package]]\nname = \"tiny\"\nversion = \"0.1.0\"\n");
        write("package/src/lib.rs", "#![no_std]\n");
        let mut command = Toolchain::WithTargets.build(BARE_TARGET, &folder.path().join("target"));
        command.current_dir(&package).arg("--verbose").envs(variables.iter().copied());
        let output = command.output().expect("cargo starts");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    #[test]
    fn users_configuration_does_not_change_bare_builds() {
        if Toolchain::find().ok() != Some(Toolchain::WithTargets) {
            return; // Debian's toolchain builds `core` too, which takes long.
        }
        const OTHER: &str = "[build]\nincremental = true\nrustflags = [\"-Ctarget-cpu=native\"]\n\
            [target.'cfg(all())']\nrustflags = [\"-Ctarget-cpu=native\"]\n\
            [profile.release]\nopt-level = 0\nlto = \"off\"\ncodegen-units = 7\npanic = \"unwind\"\ndebug = 2\n\
            overflow-checks = false\ndebug-assertions = true\nincremental = true\nstrip = true\nrpath = true\n\
            [profile.release.package.\"*\"]\nopt-level = 1\n";
        let flags = |text: &str| {
            let line = text
                .lines()
                .find(|line| line.contains("--crate-name tiny"))
                .unwrap_or_else(|| panic!("{text}"));
            let words =
                line.split_whitespace().filter(|word| !word.contains('/') && !word.contains("metadata"));
            words.filter(|word| !word.contains("filename")).map(str::to_owned).collect::<Vec<_>>()
        };
        let own = flags(&verbose_build("", &[]));
        for flag in ["opt-level=3", "panic=abort", "codegen-units=1", "overflow-checks=on"] {
            assert!(own.iter().any(|word| word.contains(flag)), "{flag}: {own:?}");
        }
        let variables = [("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1"), ("CARGO_PROFILE_RELEASE_LTO", "off")];
        assert_eq!(flags(&verbose_build(OTHER, &variables)), own);
    }

    #[test]
    fn configuration_of_bare_builds_has_the_profile_of_the_manifest() {
        let section = |path: &str| {
            let text = std::fs::read_to_string(root().join(path)).expect("it can be read");
            let lines = text.lines().skip_while(|line| *line != "[profile.release]").skip(1);
            lines.take_while(|line| line.contains(" = ")).map(str::to_owned).collect::<Vec<_>>()
        };
        let configured = section(BARE_CONFIGURATION);
        let manifest = section("Cargo.toml");
        assert!(!manifest.is_empty());
        for line in manifest {
            assert!(configured.contains(&line), "{BARE_CONFIGURATION} lacks {line}");
        }
    }
}
