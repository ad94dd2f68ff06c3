//! Steers the CPUs of one boot along the kernel's entry and exit paths, and injects an event at every selected
//! instruction.

use iced_x86::{FlowControl, Instruction};
use kernel_abi::layout::SHARED_PAGE;

use super::code::Code;
use super::error::InjectError;
use super::guest::Guest;
use super::injector::{Injector, nmi_stack};
use super::paths::{self, Path};
use super::registers::Registers;
use super::tally::{Failure, Tally};

/// The kernel's number of CPUs that are about to write a kernel line to the console.
const KERNEL_LINES: &str = "kernel::arch::devices::serial::KERNEL_LINES";

/// The injected event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// NMIs, one at each instruction.
    Nmi,
    /// Debug exceptions, one after each instruction that can be single-stepped in ring 0.
    Debug,
    /// One machine check, which ends the run.
    MachineCheck,
}

impl Event {
    /// Returns whether this event is injected at this instruction of this path.
    ///
    /// Ring 0 can be single-stepped over all instructions except those that load new flags or branch to an unknown
    /// address. Handlers on IST stacks are excluded: the `iretq` of a #DB handler would unmask NMIs inside the NMI
    /// handler, and the kernel never lets a #DB occur there. The idle loop is excluded too: a #DB after its `sti`
    /// would end the interrupt shadow, so a pending wake-up IPI would be taken before the `hlt` (a lost wakeup).
    pub fn is_injected_at(self, path: &str, instruction: &Instruction) -> bool {
        let on_ist =
            [&paths::NMI, &paths::DEBUG_RING_0, &paths::DEBUG, &paths::MACHINE_CHECK, &paths::DOUBLE_FAULT];
        let excluded = on_ist.into_iter().chain([&paths::IDLE]);
        let leaves = matches!(
            instruction.flow_control(),
            FlowControl::Return | FlowControl::IndirectBranch | FlowControl::IndirectCall
        );
        let is_nesting = [paths::NMI_NESTED.name, paths::NMI_RETURNING.name, paths::NMI_LOST].contains(&path);
        match self {
            Event::Nmi => true,
            Event::MachineCheck => !is_nesting,
            Event::Debug => !is_nesting && !leaves && excluded.into_iter().all(|other| other.name != path),
        }
    }
}

/// Where the event is injected.
#[derive(Clone, Debug)]
pub struct Selection {
    /// The QEMU indices of the CPUs, in injection order.
    pub cpus: Vec<usize>,
    /// The path to inject on; `None` selects all paths.
    pub path: Option<String>,
    /// The address of the instruction to inject at; `None` selects all instructions.
    pub at: Option<u64>,
}

impl Selection {
    /// Returns whether this instruction of this path is selected.
    pub fn includes(&self, path: &str, address: u64) -> bool {
        self.path.as_deref().is_none_or(|selected| selected == path)
            && self.at.is_none_or(|selected| selected == address)
    }
}

/// A boot in progress.
pub struct Driver<'a> {
    /// The machine.
    pub guest: Guest,
    /// The kernel's entry and exit code.
    pub code: &'a Code,
    /// The injected event.
    pub event: Event,
    /// Where the event is injected.
    pub selection: &'a Selection,
    injector: Injector<'a>,
    tally: &'a mut Tally,
    /// Whether a machine check was injected, which ends the run.
    pub over: bool,
    /// Path, CPU and address of the latest injection, for failure reports.
    pub latest: Option<(&'static str, usize, u64)>,
    /// The number of single steps of each CPU in ring 0.
    pub debugs: Vec<u64>,
    /// The number of error interrupts of each CPU's local APIC.
    pub apic_errors: Vec<u64>,
}

impl<'a> Driver<'a> {
    /// Takes control of a machine that is stopped at its first instruction.
    pub fn new(
        guest: Guest,
        code: &'a Code,
        event: Event,
        selection: &'a Selection,
        tally: &'a mut Tally,
    ) -> Result<Driver<'a>, InjectError> {
        let injector = Injector::new(code)?;
        let debugs = vec![0; guest.cpus()];
        let apic_errors = debugs.clone();
        let (over, latest) = (false, None);
        Ok(Driver { guest, code, event, selection, injector, tally, over, latest, debugs, apic_errors })
    }

    /// Returns the indices of a path's instructions at which the event must be injected.
    fn selected(&self, name: &str, addresses: &[u64]) -> Vec<usize> {
        let possible = |address| self.code.at(address).is_ok_and(|one| self.event.is_injected_at(name, one));
        let required =
            |&index: &usize| self.selection.includes(name, addresses[index]) && possible(addresses[index]);
        if self.over { Vec::new() } else { (0..addresses.len()).filter(required).collect() }
    }

    /// Runs a CPU until it is at the path's first instruction and `when` returns true, then injects along the path.
    pub fn take_path(
        &mut self,
        cpu: usize,
        path: &'static Path,
        when: impl Fn(&mut Guest, &Registers) -> Result<bool, InjectError>,
    ) -> Result<(), Failure> {
        let addresses = path.addresses(self.code)?;
        if self.selected(path.name, &addresses).is_empty() {
            return Ok(());
        }
        self.reach(path.name, cpu, addresses[0], when)?;
        self.inject_along(path.name, cpu, &addresses)
    }

    /// Runs a CPU until it is at this instruction and `when` returns true.
    pub fn reach(
        &mut self,
        name: &'static str,
        cpu: usize,
        address: u64,
        when: impl Fn(&mut Guest, &Registers) -> Result<bool, InjectError>,
    ) -> Result<(), Failure> {
        let place = |error: InjectError| Failure::on(error, name, cpu);
        loop {
            self.injector.run_to(&mut self.guest, cpu, address).map_err(place)?;
            let registers = self.guest.registers(cpu)?;
            if when(&mut self.guest, &registers)? {
                return Ok(());
            }
            self.guest.step(cpu)?;
        }
    }

    /// Injects at the selected instructions of a path. The CPU must be at the path's first instruction.
    pub fn inject_along(&mut self, name: &'static str, cpu: usize, addresses: &[u64]) -> Result<(), Failure> {
        let mut here = addresses[0];
        for index in self.selected(name, addresses) {
            let address = addresses[index];
            self.latest = Some((name, cpu, address));
            let reached =
                if address == here { Ok(()) } else { self.injector.run_to(&mut self.guest, cpu, address) };
            reached
                .and_then(|()| self.inject(cpu))
                .map_err(|error| Failure::at(error, name, cpu, address))?;
            self.tally.count(self.event, name, cpu, address);
            here = address;
            if self.over {
                break;
            }
        }
        Ok(())
    }

    fn inject(&mut self, cpu: usize) -> Result<(), InjectError> {
        match self.event {
            Event::Nmi => self.injector.nmi(&mut self.guest, cpu),
            Event::Debug => {
                self.debugs[cpu] += 1;
                self.injector.debug(&mut self.guest, cpu)
            }
            Event::MachineCheck => {
                self.over = true;
                self.injector.machine_check(&mut self.guest, cpu)
            }
        }
    }

    /// Injects at each instruction of the NMI handler: either a second NMI, which must stay pending, or a machine
    /// check, which must be taken. The first NMI is injected at the system-call entry, where the GS base and rsp still
    /// hold ring 3's values.
    pub fn nmi_path(&mut self, cpu: usize) -> Result<(), Failure> {
        let name = paths::NMI.name;
        let addresses = paths::NMI.addresses(self.code)?;
        let required = self.selected(name, &addresses);
        if required.is_empty() {
            return Ok(());
        }
        let entry = self.code.function(paths::SYSRET.entry)?.start();
        self.reach(name, cpu, entry, |_, _| Ok(true))?;
        for index in required {
            let address = addresses[index];
            self.latest = Some((name, cpu, address));
            let result = match self.event {
                Event::Nmi => {
                    self.injector.nmi_in_nmi(&mut self.guest, cpu, address, addresses.get(index + 1).copied())
                }
                Event::Debug | Event::MachineCheck => self.machine_check_in_nmi(cpu, addresses[0], address),
            };
            result.map_err(|error| Failure::at(error, name, cpu, address))?;
            self.tally.count(self.event, name, cpu, address);
            if self.over {
                break;
            }
        }
        Ok(())
    }

    /// Simulates a second NMI that is not blocked, at each instruction of the NMI handler. The first NMI is injected as
    /// on [`paths::NMI`].
    pub fn nested_nmi_paths(&mut self, cpu: usize) -> Result<(), Failure> {
        let nesting = paths::nesting(self.code)?;
        let entry = self.code.function(paths::SYSRET.entry)?.start();
        for (path, addresses, is_returning) in
            [(&paths::NMI_NESTED, nesting.nested, false), (&paths::NMI_RETURNING, nesting.returning, true)]
        {
            for index in self.selected(path.name, &addresses) {
                let address = addresses[index];
                self.latest = Some((path.name, cpu, address));
                self.reach(path.name, cpu, entry, |_, _| Ok(true))?;
                let result = self.injector.nested_nmi(&mut self.guest, cpu, address, is_returning);
                result.map_err(|error| Failure::at(error, path.name, cpu, address))?;
                self.tally.count(self.event, path.name, cpu, address);
            }
        }
        Ok(())
    }

    /// Injects an NMI before an earlier NMI has saved its frame, which ends the run.
    pub fn lost_nmi(&mut self, cpu: usize) -> Result<(), Failure> {
        let nesting = paths::nesting(self.code)?;
        let entry = self.code.function(paths::SYSRET.entry)?.start();
        let first = paths::NMI.addresses(self.code)?;
        let nested = paths::NMI_NESTED.addresses(self.code)?;
        for index in self.selected(paths::NMI_LOST, &nesting.lost) {
            let address = nesting.lost[index];
            self.latest = Some((paths::NMI_LOST, cpu, address));
            self.reach(paths::NMI_LOST, cpu, entry, |_, _| Ok(true))?;
            // Some instructions are executed only by a second NMI. Then the injected one is the third.
            let second = match (first.contains(&address), nested.contains(&address)) {
                (true, _) => None,
                (false, true) => nesting.nested.first(),
                (false, false) => nesting.returning.first(),
            };
            let result = self.injector.lost_nmi(&mut self.guest, cpu, second.copied(), address);
            result.map_err(|error| Failure::at(error, paths::NMI_LOST, cpu, address))?;
            self.tally.count(self.event, paths::NMI_LOST, cpu, address);
            self.over = true;
        }
        Ok(())
    }

    /// Makes a CPU wait for the console, and injects at the instructions at which it enables interrupts during the
    /// wait, and in the handlers of two interrupts that QEMU's local APIC does not raise. All other CPUs are stopped,
    /// so the host writes the number of CPUs that are about to write a kernel line. The host also simulates the two
    /// interrupts.
    pub fn wait_paths(&mut self, cpu: usize) -> Result<(), Failure> {
        let kernel_lines = self.code.label(KERNEL_LINES)?;
        let wait = paths::WAIT.addresses(self.code)?;
        self.guest.write(cpu, kernel_lines, &1_u32.to_le_bytes())?;
        self.take_path(cpu, &paths::WAIT, |_, _| Ok(true))?;
        for path in [&paths::APIC_ERROR, &paths::SPURIOUS] {
            let addresses = path.addresses(self.code)?;
            if self.selected(path.name, &addresses).is_empty() {
                continue;
            }
            // Interrupts are on at the second instruction.
            self.reach(path.name, cpu, wait[1], |_, _| Ok(true))?;
            let stack = self.guest.registers(cpu)?.rsp() & !0xf;
            self.guest.enter(cpu, stack, addresses[0])?;
            self.apic_errors[cpu] += u64::from(*path == paths::APIC_ERROR);
            self.inject_along(path.name, cpu, &addresses)?;
        }
        Ok(self.guest.write(cpu, kernel_lines, &0_u32.to_le_bytes())?)
    }

    /// Turns a tick that has interrupted ring 3 into a wake-up IPI, and injects in its handler. No other CPU can send
    /// the IPI, because all of them are stopped. Its handler sends the EOI for the tick.
    pub fn wake_in_ring_3(&mut self, cpu: usize) -> Result<(), Failure> {
        let path = &paths::WAKE_RING_3;
        let addresses = path.addresses(self.code)?;
        if self.selected(path.name, &addresses).is_empty() {
            return Ok(());
        }
        let tick = self.code.function(paths::TICK.entry)?.start();
        // The frame holds RIP and CS, in this order.
        self.reach(path.name, cpu, tick, |guest, registers| {
            Ok(guest.words::<2>(cpu, registers.rsp())?[1] & 3 == 3)
        })?;
        self.guest.replace_handler(cpu, addresses[0])?;
        self.inject_along(path.name, cpu, &addresses)
    }

    fn machine_check_in_nmi(&mut self, cpu: usize, entry: u64, address: u64) -> Result<(), InjectError> {
        self.guest.inject_nmi()?;
        self.injector.run_to(&mut self.guest, cpu, entry)?;
        if address != entry {
            self.injector.run_to(&mut self.guest, cpu, address)?;
        }
        self.inject(cpu)
    }

    /// Single-steps the `swapgs` before `sysretq`, and injects in the handler of the resulting #DB. The handler starts
    /// with ring 3's GS base and rsp. The host sets TF, because no program can set it in ring 0.
    pub fn debug_path(&mut self, cpu: usize) -> Result<(), Failure> {
        let path = &paths::DEBUG_RING_0;
        let addresses = path.addresses(self.code)?;
        if self.selected(path.name, &addresses).is_empty() {
            return Ok(());
        }
        let call = paths::SYSRET.addresses(self.code)?;
        let [.., swapgs, sysretq] = call[..] else {
            return Err(
                InjectError::Code("the path sysret has fewer than two instructions".to_owned()).into()
            );
        };
        self.reach(path.name, cpu, swapgs, |_, _| Ok(true))?;
        let before = self.guest.registers(cpu)?;
        self.guest.set_trap_flag(cpu)?;
        self.debugs[cpu] += 1;
        self.reach(path.name, cpu, addresses[0], |_, _| Ok(true))?;
        self.inject_along(path.name, cpu, &addresses)?;
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
                let change = change.map_or("the GS bases were not swapped".to_owned(), |(_, change)| change);
                let error = InjectError::Mismatch(format!("across a #DB in ring 0, {change}"));
                Err(Failure::on(error, path.name, cpu))
            }
        }
    }

    /// Injects at the kernel instructions that run with ring 3's rsp, once for each hostile stack pointer with which
    /// the user program `paths` makes a system call.
    pub fn hostile_paths(&mut self, cpu: usize) -> Result<(), Failure> {
        let addresses = paths::with_user_rsp(self.code)?;
        let nmi_stack = nmi_stack(&mut self.guest, cpu)?;
        for (name, rsp) in paths::HOSTILE.into_iter().chain([(paths::HOSTILE_NMI_STACK, nmi_stack)]) {
            if !self.selected(name, &addresses).is_empty() {
                self.reach(name, cpu, addresses[0], |_, registers| Ok(registers.rsp() == rsp))?;
                self.inject_along(name, cpu, &addresses)?;
            }
        }
        Ok(())
    }

    /// Writes the top of the CPU's NMI stack into the shared page. The program that is about to start on this CPU uses
    /// it as a stack pointer.
    pub fn pass_nmi_stack(&mut self, cpu: usize) -> Result<(), InjectError> {
        let top = nmi_stack(&mut self.guest, cpu)?;
        self.guest.write_word(cpu, SHARED_PAGE + 8 * cpu as u64, top)
    }
}
