//! The options of every subcommand that starts a virtual machine.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use crate::tree::root;

/// Options of the virtual machine and of the kernel command line.
#[derive(Args, Clone, Debug)]
pub struct MachineOptions {
    /// Number of CPUs, in the syntax of QEMU's -smp: 4, or 2,maxcpus=8, or 6,sockets=2,cores=3.
    #[arg(long, default_value = "4", value_name = "N")]
    pub smp: String,

    /// CPU model, in the syntax of QEMU's -cpu. [default: max; with --icount: max,-x2apic]
    #[arg(long, value_name = "MODEL")]
    pub cpu: Option<String>,

    /// Machine type, in the syntax of QEMU's -machine: q35 or pc.
    #[arg(long, default_value = "q35", value_name = "TYPE")]
    pub machine: String,

    /// Memory size, in the syntax of QEMU's -m.
    #[arg(long, short, default_value = "128M", value_name = "SIZE")]
    pub memory: String,

    /// How the kernel is started.
    #[arg(long, value_name = "METHOD", value_enum, default_value_t = Boot::Pvh)]
    pub boot: Boot,

    /// The UEFI firmware. [default: the firmware from Debian's package ovmf, or from the equivalent package of
    /// another distribution]
    #[arg(long, value_name = "FILE")]
    pub firmware: Option<PathBuf>,

    /// Accelerator, in the syntax of QEMU's -accel.
    #[arg(long, default_value = "tcg", value_name = "NAME")]
    pub accel: String,

    /// Makes the run deterministic: one host thread runs all CPUs, and the TSC advances by one per instruction.
    #[arg(long, conflicts_with = "accel")]
    pub icount: bool,

    /// Rate of the kernel's timer tick, in hertz. [default: 100; with more than 128 CPUs: 12800 divided
    /// by their number]
    #[arg(long, value_name = "HZ", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub tick_hz: Option<u32>,

    /// Additional text for the kernel command line, passed unchanged: 'key=value ...'.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub cmdline: Option<String>,

    /// Gives each CPU its own serial port and writes the port's output to DIR/cpuN.log, where N is the CPU's position
    /// in the firmware's CPU list.
    #[arg(long, value_name = "DIR")]
    pub serial_dir: Option<PathBuf>,

    /// The QEMU binary to use.
    #[arg(long, env = "RINGSIDE_QEMU", default_value = "qemu-system-x86_64", value_name = "PATH")]
    pub qemu: PathBuf,

    /// An additional argument for QEMU. May be given more than once.
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub qemu_arg: Vec<String>,
}

/// How the kernel is started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Boot {
    /// QEMU loads the kernel's ELF file (PVH).
    #[default]
    Pvh,
    /// UEFI firmware starts the loader that contains the kernel.
    Uefi,
    /// UEFI firmware starts the loader from a disk image.
    Image,
    /// GRUB loads the kernel's ELF file from a CD-ROM (Multiboot2).
    Iso,
}

impl Boot {
    /// Returns the time in seconds that UEFI firmware may take on a busy host before it starts the loader.
    pub const fn firmware_seconds(self) -> u64 {
        match self {
            Boot::Pvh | Boot::Iso => 0,
            Boot::Uefi | Boot::Image => 60,
        }
    }

    /// Returns whether UEFI firmware starts the kernel.
    pub const fn uses_firmware(self) -> bool {
        matches!(self, Boot::Uefi | Boot::Image)
    }

    /// Returns the option's value.
    pub const fn name(self) -> &'static str {
        match self {
            Boot::Pvh => "pvh",
            Boot::Uefi => "uefi",
            Boot::Image => "image",
            Boot::Iso => "iso",
        }
    }
}

/// Parses the name of one of the kernel's cargo features.
///
/// # Errors
/// If the kernel has no such feature.
pub fn feature(text: &str) -> Result<String, String> {
    let manifest = std::fs::read_to_string(root().join("kernel/Cargo.toml")).map_err(|e| e.to_string())?;
    let features = features(&manifest);
    match features.contains(&text) {
        true => Ok(text.to_owned()),
        false => Err(format!("the kernel's features are: {}", features.join(", "))),
    }
}

/// Returns the features that a manifest declares.
fn features(manifest: &str) -> Vec<&str> {
    let section = manifest.lines().skip_while(|line| line.trim() != "[features]").skip(1);
    let section = section.take_while(|line| !line.starts_with('['));
    section
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| Some(line.split_once('=')?.0.trim()))
        .collect()
}

/// Parses the name of a mutant.
///
/// # Errors
/// If the name contains characters that are not allowed. It becomes part of a directory name.
pub fn mutant(text: &str) -> Result<String, String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if !text.is_empty() && text.chars().all(is_name) {
        Ok(text.to_owned())
    } else {
        Err("a name consists of letters, digits, '-' and '_'".to_owned())
    }
}

/// Parses the options of a subcommand from `words`, which include neither the tool's name nor the subcommand.
///
/// # Errors
/// The same errors as on the command line.
pub fn parse<A: Args>(
    words: impl IntoIterator<Item = impl Into<OsString> + Clone>,
) -> Result<A, clap::Error> {
    let command = A::augment_args(clap::Command::new("xtask").no_binary_name(true));
    A::from_arg_matches(&command.try_get_matches_from(words)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn feature_must_be_in_the_manifest_of_the_kernel() {
        assert_eq!(feature("checking").as_deref(), Ok("checking"));
        let error = feature("nosuch").expect_err("it must be rejected");
        assert!(error.contains("checking"), "{error}");
        assert_eq!(
            features("[a]\nx = 1\n[features]\n# A comment.\none = []\ntwo=[]\n[b]\ny = 1"),
            ["one", "two"]
        );
    }
}
