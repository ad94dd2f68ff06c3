//! Debian's Linux kernel under the same QEMU, CPU model and options, with an init process of our own that makes the same
//! measurements.
//!
//! The kernel's package is fetched with apt into `target/linux`. Nothing is installed. The mitigations are those that
//! this kernel chooses for the CPU model.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use machine::cargo::{self, Show};
use machine::error::Error;
use machine::toolchain::Toolchain;
use machine::tree::{BARE_TARGET, bare_dir, root};

use super::exact;
use super::figure::{Figure, Section};
use super::ratio;

/// The package that depends on the current kernel's package.
const PACKAGE: &str = "linux-image-amd64";
/// The time limit of a boot. Linux takes some ten seconds, several times as long on a busy host.
const LIMIT: Duration = Duration::from_secs(600);
/// The figures of Ringside's program `bench` that the init process measures, too, and the calls that it makes.
const SAME: [(&str, &str); 5] = [
    ("null", "getppid"),
    ("unknown_max", "an unused number"),
    ("write_null_pointer", "a write to a bad descriptor"),
    ("tick_least", "a tick"),
    ("tick_mean", "a tick, mean"),
];

/// Measures Linux: enters its exact figures as the peers of those of `sections`, and returns a section with the calls a
/// second and the bring-up of both kernels.
///
/// # Errors
/// If the kernel cannot be fetched, or a boot prints no figures.
pub fn measure(sections: &mut [Section], quick: bool, progress: &dyn Fn(&str)) -> Result<Section, Error> {
    let linux = Linux::prepare(progress)?;
    progress("instructions, Linux");
    let words =
        ["-cpu", "max,-x2apic", "-smp", "1", "-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off"];
    let console = linux.boot(&words, "quiet -- exact")?;
    let figures = exact::parse(&console);
    for (name, _) in SAME {
        let value = figures.get(name);
        let value = value.ok_or_else(|| Error::Host(format!("Linux has printed no figure {name}")))?;
        let own = sections.iter_mut().filter(|section| ["system calls", "ticks"].contains(&&*section.name));
        for figure in own.flat_map(|section| &mut section.figures).filter(|figure| figure.name == name) {
            figure.peer = Some(*value);
        }
    }
    beside(&linux, if quick { 1 } else { 5 }, progress)
}

/// Measures both kernels alternately on two CPUs.
fn beside(linux: &Linux, samples: usize, progress: &dyn Fn(&str)) -> Result<Section, Error> {
    let (mut own, mut peer, mut quotients, mut bring_up) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for sample in 1..=samples {
        progress(&format!("calls a second beside Linux, {sample} of {samples}"));
        let ours = ratio::rates(2)?;
        let console = linux.boot(&["-cpu", "max", "-smp", "2", "-accel", "tcg"], "-- scaling 2")?;
        let theirs = ratio::parse(&console);
        if theirs.calls <= 0.0 {
            return Err(Error::Host("Linux has printed no calls a second".to_owned()));
        }
        own.push(ours.calls);
        peer.push(theirs.calls);
        quotients.push(ours.calls / theirs.calls);
        bring_up.extend(bring_up_ms(&console));
    }
    let calls = Figure::median("null calls a second, 2 CPUs", &own, "calls/s");
    let median = |values: &[f64]| Figure::median("", values, "").value;
    let mut figures = vec![
        Figure { peer: Some(median(&peer)), ..calls },
        Figure::median("Ringside's calls for each of Linux's getppid", &quotients, "times"),
    ];
    if !bring_up.is_empty() {
        figures.push(Figure::median("Linux: bring-up of 1 other CPU", &bring_up, "ms"));
    }
    Ok(Section {
        name: "beside Linux".to_owned(),
        how: format!(
            "{}; boots of both kernels alternate, median of {samples}; peers of the sections above: {}",
            linux.name(),
            SAME.map(|(own, peer)| format!("{own}: {peer}")).join(", ")
        ),
        figures,
    })
}

/// Returns the time that Linux took to start the other CPUs, by the time stamps of its own log.
fn bring_up_ms(console: &str) -> Option<f64> {
    let time = |text: &str| {
        let line = console.lines().find(|line| line.contains(text))?;
        line.split_once('[')?.1.split_once(']')?.0.trim().parse::<f64>().ok()
    };
    Some((time("smp: Brought up")? - time("smp: Bringing up secondary CPUs")?) * 1e3)
}

/// Linux's kernel and the initial file system.
struct Linux {
    kernel: PathBuf,
    initrd: PathBuf,
}

impl Linux {
    /// Fetches the kernel unless that has been done, and builds the initial file system.
    fn prepare(progress: &dyn Fn(&str)) -> Result<Linux, Error> {
        let folder = root().join("target/linux");
        std::fs::create_dir_all(&folder).map_err(|error| Error::file("create", &folder, error))?;
        let kernel = match kernel_in(&folder)? {
            Some(kernel) => kernel,
            None => fetch(&folder, progress)?,
        };
        let mut build = Toolchain::find()?.build(BARE_TARGET, &bare_dir())?;
        build.args(["--package", "linux_init"]);
        cargo::build(build, "the init process for Linux", Show::Slow)?;
        let init = bare_dir().join(BARE_TARGET).join("release/linux_init");
        let bytes = std::fs::read(&init).map_err(|error| Error::file("read", &init, error))?;
        let initrd = folder.join("initrd");
        output::write(&initrd, archive(&bytes)).map_err(|error| Error::file("write", &initrd, error))?;
        Ok(Linux { kernel, initrd })
    }

    /// Returns the kernel's name, such as `vmlinuz-6.1.0-56-amd64`.
    fn name(&self) -> String {
        self.kernel.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Boots with these options of QEMU and words of the kernel's command line. Returns the console.
    fn boot(&self, words: &[&str], cmdline: &str) -> Result<String, Error> {
        let console = tempfile::NamedTempFile::new();
        let console =
            console.map_err(|error| Error::File("cannot create a temporary file".to_owned(), error))?;
        let program = "qemu-system-x86_64";
        let mut command = Command::new(program);
        command.args(["-machine", "q35", "-m", "512M", "-display", "none", "-vga", "none"]).args(words);
        command.args(["-nodefaults", "-no-user-config", "-no-reboot"]);
        command.arg("-serial").arg(format!("file:{}", console.path().display()));
        command.arg("-kernel").arg(&self.kernel).arg("-initrd").arg(&self.initrd);
        command.args(["-append", &format!("console=ttyS0 panic=-1 {cmdline}")]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut child = child.map_err(|error| Error::File(format!("cannot start {program}"), error))?;
        let start = Instant::now();
        while child
            .try_wait()
            .map_err(|error| Error::File("cannot wait for QEMU".to_owned(), error))?
            .is_none()
        {
            if start.elapsed() > LIMIT {
                // The process may have ended meanwhile.
                let _ = child.kill();
                let _ = child.wait();
                return Err(Error::Host(format!("Linux has not ended within {} s", LIMIT.as_secs())));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let bytes = std::fs::read(console.path());
        let bytes = bytes.map_err(|error| Error::file("read", console.path(), error))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Returns the kernel in this directory, if there is one.
fn kernel_in(folder: &Path) -> Result<Option<PathBuf>, Error> {
    let entries = std::fs::read_dir(folder).map_err(|error| Error::file("read", folder, error))?;
    let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(paths.find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-"))))
}

/// Fetches the kernel's package, and extracts the kernel.
fn fetch(folder: &Path, progress: &dyn Fn(&str)) -> Result<PathBuf, Error> {
    progress("fetching Debian's Linux kernel into target/linux");
    let depends = run(folder, "apt-cache", &["depends", PACKAGE])?;
    let package = package_in(&depends).ok_or_else(|| {
        Error::Host(format!(
            "apt knows no package {PACKAGE}: --peer linux needs Debian's packages; run apt-get update"
        ))
    })?;
    run(folder, "apt-get", &["download", package])?;
    let entries = std::fs::read_dir(folder).map_err(|error| Error::file("read", folder, error))?;
    let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let archive = paths.find(|path| path.extension().is_some_and(|extension| extension == "deb"));
    let archive =
        archive.ok_or_else(|| Error::Host(format!("apt-get has downloaded no file of {package}")))?;
    let unpacked = folder.join("unpacked");
    run(folder, "dpkg-deb", &["--extract", &archive.to_string_lossy(), &unpacked.to_string_lossy()])?;
    let boot = unpacked.join("boot");
    let inside = kernel_in(&boot)?;
    let inside = inside.ok_or_else(|| Error::Host(format!("the package {package} contains no kernel")))?;
    let kernel = folder.join(inside.file_name().unwrap_or_default());
    let bytes = std::fs::read(&inside).map_err(|error| Error::file("read", &inside, error))?;
    output::write(&kernel, bytes).map_err(|error| Error::file("write", &kernel, error))?;
    for (path, removed) in
        [(&unpacked, std::fs::remove_dir_all(&unpacked)), (&archive, std::fs::remove_file(&archive))]
    {
        removed.map_err(|error| Error::file("remove", path, error))?;
    }
    Ok(kernel)
}

/// Finds the package in what `apt-cache depends` printed.
fn package_in(depends: &str) -> Option<&str> {
    let mut names = depends.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    names.find(|name| name.starts_with("linux-image-"))
}

/// Runs a command in a directory. Returns its output; if it fails, the error contains what it printed.
fn run(folder: &Path, program: &str, arguments: &[&str]) -> Result<String, Error> {
    let output = Command::new(program).args(arguments).current_dir(folder).stdin(Stdio::null()).output();
    let output = output.map_err(|error| Error::File(format!("cannot start {program}"), error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let printed = String::from_utf8_lossy(&output.stderr);
    Err(Error::Host(format!("{program} failed ({}): {}", output.status, printed.trim_end())))
}

/// Builds the initial file system in the format that Linux reads (Documentation/driver-api/early-userspace,
/// `buffer-format`): the console's device and the init process.
fn archive(init: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A directory, a character device (major 5, minor 1), an executable file, and the end.
    entry(&mut bytes, "dev", 0o040_755, (0, 0), &[]);
    entry(&mut bytes, "dev/console", 0o020_600, (5, 1), &[]);
    entry(&mut bytes, "init", 0o100_755, (0, 0), init);
    entry(&mut bytes, "TRAILER!!!", 0, (0, 0), &[]);
    bytes
}

/// Appends an entry: a header of 13 numbers in hexadecimal, the name, and the contents, each padded to 4 bytes.
fn entry(bytes: &mut Vec<u8>, name: &str, mode: u32, (major, minor): (u32, u32), data: &[u8]) {
    let pad = |bytes: &mut Vec<u8>| bytes.resize(bytes.len().next_multiple_of(4), 0);
    let (length, name_length) = (data.len() as u32, name.len() as u32 + 1);
    bytes.extend(b"070701");
    for number in [0, mode, 0, 0, 1, 0, length, 0, 0, major, minor, name_length, 0] {
        bytes.extend(format!("{number:08x}").bytes());
    }
    bytes.extend(name.bytes().chain([0]));
    pad(bytes);
    bytes.extend(data);
    pad(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_package_is_found_in_the_dependencies() {
        let depends = "linux-image-amd64\n  Depends: linux-image-6.1.0-56-amd64\n  Suggests: x\n";
        assert_eq!(package_in(depends), Some("linux-image-6.1.0-56-amd64"));
        assert_eq!(package_in("linux-image-amd64\n"), None);
    }

    #[test]
    fn bring_up_is_the_difference_of_two_time_stamps() {
        let console = "[    0.100000] smp: Bringing up secondary CPUs ...\n[    0.220000] smp: Brought up 1 node, 2 CPUs\n";
        let ms = bring_up_ms(console).expect("there must be a time");
        assert!((ms - 120.0).abs() < 1e-6, "{ms}");
        assert_eq!(bring_up_ms("[    0.1] other\n"), None);
    }

    #[test]
    fn archive_has_aligned_entries_and_ends_with_the_trailer() {
        let bytes = archive(b"12345");
        assert_eq!(bytes.len() % 4, 0);
        let at = bytes.windows(5).position(|window| window == b"init\0").expect("there must be an entry");
        assert_eq!(&bytes[(at + 5).next_multiple_of(4)..][..5], b"12345");
        assert!(String::from_utf8_lossy(&bytes).contains("TRAILER!!!"));
        // 110 bytes of header, then "dev\0" ends at a multiple of 4 with its padding.
        assert_eq!(&bytes[116..122], b"070701");
    }
}
