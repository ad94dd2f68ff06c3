//! The options of `inject`, and the command that reproduces a failure.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use machine::options::MachineOptions;
use machine::options::{feature, mutant};
use machine::replay::Words;

use super::driver::Event;

/// The default tick rate in hertz: high, so that ring 3 and the idle loop are interrupted by a tick soon.
pub const TICK_HZ: u32 = 1000;
/// The default time limit of a boot with all its injections, in seconds.
const TIMEOUT: u64 = 300;

/// Options of `inject`.
#[derive(Args, Clone, Debug)]
pub struct InjectOptions {
    /// The machine, which needs at least three CPUs. Injections are performed on the BSP and the last CPU.
    #[command(flatten)]
    pub machine: MachineOptions,

    /// Injects only this kind of event. [default: all]
    #[arg(long, value_enum, value_name = "KIND")]
    pub kind: Option<Kind>,

    /// Makes injections that end the run only at every Nth instruction, because each needs its own boot: machine checks,
    /// and NMIs before an earlier NMI has saved its frame.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub every: u16,

    /// Injects only on this path; see --list.
    #[arg(long, value_name = "NAME")]
    pub path: Option<String>,

    /// Injects only at this instruction, such as syscall_entry+0x3.
    #[arg(long, value_name = "SYMBOL+OFFSET")]
    pub at: Option<String>,

    /// Injects only on this CPU. [default: the BSP and the last CPU]
    #[arg(long, value_name = "CPU")]
    pub on: Option<usize>,

    /// Continues with the next boot after a failed boot.
    #[arg(long)]
    pub keep_going: bool,

    /// Lists the paths with their instructions, without injecting.
    #[arg(long)]
    pub list: bool,

    /// Ends a boot after this many seconds.
    #[arg(long, default_value_t = TIMEOUT, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: u64,

    /// Writes injection counts and failures as JSON to this file; '-' is standard output.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Builds the kernel with this cargo feature, in a separate build directory; may be repeated.
    #[arg(long, value_name = "NAME", value_parser = feature)]
    pub feature: Vec<String>,

    /// Builds the kernel without this guard; see `cargo xtask mutants --list`; may be repeated.
    #[arg(long, value_name = "NAME", value_parser = mutant)]
    pub mutant: Vec<String>,

    /// Uses the last build without checking whether it is up to date.
    #[arg(long, hide = true)]
    pub as_built: bool,

    /// Uses this kernel ELF instead of building one.
    #[arg(long, hide = true, value_name = "FILE")]
    pub kernel: Option<PathBuf>,
}

/// The injected event, as named on the command line.
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
    /// Returns the value's name on the command line.
    fn name(self) -> &'static str {
        match self {
            Kind::Nmi => "nmi",
            Kind::Db => "db",
            Kind::Mc => "mc",
        }
    }
}

impl From<Event> for Kind {
    fn from(event: Event) -> Kind {
        match event {
            Event::Nmi => Kind::Nmi,
            Event::Debug => Kind::Db,
            Event::MachineCheck => Kind::Mc,
        }
    }
}

impl InjectOptions {
    /// Returns the selected events.
    pub fn events(&self) -> &'static [Event] {
        match self.kind {
            None => &[Event::Nmi, Event::Debug, Event::MachineCheck],
            Some(Kind::Nmi) => &[Event::Nmi],
            Some(Kind::Db) => &[Event::Debug],
            Some(Kind::Mc) => &[Event::MachineCheck],
        }
    }

    /// Returns the command that repeats the injections on one path of this machine, or only those at one place.
    pub fn replay(&self, event: Event, path: &str, cpu: usize, place: Option<String>) -> String {
        let mut words = Words::of(&self.machine);
        words.flag("icount", self.machine.icount);
        words.push("kernel", self.kernel.as_ref().map(|kernel| kernel.display().to_string()));
        self.feature.iter().for_each(|name| words.push("feature", Some(name.clone())));
        self.mutant.iter().for_each(|name| words.push("mutant", Some(name.clone())));
        words.push("kind", Some(Kind::from(event).name().to_owned()));
        words.push("path", Some(path.to_owned()));
        words.push("on", Some(cpu.to_string()));
        words.push("at", place);
        words.command("inject")
    }
}
