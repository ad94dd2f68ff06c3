//! Fetches QEMU and all libraries that it needs from a suite of Debian, with a private configuration of apt. Nothing on
//! the system changes. apt verifies the packages with Debian's keys.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use machine::error::Error;
use output::eprintln;

/// Debian's keys.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// The package. Debian's package of QEMU for x86 depends on its firmware, SeaBIOS.
const PACKAGE: &str = "qemu-system-x86";
/// The name of the start script. A script can be given to `--qemu` like QEMU itself.
const SCRIPT: &str = "qemu-system-x86_64";

/// Returns the path of a script that starts the suite's QEMU. Fetches QEMU if that has not been done yet, or always with
/// `refresh`.
///
/// # Errors
/// If apt or dpkg fails.
pub fn qemu(suite: &str, refresh: bool) -> Result<PathBuf, Error> {
    let folder = super::folder(suite);
    let script = folder.join(SCRIPT);
    // The script is written last, so the rest is complete if it exists.
    if script.exists() && !refresh {
        return Ok(script);
    }
    let mirror = mirror()?;
    eprintln!("fetching QEMU from Debian's {suite} to {} ...", folder.display());
    if folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(|error| Error::file("remove", &folder, error))?;
    }
    // Folders that apt does not create.
    for name in ["lists/partial", "cache/archives/partial", "root"] {
        create(&folder.join(name))?;
    }
    write(&folder.join("sources.list"), &sources(suite, &mirror))?;
    // No package counts as installed, so apt fetches each library.
    write(&folder.join("status"), "")?;
    write(&folder.join("apt.conf"), &configuration(&folder, suite))?;
    apt(&folder, &["update"])?;
    apt(&folder, &["install", "--download-only", "--yes", PACKAGE])?;
    let root = folder.join("root");
    let archives = folder.join("cache/archives");
    let entries = std::fs::read_dir(&archives).map_err(|error| Error::file("read", &archives, error))?;
    let mut packages: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    packages.retain(|path| path.extension().is_some_and(|extension| extension == "deb"));
    packages.sort();
    for package in &packages {
        command("dpkg-deb", &[OsStr::new("--extract"), package.as_ref(), root.as_ref()], None)?;
    }
    std::fs::remove_dir_all(&archives).map_err(|error| Error::file("remove", &archives, error))?;
    write(&script, &start_script(&root)?)?;
    command("chmod", &[OsStr::new("+x"), script.as_ref()], None)?;
    Ok(script)
}

/// Returns the mirror of this machine's own package sources.
fn mirror() -> Result<String, Error> {
    let format = "$(SITE) $(ORIGIN) $(COMPONENT) $(CREATED_BY)";
    let output =
        Command::new("apt-get").args(["indextargets", "--format", format]).stdin(Stdio::null()).output();
    let output = output.map_err(|error| Error::File("cannot start apt-get".to_owned(), error))?;
    Ok(mirror_in(&String::from_utf8_lossy(&output.stdout))?.to_owned())
}

/// Returns the first mirror of Debian's packages in what `apt-get indextargets` printed.
fn mirror_in(targets: &str) -> Result<&str, Error> {
    let mut sites = targets.lines().filter_map(|line| line.strip_suffix(" Debian main Packages"));
    // The security suite has its own archive.
    sites.find(|site| !site.contains("security")).ok_or_else(|| {
        Error::Host(
            "apt's sources on this machine name no mirror of Debian, from which QEMU could be fetched: add a line \
             `deb URL-OF-A-MIRROR bookworm main` to /etc/apt/sources.list, and run `apt-get update`"
                .to_owned(),
        )
    })
}

/// Returns apt's sources. A suite of backports needs the packages of the suite on which it is based.
fn sources(suite: &str, mirror: &str) -> String {
    let suites = suite.strip_suffix("-backports").into_iter().chain([suite]);
    suites.map(|suite| format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n")).collect()
}

/// Returns apt's configuration, all of whose state is in `folder`.
fn configuration(folder: &Path, suite: &str) -> String {
    let folder = folder.display();
    format!(
        "Dir::State \"{folder}\";\nDir::State::lists \"{folder}/lists\";\nDir::State::status \"{folder}/status\";\n\
         Dir::Cache \"{folder}/cache\";\nDir::Etc::sourcelist \"{folder}/sources.list\";\n\
         Dir::Etc::sourceparts \"{folder}/none\";\nDir::Etc::preferences \"{folder}/none\";\n\
         Dir::Etc::preferencesparts \"{folder}/none\";\nDir::Log \"{folder}\";\n\
         APT::Default-Release \"{suite}\";\nAPT::Architecture \"amd64\";\nAPT::Architectures {{ \"amd64\"; }};\n\
         APT::Install-Recommends \"false\";\nAPT::Sandbox::User \"\";\nAcquire::Languages \"none\";\n\
         Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\nDebug::NoLocking \"true\";\n"
    )
}

/// Returns the script that starts QEMU with the libraries, modules and firmware of its suite. A library of a newer suite
/// needs that suite's dynamic linker.
fn start_script(root: &Path) -> Result<String, Error> {
    let folders = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"].map(|name| root.join(name));
    let linker = folders.iter().map(|folder| folder.join("ld-linux-x86-64.so.2")).find(|path| path.exists());
    let linker = linker.ok_or_else(|| Error::Host(format!("{} has no dynamic linker", root.display())))?;
    let quoted = |path: &Path| {
        let path = path.to_string_lossy();
        shlex::try_quote(&path).map_or_else(|_| path.to_string(), |quoted| quoted.into_owned())
    };
    let library_path = folders.each_ref().map(|folder| folder.display().to_string()).join(":");
    Ok(format!(
        "#!/bin/sh\nQEMU_MODULE_DIR={} exec {} --library-path {} {} -L {} -L {} \"$@\"\n",
        quoted(&root.join("usr/lib/x86_64-linux-gnu/qemu")),
        quoted(&linker),
        quoted(Path::new(&library_path)),
        quoted(&root.join("usr/bin/qemu-system-x86_64")),
        quoted(&root.join("usr/share/seabios")),
        quoted(&root.join("usr/share/qemu")),
    ))
}

fn apt(folder: &Path, arguments: &[&str]) -> Result<(), Error> {
    let arguments: Vec<_> = ["-qq"].iter().chain(arguments).map(OsStr::new).collect();
    command("apt-get", &arguments, Some(&folder.join("apt.conf")))
}

/// Runs a command, with its output in the error if it fails.
fn command(program: &str, arguments: &[&OsStr], apt_config: Option<&Path>) -> Result<(), Error> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    if let Some(path) = apt_config {
        command.env("APT_CONFIG", path).env("DEBIAN_FRONTEND", "noninteractive");
    }
    let output = command.output().map_err(|error| Error::File(format!("cannot start {program}"), error))?;
    if output.status.success() {
        return Ok(());
    }
    let printed = String::from_utf8_lossy(&output.stderr);
    Err(Error::Host(format!("{program} failed ({}): {}", output.status, printed.trim_end())))
}

fn create(folder: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(folder).map_err(|error| Error::file("create", folder, error))
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    output::write(path, text).map_err(|error| Error::file("write", path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backports_come_with_the_suite_on_which_they_are_based() {
        let lines = |suite| sources(suite, "http://m").lines().map(str::to_owned).collect::<Vec<_>>();
        let line = |suite| format!("deb [signed-by={KEYRING}] http://m {suite} main");
        assert_eq!(lines("sid"), [line("sid")]);
        assert_eq!(lines("x-backports"), [line("x"), line("x-backports")]);
    }

    #[test]
    fn mirror_is_that_of_the_machines_sources() {
        let security = "http://m/debian-security Debian main Packages\n";
        let other =
            "http://n Ubuntu main Packages\nhttp://o Debian contrib Packages\nhttp://p Debian main Sources\n";
        let targets = format!("{security}{other}http://m/debian Debian main Packages\n");
        assert_eq!(mirror_in(&targets).ok(), Some("http://m/debian"));
        for targets in [String::new(), format!("{security}{other}")] {
            let error = mirror_in(&targets).expect_err("there is no mirror").to_string();
            assert!(error.contains("add a line `deb "), "{error}");
        }
    }

    #[test]
    fn script_starts_the_suites_own_linker() {
        let root = tempfile::tempdir().expect("cannot create a folder");
        let error = start_script(root.path()).expect_err("there is no linker");
        assert!(error.to_string().contains("no dynamic linker"), "{error}");
        let libraries = root.path().join("usr/lib/x86_64-linux-gnu");
        std::fs::create_dir_all(&libraries).expect("cannot create a folder");
        std::fs::write(libraries.join("ld-linux-x86-64.so.2"), "").expect("cannot write");
        let script = start_script(root.path()).expect("there is a linker");
        let start = format!("exec {}/ld-linux-x86-64.so.2 --library-path ", libraries.display());
        assert!(script.contains(&start) && script.ends_with(" \"$@\"\n"), "{script}");
    }
}
