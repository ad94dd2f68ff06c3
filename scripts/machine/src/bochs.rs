//! Runs of the kernel on Bochs, an emulator that makes more of the checks that the manuals require than QEMU's TCG
//! does. Bochs boots a CD-ROM image through its own BIOS and GRUB.

use std::ffi::OsString;
use std::fmt::Write;
use std::path::Path;

use tempfile::TempDir;

use crate::cmdline;
use crate::error::Error;
use crate::facts::Facts;
use crate::guest_memory::bytes;
use crate::iso::{self, Contents};
use crate::options::{Boot, MachineOptions, parse};
use crate::replay::Words;
use crate::tree::root;
use crate::verify::Ending;

/// The default CPU model, the newest Intel one with all features that the kernel uses.
const MODEL: &str = "corei7_icelake_u";

/// The program, and the firmware that Debian's packages contain.
const PROGRAM: &str = "bochs-bin";
const BIOS: &str = "/usr/share/bochs/BIOS-bochs-latest";
const VGA_BIOS: &str = "/usr/share/bochs/VGABIOS-lgpl-latest";

/// The largest number of CPUs. Bochs emulates all of them in one thread.
const CPUS_MAX: u32 = 8;

/// Starts Bochs in the run's directory, because not every path can be written in Bochs's configuration. Bochs writes
/// its messages to its standard output. Bochs writes the console to a file, for which the shell opens descriptor 3.
/// Bochs also needs a terminal type for the screen, although the screen is not shown.
const WIRING: &str = r#"cd "$0" && exec 3>&1 >output 2>&1 </dev/null && TERM=xterm exec "$@""#;

/// Messages in Bochs's log: the kernel has powered the machine off, and a triple fault.
const POWER_OFF: &str = "ACPI control: soft power off";
const TRIPLE_FAULT: &str = "exception with no resolution";

/// A run that has not been started yet.
pub struct Bochs {
    folder: TempDir,
    words: Vec<OsString>,
}

impl Bochs {
    /// Makes the image and Bochs's configuration.
    ///
    /// # Errors
    /// If an option has no counterpart in Bochs, Bochs is not installed, or the image cannot be made.
    pub fn prepare(options: &MachineOptions, contents: Contents<'_>) -> Result<Bochs, Error> {
        check(options)?;
        let installed = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
            .any(|folder| folder.join(PROGRAM).is_file());
        if !installed || !Path::new(BIOS).exists() || !Path::new(VGA_BIOS).exists() {
            return Err(Error::Host(
                "some files of Bochs are missing: install bochs-term, bochs, bochsbios and vgabios"
                    .to_owned(),
            ));
        }
        // Bochs has no exit device. It ends when the machine is powered off.
        let line = match cmdline::value(contents.cmdline, "verdict") {
            Some(_) => contents.cmdline.to_owned(),
            None => format!("verdict=poweroff {}", contents.cmdline),
        };
        let image = iso::of_run(Contents { cmdline: &line, ..contents })?;
        let parent = root().join("target/bochs");
        let fail = |error| Error::file("write", &parent, error);
        std::fs::create_dir_all(&parent).map_err(fail)?;
        let folder = tempfile::tempdir_in(&parent).map_err(fail)?;
        let path = |name: &str| folder.path().join(name);
        output::write(path("bochsrc"), configuration(options)?).map_err(fail)?;
        std::os::unix::fs::symlink(image, path("image.iso")).map_err(fail)?;
        // Debian's Bochs is built with its debugger, which waits for a command at the start.
        output::write(path("commands"), "continue\n").map_err(fail)?;
        let mut words: Vec<OsString> = ["sh", "-c", WIRING].map(OsString::from).to_vec();
        words.push(folder.path().into());
        words.extend([PROGRAM, "-q", "-f", "bochsrc", "-rc", "commands"].map(OsString::from));
        Ok(Bochs { folder, words })
    }

    /// Returns the command line. The console is its standard output.
    pub fn words(&self) -> &[OsString] {
        &self.words
    }

    /// Returns how QEMU would have ended this run: with the exit status for the kernel's verdict if the kernel powered
    /// the machine off after the verdict, and with status 0 after a triple fault.
    ///
    /// # Errors
    /// If Bochs ended for another reason.
    pub fn ending(&self, ending: Ending, facts: &Facts) -> Result<Ending, Error> {
        let log = std::fs::read(self.folder.path().join("bochs.log")).unwrap_or_default();
        translate(ending, facts, &String::from_utf8_lossy(&log))
    }

    /// Returns the registers of all CPUs, which Bochs prints to its log when it ends by itself.
    pub fn registers(&self) -> String {
        let log = std::fs::read(self.folder.path().join("bochs.log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let state: Vec<_> = log.lines().filter(|line| line.contains("i[CPU") && line.contains('|')).collect();
        state.join("\n")
    }
}

fn translate(ending: Ending, facts: &Facts, log: &str) -> Result<Ending, Error> {
    let (Ending::Status(status), panic) = (ending, log.lines().find(|line| line.contains(">>PANIC<<")))
    else {
        return Ok(ending);
    };
    match (panic, facts.verdicts.first()) {
        (Some(line), Some(record)) if line.contains(POWER_OFF) => {
            Ok(Ending::Status(record.verdict.qemu_status()))
        }
        (Some(line), _) if line.contains(POWER_OFF) || line.contains(TRIPLE_FAULT) => Ok(Ending::Status(0)),
        (Some(line), _) => Err(Error::Host(format!("Bochs ended with status {status}: {line}"))),
        (None, _) => Err(Error::Host(format!(
            "Bochs ended with status {status}, and its log gives no reason; it printed:\n{}",
            log.lines().last().unwrap_or("nothing")
        ))),
    }
}

/// Rejects options that have no counterpart in Bochs.
fn check(options: &MachineOptions) -> Result<(), Error> {
    let default: MachineOptions = parse::<MachineOptions>(&[] as &[&str]).expect("the defaults are valid");
    let allowed = MachineOptions {
        smp: options.smp.clone(),
        cpu: options.cpu.clone(),
        memory: options.memory.clone(),
        tick_hz: options.tick_hz,
        cmdline: options.cmdline.clone(),
        boot: if options.boot == Boot::Iso { Boot::Iso } else { Boot::Pvh },
        qemu: options.qemu.clone(),
        ..default
    };
    match Words::of(options).0.into_iter().find(|word| !Words::of(&allowed).0.contains(word)) {
        _ if options.icount => Err(Error::Usage("--icount needs QEMU".to_owned())),
        Some(word) => Err(Error::Usage(format!("{word} needs QEMU: Bochs has no such option"))),
        None => Ok(()),
    }
}

/// Returns Bochs's configuration file.
fn configuration(options: &MachineOptions) -> Result<String, Error> {
    let cpus: Option<u32> = options.smp.parse().ok().filter(|cpus| (1..=CPUS_MAX).contains(cpus));
    let cpus = cpus.ok_or_else(|| {
        Error::Usage(format!(
            "--smp {}: with Bochs, the value must be a number from 1 to {CPUS_MAX}",
            options.smp
        ))
    })?;
    let memory = bytes(&options.memory).map(|bytes| bytes >> 20).filter(|mib| (16..=2048).contains(mib));
    let memory = memory.ok_or_else(|| {
        Error::Usage(format!("--memory {}: with Bochs, the size must be from 16M to 2G", options.memory))
    })?;
    let model = options.cpu.as_deref().unwrap_or(MODEL);
    // Words of this file are separated by commas.
    if model.contains([',', '\n']) {
        return Err(Error::Usage(format!(
            "--cpu {model}: no CPU model of Bochs has this name; `{PROGRAM} --help cpu` lists the models"
        )));
    }
    // The display shows text only, and Bochs would end if GRUB set a graphics mode. Without the VGA extension, GRUB
    // finds none.
    let mut text = String::new();
    // Writing to a `String` cannot fail. The guest's clock does not follow the host's clock, so the load on the host
    // has no effect on the guest.
    let _ = write!(
        text,
        "display_library: term\n\
         config_interface: textconfig\n\
         cpu: count={cpus}, model={model}, ips=100000000, quantum=16, reset_on_triple_fault=0\n\
         megs: {memory}\n\
         romimage: file={BIOS}, options=fastboot\n\
         vgaromimage: file={VGA_BIOS}\n\
         vga: extension=none\n\
         ata0-master: type=cdrom, path=image.iso, status=inserted\n\
         boot: cdrom\n\
         com1: enabled=1, mode=file, dev=/dev/fd/3\n\
         clock: sync=none, time0=1000000\n\
         log: bochs.log\n\
         panic: action=fatal\n\
         error: action=report\n\
         info: action=report\n\
         debug: action=ignore\n\
         speaker: enabled=0\n\
         sound: driver=dummy\n"
    );
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &[&str]) -> MachineOptions {
        parse(words).expect("cannot parse")
    }

    #[test]
    fn options_of_qemu_are_refused() {
        assert!(
            check(&options(&["--smp", "2", "--cpu", "ryzen", "--cmdline", "x=1", "--tick-hz", "9"])).is_ok()
        );
        for words in [
            &["--icount"][..],
            &["--machine", "pc"],
            &["--boot", "uefi"],
            &["--accel", "kvm"],
            &["--serial-dir", "x"],
            &["--qemu-arg", "-s"],
        ] {
            assert!(matches!(check(&options(words)), Err(Error::Usage(_))), "{words:?}");
        }
        let configuration = |words: &[&str]| configuration(&options(words));
        let text = configuration(&["--smp", "2", "-m", "64M"]).expect("the options must be valid");
        assert!(text.contains("count=2, model=corei7_icelake_u,") && text.contains("megs: 64\n"));
        for words in [["--smp", "2,maxcpus=4"], ["--smp", "9"], ["-m", "8M"], ["--cpu", "max,-smap"]] {
            assert!(matches!(configuration(&words), Err(Error::Usage(_))), "{words:?}");
        }
    }

    #[test]
    fn ending_is_that_of_qemu() {
        let off = "00000000000i[X] y\n0001p[ACPI  ] >>PANIC<< ACPI control: soft power off\n";
        let triple = "0001p[CPU1  ] >>PANIC<< exception(): 3rd (13) exception with no resolution\n";
        let mut facts = Facts::default();
        let ended = |facts: &Facts, log| translate(Ending::Status(1), facts, log);
        assert_eq!(
            ended(&facts, off).expect("it must not be an error"),
            Ending::Status(0),
            "off before the verdict"
        );
        facts.take(b"@ringside verdict outcome=pass records=0 warnings=0");
        assert_eq!(ended(&facts, off).expect("it must not be an error"), Ending::Status(33));
        assert_eq!(ended(&facts, triple).expect("it must not be an error"), Ending::Status(0));
        assert!(ended(&facts, "0001p[HD    ] >>PANIC<< no image\n").is_err());
        assert!(ended(&facts, "").is_err());
        assert_eq!(
            translate(Ending::TimedOut, &facts, "").expect("it must not be an error"),
            Ending::TimedOut
        );
    }
}
