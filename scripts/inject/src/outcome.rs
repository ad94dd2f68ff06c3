//! Checks the end of a boot in which every injection was survived. The machine then runs freely, and must end as it
//! would without injections.

use machine::report::sum;
use machine::session::SessionResult;
use machine::verify::{Judgement, Outcome};
use runner::run;

use super::boots::Boot;
use super::driver::{Driver, Event};
use super::error::InjectError;
use super::nmis::Nmis;
use super::paths::{self, KILLS};
use super::process::Console;

/// Runs the machine to its end and checks how it ended.
pub fn check(driver: Driver<'_>, boot: Boot) -> Result<(), InjectError> {
    let event = driver.event;
    let (code, latest, selection) = (driver.code, driver.latest, driver.selection);
    let (debugs, apic_errors) = (driver.debugs, driver.apic_errors);
    let (ended, console, nmis) = driver.guest.release()?;
    let judgement = run::judgement(&ended, &console.facts);
    let message = match (event, boot) {
        (Event::MachineCheck, _) => {
            latest.map(|(_, cpu, address)| (cpu, Some(address), "machine check (#MC) in ring 0"))
        }
        (Event::Nmi, Boot::MachineCheck(cpu)) => {
            Some((cpu, Some(code.function(paths::SYSRET.entry)?.start()), "machine check (#MC) in ring 0"))
        }
        (Event::Nmi, Boot::LostNmi) => {
            latest.map(|(_, cpu, _)| (cpu, None, "arrived before the previous NMI had saved its frame"))
        }
        (Event::Nmi, Boot::DoubleFault(cpu)) => {
            Some((cpu, None, "double fault (#DF): the syscall stack of CPU"))
        }
        _ => None,
    };
    if let Some((cpu, address, message)) = message {
        return check_panic(&judgement, &console, cpu, address, message);
    }
    check_endings(&judgement, &console, boot, &selection.cpus)?;
    check_debugs(&console, &debugs)?;
    check_apic_errors(&console, &apic_errors)?;
    check_nmis(&console, &nmis)
}

/// Returns the kernel's error report from a machine that ended too early, or QEMU's registers if there is no report.
pub fn kernel_report(ended: &SessionResult, console: &Console) -> Option<String> {
    if console.facts.panics.is_empty() && console.facts.verdicts.is_empty() {
        return ended.registers.clone();
    }
    Some(run::judgement(ended, &console.facts).errors.join("; "))
}

/// Checks that the run ended in a panic of this CPU, and that the panic names the instruction.
fn check_panic(
    judgement: &Judgement,
    console: &Console,
    cpu: usize,
    address: Option<u64>,
    message: &str,
) -> Result<(), InjectError> {
    let first = console.facts.panics.first();
    let is_expected = |(panicked, text): &(Option<u32>, String)| {
        *panicked == u32::try_from(cpu).ok() && text.contains(message)
    };
    if judgement.outcome != Outcome::Panic
        || console.facts.panics.len() != 1
        || !first.is_some_and(is_expected)
    {
        return Err(mismatch(format!(
            "expected a panic of CPU {cpu} with {message:?}, found: {}",
            judgement.errors.join("; ")
        )));
    }
    let Some(address) = address else { return Ok(()) };
    let rip = format!(" RIP={address:#018x} ");
    let prefix = format!("[cpu{cpu}]");
    let named = console.lines.iter().any(|line| line.starts_with(&prefix) && line.contains(&rip));
    if named { Ok(()) } else { Err(mismatch(format!("the panic does not name{rip}"))) }
}

/// Checks that every copy of the program took each path, and ended as its arguments request.
fn check_endings(
    judgement: &Judgement,
    console: &Console,
    boot: Boot,
    injected: &[usize],
) -> Result<(), InjectError> {
    let expected = match boot {
        Boot::Tour => "debug exception (#DB), error code 0x0",
        Boot::Kill(kind) => KILLS[kind].2,
        _ => "",
    };
    for cpu in &console.facts.cpus {
        let is_injected = injected.contains(&(cpu.cpu as usize));
        let (outcome, reason) = match boot {
            Boot::IretFault if is_injected => ("killed", "general protection (#GP), error code 0xfff0"),
            Boot::IretFault => ("exited", ""),
            _ => ("killed", expected),
        };
        if cpu.outcome.name() != outcome || !cpu.reason.contains(reason) {
            return Err(mismatch(format!(
                "CPU {}: expected the end \"{outcome} {reason}\", found \"{} {}\"",
                cpu.cpu,
                cpu.outcome.name(),
                cpu.reason
            )));
        }
        let success = format!("[cpu{}] paths: every register was preserved", cpu.cpu);
        let took_all = console.lines.iter().any(|line| line.starts_with(&success));
        let never_started = boot == Boot::IretFault && is_injected;
        if !took_all && !never_started {
            return Err(mismatch(format!("the program on CPU {} did not take every path", cpu.cpu)));
        }
    }
    if judgement.outcome == Outcome::Failed { Ok(()) } else { Err(mismatch(judgement.errors.join("; "))) }
}

/// Checks that the kernel's count of #DBs in ring 0 equals the number of injected ones.
fn check_debugs(console: &Console, debugs: &[u64]) -> Result<(), InjectError> {
    for (cpu, &taken) in debugs.iter().enumerate() {
        let prefix = format!("[cpu{cpu}] ringside: warning: ");
        let counted = console
            .lines
            .iter()
            .filter_map(|line| line.strip_prefix(&prefix)?.split_once(" #DB in ring 0")?.0.parse().ok());
        let counted = sum(counted);
        if counted != taken {
            return Err(mismatch(format!("CPU {cpu} counted {counted} #DB in ring 0 instead of {taken}")));
        }
    }
    Ok(())
}

/// Checks that each error interrupt of a local APIC has been reported, after the line for which the CPU waited.
fn check_apic_errors(console: &Console, errors: &[u64]) -> Result<(), InjectError> {
    for (cpu, &errors) in errors.iter().enumerate() {
        let own = format!("[cpu{cpu}] ringside: local APIC error, ");
        let reports = console.lines.iter().filter(|line| line.starts_with(&own)).count();
        if reports as u64 != errors {
            return Err(mismatch(format!(
                "CPU {cpu} reported {reports} local APIC errors instead of {errors}"
            )));
        }
    }
    Ok(())
}

/// Checks that the kernel's count of NMIs is consistent with the injected NMIs, some of which may have merged.
fn check_nmis(console: &Console, nmis: &[Nmis]) -> Result<(), InjectError> {
    for (cpu, nmis) in nmis.iter().enumerate() {
        let prefix = format!("[cpu{cpu}] ringside: ");
        let counted = console
            .lines
            .iter()
            .filter_map(|line| line.strip_prefix(&prefix)?.split_once(" NMI, ")?.0.parse().ok());
        let counted = sum(counted);
        if !nmis.taken().contains(&counted) {
            return Err(mismatch(format!("CPU {cpu} counted {counted} NMIs instead of {:?}", nmis.taken())));
        }
    }
    Ok(())
}

fn mismatch(text: String) -> InjectError {
    InjectError::Mismatch(text)
}
