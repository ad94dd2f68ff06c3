//! The requirements of the kernel and of QEMU's boot protocol, PVH, on a machine. They are checked before QEMU starts,
//! because a guest that does not meet them ends without a message.

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
/// Of the arguments of `--qemu-arg` only another command line is checked, because QEMU would not report it.
///
/// # Errors
/// [`Error::Usage`], with the limit and what to change.
pub fn check(options: &MachineOptions, cmdline: &str, module: u64) -> Result<(), Error> {
    let (cmdline, what) = match appended(&options.qemu_arg) {
        Some(cmdline) => (cmdline, "-append"),
        None => (cmdline, "the program's arguments or --cmdline"),
    };
    if cmdline.len() > COMMAND_LINE_MAX {
        return Err(Error::Usage(format!(
            "the kernel's command line has {} bytes, but QEMU passes at most {COMMAND_LINE_MAX}: shorten {what}",
            cmdline.len()
        )));
    }
    // QEMU loads the module at the upper end, over the kernel if there is no room between them.
    let least = match options.boot {
        Boot::Pvh | Boot::Iso => MEMORY_MIN,
        Boot::Uefi | Boot::Image => FIRMWARE_MEMORY_MIN,
    };
    let needed = least.saturating_add(module);
    if memory(&options.memory).is_some_and(|bytes| bytes < needed) {
        let reason = match (options.boot, module) {
            (Boot::Uefi | Boot::Image, _) => "UEFI firmware, the kernel and the program's file need",
            (_, 0) => "the kernel needs",
            (_, _) => "the kernel and the program's file need",
        };
        return Err(Error::Usage(format!(
            "--memory {}: {reason} at least {} MiB",
            options.memory,
            needed.div_ceil(1 << 20)
        )));
    }
    match machine_version(&options.machine) {
        Some(version) if version < FIRST_WITH_PVH && options.boot == Boot::Pvh => Err(Error::Usage(format!(
            "--machine {}: machine types before {}.{} cannot start the kernel, because they lack QEMU's boot protocol \
             PVH: take q35 or pc",
            options.machine, FIRST_WITH_PVH.0, FIRST_WITH_PVH.1
        ))),
        _ => Ok(()),
    }
}

/// Returns the command line that these arguments of QEMU set in place of the tool's. QEMU takes the last one.
fn appended(arguments: &[String]) -> Option<&str> {
    let is_append = |word: &str| matches!(word, "-append" | "--append");
    arguments.windows(2).rev().find(|words| is_append(&words[0])).map(|words| words[1].as_str())
}

/// Returns the size that a value of -m gives, in bytes; `None` if only QEMU can tell.
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

/// Returns the version in a machine type's name: of `pc-q35-3.1` it is 3.1; `q35` has none.
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
        let text = message(&[], &"x".repeat(4096), 0).expect("refused");
        assert!(text.contains("has 4096 bytes") && text.contains("at most 4095"), "{text}");
        assert!(message(&[], &"\u{e9}".repeat(2048), 0).is_some(), "bytes count, not characters");
    }

    #[test]
    fn command_line_in_qemus_arguments_is_rejected_too() {
        let long = "x".repeat(4096);
        for option in ["-append", "--append"] {
            let own = |value: &str| message(&["--qemu-arg", option, "--qemu-arg", value], "", 0);
            assert!(own(&long).is_some_and(|text| text.ends_with("shorten -append")));
            assert_eq!(own("program=hello"), None);
            assert_eq!(
                message(&["--qemu-arg", option, "--qemu-arg", "x"], &long, 0),
                None,
                "the tool replaces the command line"
            );
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
        let text = message(&["--memory", "5M"], "", (1 << 20) + 1).expect("refused");
        assert!(text.contains("the program's file need at least 6 MiB"), "{text}");
    }

    #[test]
    fn firmware_needs_more_memory_but_no_pvh() {
        let text = message(&["--boot", "uefi", "--memory", "63M"], "", 0).expect("refused");
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
