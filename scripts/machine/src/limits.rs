//! The requirements of the kernel and of QEMU's boot protocol, PVH, on a machine. They are checked before QEMU starts,
//! because a machine that does not meet them ends without a message.

use kernel_abi::boot::{COMMAND_LINE_MAX, MEMORY_MIN};

use crate::error::Error;
use crate::guest_memory;
use crate::options::{Boot, MachineOptions};

/// The first version of the machine types that support PVH. An older type starts an old firmware, which resets the
/// machine.
const FIRST_WITH_PVH: (u32, u32) = (4, 0);

/// The minimum memory for UEFI firmware and the kernel, in bytes. OVMF from Debian 12 starts a loader with 48 MiB.
const FIRMWARE_MEMORY_MIN: u64 = 64 << 20;

/// Checks a machine, its kernel's command line, and the size of the program that QEMU loads as a boot module, in bytes.
/// Of the values of `--qemu-arg`, it checks those that change one of these settings, because QEMU would not report an
/// invalid value, and those that make QEMU print help and exit.
///
/// # Errors
/// [`Error::Usage`], with the limit and what to change.
pub fn check(options: &MachineOptions, cmdline: &str, module: u64) -> Result<(), Error> {
    if let Some(words) = help(options) {
        let text = format!(
            "with {words}, QEMU prints a text and starts no machine: to read it, run `{} {words}`",
            options.qemu.display()
        );
        return Err(Error::Usage(text));
    }
    if options.qemu_arg.iter().any(|word| option_name(word) == Some("daemonize")) {
        let text =
            "-daemonize: remove this option: with it, QEMU would continue to run after this tool has ended";
        return Err(Error::Usage(text.to_owned()));
    }
    let words = options.smp.split([',', '=']);
    if let Some(number) = words.into_iter().find(|word| is_beyond_32_bits(word)) {
        let text = format!("--smp {}: QEMU would use only the low 32 bits of {number}", options.smp);
        return Err(Error::Usage(text));
    }
    let (cmdline, what) = match given(&options.qemu_arg, &["append"]).last() {
        Some(cmdline) => (cmdline, "-append"),
        None => (cmdline, "the program's arguments or --cmdline"),
    };
    if cmdline.len() > COMMAND_LINE_MAX {
        return Err(Error::Usage(format!(
            "the kernel's command line has {} bytes, but QEMU passes at most {COMMAND_LINE_MAX}: shorten {what}",
            cmdline.len()
        )));
    }
    // QEMU loads the module at the upper end of memory. It overwrites the kernel if the memory is too small for both.
    let least = match options.boot {
        Boot::Pvh | Boot::Iso => MEMORY_MIN,
        Boot::Uefi | Boot::Image => FIRMWARE_MEMORY_MIN,
    };
    let needed = least.saturating_add(module);
    let sizes = given(&options.qemu_arg, &["m"]).filter(|value| memory(value).is_some());
    let size = sizes.last().unwrap_or(&options.memory);
    if memory(size).is_some_and(|bytes| bytes < needed) {
        let reason = match (options.boot, module) {
            (Boot::Uefi | Boot::Image, _) => "UEFI firmware, the kernel and the program's file need",
            (_, 0) => "the kernel needs",
            (_, _) => "the kernel and the program's file need",
        };
        return Err(Error::Usage(format!(
            "a memory of {size} is too small: {reason} at least {} MiB",
            needed.div_ceil(1 << 20)
        )));
    }
    let types = given(&options.qemu_arg, &["machine", "M"]).filter(|value| property(value, "type").is_some());
    let machine = types.last().unwrap_or(&options.machine);
    match machine_version(machine) {
        Some(version) if version < FIRST_WITH_PVH && options.boot == Boot::Pvh => Err(Error::Usage(format!(
            "the machine {machine}: machine types before {}.{} cannot start the kernel, because they lack QEMU's boot protocol \
             PVH: use q35 or pc",
            FIRST_WITH_PVH.0, FIRST_WITH_PVH.1
        ))),
        _ => Ok(()),
    }
}

/// Returns whether a word is a number that does not fit in 32 bits.
fn is_beyond_32_bits(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit()) && word.parse::<u32>().is_err()
}

/// Returns the values of an option of QEMU, by its names, among these arguments. QEMU takes the last one.
fn given<'a>(arguments: &'a [String], names: &'a [&str]) -> impl Iterator<Item = &'a str> {
    let is_option = |word: &str| option_name(word).is_some_and(|name| names.contains(&name));
    arguments.windows(2).filter(move |words| is_option(&words[0])).map(|words| words[1].as_str())
}

/// Returns the name of an option of QEMU, which may have one hyphen or two.
fn option_name(word: &str) -> Option<&str> {
    let name = word.strip_prefix('-')?;
    Some(name.strip_prefix('-').unwrap_or(name))
}

/// Returns the arguments that make QEMU print help or its version and exit.
fn help(options: &MachineOptions) -> Option<String> {
    let is_help = |value: &str| matches!(value, "help" | "?");
    let cpu = options.cpu.as_deref().unwrap_or_default();
    let machine = [("-cpu", cpu), ("-machine", &options.machine), ("-accel", &options.accel)];
    let machine =
        machine.into_iter().find(|(_, value)| is_help(value)).map(|(name, value)| format!("{name} {value}"));
    let words = &options.qemu_arg;
    let single = || {
        let ends = |word: &&String| matches!(option_name(word), Some("h" | "help" | "version"));
        words.iter().find(ends).cloned()
    };
    let pair = || {
        let asks = |words: &&[String]| {
            matches!(
                option_name(&words[0]),
                Some("cpu" | "machine" | "M" | "accel" | "device" | "object" | "d")
            ) && is_help(&words[1])
        };
        words.windows(2).find(asks).map(|words| words.join(" "))
    };
    machine.or_else(single).or_else(pair)
}

/// Returns the size that a value of -m gives, in bytes; `None` if only QEMU can interpret the value.
fn memory(value: &str) -> Option<u64> {
    property(value, "size").and_then(guest_memory::bytes)
}

/// Returns a property of a QEMU option. The option may begin with the property's value alone; if the property is given
/// several times, QEMU takes the last one.
fn property<'a>(value: &'a str, key: &str) -> Option<&'a str> {
    let of_word = |(n, word): (usize, &'a str)| match word.split_once('=') {
        Some((name, value)) => (name == key).then_some(value),
        None => (n == 0).then_some(word),
    };
    value.split(',').enumerate().filter_map(of_word).last()
}

/// Returns the version in a machine type's name: for `pc-q35-3.1` it is 3.1; `q35` has none.
fn machine_version(value: &str) -> Option<(u32, u32)> {
    let version = property(value, "type")?.strip_prefix("pc-")?.rsplit('-').next()?;
    let mut numbers = version.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::parse;

    fn message(arguments: &[&str], cmdline: &str, module: u64) -> Option<String> {
        let options: MachineOptions = parse(arguments).expect("cannot parse");
        let error = check(&options, cmdline, module).err()?;
        assert!(matches!(error, Error::Usage(_)), "{error}");
        Some(error.to_string())
    }

    #[test]
    fn command_line_over_the_limit_is_refused_with_size_and_limit() {
        assert_eq!(message(&[], &"x".repeat(4095), 0), None);
        let text = message(&[], &"x".repeat(4096), 0).expect("it must be rejected");
        assert!(text.contains("has 4096 bytes") && text.contains("at most 4095"), "{text}");
        assert!(message(&[], &"\u{e9}".repeat(2048), 0).is_some(), "bytes count, not characters");
    }

    #[test]
    fn command_line_in_qemus_arguments_is_rejected_too() {
        let long = "x".repeat(4096);
        for option in ["-append", "--append"] {
            let refusal = |value: &str| message(&["--qemu-arg", option, "--qemu-arg", value], "", 0);
            assert!(refusal(&long).is_some_and(|text| text.ends_with("shorten -append")));
            assert_eq!(refusal("program=hello"), None);
            assert_eq!(
                message(&["--qemu-arg", option, "--qemu-arg", "x"], &long, 0),
                None,
                "the tool replaces the command line"
            );
        }
    }

    /// Returns the message for arguments that are passed to QEMU.
    fn of_qemu(arguments: &[&str]) -> Option<String> {
        let words: Vec<_> = arguments.iter().flat_map(|&word| ["--qemu-arg", word]).collect();
        message(&words, "", 0)
    }

    #[test]
    fn memory_and_machine_of_qemus_arguments_are_refused_too() {
        let small =
            |words| of_qemu(words).is_some_and(|text| text.starts_with("a memory of 2M is too small: "));
        assert!(small(&["-m", "2M"]) && small(&["--m", "1G", "-m", "2M"]));
        assert_eq!(of_qemu(&["-m", "2M", "-m", "slots=2,maxmem=1G,size=4M"]), None, "QEMU takes the last");
        assert_eq!(message(&["--memory", "2M", "--qemu-arg", "-m", "--qemu-arg", "4M"], "", 0), None);
        for option in ["-machine", "--machine", "-M"] {
            let text = of_qemu(&[option, "pc-q35-3.1", "-machine", "hpet=off"]).unwrap_or_default();
            assert!(text.starts_with("the machine pc-q35-3.1: machine types before 4.0"), "{option}: {text}");
            assert_eq!(of_qemu(&["-M", "pc-q35-3.1", option, "q35"]), None, "QEMU takes the last");
        }
    }

    #[test]
    fn request_for_qemus_help_is_refused() {
        let options =
            ["cpu", "machine", "M", "accel", "device", "object", "d"].map(|name| format!("-{name}"));
        let lists = options.iter().flat_map(|option| [[option, "help"], [option, "?"]]);
        let lists = lists.map(|words| words.to_vec());
        let single = ["-h", "-help", "-version", "--version", "--help"].map(|word| vec![word]);
        for words in lists.chain(single).chain([vec!["--device", "help"]]) {
            let text = of_qemu(&words).unwrap_or_default();
            assert!(text.ends_with(&format!("run `qemu-system-x86_64 {}`", words.join(" "))), "{text}");
        }
        for option in ["--cpu", "--machine", "--accel"] {
            assert!(message(&[option, "help"], "", 0).is_some(), "{option}");
        }
        assert_eq!(of_qemu(&["-name", "help"]), None);
    }

    #[test]
    fn number_of_cpus_beyond_32_bits_is_refused() {
        for smp in ["4294967296", "2,maxcpus=4294967297", "cores=99999999999999999999"] {
            let text = message(&["--smp", smp], "", 0).unwrap_or_default();
            assert!(text.starts_with(&format!("--smp {smp}: QEMU would use only the low 32 bits")), "{text}");
        }
        for smp in ["4294967295", "2,maxcpus=8", "x", ""] {
            assert_eq!(message(&["--smp", smp], "", 0), None, "{smp}");
        }
    }

    #[test]
    fn too_little_memory_is_refused_with_the_minimum() {
        for small in ["1M", "2M", "3", "4095K", "size=2M,slots=2,maxmem=1G", "128M,size=2M", "128B", "0"] {
            let text = message(&["--memory", small], "", 0).unwrap_or_default();
            assert!(text.contains("at least 4 MiB"), "{small}: {text}");
        }
        for enough in ["4M", "4096k", "128M", "1G", "size=16M,slots=2", "2M,size=16M", "1T", "much"] {
            assert_eq!(message(&["--memory", enough], "", 0), None, "{enough}");
        }
    }

    #[test]
    fn memory_must_also_hold_the_program() {
        assert_eq!(message(&["--memory", "5M"], "", 1 << 20), None);
        let text = message(&["--memory", "5M"], "", (1 << 20) + 1).expect("it must be rejected");
        assert!(text.contains("the program's file need at least 6 MiB"), "{text}");
    }

    #[test]
    fn firmware_needs_more_memory_but_no_pvh() {
        let text = message(&["--boot", "uefi", "--memory", "63M"], "", 0).expect("it must be rejected");
        assert!(text.contains("UEFI firmware") && text.contains("at least 64 MiB"), "{text}");
        assert_eq!(message(&["--boot", "uefi", "--memory", "64M"], "", 0), None);
        assert_eq!(message(&["--boot", "uefi", "--machine", "pc-q35-3.1"], "", 0), None);
    }

    #[test]
    fn machine_types_without_pvh_are_refused() {
        for old in [
            "pc-q35-3.1",
            "pc-i440fx-2.12",
            "type=pc-q35-2.4",
            "q35,type=pc-q35-3.1",
            "pc-q35-3.0,hpet=off",
            "pc-1.0",
            "pc-0.15",
        ] {
            let text = message(&["--machine", old], "", 0).unwrap_or_default();
            assert!(text.contains("before 4.0"), "{old}: {text}");
        }
        assert_eq!(message(&["--machine", "pc-q35-3.1", "--boot", "iso"], "", 0), None);
        for new in [
            "q35",
            "pc",
            "pc-q35-4.0",
            "pc-q35-4.0.1",
            "pc-i440fx-10.0",
            "q35,hpet=off",
            "pc-q35-3.1,type=q35",
            "microvm",
            "isapc",
            "pc-q35-x",
        ] {
            assert_eq!(message(&["--machine", new], "", 0), None, "{new}");
        }
    }
}
