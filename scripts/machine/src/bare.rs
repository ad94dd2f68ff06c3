//! The configuration of bare-metal builds. The user's cargo configuration may affect how the tree is built, but must
//! not affect the resulting kernel.
//!
//! cargo merges all its configuration files, and a value's source determines its precedence. These are the sources, the
//! highest precedence first, with the settings that each provides:
//!
//! ```text
//!   --config            profiles, linker, incremental builds: scripts/bare.toml and the arguments below
//!   environment         compiler flags, the compiler and its workspace wrapper
//!   .cargo/config.toml  of the tree, its parent directories and the user: none of the above
//! ```

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use crate::archive::write_if_changed;
use crate::error::Error;
use crate::tree::root;

/// The compiler flags for bare-metal builds. They equal those in `.cargo/config.toml`, which a test checks. They are
/// passed in the environment, because `--config` would add them to the flags in the configuration files. The user's
/// flags could contain `target-cpu=native`, and the kernel would then use instructions that other CPU models lack.
const FLAGS: [&str; 2] = ["-C", "force-frame-pointers=yes"];

/// cargo's configuration for bare-metal builds, relative to the root of the tree.
const CONFIGURATION: &str = "scripts/bare.toml";

/// The section of [`CONFIGURATION`] for packages. It is the last one.
const ALL_PACKAGES: &str = "[profile.release.package.\"*\"]\n";

/// Makes a build for `target` independent of the user's configuration.
pub fn configure(command: &mut Command, target: &str, linker: &str) -> Result<(), Error> {
    // Use cargo's separator instead of a space, so that flags may contain spaces.
    command.env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"));
    // An empty variable takes precedence over `build.rustc-workspace-wrapper`.
    command.env("RUSTC_WORKSPACE_WRAPPER", "");
    command.arg("--config").arg(root().join(CONFIGURATION));
    command.arg("--config").arg(packages()?);
    command.arg("--config").arg(format!("target.{target}.linker={linker:?}"));
    Ok(())
}

/// Writes a configuration file with a section for each package, and returns its path. The user's section for a single
/// package would take precedence over ours for all packages.
fn packages() -> Result<PathBuf, Error> {
    let read = |path: &str| {
        let path = root().join(path);
        std::fs::read_to_string(&path).map_err(|error| Error::file("read", &path, error))
    };
    let (lock, configuration) = (read("Cargo.lock")?, read(CONFIGURATION)?);
    let values = configuration.split_once(ALL_PACKAGES).map_or("", |(_, values)| values);
    let names = lock.lines().filter_map(|line| line.strip_prefix("name = ")).collect::<BTreeSet<_>>();
    let section = |name: &str| format!("[profile.release.package.{name}]\n{values}");
    let path = root().join("target/bare-packages.toml");
    write_if_changed(&path, names.into_iter().map(section).collect::<String>().as_bytes())?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toolchain::Toolchain;
    use crate::tree::{BARE_TARGET, UEFI_TARGET};

    fn read(path: &str) -> String {
        std::fs::read_to_string(root().join(path)).expect("cannot read the file")
    }

    #[test]
    fn bare_builds_use_only_the_flags_of_this_tree() {
        let configuration = read(".cargo/config.toml");
        for target in [BARE_TARGET, UEFI_TARGET] {
            let section = format!("[target.{target}]\nrustflags = {FLAGS:?}\n");
            assert!(configuration.contains(&section), ".cargo/config.toml lacks {section}");
            let mut command = Command::new("cargo");
            configure(&mut command, target, "x").expect("cannot list the files of the tree");
            let flags = command.get_envs().find(|(name, _)| *name == "CARGO_ENCODED_RUSTFLAGS");
            assert_eq!(flags.and_then(|(_, flags)| flags), Some("-C\x1fforce-frame-pointers=yes".as_ref()));
        }
    }

    /// Builds a package with this configuration in its parent directory and these variables. Returns the compiler's
    /// command line and cargo's messages.
    fn verbose_build(toolchain: &Toolchain, configuration: &str, variables: &[(&str, &str)]) -> String {
        let folder = tempfile::tempdir().expect("cannot create a directory");
        let package = folder.path().join("package");
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().expect("cannot create a directory"))
                .expect("cannot create a directory");
            std::fs::write(path, text).expect("cannot create a file");
        };
        write(".cargo/config.toml", configuration);
        // With the name of a package of the tree.
        write("package/Cargo.toml", "[package]\nname = \"spin\"\nversion = \"0.1.0\"\nedition = \"2024\"\n");
        write("package/Cargo.lock", "version = 4\n\n[[package]]\nname = \"spin\"\nversion = \"0.1.0\"\n");
        write("package/src/lib.rs", "#![no_std]\n");
        let target = folder.path().join("target");
        let mut command = toolchain.build(BARE_TARGET, &target).expect("cannot list the files of the tree");
        command.current_dir(&package).arg("--verbose").envs(variables.iter().copied());
        let output = command.output().expect("cannot start cargo");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    #[test]
    fn users_configuration_does_not_change_bare_builds() {
        let Ok(toolchain @ Toolchain::WithTargets { .. }) = Toolchain::find() else {
            return; // Debian's toolchain builds `core` too, which takes a long time.
        };
        const OTHERS: [&str; 9] = [
            "[build]\nincremental = true\nrustflags = [\"-Ctarget-cpu=native\"]\ntarget = \"x86_64-unknown-uefi\"\n\
             target-dir = \"other\"\n",
            "[target.'cfg(all())']\nrustflags = [\"-Ctarget-cpu=native\"]\nlinker = \"other\"\n",
            "[target.x86_64-unknown-none]\nrustflags = [\"-Ctarget-cpu=native\"]\n",
            "[target.x86_64-unknown-none]\nlinker = \"other\"\nrunner = \"other\"\n",
            "[build]\nrustc = \"/bin/false\"\n",
            "[build]\nrustc-workspace-wrapper = \"/bin/false\"\n",
            "[profile.release]\nopt-level = 0\nlto = \"off\"\ncodegen-units = 7\npanic = \"unwind\"\ndebug = 2\n\
             overflow-checks = false\ndebug-assertions = true\nincremental = true\nstrip = true\nrpath = true\n",
            "[profile.release.package.\"*\"]\nopt-level = 1\n",
            "[profile.release.package.spin]\nopt-level = 1\ncodegen-units = 7\ndebug = 2\noverflow-checks = false\n\
             debug-assertions = true\nincremental = true\nstrip = true\n",
        ];
        let flags = |text: &str| {
            let line = text
                .lines()
                .find(|line| line.contains("--crate-name spin"))
                .unwrap_or_else(|| panic!("{text}"));
            let words =
                line.split_whitespace().filter(|word| !word.contains('/') && !word.contains("metadata"));
            words.filter(|word| !word.contains("filename")).map(str::to_owned).collect::<Vec<_>>()
        };
        let default = flags(&verbose_build(&toolchain, "", &[]));
        for flag in ["opt-level=3", "panic=abort", "codegen-units=1", "overflow-checks=on", "linker="] {
            assert!(default.iter().any(|word| word.contains(flag)), "{flag}: {default:?}");
        }
        for other in OTHERS {
            assert_eq!(flags(&verbose_build(&toolchain, other, &[])), default, "{other}");
        }
        let variables = [
            ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1"),
            ("CARGO_PROFILE_RELEASE_LTO", "off"),
            ("CARGO_TARGET_X86_64_UNKNOWN_NONE_LINKER", "other"),
        ];
        assert_eq!(flags(&verbose_build(&toolchain, "", &variables)), default);
    }

    #[test]
    fn configuration_of_bare_builds_has_the_profile_of_the_manifest() {
        let section = |path: &str| {
            let text = read(path);
            let lines = text.lines().skip_while(|line| *line != "[profile.release]").skip(1);
            lines.take_while(|line| line.contains(" = ")).map(str::to_owned).collect::<Vec<_>>()
        };
        let configured = section(CONFIGURATION);
        let manifest = section("Cargo.toml");
        assert!(!manifest.is_empty());
        for line in manifest {
            assert!(configured.contains(&line), "{CONFIGURATION} lacks {line}");
        }
    }

    #[test]
    fn each_package_has_the_values_for_all_packages() {
        let values =
            read(CONFIGURATION).split_once(ALL_PACKAGES).expect("there must be a section").1.to_owned();
        assert!(values.lines().count() > 5 && values.lines().all(|line| line.contains(" = ")), "{values}");
        let written = std::fs::read_to_string(packages().expect("cannot write")).expect("cannot read");
        for name in ["kernel", "user", "spin", "x86_64"] {
            assert!(written.contains(&format!("[profile.release.package.\"{name}\"]\n{values}")), "{name}");
        }
    }
}
