//! A machine's description as the words that describe it once more, for commands that replay what happened on it.

use crate::cli::MachineOptions;

impl MachineOptions {
    /// All that is not the default, and how many CPUs there are.
    pub fn words(&self) -> Vec<String> {
        // Without `..`, so that an option that is added and not thought of here does not compile.
        let MachineOptions {
            smp,
            cpu,
            machine,
            memory,
            accel,
            icount,
            tick_hz,
            cmdline,
            serial_dir,
            qemu,
            qemu_arg,
        } = self;
        let mut words = Vec::new();
        let mut push = |name: &str, value: Option<String>| match value {
            // Behind a blank it would be taken for an option.
            Some(value) if value.starts_with('-') => words.push(format!("--{name}={value}")),
            Some(value) => words.extend([format!("--{name}"), value]),
            None => {}
        };
        push("smp", Some(smp.clone()));
        let unless = |value: &str, default: &str| (value != default).then(|| value.to_owned());
        push("cpu", cpu.clone());
        push("machine", unless(machine, "q35"));
        push("memory", unless(memory, "128M"));
        push("accel", unless(accel, "tcg").filter(|_| !icount));
        push("tick-hz", tick_hz.map(|hz| hz.to_string()));
        push("cmdline", cmdline.clone());
        push("serial-dir", serial_dir.as_ref().map(|folder| folder.to_string_lossy().into_owned()));
        push("qemu", unless(&qemu.to_string_lossy(), "qemu-system-x86_64"));
        qemu_arg.iter().for_each(|argument| push("qemu-arg", Some(argument.clone())));
        words.extend(icount.then(|| "--icount".to_owned()));
        words
    }
}
