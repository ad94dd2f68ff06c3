//! The end of a boot in which every strike was stood: the machine runs on by itself, and must end as it would have.

use machine::session::Ended;
use machine::verify::{Judgement, Outcome};
use runner::run;

use super::boots::Boot;
use super::error::InjectError;
use super::nmis::Nmis;
use super::paths::{self, KILLS};
use super::trip::{Deed, Trip};
use super::wires::Console;

/// Lets the machine run to its end and judges it.
pub fn judge(trip: Trip<'_>, boot: Boot) -> Result<(), InjectError> {
    let deed = trip.deed;
    let (code, latest, wish, debugs) = (trip.code, trip.latest, trip.wish, trip.debugs);
    let (ended, console, nmis) = trip.guest.release()?;
    let judgement = run::judgement(&ended, &console.facts);
    let message = match (deed, boot) {
        (Deed::MachineCheck, _) => {
            latest.map(|(_, cpu, address)| (cpu, Some(address), "machine check (#MC) in ring 0"))
        }
        (Deed::Nmi, Boot::MachineCheck(cpu)) => {
            Some((cpu, Some(code.function(paths::SYSRET.entry)?.start()), "machine check (#MC) in ring 0"))
        }
        (Deed::Nmi, Boot::DoubleFault(cpu)) => {
            Some((cpu, None, "double fault (#DF): the syscall stack of CPU"))
        }
        _ => None,
    };
    if let Some((cpu, address, message)) = message {
        return demand_panic(&judgement, &console, cpu, address, message);
    }
    demand_endings(&judgement, &console, boot, &wish.cpus)?;
    demand_debugs(&console, &debugs)?;
    demand_nmis(&console, &nmis)
}

/// What the kernel of a machine that ended too early has said, behind why that is noticed.
pub fn last_words(ended: &Ended, console: &Console) -> Option<String> {
    if console.facts.panics.is_empty() && console.facts.verdicts.is_empty() {
        return ended.registers.clone();
    }
    Some(run::judgement(ended, &console.facts).errors.join("; "))
}

/// The run ended in a panic of this CPU, which names the instruction.
fn demand_panic(
    judgement: &Judgement,
    console: &Console,
    cpu: usize,
    address: Option<u64>,
    message: &str,
) -> Result<(), InjectError> {
    let told = console.facts.panics.first();
    let is_it =
        |(own, text): &(Option<u32>, String)| *own == u32::try_from(cpu).ok() && text.contains(message);
    if judgement.outcome != Outcome::Panic || console.facts.panics.len() != 1 || !told.is_some_and(is_it) {
        return Err(wrong(format!(
            "instead of a panic of CPU {cpu}, {message:?}: {}",
            judgement.errors.join("; ")
        )));
    }
    let Some(address) = address else { return Ok(()) };
    let rip = format!(" RIP={address:#018x} ");
    let own = format!("[cpu{cpu}]");
    let named = console.lines.iter().any(|line| line.starts_with(&own) && line.contains(&rip));
    if named { Ok(()) } else { Err(wrong(format!("the panic does not name{rip}"))) }
}

/// Every copy of the program went each way, and ended as it was told.
fn demand_endings(
    judgement: &Judgement,
    console: &Console,
    boot: Boot,
    struck: &[usize],
) -> Result<(), InjectError> {
    let expected = match boot {
        Boot::Tour => "debug exception (#DB), error code 0x0",
        Boot::Kill(kind) => KILLS[kind].2,
        _ => "",
    };
    for cpu in &console.facts.cpus {
        let is_struck = struck.contains(&(cpu.cpu as usize));
        let (outcome, reason) = match boot {
            Boot::IretFault if is_struck => ("killed", "general protection (#GP), error code 0xfff0"),
            Boot::IretFault => ("exited", ""),
            _ => ("killed", expected),
        };
        if cpu.outcome.name() != outcome || !cpu.reason.contains(reason) {
            return Err(wrong(format!(
                "CPU {}: instead of \"{outcome} {reason}\" the end is \"{} {}\"",
                cpu.cpu,
                cpu.outcome.name(),
                cpu.reason
            )));
        }
        let own = format!("[cpu{}] paths: every register came back", cpu.cpu);
        let went = console.lines.iter().any(|line| line.starts_with(&own));
        let cannot_go = boot == Boot::IretFault && is_struck;
        if !went && !cannot_go {
            return Err(wrong(format!("the program on CPU {} did not go each way", cpu.cpu)));
        }
    }
    if judgement.outcome == Outcome::Failed { Ok(()) } else { Err(wrong(judgement.errors.join("; "))) }
}

/// The kernel has counted every #DB in ring 0, and no other.
fn demand_debugs(console: &Console, debugs: &[u64]) -> Result<(), InjectError> {
    for (cpu, &taken) in debugs.iter().enumerate() {
        let own = format!("[cpu{cpu}] ringside: warning: ");
        let counted: u64 = console
            .lines
            .iter()
            .filter_map(|line| line.strip_prefix(&own)?.split_once(" #DB in ring 0")?.0.parse::<u64>().ok())
            .sum();
        if counted != taken {
            return Err(wrong(format!("CPU {cpu} has counted {counted} #DB in ring 0 instead of {taken}")));
        }
    }
    Ok(())
}

/// The kernel has counted every NMI, and no other.
fn demand_nmis(console: &Console, nmis: &[Nmis]) -> Result<(), InjectError> {
    for (cpu, nmis) in nmis.iter().enumerate() {
        let own = format!("[cpu{cpu}] ringside: ");
        let counted: u64 = console
            .lines
            .iter()
            .filter_map(|line| line.strip_prefix(&own)?.split_once(" NMI, ")?.0.parse::<u64>().ok())
            .sum();
        if !nmis.taken().contains(&counted) {
            return Err(wrong(format!("CPU {cpu} has counted {counted} NMIs instead of {:?}", nmis.taken())));
        }
    }
    Ok(())
}

fn wrong(text: String) -> InjectError {
    InjectError::Wrong(text)
}
