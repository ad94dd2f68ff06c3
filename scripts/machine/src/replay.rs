//! Composes the command that repeats a run, with the options that differ from their defaults.

use crate::options::{Boot, MachineOptions};

/// Options and their values, as separate words of a command line.
pub struct Words(pub Vec<String>);

impl Words {
    /// Returns the options that describe the machine, except `--icount`.
    pub fn of(machine: &MachineOptions) -> Words {
        // Do not use `..`, so that code that omits a new option does not compile.
        let MachineOptions {
            smp,
            cpu,
            machine,
            memory,
            boot,
            firmware,
            accel,
            icount,
            tick_hz,
            cmdline,
            serial_dir,
            qemu,
            qemu_arg,
        } = machine;
        let mut words = Words(Vec::new());
        let unless = |value: &str, default: &str| (value != default).then(|| value.to_owned());
        words.push("smp", Some(smp.clone()));
        words.push("cpu", cpu.clone());
        words.push("machine", unless(machine, "q35"));
        words.push("memory", unless(memory, "128M"));
        words.push("boot", unless(boot.name(), Boot::Pvh.name()));
        words.push("firmware", firmware.as_ref().map(|file| file.to_string_lossy().into_owned()));
        words.push("accel", unless(accel, "tcg").filter(|_| !icount));
        words.push("tick-hz", tick_hz.map(|hz| hz.to_string()));
        words.push("cmdline", cmdline.clone());
        words.push("serial-dir", serial_dir.as_ref().map(|folder| folder.to_string_lossy().into_owned()));
        words.push("qemu", unless(&qemu.to_string_lossy(), "qemu-system-x86_64"));
        qemu_arg.iter().for_each(|argument| words.push("qemu-arg", Some(argument.clone())));
        words
    }

    /// Adds an option with its value, if there is a value.
    pub fn push(&mut self, name: &str, value: Option<String>) {
        match value {
            // As a separate word, the value would be parsed as an option.
            Some(value) if value.starts_with('-') => self.0.push(format!("--{name}={value}")),
            Some(value) => self.0.extend([format!("--{name}"), value]),
            None => {}
        }
    }

    /// Adds an option without a value, if `given` is set.
    pub fn flag(&mut self, name: &str, given: bool) {
        self.0.extend(given.then(|| format!("--{name}")));
    }

    /// Returns the complete command.
    pub fn command(&self, subcommand: &str) -> String {
        let words = ["cargo", "xtask", subcommand].into_iter().chain(self.0.iter().map(String::as_str));
        // Only a NUL character cannot be quoted, and no process argument contains one.
        shlex::try_join(words).unwrap_or_default()
    }
}
