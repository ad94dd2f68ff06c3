//! Determines the outcome of a run. QEMU's exit status and the completion records must agree, and the records must be
//! complete.

use std::process::ExitCode;

use kernel_abi::record::{self, VerdictRecord};
use kernel_abi::verdict::Verdict;
use output::{count, eprintln, printable_lines};

use crate::cpu_state;
use crate::error::Error;
use crate::facts::{Cpu, Facts};
use crate::fold;
use crate::rip::insert_place;

/// How QEMU ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// QEMU exited with this status.
    Status(i32),
    /// This signal ended QEMU.
    Signal(i32),
    /// QEMU was killed because it exceeded its time limit.
    TimedOut,
    /// QEMU could not be started.
    NotStarted,
    /// QEMU exited with this status, which is not that of a verdict, before it had created a machine. With some options
    /// QEMU only prints help.
    NoMachine(i32),
    /// The firmware or the loader did not start the kernel, and QEMU was killed.
    NotBooted,
    /// QEMU paused the machine and was then killed. The string is QEMU's run state.
    Paused(&'static str),
}

/// The outcome of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every online CPU ran its program, and each program exited with code 0.
    Pass,
    /// A program exited with a nonzero code, or was killed.
    Failed,
    /// The command line of the tool or of the kernel is invalid.
    Usage,
    /// The kernel panicked, or an invariant was violated.
    Panic,
    /// The run exceeded its time limit.
    Timeout,
    /// An error occurred on the host.
    Host,
}

impl Outcome {
    /// Every outcome, in the order of [`status`](Self::status).
    pub const ALL: [Outcome; 6] =
        [Outcome::Pass, Outcome::Failed, Outcome::Usage, Outcome::Panic, Outcome::Timeout, Outcome::Host];

    /// Returns whether a run with this outcome may have ended before its programs did.
    pub fn is_early(self) -> bool {
        matches!(self, Outcome::Panic | Outcome::Timeout | Outcome::Host)
    }

    /// Returns the name of the outcome in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Pass => "pass",
            Outcome::Failed => "failed",
            Outcome::Usage => "usage",
            Outcome::Panic => "panic",
            Outcome::Timeout => "timeout",
            Outcome::Host => "host",
        }
    }

    /// Returns the exit status of the host tool for this outcome.
    pub const fn status(self) -> u8 {
        match self {
            Outcome::Pass => 0,
            Outcome::Failed => 1,
            Outcome::Usage => 2,
            Outcome::Panic => 3,
            Outcome::Timeout => 4,
            Outcome::Host => 5,
        }
    }

    /// Combines this outcome with the result of writing a file. Prints an error, and counts it as a host failure.
    pub fn and_written(self, written: Result<(), Error>) -> Outcome {
        let Err(error) = written else { return self };
        eprintln!("error: {}", printable_lines(&error.to_string()));
        worst([self, Outcome::Host].into_iter())
    }

    /// Returns the same status as a value that `main` can return.
    pub fn exit_code(self) -> ExitCode {
        ExitCode::from(self.status())
    }
}

/// Returns the worst of several outcomes. Failures of the kernel rank before those of the host.
pub fn worst(outcomes: impl Iterator<Item = Outcome>) -> Outcome {
    const RANKS: [Outcome; 6] =
        [Outcome::Panic, Outcome::Failed, Outcome::Timeout, Outcome::Host, Outcome::Usage, Outcome::Pass];
    let rank = |outcome: &Outcome| RANKS.iter().position(|ranked| ranked == outcome);
    outcomes.min_by_key(rank).unwrap_or(Outcome::Pass)
}

/// The judgement of a run, with the reasons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The outcome of the run.
    pub outcome: Outcome,
    /// The reasons why the run did not pass, in complete sentences.
    pub errors: Vec<String>,
    /// Problems that do not make the run fail.
    pub warnings: Vec<String>,
}

impl Judgement {
    /// Adds a host error. A panic, a failed program or a timeout outranks it.
    pub fn add_host_error(&mut self, error: String) {
        self.outcome = worst([self.outcome, Outcome::Host].into_iter());
        self.errors.push(error);
    }
}

/// Determines the outcome of a run. The run passes if QEMU's exit status is that of a pass *and* there is a boot
/// record, one record for each CPU that the firmware lists, an exit code of 0 from every online CPU, and a verdict
/// record that agrees.
pub fn judge(ending: Ending, facts: &Facts) -> Judgement {
    let mut warnings = Vec::new();
    let (outcome, errors) = match ending {
        Ending::TimedOut => {
            (Outcome::Timeout, vec!["the run timed out before the kernel's verdict".to_owned()])
        }
        Ending::NoMachine(status) => {
            let text = format!(
                "QEMU ended before it had created a machine (exit status {status}): check the value of --qemu, and \
                 whether an option makes QEMU print help or run in the background"
            );
            (Outcome::Host, vec![text])
        }
        Ending::NotStarted => (Outcome::Host, vec!["QEMU could not be started".to_owned()]),
        Ending::NotBooted => {
            let reason = facts.not_booted.as_deref().unwrap_or("see the console");
            (Outcome::Panic, vec![format!("the kernel was not started: {reason}")])
        }
        Ending::Paused(state) => {
            (Outcome::Host, vec![format!("QEMU paused the machine; its run state is \"{state}\"")])
        }
        Ending::Signal(signal) => (Outcome::Host, vec![format!("QEMU was killed by signal {signal}")]),
        Ending::Status(1) if facts.lines == 0 => {
            (Outcome::Host, vec!["QEMU could not start this machine (exit status 1)".to_owned()])
        }
        Ending::Status(status) => match Verdict::from_qemu_status(status) {
            Some(verdict) => judge_verdict(verdict, facts, &mut warnings),
            None => (Outcome::Panic, vec![unknown_status(status)]),
        },
    };
    warnings.extend(kernel_warnings(facts));
    Judgement { outcome, errors, warnings }
}

/// The ends of the kernel's warnings about CPUs that did not come online.
const CONTINUING: [&str; 2] = ["; continuing without it", "; continuing without them"];

/// Returns the kernel's warnings. Omits a warning about a CPU that did not come online if the missing CPUs have
/// records: [`check_cpus`] turns each such record into a warning that includes the reason.
fn kernel_warnings(facts: &Facts) -> impl Iterator<Item = String> {
    let recorded = facts.cpus.iter().any(|cpu| cpu.outcome == record::Outcome::Missing);
    let is_recorded = move |text: &&String| recorded && CONTINUING.iter().any(|end| text.ends_with(end));
    facts.warnings.iter().filter(move |text| !is_recorded(text)).cloned()
}

fn unknown_status(status: i32) -> String {
    match status {
        0 => "the guest was reset, or QEMU received a quit command, before the kernel's verdict (exit status 0)"
            .to_owned(),
        _ => format!("QEMU ended with exit status {status}, which is not a kernel verdict"),
    }
}

/// The outcome for a verdict without any record. The kernel cannot write records without a console. QEMU's exit status
/// alone does not make a run pass.
fn judge_without_records(verdict: Verdict) -> (Outcome, Vec<String>) {
    let lost = format!(
        "no record from the kernel arrived: the console, COM1, is missing or accepted no bytes; QEMU's exit status means {}",
        verdict.name()
    );
    let outcome = match verdict {
        Verdict::Pass => Outcome::Host,
        Verdict::ProgramFailed => Outcome::Failed,
        Verdict::Panic => Outcome::Panic,
        Verdict::BadCommandLine => Outcome::Usage,
    };
    (outcome, vec![lost])
}

fn judge_verdict(verdict: Verdict, facts: &Facts, warnings: &mut Vec<String>) -> (Outcome, Vec<String>) {
    if facts.has_no_record() {
        return judge_without_records(verdict);
    }
    let mut errors = Vec::new();
    for line in &facts.malformed {
        errors.push(format!("{}: {line:?}", record::Malformed));
    }
    if facts.late > 0 {
        errors.push(match facts.late {
            1 => "1 record follows the verdict".to_owned(),
            late => format!("{late} records follow the verdict"),
        });
    }
    match facts.verdicts.as_slice() {
        [record] => check_verdict_record(verdict, record, facts, &mut errors),
        [] => errors.push("there is no verdict record".to_owned()),
        more => errors.push(format!("there are {} verdicts instead of one", more.len())),
    }
    for (cpu, message) in &facts.panics {
        let name = cpu.map_or("a CPU whose index is unknown".to_owned(), |cpu| format!("CPU {cpu}"));
        errors.push(format!("{name} panicked: {message}"));
    }
    errors.extend(cpu_state::conflicts(&facts.states));
    let dropped: Vec<_> = facts.dropped.iter().map(dropped).collect();
    let outcome = match verdict {
        Verdict::Panic => {
            if facts.panics.is_empty() {
                errors.push("the kernel's verdict is a panic, but there is no panic record".to_owned());
            }
            warnings.extend(facts.trace.flaws().into_iter().chain(dropped));
            return (Outcome::Panic, errors);
        }
        Verdict::BadCommandLine => Outcome::Usage,
        Verdict::Pass | Verdict::ProgramFailed => {
            check_cpus(facts, &mut errors, warnings);
            // A trace that was sent over the console must be complete.
            errors.extend(facts.trace.flaws());
            check_states(facts, &mut errors);
            let sorted = fold::sorted(&facts.cpus);
            let failed: Vec<_> =
                fold::runs(&sorted).filter_map(failure).chain(missing_cycles(facts)).collect();
            match verdict {
                Verdict::Pass if failed.is_empty() => Outcome::Pass,
                Verdict::Pass => {
                    errors.push("the kernel's verdict is a pass, but a program failed".to_owned());
                    errors.extend(failed);
                    Outcome::Panic
                }
                _ if failed.is_empty() => {
                    errors.push("the kernel's verdict is that a program failed, but none did".to_owned());
                    Outcome::Panic
                }
                _ if errors.is_empty() => return (Outcome::Failed, [failed, dropped].concat()),
                _ => Outcome::Panic,
            }
        }
    };
    // If the records are inconsistent, no other outcome can be trusted.
    match (errors.is_empty(), outcome) {
        (true, Outcome::Usage) => (outcome, vec![refused(facts)]),
        (true, _) if !dropped.is_empty() => (Outcome::Host, dropped),
        (true, _) => (outcome, errors),
        (false, _) => (Outcome::Panic, [errors, dropped].concat()),
    }
}

/// Describes output that is missing from the console because the UART did not accept it.
fn dropped(&(cpu, bytes): &(Option<u32>, u64)) -> String {
    let source = cpu.map_or("the kernel's records".to_owned(), |cpu| format!("CPU {cpu}'s output"));
    let were = if bytes == 1 { "was" } else { "were" };
    format!("{} of {source} {were} dropped, because the UART was not ready in time", count(bytes, "byte"))
}

fn refused(facts: &Facts) -> String {
    match &facts.refusal {
        Some(reason) => format!("the kernel rejected its command line: {reason}"),
        None => "the kernel rejected its command line; see its console".to_owned(),
    }
}

/// Checks that the verdict record agrees with QEMU's exit status and with the number of CPU records.
fn check_verdict_record(verdict: Verdict, record: &VerdictRecord, facts: &Facts, errors: &mut Vec<String>) {
    if record.verdict != verdict {
        errors.push(format!(
            "QEMU's exit status means {}, but the kernel's record says {}",
            verdict.name(),
            record.verdict.name()
        ));
    }
    if record.records as usize != facts.cpus.len() {
        errors.push(format!(
            "the kernel sent {}, but {} arrived",
            count(record.records.into(), "CPU record"),
            facts.cpus.len()
        ));
    }
}

/// Checks that there is one boot record and one record per CPU, that CPU indices are dense, and that the number of
/// missing CPUs matches the boot record.
fn check_cpus(facts: &Facts, errors: &mut Vec<String>, warnings: &mut Vec<String>) {
    let [boot] = facts.boots.as_slice() else {
        errors.push(format!("there are {} boot records instead of one", facts.boots.len()));
        return;
    };
    let mut numbers: Vec<_> = facts.cpus.iter().map(|cpu| cpu.cpu).collect();
    numbers.sort_unstable();
    if !numbers.iter().copied().eq(0..boot.cpus_found) {
        errors.push(format!(
            "the boot record names {}, but there are records for CPUs {numbers:?}",
            count(boot.cpus_found.into(), "CPU")
        ));
    }
    if boot.cpus_online == 0 || boot.cpus_online > boot.cpus_found {
        errors.push(format!(
            "according to the boot record, {} of {} came online",
            boot.cpus_online,
            count(boot.cpus_found.into(), "CPU")
        ));
    }
    for cpu in facts.cpus.iter().filter(|cpu| cpu.killed > cpu.starts) {
        errors.push(format!(
            "the record of CPU {} has {} in {}",
            cpu.cpu,
            count(cpu.killed.into(), "killed copy"),
            count(cpu.starts.into(), "start")
        ));
    }
    let missing: Vec<_> = facts.cpus.iter().filter(|cpu| cpu.outcome == record::Outcome::Missing).collect();
    if missing.len() as u64 != u64::from(boot.cpus_found.saturating_sub(boot.cpus_online)) {
        errors.push(format!(
            "{} of {} came online, but {} {} reported missing",
            boot.cpus_online,
            count(boot.cpus_found.into(), "CPU"),
            missing.len(),
            if missing.len() == 1 { "is" } else { "are" }
        ));
    }
    for run in fold::runs(&fold::sorted(missing.iter().copied())) {
        let reason = if run[0].reason.is_empty() { "no reason given" } else { &run[0].reason };
        let (s, are) = if run.len() == 1 { ("", "is") } else { ("s", "are") };
        let ids = fold::range(run, |cpu| cpu.apic_id);
        warnings.push(format!("{} (APIC id{s} {ids}) {are} missing: {reason}", fold::names(run)));
    }
    let reported = facts.verdicts.first().map_or(0, |verdict| verdict.warnings as usize);
    if reported > missing.len() && reported > facts.warnings.len() {
        warnings.push(format!("the kernel printed {}; see its console", count(reported as u64, "warning")));
    }
}

/// Returns an error if fewer cycles were done than requested.
fn missing_cycles(facts: &Facts) -> Option<String> {
    let cycles = facts.cycles.filter(|cycles| cycles.done != cycles.asked)?;
    let asked = count(cycles.asked.into(), "cycle");
    Some(format!(
        "only {} of {asked} were done (in a cycle, a CPU leaves the run and comes back)",
        cycles.done
    ))
}

/// Checks that either every online CPU or none reported its register state.
fn check_states(facts: &Facts, errors: &mut Vec<String>) {
    let online = facts.boots.first().map_or(0, |boot| boot.cpus_online as usize);
    if !facts.states.is_empty() && facts.states.len() != online {
        errors.push(format!(
            "{} came online, but {} reported their registers",
            count(online as u64, "CPU"),
            facts.states.len()
        ));
    }
}

/// Returns an error if the program of these CPUs, whose results are equal, did not exit with code 0. A missing CPU is
/// not an error.
fn failure(run: &[&Cpu]) -> Option<String> {
    let (names, cpu) = (fold::names(run), run.first()?);
    let which = if cpu.starts > 1 { format!(" (copy {})", cpu.starts) } else { String::new() };
    match cpu.outcome {
        record::Outcome::Exited if cpu.code == 0 => None,
        record::Outcome::Exited => {
            Some(format!("{names}: {}{which} exited with code {}", cpu.program, cpu.code))
        }
        record::Outcome::Killed => {
            let reason = insert_place(&cpu.reason, cpu.place.as_deref());
            Some(format!("{names}: {}{which} was killed: {reason}", cpu.program))
        }
        record::Outcome::Missing => None,
    }
}

#[cfg(test)]
mod tests;
