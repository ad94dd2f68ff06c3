//! The QEMU command line.

use std::borrow::Cow;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

use kernel_abi::verdict::DEBUG_EXIT_PORT;

use crate::error::Error;
use crate::image::DISK;
use crate::iso::Contents;
use crate::options::{Boot, MachineOptions};
use crate::quoting::escape_commas;
use crate::{cmdline, image, iso, limits, serial_ports, uefi};

/// Returns the major and minor version of a QEMU binary.
///
/// # Errors
/// If the binary cannot be started, or does not print a version.
pub fn version(qemu: &Path) -> Result<(u32, u32), Error> {
    let unknown = |output: &str| {
        Error::Host(format!("`{} --version` does not print QEMU's version: {output}", qemu.display()))
    };
    let output = Command::new(qemu).arg("--version").stdin(Stdio::null()).output();
    let output = output.map_err(|error| unknown(&error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    parse_version(&text).ok_or_else(|| unknown(text.lines().next().unwrap_or("")))
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let version = text.split_once("version ")?.1;
    let mut numbers = version.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The value of `-qmp` that connects this tool's monitor.
pub const OWN_MONITOR: &str = "chardev:qmp";

/// The connections of QEMU's console and monitor.
#[derive(Clone, Copy, Debug)]
pub enum Wiring<'a> {
    /// The console is the terminal, and there is no monitor. This is for a command line that the user can paste.
    Terminal,
    /// The console is standard output. Standard input is a QMP socket, so no socket file has to be removed later.
    Session,
    /// The console is a file. The monitor is connected as in `Session`.
    File(&'a Path),
}

/// A virtual machine that has not been started yet.
pub struct Machine<'a> {
    /// The user's options.
    pub options: &'a MachineOptions,
    /// The kernel's ELF file.
    pub kernel: &'a Path,
    /// The user's own program, passed as a boot module.
    pub module: Option<&'a Path>,
    /// The kernel's command line.
    pub cmdline: &'a str,
    /// If set, the machine starts stopped, with QEMU's gdb stub on this TCP port.
    pub gdb_port: Option<u16>,
}

impl Machine<'_> {
    /// Returns the QEMU program and its arguments.
    ///
    /// # Errors
    /// If the module's file is empty, or the kernel cannot run on this machine: see [`limits::check`].
    pub fn command_line(&self, wiring: Wiring<'_>) -> Result<Vec<OsString>, Error> {
        let options = self.options;
        // If the file cannot be read, QEMU reports the error.
        let module = self.module.and_then(|path| Some((path, path.metadata().ok()?)));
        // For an empty file, QEMU would pass no module.
        if let Some((path, _)) = module.as_ref().filter(|(_, file)| file.is_file() && file.len() == 0) {
            return Err(Error::Usage(format!("{} is empty: not an ELF file", path.display())));
        }
        let module = module.map_or(0, |(_, file)| file.len());
        limits::check(options, &self.cmdline(), module)?;
        let mut words: Vec<OsString> = vec![options.qemu.clone().into()];
        let mut push = |name: &str, value: &dyn AsRef<std::ffi::OsStr>| {
            words.push(name.into());
            words.push(value.as_ref().to_owned());
        };
        push("-machine", &options.machine);
        // With -icount, QEMU fails ("Bad icount read") if a guest reads the timer through x2APIC MSRs.
        let cpu = if options.icount { "max,-x2apic" } else { "max" };
        push("-cpu", &options.cpu.as_deref().unwrap_or(cpu));
        push("-smp", &options.smp);
        push("-m", &options.memory);
        if options.icount {
            push("-accel", &"tcg,thread=single");
            push("-icount", &"shift=0,sleep=off");
        } else {
            push("-accel", &options.accel);
        }
        words.extend(self.start()?);
        let mut push = |name: &str, value: &dyn AsRef<std::ffi::OsStr>| {
            words.push(name.into());
            words.push(value.as_ref().to_owned());
        };
        push("-display", &"none");
        push("-vga", &"none");
        push("-device", &format!("isa-debug-exit,iobase={DEBUG_EXIT_PORT:#x},iosize=0x04"));
        let console = match wiring {
            Wiring::Terminal => None,
            Wiring::Session => Some(Path::new("/dev/stdout")),
            Wiring::File(path) => Some(path),
        };
        if let Some(path) = console {
            push("-chardev", &format!("file,id=console,path={}", escape_commas(path)));
            push("-serial", &"chardev:console");
            push("-chardev", &"socket,id=qmp,fd=0");
            // Do not use `-mon`: QEMU 11.1 prints a warning about it.
            push("-qmp", &OWN_MONITOR);
        } else {
            push("-serial", &"stdio");
        }
        if let Some(folder) = &options.serial_dir {
            words.extend(serial_ports::devices(folder, serial_ports::cpus(&options.smp)));
        }
        if let Some(port) = self.gdb_port {
            words.extend(["-gdb", &format!("tcp:127.0.0.1:{port}"), "-S"].map(OsString::from));
        }
        // On a guest reset QEMU exits instead of rebooting, so that a triple fault is not mistaken for a new boot.
        words.extend(["-nodefaults", "-no-user-config", "-no-reboot"].map(OsString::from));
        words.extend(options.qemu_arg.iter().map(OsString::from));
        Ok(words)
    }

    /// Returns the kernel's command line. A kernel that firmware or a boot loader has started uses the exit device only
    /// if the command line requests it.
    fn cmdline(&self) -> Cow<'_, str> {
        let asked = cmdline::value(self.cmdline, "verdict").is_some();
        match self.options.boot {
            Boot::Uefi | Boot::Image | Boot::Iso if !asked => format!("verdict=exit {}", self.cmdline).into(),
            Boot::Pvh | Boot::Uefi | Boot::Image | Boot::Iso => self.cmdline.into(),
        }
    }

    /// Returns the words that start the kernel.
    fn start(&self) -> Result<Vec<OsString>, Error> {
        let Machine { kernel, module, .. } = *self;
        let cmdline = &*self.cmdline();
        let with = |file: &Path| ["-kernel".into(), file.into(), "-append".into(), cmdline.into()];
        match self.options.boot {
            Boot::Pvh => {
                let module = module.map(|module| ["-initrd".into(), module.into()]);
                Ok(with(kernel).into_iter().chain(module.into_iter().flatten()).collect())
            }
            Boot::Uefi | Boot::Image => {
                // The firmware cannot write to its file, so it keeps its variables in memory.
                let firmware = escape_commas(&uefi::firmware(self.options)?);
                let firmware = format!("if=pflash,format=raw,readonly=on,file={firmware}");
                let loader = uefi::loader_path(kernel);
                let start = match module {
                    _ if self.options.boot == Boot::Image => {
                        let disk = image::of_run(Contents { kernel, module, cmdline })?;
                        let disk = format!("{DISK}{}", escape_commas(&disk));
                        ["-drive", &disk, "-device", "virtio-blk-pci,drive=disk"].map(OsString::from)
                    }
                    // The firmware passes the command line as load options.
                    None => with(&loader),
                    // QEMU passes a module to Linux and to PVH kernels only.
                    Some(module) => uefi::partition(&loader, cmdline, module)?,
                };
                Ok(["-drive".into(), firmware.into()].into_iter().chain(start).collect())
            }
            Boot::Iso => {
                let image = iso::of_run(Contents { kernel, module, cmdline })?;
                Ok(vec!["-cdrom".into(), image.into()])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::parse;
    use crate::quoting::shell_quoted;

    #[test]
    fn version_is_parsed() {
        assert_eq!(parse_version("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)"), Some((10, 0)));
        assert_eq!(parse_version("QEMU emulator version 7.2.17\nCopyright"), Some((7, 2)));
        assert_eq!(parse_version("QEMU"), None);
    }

    fn words(arguments: &[&str], wiring: Wiring<'_>) -> Vec<String> {
        let options: MachineOptions = parse(arguments).expect("cannot parse");
        let machine = Machine {
            options: &options,
            kernel: Path::new("k"),
            module: Some(Path::new("a,b")),
            cmdline: "program=hello -- x y",
            gdb_port: None,
        };
        let words = machine.command_line(wiring).expect("the machine must be valid");
        words.into_iter().map(|word| word.into_string().expect("invalid UTF-8")).collect()
    }

    #[test]
    fn empty_program_is_refused() {
        let empty = tempfile::NamedTempFile::new().expect("cannot create a file");
        let options: MachineOptions = parse::<MachineOptions>(&[] as &[&str]).expect("cannot parse");
        let (kernel, module) = (Path::new("k"), Some(empty.path()));
        let machine = Machine { options: &options, kernel, module, cmdline: "", gdb_port: None };
        let refused = machine.command_line(Wiring::Terminal).expect_err("it must be rejected");
        assert!(
            matches!(&refused, Error::Usage(text) if text.ends_with("is empty: not an ELF file")),
            "{refused}"
        );
    }

    fn value<'a>(words: &'a [String], name: &str) -> Option<&'a str> {
        words.iter().position(|word| word == name).map(|at| words[at + 1].as_str())
    }

    #[test]
    fn defaults() {
        let words = words(&[], Wiring::Terminal);
        assert_eq!(value(&words, "-machine"), Some("q35"));
        assert_eq!(value(&words, "-cpu"), Some("max"));
        assert_eq!(value(&words, "-smp"), Some("4"));
        assert_eq!(value(&words, "-m"), Some("128M"));
        assert_eq!(value(&words, "-accel"), Some("tcg"));
        assert_eq!(value(&words, "-initrd"), Some("a,b"));
        assert_eq!(value(&words, "-serial"), Some("stdio"));
        assert_eq!(value(&words, "-device"), Some("isa-debug-exit,iobase=0xf4,iosize=0x04"));
        assert!(!words.iter().any(|word| word.contains("qmp")));
    }

    #[test]
    fn firmware_gets_the_loader_in_place_of_the_kernel() {
        let options: MachineOptions = parse(["--boot", "uefi", "--firmware", "f,w"]).expect("cannot parse");
        let words = |module| {
            let machine =
                Machine { options: &options, kernel: Path::new("k"), module, cmdline: "a=b", gdb_port: None };
            let words = machine.command_line(Wiring::Terminal).expect("the machine must be valid");
            words.into_iter().map(|word| word.into_string().expect("invalid UTF-8")).collect::<Vec<_>>()
        };
        let without = words(None);
        assert_eq!(value(&without, "-drive"), Some("if=pflash,format=raw,readonly=on,file=f,,w"));
        assert_eq!(
            (value(&without, "-kernel"), value(&without, "-append")),
            (Some("k.efi"), Some("verdict=exit a=b"))
        );
        let with = words(Some(Path::new("p")));
        assert!(
            !with.iter().any(|word| ["-kernel", "-append", "-initrd"].contains(&word.as_str())),
            "{with:?}"
        );
        assert!(with.iter().any(|word| word.starts_with("driver=vvfat")), "{with:?}");
    }

    #[test]
    fn monitor_has_no_deprecated_option() {
        for wiring in [Wiring::Session, Wiring::File(Path::new("log"))] {
            let words = words(&[], wiring);
            assert_eq!(value(&words, "-qmp"), Some("chardev:qmp"));
            assert!(!words.iter().any(|word| word == "-mon"), "{words:?}");
        }
    }

    #[test]
    fn icount_runs_all_cpus_in_one_thread() {
        let words = words(&["--icount"], Wiring::Session);
        assert_eq!(value(&words, "-accel"), Some("tcg,thread=single"));
        assert_eq!(value(&words, "-icount"), Some("shift=0,sleep=off"));
        assert_eq!(value(&words, "-cpu"), Some("max,-x2apic"));
    }

    #[test]
    fn shell_splits_the_quoted_line_into_the_same_words() {
        let machine = words(&["--qemu-arg", "-name", "--qemu-arg", "it's a \"test\" $x"], Wiring::Terminal);
        let os: Vec<OsString> = machine.iter().map(OsString::from).collect();
        assert_eq!(shlex::split(&shell_quoted(&os)), Some(machine));
    }

    #[test]
    fn comma_in_log_path_is_doubled() {
        let words = words(&[], Wiring::File(Path::new("/tmp/a,b")));
        assert_eq!(value(&words, "-chardev"), Some("file,id=console,path=/tmp/a,,b"));
    }
}
