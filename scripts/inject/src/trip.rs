//! One boot, and what is done to its CPUs on their way: each leg leads a CPU along a path and strikes at every
//! instruction that is wanted.

use iced_x86::{FlowControl, Instruction};
use kernel_abi::layout::SHARED_PAGE;

use super::code::Code;
use super::error::InjectError;
use super::guest::Guest;
use super::paths::{self, Path};
use super::registers::Registers;
use super::strike::{Striker, nmi_stack};
use super::tally::{Failure, Tally};

/// What strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// NMIs, as many as there are instructions.
    Nmi,
    /// Debug exceptions, as many as there are instructions that ring 0 can be stepped over.
    Debug,
    /// One machine check, which ends the run.
    MachineCheck,
}

impl Deed {
    /// Does it strike at this instruction of this path? Ring 0 can be stepped over all but those that load other flags
    /// or go where it is not known. The handlers on IST stacks are left out: a #DB in an NMI's handler would unmask the
    /// next NMI, and the kernel promises that there is none. So is the idle loop, whose `hlt` would miss its wake-up.
    pub fn strikes(self, path: &str, instruction: &Instruction) -> bool {
        let on_ist =
            [&paths::NMI, &paths::DEBUG_RING_0, &paths::DEBUG, &paths::MACHINE_CHECK, &paths::DOUBLE_FAULT];
        let apart = on_ist.into_iter().chain([&paths::IDLE]);
        let leaves = matches!(instruction.flow_control(), FlowControl::Return | FlowControl::IndirectBranch);
        self != Deed::Debug || !leaves && apart.into_iter().all(|own| own.name != path)
    }
}

/// Where it strikes.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The CPUs, by QEMU's index, in the order in which they are struck.
    pub cpus: Vec<usize>,
    /// This path alone.
    pub path: Option<String>,
    /// This instruction alone.
    pub at: Option<u64>,
}

impl Wish {
    /// Is this instruction of this path to be struck?
    pub fn has(&self, path: &str, address: u64) -> bool {
        self.path.as_deref().is_none_or(|own| own == path) && self.at.is_none_or(|own| own == address)
    }
}

/// A boot under way.
pub struct Trip<'a> {
    /// The machine.
    pub guest: Guest,
    /// The road.
    pub code: &'a Code,
    /// What strikes.
    pub deed: Deed,
    /// Where.
    pub wish: &'a Wish,
    striker: Striker<'a>,
    tally: &'a mut Tally,
    /// The one strike that there can be has been.
    pub over: bool,
    /// Where a CPU was struck last, for a report.
    pub latest: Option<(&'static str, usize, u64)>,
    /// How often each CPU was stepped in ring 0.
    pub debugs: Vec<u64>,
}

impl<'a> Trip<'a> {
    /// Takes a machine that is stopped at its first instruction.
    pub fn new(
        guest: Guest,
        code: &'a Code,
        deed: Deed,
        wish: &'a Wish,
        tally: &'a mut Tally,
    ) -> Result<Trip<'a>, InjectError> {
        let striker = Striker::new(code)?;
        let debugs = vec![0; guest.cpus()];
        Ok(Trip { guest, code, deed, wish, striker, tally, over: false, latest: None, debugs })
    }

    /// Those of a path's instructions, by their places on it, that are to be struck.
    fn wanted(&self, name: &str, walk: &[u64]) -> Vec<usize> {
        let strikes = |address| self.code.at(address).is_ok_and(|one| self.deed.strikes(name, one));
        let wanted = |&index: &usize| self.wish.has(name, walk[index]) && strikes(walk[index]);
        if self.over { Vec::new() } else { (0..walk.len()).filter(wanted).collect() }
    }

    /// Leads a CPU along a path, from where it comes to it next while `when` is so.
    pub fn leg(
        &mut self,
        cpu: usize,
        path: &'static Path,
        when: impl Fn(&mut Guest, &Registers) -> Result<bool, InjectError>,
    ) -> Result<(), Failure> {
        let walk = path.walk(self.code)?;
        if self.wanted(path.name, &walk).is_empty() {
            return Ok(());
        }
        self.reach(path.name, cpu, walk[0], when)?;
        self.along(path.name, cpu, &walk)
    }

    /// Lets a CPU run until it is at an instruction while `when` is so.
    pub fn reach(
        &mut self,
        name: &'static str,
        cpu: usize,
        address: u64,
        when: impl Fn(&mut Guest, &Registers) -> Result<bool, InjectError>,
    ) -> Result<(), Failure> {
        let place = |error: InjectError| Failure::on(error, name, cpu);
        loop {
            self.striker.come_to(&mut self.guest, cpu, address).map_err(place)?;
            let registers = self.guest.registers(cpu)?;
            if when(&mut self.guest, &registers)? {
                return Ok(());
            }
            self.guest.step(cpu)?;
        }
    }

    /// Strikes at the wanted instructions of a path, at whose first one the CPU stands.
    pub fn along(&mut self, name: &'static str, cpu: usize, walk: &[u64]) -> Result<(), Failure> {
        let mut here = walk[0];
        for index in self.wanted(name, walk) {
            let address = walk[index];
            self.latest = Some((name, cpu, address));
            let come =
                if address == here { Ok(()) } else { self.striker.come_to(&mut self.guest, cpu, address) };
            come.and_then(|()| self.strike(cpu)).map_err(|error| Failure::at(error, name, cpu, address))?;
            self.tally.count(self.deed, name, cpu, address);
            here = address;
            if self.over {
                break;
            }
        }
        Ok(())
    }

    fn strike(&mut self, cpu: usize) -> Result<(), InjectError> {
        match self.deed {
            Deed::Nmi => self.striker.nmi(&mut self.guest, cpu),
            Deed::Debug => {
                self.debugs[cpu] += 1;
                self.striker.debug(&mut self.guest, cpu)
            }
            Deed::MachineCheck => {
                self.over = true;
                self.striker.machine_check(&mut self.guest, cpu)
            }
        }
    }

    /// Strikes at each instruction of the NMI's own way, with an NMI that has to wait, or with a machine check that
    /// does not. The first NMI strikes at the entry of a system call, where GS and rsp are ring 3's.
    pub fn nmi_leg(&mut self, cpu: usize) -> Result<(), Failure> {
        let name = paths::NMI.name;
        let walk = paths::NMI.walk(self.code)?;
        let wanted = self.wanted(name, &walk);
        if wanted.is_empty() {
            return Ok(());
        }
        let entry = self.code.function(paths::SYSRET.entry)?.start();
        self.reach(name, cpu, entry, |_, _| Ok(true))?;
        for index in wanted {
            let address = walk[index];
            self.latest = Some((name, cpu, address));
            let struck = match self.deed {
                Deed::Nmi => {
                    self.striker.nmi_in_nmi(&mut self.guest, cpu, address, walk.get(index + 1).copied())
                }
                Deed::Debug | Deed::MachineCheck => self.machine_check_in_nmi(cpu, walk[0], address),
            };
            struck.map_err(|error| Failure::at(error, name, cpu, address))?;
            self.tally.count(self.deed, name, cpu, address);
            if self.over {
                break;
            }
        }
        Ok(())
    }

    fn machine_check_in_nmi(&mut self, cpu: usize, entry: u64, address: u64) -> Result<(), InjectError> {
        self.guest.inject_nmi()?;
        self.striker.come_to(&mut self.guest, cpu, entry)?;
        if address != entry {
            self.striker.come_to(&mut self.guest, cpu, address)?;
        }
        self.strike(cpu)
    }

    /// Lets ring 0 be single-stepped over the `swapgs` in front of `sysretq`, where GS and rsp are ring 3's again, and
    /// strikes in the handler of the exception that follows. The host sets the flag: no program can.
    pub fn debug_leg(&mut self, cpu: usize) -> Result<(), Failure> {
        let path = &paths::DEBUG_RING_0;
        let walk = path.walk(self.code)?;
        if self.wanted(path.name, &walk).is_empty() {
            return Ok(());
        }
        let call = paths::SYSRET.walk(self.code)?;
        let [.., swapgs, sysretq] = call[..] else {
            return Err(InjectError::Code("a system call has no end".to_owned()).into());
        };
        self.reach(path.name, cpu, swapgs, |_, _| Ok(true))?;
        let before = self.guest.registers(cpu)?;
        self.guest.set_trap_flag(cpu)?;
        self.debugs[cpu] += 1;
        self.reach(path.name, cpu, walk[0], |_, _| Ok(true))?;
        self.along(path.name, cpu, &walk)?;
        if self.over {
            return Ok(());
        }
        self.reach(path.name, cpu, sysretq, |_, _| Ok(true))?;
        let after = self.guest.registers(cpu)?;
        let swapped = after.get("gs_base") == before.get("k_gs_base")
            && after.get("k_gs_base") == before.get("gs_base");
        let mut others =
            after.changed_since(&before).filter(|(name, _)| !["rip", "gs_base", "k_gs_base"].contains(name));
        match (swapped, others.next()) {
            (true, None) => Ok(()),
            (_, change) => {
                let change = change.map_or("GS is not swapped".to_owned(), |(_, change)| change);
                let error = InjectError::Wrong(format!("over a #DB in ring 0 {change}"));
                Err(Failure::on(error, path.name, cpu))
            }
        }
    }

    /// Strikes where rsp is ring 3's, during the call that `paths` makes with each hostile stack pointer.
    pub fn hostile_legs(&mut self, cpu: usize) -> Result<(), Failure> {
        let walk = paths::with_ring_3s_rsp(self.code)?;
        let own = nmi_stack(&mut self.guest, cpu)?;
        for (name, rsp) in paths::HOSTILE.into_iter().chain([(paths::HOSTILE_NMI_STACK, own)]) {
            if !self.wanted(name, &walk).is_empty() {
                self.reach(name, cpu, walk[0], |_, registers| Ok(registers.rsp() == rsp))?;
                self.along(name, cpu, &walk)?;
            }
        }
        Ok(())
    }

    /// Tells the program on this CPU, which is about to start, the address of the CPU's NMI stack.
    pub fn tell_nmi_stack(&mut self, cpu: usize) -> Result<(), InjectError> {
        let top = nmi_stack(&mut self.guest, cpu)?;
        self.guest.write_word(cpu, SHARED_PAGE + 8 * cpu as u64, top)
    }
}
