//! The options of `inject`, and the command that strikes once more at one place.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use machine::options::MachineOptions;
use machine::options::feature;
use machine::replay::Words;

use super::trip::Deed;

/// The tick that the idle loop and ring 3 are struck in should not have to be waited for, in hertz.
pub const TICK_HZ: u32 = 1000;
/// Seconds that a boot may take, with all that is done to it.
const TIMEOUT: u64 = 300;

/// Options of `inject`.
#[derive(Args, Clone, Debug)]
pub struct InjectOptions {
    /// The machine's description; at least three CPUs. The BSP and the last CPU are struck.
    #[command(flatten)]
    pub machine: MachineOptions,

    /// Strikes with these alone. [default: all]
    #[arg(long, value_enum, value_name = "KIND")]
    pub kind: Option<Kind>,

    /// Strikes with a machine check, for which each takes a boot, at every Nth instruction only.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub every: u16,

    /// Strikes on this path alone; see --list.
    #[arg(long, value_name = "NAME")]
    pub path: Option<String>,

    /// Strikes at this instruction alone, such as syscall_entry+0x3.
    #[arg(long, value_name = "SYMBOL+OFFSET")]
    pub at: Option<String>,

    /// Strikes this CPU alone. [default: the BSP and the last one]
    #[arg(long, value_name = "CPU")]
    pub on: Option<usize>,

    /// Goes on with the next boot after one that failed.
    #[arg(long)]
    pub keep_going: bool,

    /// Lists the paths with their instructions, and does nothing else.
    #[arg(long)]
    pub list: bool,

    /// Ends a boot after this many seconds.
    #[arg(long, default_value_t = TIMEOUT, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: u64,

    /// Writes what was struck as JSON; '-' is standard output.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Builds the kernel with this cargo feature, apart from the usual build; may be repeated.
    #[arg(long, value_name = "NAME", value_parser = feature)]
    pub feature: Vec<String>,

    /// Builds the kernel without this guard, of `cargo xtask mutants --list`; may be repeated.
    #[arg(long, value_name = "NAME", value_parser = feature)]
    pub mutant: Vec<String>,

    /// Takes what was built last, without looking whether it is up to date.
    #[arg(long, hide = true)]
    pub as_built: bool,

    /// Takes this kernel's ELF instead of building one.
    #[arg(long, hide = true, value_name = "FILE")]
    pub kernel: Option<PathBuf>,
}

/// What strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Non-maskable interrupts.
    Nmi,
    /// Debug exceptions in ring 0.
    Db,
    /// Machine checks.
    Mc,
}

impl Kind {
    /// As the user writes it.
    fn name(self) -> &'static str {
        match self {
            Kind::Nmi => "nmi",
            Kind::Db => "db",
            Kind::Mc => "mc",
        }
    }
}

impl From<Deed> for Kind {
    fn from(deed: Deed) -> Kind {
        match deed {
            Deed::Nmi => Kind::Nmi,
            Deed::Debug => Kind::Db,
            Deed::MachineCheck => Kind::Mc,
        }
    }
}

impl InjectOptions {
    /// What is to strike.
    pub fn deeds(&self) -> &'static [Deed] {
        match self.kind {
            None => &[Deed::Nmi, Deed::Debug, Deed::MachineCheck],
            Some(Kind::Nmi) => &[Deed::Nmi],
            Some(Kind::Db) => &[Deed::Debug],
            Some(Kind::Mc) => &[Deed::MachineCheck],
        }
    }

    /// The command that strikes on this machine on one path, and at one place alone if there is one.
    pub fn replay(&self, deed: Deed, path: &str, cpu: usize, place: Option<String>) -> String {
        let mut words = Words::of(&self.machine);
        words.flag("icount", self.machine.icount);
        words.push("kernel", self.kernel.as_ref().map(|kernel| kernel.display().to_string()));
        self.feature.iter().for_each(|name| words.push("feature", Some(name.clone())));
        self.mutant.iter().for_each(|name| words.push("mutant", Some(name.clone())));
        words.push("kind", Some(Kind::from(deed).name().to_owned()));
        words.push("path", Some(path.to_owned()));
        words.push("on", Some(cpu.to_string()));
        words.push("at", place);
        words.command("inject")
    }
}
