//! One interrupt at one instruction, and what has to be so before, in the handler's first instruction, and afterwards.

use super::code::Code;
use super::error::InjectError;
use super::guest::Guest;
use super::registers::{RF, Registers, TF};

/// Where the TSS has its first IST stack pointer, in bytes (SDM 3A, 8.7); they follow one another.
const TSS_IST1: u64 = 36;

/// How often a single step is tried.
const STEPS_MAX: u32 = 16;
/// How many stops that mean nothing there may be in front of one that does.
const STOPS_MAX: u32 = 16;

/// Addresses that strikes are about.
pub struct Striker<'a> {
    code: &'a Code,
    nmi: u64,
    debug: u64,
    machine_check: u64,
    idle_hlt: u64,
    idle_resume: u64,
}

/// The interrupts, by the index of their stack in the TSS (`kernel/src/layout.rs`).
#[derive(Clone, Copy)]
enum Ist {
    Nmi = 1,
    Debug = 2,
    MachineCheck = 3,
}

impl<'a> Striker<'a> {
    /// Looks the addresses up.
    pub fn new(code: &'a Code) -> Result<Striker<'a>, InjectError> {
        Ok(Striker {
            code,
            nmi: code.function("vector_02")?.start(),
            debug: code.function("vector_01")?.start(),
            machine_check: code.function("vector_12")?.start(),
            idle_hlt: code.label("ringside_idle_hlt")?,
            idle_resume: code.label("ringside_idle_resume")?,
        })
    }

    /// A CPU that stands at a breakpoint takes an NMI there, and is where it was, with all registers as they were.
    pub fn nmi(&self, guest: &mut Guest, cpu: usize) -> Result<(), InjectError> {
        let before = guest.registers(cpu)?;
        guest.inject_nmi()?;
        self.come_to(guest, cpu, self.nmi)?;
        self.judge_entry(guest, cpu, &before, Ist::Nmi)?;
        self.come_back(guest, cpu, &before)
    }

    /// The same while it is in an NMI's handler, at the instruction `inside`: the second one has to wait until the
    /// first one's `iretq`, and to strike where the first one did. `next` is where it goes from `inside`.
    pub fn nmi_in_nmi(
        &self,
        guest: &mut Guest,
        cpu: usize,
        inside: u64,
        next: Option<u64>,
    ) -> Result<(), InjectError> {
        let before = guest.registers(cpu)?;
        guest.inject_nmi()?;
        self.come_to(guest, cpu, self.nmi)?;
        self.judge_entry(guest, cpu, &before, Ist::Nmi)?;
        if inside != self.nmi {
            self.come_to(guest, cpu, inside)?;
        }
        guest.inject_nmi()?;
        // The breakpoint on the handler's first instruction must be met anew.
        if let (true, Some(next)) = (inside == self.nmi, next) {
            self.come_to(guest, cpu, next)?;
        }
        self.come_to(guest, cpu, self.nmi)?;
        self.judge_entry(guest, cpu, &before, Ist::Nmi)?;
        self.come_back(guest, cpu, &before)
    }

    /// A CPU that stands at a breakpoint takes a machine check there. There is no way back from it.
    pub fn machine_check(&self, guest: &mut Guest, cpu: usize) -> Result<(), InjectError> {
        let before = guest.registers(cpu)?;
        guest.inject_machine_check(cpu)?;
        self.come_to(guest, cpu, self.machine_check)?;
        self.judge_entry(guest, cpu, &before, Ist::MachineCheck)
    }

    /// A CPU that stands at a breakpoint executes that instruction and takes a #DB behind it, since the host sets TF. The
    /// handler clears TF and goes on there, with all other registers as it found them.
    pub fn debug(&self, guest: &mut Guest, cpu: usize) -> Result<(), InjectError> {
        let here = guest.registers(cpu)?.rip();
        let instruction = self.code.at(here)?;
        guest.set_trap_flag(cpu)?;
        self.come_to(guest, cpu, self.debug)?;
        let found = guest.registers(cpu)?;
        self.demand_stack(guest, cpu, &found, Ist::Debug)?;
        let [rip, cs, flags, rsp, ss] = guest.words::<5>(cpu, found.rsp())?;
        let target = instruction.near_branch_target();
        // A repeated instruction is left after each round.
        let next = [instruction.next_ip(), target, here];
        let next = if instruction.has_rep_prefix() { &next[..] } else { &next[..2] };
        if !next.contains(&rip) || cs & 3 != 0 || flags & TF == 0 {
            let rip = self.code.place(rip);
            return Err(InjectError::Wrong(format!(
                "the #DB's frame has RIP {rip}, CS {cs:#x}, RFLAGS {flags:#x}"
            )));
        }
        self.come_to(guest, cpu, rip)?;
        let after = guest.registers(cpu)?;
        let own = [after.rsp(), after.flags(), after.get("ss"), after.get("cs")];
        if own != [rsp, flags & !(TF | RF), ss, cs] {
            return Err(InjectError::Wrong(format!("behind the #DB RSP, RFLAGS, SS and CS are {own:x?}")));
        }
        let switched = ["rip", "rsp", "eflags", "cs", "ss"];
        let mut changed = after.changed_since(&found).filter(|(name, _)| !switched.contains(name));
        changed
            .next()
            .map_or(Ok(()), |(_, change)| Err(InjectError::Wrong(format!("over the handler {change}"))))
    }

    /// Lets this CPU alone run until it is at an instruction.
    pub fn come_to(&self, guest: &mut Guest, cpu: usize, address: u64) -> Result<(), InjectError> {
        self.come_to_and_not(guest, cpu, address, None)
    }

    /// As above, and not to the other instruction before.
    fn come_to_and_not(
        &self,
        guest: &mut Guest,
        cpu: usize,
        address: u64,
        not: Option<u64>,
    ) -> Result<(), InjectError> {
        let what = || format!("CPU {cpu} came to {}", self.code.place(address));
        let stops: Vec<_> = [address].into_iter().chain(not).collect();
        guest.arm(&stops)?;
        for _ in 0..STOPS_MAX {
            let stopped = guest.run(&[cpu]).map_err(|error| error.waiting_for(what))?;
            let rip = guest.registers(stopped)?.rip();
            match (stopped == cpu, stops.contains(&rip)) {
                (true, true) if rip == address => return Ok(()),
                (true, true) => {
                    let place = self.code.place(rip);
                    return Err(InjectError::Wrong(format!("before {}, it stopped at {place}", what())));
                }
                // QEMU stops once more if two CPUs came to a breakpoint at the same time, when all of them ran.
                _ => {}
            }
        }
        Err(InjectError::Wrong(format!("before {}, QEMU stopped again and again", what())))
    }

    /// The CPU is at the first instruction of a handler: on the right stack, which holds what was interrupted, with
    /// all other registers as they were.
    fn judge_entry(
        &self,
        guest: &mut Guest,
        cpu: usize,
        before: &Registers,
        ist: Ist,
    ) -> Result<(), InjectError> {
        let now = guest.registers(cpu)?;
        self.demand_stack(guest, cpu, &now, ist)?;
        let [rip, cs, flags, rsp, ss] = guest.words::<5>(cpu, now.rsp())?;
        let pushed = [rip, cs, flags & !RF, rsp, ss];
        let expected = [before.rip(), before.get("cs"), before.flags(), before.rsp(), before.get("ss")];
        for ((name, pushed), expected) in
            ["RIP", "CS", "RFLAGS", "RSP", "SS"].into_iter().zip(pushed).zip(expected)
        {
            if pushed != expected {
                return Err(InjectError::Wrong(format!(
                    "the frame has {name} {pushed:#x}, the CPU stood at {} with {expected:#x}",
                    self.code.place(before.rip())
                )));
            }
        }
        let switched = ["rip", "rsp", "eflags", "cs", "ss"];
        let mut changed = now.changed_since(before).filter(|(name, _)| !switched.contains(name));
        changed
            .next()
            .map_or(Ok(()), |(_, change)| Err(InjectError::Wrong(format!("at the handler's entry {change}"))))
    }

    /// It stands on this CPU's stack for an interrupt, with five words on it.
    fn demand_stack(
        &self,
        guest: &mut Guest,
        cpu: usize,
        now: &Registers,
        ist: Ist,
    ) -> Result<(), InjectError> {
        let top = ist_top(guest, cpu, ist)?;
        if now.rsp() != top - 40 {
            return Err(InjectError::Wrong(format!(
                "the interrupt was taken with rsp {:#x}, the top of CPU {cpu}'s own stack for it is {top:#x}",
                now.rsp()
            )));
        }
        Ok(())
    }

    /// The handler ends, and everything is as it was. In front of the idle loop's `hlt` it ends behind that.
    fn come_back(&self, guest: &mut Guest, cpu: usize, before: &Registers) -> Result<(), InjectError> {
        let (back, not) = match before.rip() {
            // A tick would lead it to the same place from the `hlt`, later.
            rip if rip == self.idle_hlt => (self.idle_resume, Some(rip)),
            rip => (rip, None),
        };
        self.come_to_and_not(guest, cpu, back, not).map_err(|error| {
            error.waiting_for(|| format!("CPU {cpu} came back to {} from the handler", self.code.place(back)))
        })?;
        // What is interrupted may be the very code that the handler goes through too, on its own stack. A step that
        // an event of QEMU's own gets in front of executes nothing, so one may not be enough.
        for _ in 0..STEPS_MAX {
            if guest.registers(cpu)?.rsp() == before.rsp() {
                break;
            }
            guest.step(cpu)?;
            if guest.registers(cpu)?.rip() != back {
                self.come_to(guest, cpu, back)?;
            }
        }
        let after = guest.registers(cpu)?;
        let mut changed = after.changed_since(before).filter(|(name, _)| *name != "rip");
        changed
            .next()
            .map_or(Ok(()), |(_, change)| Err(InjectError::Wrong(format!("over the handler {change}"))))
    }
}

/// The top of a CPU's stack for an interrupt, as its TSS has it.
pub fn nmi_stack(guest: &mut Guest, cpu: usize) -> Result<u64, InjectError> {
    ist_top(guest, cpu, Ist::Nmi)
}

fn ist_top(guest: &mut Guest, cpu: usize, ist: Ist) -> Result<u64, InjectError> {
    let tss = guest.task_state(cpu)?;
    let [top] = guest.words::<1>(cpu, tss + TSS_IST1 + 8 * (ist as u64 - 1))?;
    Ok(top)
}

/// The base of the task register in what the monitor's `info registers` says.
pub fn parse_task_register(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.trim().strip_prefix("TR ="))?;
    u64::from_str_radix(line.split_whitespace().nth(1)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_task_registers_base_is_read_from_what_qemu_prints() {
        let text = "LDT=0000 0000000000000000 00000000 00008200 DPL=0 LDT\r\n\
                    TR =0028 ffffd00000038800 00000067 00008900 DPL=0 TSS64-avl\r\n";
        assert_eq!(parse_task_register(text), Some(0xffff_d000_0003_8800));
        assert_eq!(parse_task_register("CPU#0\n"), None);
    }
}
