//! The options of `xtask trace`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use kernel_abi::trace::{GROUPS, Kind, all_groups};

/// The outputs to produce from a trace.
#[derive(Args, Clone, Debug)]
pub struct TraceOptions {
    /// A trace file (.rtrace), or a console log that contains a trace, which is first converted to IN with the
    /// extension .rtrace. With --ram, the file of guest memory.
    #[arg(value_name = "IN")]
    pub input: PathBuf,

    /// IN is the file of a memory-backend-file. The records in the guest's rings are first written to IN with the
    /// extension .rtrace.
    #[arg(long)]
    pub ram: bool,

    /// With --ram: the guest is running. Drains its rings until standard input ends (Ctrl-D). To get all records, end
    /// standard input only after the guest has stopped.
    #[arg(long, requires = "ram")]
    pub follow: bool,

    /// With --ram: the guest's machine type, in the syntax of QEMU's -machine.
    #[arg(long, default_value = "q35", value_name = "TYPE")]
    pub machine: String,

    /// Directory for out.pftrace, ctf/, stats.txt and stats.json, unless another option names the file. [default, if no
    /// other output is requested: IN with the extension .out]
    #[arg(long, value_name = "DIR")]
    pub out_dir: Option<PathBuf>,

    /// Writes a Perfetto trace.
    #[arg(long, value_name = "FILE")]
    pub pftrace: Option<PathBuf>,

    /// Writes a trace directory in the Common Trace Format.
    #[arg(long, value_name = "DIR")]
    pub ctf: Option<PathBuf>,

    /// Writes one line per event to FILE, or to standard output.
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    pub text: Option<Option<PathBuf>>,

    /// With --text: writes the events CPU by CPU instead of merging all CPUs by time.
    #[arg(long, requires = "text")]
    pub per_cpu: bool,

    /// Prints statistics: durations of system calls; time shares of ring 3, ring 0 and idle; tick jitter.
    #[arg(long)]
    pub stats: bool,

    /// Writes the statistics as JSON.
    #[arg(long, value_name = "FILE")]
    pub stats_json: Option<PathBuf>,

    /// Draws a timeline as SVG.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,

    /// With --svg: the time range to draw, in milliseconds since kernel start. [default: the latest short range in
    /// which the largest number of CPUs made calls]
    #[arg(long, value_name = "FROM..TO", requires = "svg")]
    pub window: Option<Window>,

    /// Selects only this CPU. May be given more than once.
    #[arg(long, value_name = "K")]
    pub cpu: Vec<u32>,

    /// Selects only this kind of event, or the kinds in this group (the groups of the kernel's trace= option). May be
    /// given more than once.
    #[arg(long, value_name = "NAME", value_parser = kind)]
    pub kind: Vec<u32>,

    /// Names the functions and source lines at the addresses in the trace from this ELF file. May be given more than
    /// once. [default: the kernel and the program on the run's command line, if they are not newer than the trace]
    #[arg(long, value_name = "ELF")]
    pub symbols: Vec<PathBuf>,

    /// Writes a synthetic trace of about RECORDS records to IN and exits.
    #[arg(long, value_name = "RECORDS", hide = true)]
    pub synthesize: Option<u64>,
}

/// A time range in nanoseconds since kernel start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The start of the range.
    pub from: u64,
    /// The end of the range, which must be later than the start.
    pub to: u64,
}

impl FromStr for Window {
    type Err = String;

    /// Parses `FROM..TO` in milliseconds, with optional fractions.
    fn from_str(text: &str) -> Result<Window, String> {
        let error = || format!("{text:?} is not FROM..TO, in milliseconds, such as 150.2..150.9");
        let (from, to) = text.split_once("..").ok_or_else(error)?;
        let ns = |text: &str| {
            let ms: f64 = text.parse().ok()?;
            (0.0..1e12).contains(&ms).then_some((ms * 1e6).round() as u64)
        };
        match (ns(from), ns(to)) {
            (Some(from), Some(to)) if from < to => Ok(Window { from, to }),
            _ => Err(error()),
        }
    }
}

impl TraceOptions {
    /// Returns whether no specific output is requested.
    pub fn is_plain(&self) -> bool {
        self.out_dir.is_none()
            && self.pftrace.is_none()
            && self.ctf.is_none()
            && self.text.is_none()
            && self.stats_json.is_none()
            && self.svg.is_none()
            && !self.stats
    }

    /// Returns the mask of the selected kinds.
    pub fn kinds(&self) -> u32 {
        if self.kind.is_empty() { u32::MAX } else { self.kind.iter().fold(0, |mask, kind| mask | kind) }
    }
}

/// Returns the mask for the name of a kind or a group.
fn kind(word: &str) -> Result<u32, String> {
    let kind = Kind::ALL.into_iter().find(|kind| kind.name() == word).map(Kind::bit);
    let group = || GROUPS.into_iter().find(|(name, _)| *name == word).map(|(_, mask)| mask);
    let all = || (word == "all").then(all_groups);
    kind.or_else(group).or_else(all).ok_or_else(|| {
        let kinds = Kind::ALL.map(Kind::name).join(" ");
        let groups = GROUPS.map(|(name, _)| name).join(" ");
        format!("unknown kind; kinds: {kinds}; groups: {groups}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_is_in_milliseconds() {
        assert_eq!("150.25..151".parse(), Ok(Window { from: 150_250_000, to: 151_000_000 }));
        for bad in ["1", "2..1", "1..1", "-1..2", "a..b", "1..NaN", "0..inf", ""] {
            assert!(bad.parse::<Window>().is_err(), "{bad}");
        }
    }

    #[test]
    fn kinds_and_groups_have_masks() {
        assert_eq!(kind("syscall_exit"), Ok(Kind::SyscallExit.bit()));
        assert_eq!(kind("syscall"), Ok(Kind::SyscallEnter.bit() | Kind::SyscallExit.bit()));
        // This name is both a kind and a group, which consists of that kind.
        assert_eq!(kind("tick"), Ok(Kind::Tick.bit()));
        assert_eq!(kind("all"), Ok(all_groups()));
        assert!(kind("sycall").expect_err("a typo must be rejected").contains("syscall_enter"));
    }
}
