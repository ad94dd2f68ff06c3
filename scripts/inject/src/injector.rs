//! Injects one event at one instruction, and checks the CPU's state at the handler's first instruction and after the
//! handler's return.

use super::code::Code;
use super::error::InjectError;
use super::guest::Guest;
use super::registers::{RF, Registers, TF};

/// The offset of IST1 in the TSS, in bytes (SDM 3A, 8.7). IST2 to IST7 follow it.
const TSS_IST1: u64 = 36;

/// The maximum number of attempts to execute one instruction.
const STEPS_MAX: u32 = 16;
/// The maximum number of spurious stops before the expected one.
const STOPS_MAX: u32 = 16;

/// Performs injections. It holds the addresses of the kernel's handlers.
pub struct Injector<'a> {
    code: &'a Code,
    nmi: u64,
    nmi_again: u64,
    debug: u64,
    machine_check: u64,
    idle_hlt: u64,
    idle_resume: u64,
}

/// The IST stack of each event, numbered as in the TSS (`kernel/src/layout.rs`).
#[derive(Clone, Copy)]
enum Ist {
    Nmi = 1,
    Debug = 2,
    MachineCheck = 3,
}

impl<'a> Injector<'a> {
    /// Looks up the handlers' addresses.
    pub fn new(code: &'a Code) -> Result<Injector<'a>, InjectError> {
        Ok(Injector {
            code,
            nmi: code.function("nmi_entry")?.start(),
            nmi_again: code.label("ringside_nmi_again")?,
            debug: code.function("vector_01")?.start(),
            machine_check: code.function("vector_12")?.start(),
            idle_hlt: code.label("ringside_idle_hlt")?,
            idle_resume: code.label("ringside_idle_resume")?,
        })
    }

    /// Injects an NMI on a CPU that is stopped at a breakpoint. The handler must return to the interrupted instruction
    /// with all registers unchanged.
    pub fn nmi(&self, guest: &mut Guest, cpu: usize) -> Result<(), InjectError> {
        let before = guest.registers(cpu)?;
        guest.inject_nmi()?;
        self.run_to(guest, cpu, self.nmi)?;
        self.check_entry(guest, cpu, &before, Ist::Nmi)?;
        self.run_back(guest, cpu, &before)
    }

    /// Injects an NMI, and a second one when the CPU is at the instruction `inside` of the NMI handler. The second NMI
    /// must stay pending until the handler's `iretq`, and must then interrupt the same instruction as the first. `next`
    /// is the instruction after `inside`.
    pub fn nmi_in_nmi(
        &self,
        guest: &mut Guest,
        cpu: usize,
        inside: u64,
        next: Option<u64>,
    ) -> Result<(), InjectError> {
        let before = guest.registers(cpu)?;
        self.nmi_up_to(guest, cpu, inside)?;
        guest.inject_nmi()?;
        // The CPU must leave the handler's first instruction before the breakpoint there can stop it again.
        if let (true, Some(next)) = (inside == self.nmi, next) {
            self.run_to(guest, cpu, next)?;
        }
        self.run_to(guest, cpu, self.nmi)?;
        self.check_entry(guest, cpu, &before, Ist::Nmi)?;
        self.run_back(guest, cpu, &before)
    }

    /// Injects an NMI, and simulates a second one when the CPU is at the instruction `inside` of the handler. The
    /// second NMI must return immediately, or, if the first one is about to return, cause the handler to run again
    /// immediately. In both cases the handler must run once more, and then the interrupted code must continue with all
    /// registers unchanged.
    pub fn nested_nmi(
        &self,
        guest: &mut Guest,
        cpu: usize,
        inside: u64,
        is_returning: bool,
    ) -> Result<(), InjectError> {
        let before = guest.registers(cpu)?;
        self.nmi_up_to(guest, cpu, inside)?;
        let interrupted = guest.registers(cpu)?;
        let top = ist_top(guest, cpu, Ist::Nmi)?;
        guest.enter_nmi(cpu, top, self.nmi)?;
        if !is_returning {
            self.run_to_unless(guest, cpu, inside, Some(before.rip()))?;
            let now = guest.registers(cpu)?;
            if let Some((_, change)) = now.changed_since(&interrupted).next() {
                return Err(InjectError::Mismatch(format!("across the second NMI, {change}")));
            }
            self.leave(guest, cpu)?;
        }
        self.run_to_unless(guest, cpu, self.nmi_again, Some(before.rip()))?;
        let again = guest.registers(cpu)?;
        self.check_frame(guest, cpu, &before, &again)?;
        self.leave(guest, cpu)?;
        self.run_back(guest, cpu, &before)
    }

    /// Injects an NMI. Simulates a second one when the CPU is at `second`, if that is given, and a further one when the
    /// CPU is at `inside`, where the previous NMI has not saved its frame yet. The kernel must end the run.
    pub fn lost_nmi(
        &self,
        guest: &mut Guest,
        cpu: usize,
        second: Option<u64>,
        inside: u64,
    ) -> Result<(), InjectError> {
        self.nmi_up_to(guest, cpu, second.unwrap_or(inside))?;
        let top = ist_top(guest, cpu, Ist::Nmi)?;
        guest.enter_nmi(cpu, top, self.nmi)?;
        if second.is_some() {
            self.run_to(guest, cpu, inside)?;
            guest.enter_nmi(cpu, top, self.nmi)?;
        }
        Ok(())
    }

    /// Injects an NMI, and runs the CPU up to an instruction of the handler.
    fn nmi_up_to(&self, guest: &mut Guest, cpu: usize, inside: u64) -> Result<(), InjectError> {
        let before = guest.registers(cpu)?;
        guest.inject_nmi()?;
        self.run_to(guest, cpu, self.nmi)?;
        self.check_entry(guest, cpu, &before, Ist::Nmi)?;
        if inside == self.nmi { Ok(()) } else { self.run_to(guest, cpu, inside) }
    }

    /// Injects a machine check on a CPU that is stopped at a breakpoint. The handler does not return.
    pub fn machine_check(&self, guest: &mut Guest, cpu: usize) -> Result<(), InjectError> {
        let before = guest.registers(cpu)?;
        guest.inject_machine_check(cpu)?;
        self.run_to(guest, cpu, self.machine_check)?;
        self.check_entry(guest, cpu, &before, Ist::MachineCheck)
    }

    /// Sets TF on a CPU that is stopped at a breakpoint, so that it takes a #DB after that instruction. The handler
    /// must clear TF and return to the next instruction, with all other registers unchanged.
    pub fn debug(&self, guest: &mut Guest, cpu: usize) -> Result<(), InjectError> {
        let here = guest.registers(cpu)?.rip();
        let instruction = self.code.at(here)?;
        guest.set_trap_flag(cpu)?;
        self.run_to(guest, cpu, self.debug)?;
        let found = guest.registers(cpu)?;
        self.check_stack(guest, cpu, &found, Ist::Debug)?;
        let [rip, cs, flags, rsp, ss] = guest.words::<5>(cpu, found.rsp())?;
        let target = instruction.near_branch_target();
        // A #DB interrupts a repeated string instruction after each iteration.
        let next = [instruction.next_ip(), target, here];
        let next = if instruction.has_rep_prefix() { &next[..] } else { &next[..2] };
        if !next.contains(&rip) || cs & 3 != 0 || flags & TF == 0 {
            let rip = self.code.place(rip);
            return Err(InjectError::Mismatch(format!(
                "the #DB's frame has RIP {rip}, CS {cs:#x}, RFLAGS {flags:#x}"
            )));
        }
        self.run_to(guest, cpu, rip)?;
        let after = guest.registers(cpu)?;
        let state = [after.rsp(), after.flags(), after.get("ss"), after.get("cs")];
        if state != [rsp, flags & !(TF | RF), ss, cs] {
            return Err(InjectError::Mismatch(format!(
                "after the #DB, RSP, RFLAGS, SS and CS are {state:x?}"
            )));
        }
        let switched = ["rip", "rsp", "eflags", "cs", "ss"];
        let mut changed = after.changed_since(&found).filter(|(name, _)| !switched.contains(name));
        changed
            .next()
            .map_or(Ok(()), |(_, change)| Err(InjectError::Mismatch(format!("across the handler, {change}"))))
    }

    /// Runs only this CPU until it is at this instruction.
    pub fn run_to(&self, guest: &mut Guest, cpu: usize, address: u64) -> Result<(), InjectError> {
        self.run_to_unless(guest, cpu, address, None)
    }

    /// Runs only this CPU until it is at this instruction. Fails if it reaches the instruction `not` first.
    fn run_to_unless(
        &self,
        guest: &mut Guest,
        cpu: usize,
        address: u64,
        not: Option<u64>,
    ) -> Result<(), InjectError> {
        let what = || format!("CPU {cpu} reached {}", self.code.place(address));
        let stops: Vec<_> = [address].into_iter().chain(not).collect();
        guest.arm(&stops)?;
        for _ in 0..STOPS_MAX {
            let stopped = guest.run(&[cpu]).map_err(|error| error.waiting_for(what))?;
            let rip = guest.registers(stopped)?.rip();
            match (stopped == cpu, stops.contains(&rip)) {
                (true, true) if rip == address => return Ok(()),
                (true, true) => {
                    let place = self.code.place(rip);
                    return Err(InjectError::Mismatch(format!(
                        "before {}, the CPU stopped at {place}",
                        what()
                    )));
                }
                // QEMU stops once more if two CPUs reached a breakpoint at the same time while all CPUs ran.
                _ => {}
            }
        }
        Err(InjectError::Mismatch(format!("before {}, QEMU stopped {STOPS_MAX} times elsewhere", what())))
    }

    /// Checks a CPU at a handler's first instruction: it is on the right stack, the trap frame holds the interrupted
    /// state, and all other registers are unchanged.
    fn check_entry(
        &self,
        guest: &mut Guest,
        cpu: usize,
        before: &Registers,
        ist: Ist,
    ) -> Result<(), InjectError> {
        let now = guest.registers(cpu)?;
        self.check_stack(guest, cpu, &now, ist)?;
        self.check_frame(guest, cpu, before, &now)
    }

    /// Checks a CPU whose rsp points to the words that it has pushed for an interrupt: they hold the interrupted state,
    /// and all other registers are unchanged.
    fn check_frame(
        &self,
        guest: &mut Guest,
        cpu: usize,
        before: &Registers,
        now: &Registers,
    ) -> Result<(), InjectError> {
        let [rip, cs, flags, rsp, ss] = guest.words::<5>(cpu, now.rsp())?;
        let pushed = [rip, cs, flags & !RF, rsp, ss];
        let expected = [before.rip(), before.get("cs"), before.flags(), before.rsp(), before.get("ss")];
        for ((name, pushed), expected) in
            ["RIP", "CS", "RFLAGS", "RSP", "SS"].into_iter().zip(pushed).zip(expected)
        {
            if pushed != expected {
                return Err(InjectError::Mismatch(format!(
                    "the frame has {name} {pushed:#x}, but at {} the CPU had {name} {expected:#x}",
                    self.code.place(before.rip())
                )));
            }
        }
        let switched = ["rip", "rsp", "eflags", "cs", "ss"];
        let mut changed = now.changed_since(before).filter(|(name, _)| !switched.contains(name));
        changed.next().map_or(Ok(()), |(_, change)| {
            Err(InjectError::Mismatch(format!("at the handler's entry, {change}")))
        })
    }

    /// Executes the CPU's next instruction, so that a breakpoint there does not stop it again.
    fn leave(&self, guest: &mut Guest, cpu: usize) -> Result<(), InjectError> {
        let here = guest.registers(cpu)?.rip();
        // QEMU sometimes handles an internal event instead of executing the instruction.
        for _ in 0..STEPS_MAX {
            guest.step(cpu)?;
            if guest.registers(cpu)?.rip() != here {
                return Ok(());
            }
        }
        Err(InjectError::Mismatch(format!("CPU {cpu} does not leave {}", self.code.place(here))))
    }

    /// Checks that rsp is one trap frame (five words) below the top of this CPU's IST stack.
    fn check_stack(
        &self,
        guest: &mut Guest,
        cpu: usize,
        now: &Registers,
        ist: Ist,
    ) -> Result<(), InjectError> {
        let top = ist_top(guest, cpu, ist)?;
        if now.rsp() != top.wrapping_sub(40) {
            return Err(InjectError::Mismatch(format!(
                "the interrupt was taken with rsp {:#x}, but the top of CPU {cpu}'s own stack for it is {top:#x}",
                now.rsp()
            )));
        }
        Ok(())
    }

    /// Checks that the handler returns with all registers unchanged. An NMI at the idle loop's `hlt` must return to the
    /// instruction after it.
    fn run_back(&self, guest: &mut Guest, cpu: usize, before: &Registers) -> Result<(), InjectError> {
        let (back, not) = match before.rip() {
            // A later tick would also end the `hlt` and lead to the same address, so a stop at the `hlt` is an error.
            rip if rip == self.idle_hlt => (self.idle_resume, Some(rip)),
            rip => (rip, None),
        };
        self.run_to_unless(guest, cpu, back, not).map_err(|error| {
            error.waiting_for(|| format!("CPU {cpu} returned to {} from the handler", self.code.place(back)))
        })?;
        // The handler may itself execute the interrupted code, on its own stack, and hit the breakpoint first. One step
        // may not be enough, because QEMU sometimes handles an internal event instead of executing the instruction.
        for _ in 0..STEPS_MAX {
            if guest.registers(cpu)?.rsp() == before.rsp() {
                break;
            }
            guest.step(cpu)?;
            if guest.registers(cpu)?.rip() != back {
                self.run_to(guest, cpu, back)?;
            }
        }
        let after = guest.registers(cpu)?;
        let mut changed = after.changed_since(before).filter(|(name, _)| *name != "rip");
        changed
            .next()
            .map_or(Ok(()), |(_, change)| Err(InjectError::Mismatch(format!("across the handler, {change}"))))
    }
}

/// Reads the top of a CPU's NMI stack from its TSS.
pub fn nmi_stack(guest: &mut Guest, cpu: usize) -> Result<u64, InjectError> {
    ist_top(guest, cpu, Ist::Nmi)
}

fn ist_top(guest: &mut Guest, cpu: usize, ist: Ist) -> Result<u64, InjectError> {
    let tss = guest.task_state(cpu)?;
    let [top] = guest.words::<1>(cpu, tss.wrapping_add(TSS_IST1 + 8 * (ist as u64 - 1)))?;
    Ok(top)
}

/// Parses the base of the task register from the output of the monitor's `info registers`.
pub fn parse_task_register(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.trim().strip_prefix("TR ="))?;
    u64::from_str_radix(line.split_whitespace().nth(1)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn task_register_base_is_parsed() {
        let text = "LDT=0000 0000000000000000 00000000 00008200 DPL=0 LDT\r\n\
                    TR =0028 ffffd00000038800 00000067 00008900 DPL=0 TSS64-avl\r\n";
        assert_eq!(parse_task_register(text), Some(0xffff_d000_0003_8800));
        assert_eq!(parse_task_register("CPU#0\n"), None);
    }
}
