//! The boots that together reach every path. Within a boot, paths are listed in the order in which the program `paths`
//! and the kernel execute them.

use kernel_abi::syscall::SYS_WRITE_SERIAL;

use super::driver::{Driver, Event};
use super::error::InjectError;
use super::paths::{self, KILLS, Path};
use super::registers::{Registers, TF};
use super::tally::Failure;

/// A boot, named after the events on the CPUs on which injections are performed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boot {
    /// The program takes each path of [`paths::TOUR`], and ends with a #DB after a system call that returned by
    /// `iretq`.
    Tour,
    /// The program takes each path of [`paths::TOUR`], and ends with the exception at this index of [`KILLS`].
    Kill(usize),
    /// The program makes a system call with a frame handler and TF set, which returns by `iretq`.
    FrameStep,
    /// The `iretq` that starts the program faults, because the host has corrupted its frame.
    IretFault,
    /// This CPU takes a machine check at the system-call entry.
    MachineCheck(usize),
    /// This CPU overflows its syscall stack.
    DoubleFault(usize),
    /// An NMI arrives before an earlier NMI has saved its frame.
    LostNmi,
}

impl Boot {
    /// Returns all boots that are needed to inject on every path of these CPUs.
    pub fn all(cpus: &[usize]) -> Vec<Boot> {
        let mut boots = vec![Boot::Tour];
        boots.extend((0..KILLS.len()).map(Boot::Kill));
        boots.extend([Boot::FrameStep, Boot::IretFault]);
        boots.extend(cpus.iter().map(|&cpu| Boot::MachineCheck(cpu)));
        boots.extend(cpus.iter().map(|&cpu| Boot::DoubleFault(cpu)));
        boots.push(Boot::LostNmi);
        boots
    }

    /// Returns the names of the paths that this boot reaches.
    pub fn paths(self) -> Vec<&'static str> {
        match self {
            Boot::Tour => {
                let hostile = paths::HOSTILE.iter().map(|(name, _)| *name).chain([paths::HOSTILE_NMI_STACK]);
                paths::TOUR.iter().map(|path| path.name).chain(hostile).collect()
            }
            Boot::Kill(index) => vec![KILLS[index].0.name],
            Boot::FrameStep => vec![paths::FRAME_IRET.name],
            Boot::IretFault => vec![paths::IRET_FAULT.name],
            Boot::MachineCheck(_) => vec![paths::MACHINE_CHECK.name],
            Boot::DoubleFault(_) => vec![paths::DOUBLE_FAULT.name],
            Boot::LostNmi => vec![paths::NMI_LOST],
        }
    }

    /// Returns the argument of `paths` that selects how the program ends, if nothing ends it earlier.
    pub fn ending(self) -> &'static str {
        match self {
            Boot::Tour => "step",
            Boot::FrameStep => "step-frame",
            Boot::Kill(index) => KILLS[index].1,
            Boot::IretFault | Boot::MachineCheck(_) | Boot::DoubleFault(_) | Boot::LostNmi => "exit",
        }
    }

    /// Returns the key that this boot needs on the kernel's command line.
    pub fn kernel_key(self) -> Option<String> {
        match self {
            Boot::DoubleFault(cpu) => Some(format!("overflow_cpu={cpu}")),
            _ => None,
        }
    }

    /// Returns the selected CPUs on which this boot performs injections.
    pub fn cpus(self, selected: &[usize]) -> Vec<usize> {
        match self {
            Boot::MachineCheck(cpu) | Boot::DoubleFault(cpu) => vec![cpu],
            _ => selected.to_vec(),
        }
    }

    /// Returns whether each injection of this event ends the run.
    pub fn ends_with_injection(self, event: Event) -> bool {
        event == Event::MachineCheck || self == Boot::LostNmi
    }

    /// Steers the selected CPUs along all paths of this boot.
    pub fn drive(self, driver: &mut Driver<'_>) -> Result<(), Failure> {
        let cpus = self.cpus(&driver.selection.cpus);
        if let Boot::DoubleFault(cpu) = self {
            return driver.take_path_with_all(cpu, &paths::DOUBLE_FAULT);
        }
        driver.run_all_to_start()?;
        for &cpu in &cpus {
            if driver.over {
                return Ok(());
            }
            match self {
                Boot::Tour => tour(driver, cpu)?,
                Boot::Kill(kind) => {
                    kill(driver, cpu, &KILLS[kind].0)?;
                    check_survival(driver, cpu, KILLS[kind].0.name)?;
                }
                Boot::FrameStep => {
                    driver.take_path(cpu, &paths::FRAME_IRET, |_, registers| Ok(has_trap_flag(registers)))?;
                    check_survival(driver, cpu, paths::FRAME_IRET.name)?;
                }
                Boot::IretFault => {
                    iret_fault(driver, cpu)?;
                    check_survival(driver, cpu, paths::IRET_FAULT.name)?;
                }
                Boot::LostNmi => driver.lost_nmi(cpu)?,
                _ => machine_check(driver, cpu)?,
            }
        }
        if self == Boot::Tour { driver.wake_paths(cpus) } else { Ok(()) }
    }
}

/// Steers a CPU along all paths from the program's start to the idle loop.
fn tour(driver: &mut Driver<'_>, cpu: usize) -> Result<(), Failure> {
    driver.pass_nmi_stack(cpu)?;
    driver.inject_along(paths::START.name, cpu, &paths::START.addresses(driver.code)?)?;
    driver.nmi_path(cpu)?;
    driver.nested_nmi_paths(cpu)?;
    driver.take_path(cpu, &paths::SYSRET, |_, _| Ok(true))?;
    driver.debug_path(cpu)?;
    driver.hostile_paths(cpu)?;
    driver.take_path(cpu, &paths::COPY, |_, _| Ok(true))?;
    driver.take_path(cpu, &paths::COPY_FAULT, |_, _| Ok(true))?;
    driver.take_path(cpu, &paths::FRAME, |_, registers| Ok(registers.get("rax") == SYS_WRITE_SERIAL))?;
    driver.wait_paths(cpu)?;
    driver.wake_in_ring_3(cpu)?;
    driver.take_path(cpu, &paths::TICK, |_, _| Ok(true))?;
    driver.take_path(cpu, &paths::IRET, |_, registers| Ok(has_trap_flag(registers)))?;
    driver.take_path(cpu, &paths::DEBUG, |_, _| Ok(true))?;
    driver.take_path(cpu, &paths::END, |_, _| Ok(true))?;
    driver.take_path(cpu, &paths::IDLE, |_, _| Ok(true))?;
    driver.take_path(cpu, &paths::TICK_IDLE, |_, _| Ok(true))?;
    if !driver.over {
        // At this instruction the CPU holds no lock that another CPU could wait for.
        let halt = driver.code.function(paths::IDLE.entry)?.start();
        driver.reach(paths::IDLE.name, cpu, halt, |_, _| Ok(true))?;
    }
    Ok(())
}

/// Returns whether the program that has just made a system call runs with TF set.
fn has_trap_flag(registers: &Registers) -> bool {
    registers.get("r11") & TF != 0
}

fn kill(driver: &mut Driver<'_>, cpu: usize, path: &'static Path) -> Result<(), Failure> {
    // The program also causes a fault in the kernel's user copy. Only a fault in ring 3 is the expected one, so check
    // CS: the frame holds the error code, RIP and CS, in this order.
    driver.take_path(cpu, path, |guest, registers| match path.entry {
        "vector_0e" => Ok(guest.words::<3>(cpu, registers.rsp())?[2] & 3 == 3),
        _ => Ok(true),
    })
}

fn iret_fault(driver: &mut Driver<'_>, cpu: usize) -> Result<(), Failure> {
    /// A selector beyond the GDT's limit.
    const NO_SEGMENT: u64 = 0xfff3;
    let iretq = driver.code.label("ringside_iretq_to_user")?;
    driver.reach(paths::IRET_FAULT.name, cpu, iretq, |_, _| Ok(true))?;
    let rsp = driver.guest.registers(cpu)?.rsp();
    driver.guest.write_word(cpu, rsp.wrapping_add(8), NO_SEGMENT)?;
    driver.take_path(cpu, &paths::IRET_FAULT, |_, _| Ok(true))
}

/// Checks that the kernel kills the program and continues, while all other CPUs are stopped.
fn check_survival(driver: &mut Driver<'_>, cpu: usize, name: &'static str) -> Result<(), Failure> {
    if driver.over {
        return Ok(());
    }
    let end = driver.code.function(paths::END.entry)?.start();
    driver.reach(name, cpu, end, |_, _| Ok(true))
}

fn machine_check(driver: &mut Driver<'_>, cpu: usize) -> Result<(), Failure> {
    let entry = driver.code.function(paths::SYSRET.entry)?.start();
    driver.reach(paths::MACHINE_CHECK.name, cpu, entry, |_, _| Ok(true))?;
    driver.guest.inject_machine_check(cpu)?;
    driver.take_path(cpu, &paths::MACHINE_CHECK, |_, _| Ok(true))
}

impl Driver<'_> {
    /// Runs all CPUs until each is about to start its program. There a CPU holds no lock that another CPU could wait
    /// for.
    fn run_all_to_start(&mut self) -> Result<(), Failure> {
        let start = self.code.function(paths::START.entry)?.start();
        self.guest.arm(&[start])?;
        let mut going: Vec<_> = (0..self.guest.cpus()).collect();
        while !going.is_empty() {
            let cpu = self.guest.run(&going);
            let cpu = cpu.map_err(|error| {
                error.waiting_for(|| format!("the CPUs {going:?} started their programs"))
            })?;
            // Two CPUs that reach the breakpoint at the same time stop the machine twice.
            if self.guest.registers(cpu)?.rip() == start {
                going.retain(|&other| other != cpu);
            }
        }
        Ok(())
    }

    /// Runs all CPUs, and injects on the wake-up path. The CPUs in `asleep` idle until the last program on the other
    /// CPUs has ended, which sends the wake-up IPI.
    fn wake_paths(&mut self, mut asleep: Vec<usize>) -> Result<(), Failure> {
        let wake = paths::WAKE.addresses(self.code)?;
        let all: Vec<_> = (0..self.guest.cpus()).collect();
        while wake.iter().any(|&address| self.selection.includes(paths::WAKE.name, address))
            && !asleep.is_empty()
            && !self.over
        {
            self.guest.arm(&wake[..1])?;
            let cpu = self.guest.run(&all);
            let cpu = cpu.map_err(|error| error.waiting_for(|| format!("the CPUs {asleep:?} were woken")))?;
            if self.guest.registers(cpu)?.rip() != wake[0] {
                continue;
            }
            if asleep.contains(&cpu) {
                asleep.retain(|&other| other != cpu);
                self.inject_along(paths::WAKE.name, cpu, &wake)?;
            } else {
                self.guest.step(cpu)?;
            }
        }
        Ok(())
    }

    /// Runs all CPUs until this one reaches the path, then injects along the path.
    fn take_path_with_all(&mut self, cpu: usize, path: &'static Path) -> Result<(), Failure> {
        let addresses = path.addresses(self.code)?;
        self.guest.arm(&addresses[..1])?;
        let all: Vec<_> = (0..self.guest.cpus()).collect();
        let stopped = self.guest.run(&all);
        let stopped =
            stopped.map_err(|error| error.waiting_for(|| format!("CPU {cpu} overflowed its stack")))?;
        if stopped != cpu {
            let error =
                InjectError::Mismatch(format!("CPU {stopped} reached {} instead of CPU {cpu}", path.entry));
            return Err(error.into());
        }
        self.inject_along(path.name, cpu, &addresses)
    }
}

/// Returns whether this event can be injected in this boot. A machine check in the machine-check handler resets the
/// machine under QEMU, and shuts down a physical CPU. Ring 0 is not single-stepped in handlers on an IST stack.
pub fn supports(boot: Boot, event: Event) -> bool {
    match boot {
        Boot::MachineCheck(_) => event == Event::Nmi,
        Boot::DoubleFault(_) => event != Event::Debug,
        Boot::LostNmi => event == Event::Nmi,
        _ => true,
    }
}
