//! The boots that it takes to come to every path, and the order of their legs, which is the order in which the program
//! `paths` and the kernel come to them.

use super::error::InjectError;
use super::paths::{self, KILLS, Path};
use super::tally::Failure;
use super::trip::{Deed, Trip};

/// A boot, by what becomes of the CPUs that are struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boot {
    /// The program goes each way, and ends with a #DB behind a system call that left by `iretq`.
    Tour,
    /// The program goes each way, and ends by this one of [`KILLS`].
    Kill(usize),
    /// The `iretq` that starts the program faults: the host has broken its frame.
    IretFault,
    /// This CPU has a machine check in the entry of a system call.
    MachineCheck(usize),
    /// This CPU runs off its stack.
    DoubleFault(usize),
}

impl Boot {
    /// Those that it takes to strike these CPUs on every path.
    pub fn all(cpus: &[usize]) -> Vec<Boot> {
        let mut boots = vec![Boot::Tour];
        boots.extend((0..KILLS.len()).map(Boot::Kill));
        boots.push(Boot::IretFault);
        boots.extend(cpus.iter().map(|&cpu| Boot::MachineCheck(cpu)));
        boots.extend(cpus.iter().map(|&cpu| Boot::DoubleFault(cpu)));
        boots
    }

    /// The paths that it comes to, by their names.
    pub fn paths(self) -> Vec<&'static str> {
        match self {
            Boot::Tour => {
                let hostile = paths::HOSTILE.iter().map(|(name, _)| *name).chain([paths::HOSTILE_NMI_STACK]);
                paths::TOUR.iter().map(|path| path.name).chain(hostile).collect()
            }
            Boot::Kill(index) => vec![KILLS[index].0.name],
            Boot::IretFault => vec![paths::IRET_FAULT.name],
            Boot::MachineCheck(_) => vec![paths::MACHINE_CHECK.name],
            Boot::DoubleFault(_) => vec![paths::DOUBLE_FAULT.name],
        }
    }

    /// How the program ends where nothing else ends it.
    pub fn ending(self) -> &'static str {
        match self {
            Boot::Tour => "step",
            Boot::Kill(index) => KILLS[index].1,
            Boot::IretFault | Boot::MachineCheck(_) | Boot::DoubleFault(_) => "exit",
        }
    }

    /// What the kernel's command line needs.
    pub fn kernel_key(self) -> Option<String> {
        match self {
            Boot::DoubleFault(cpu) => Some(format!("overflow_cpu={cpu}")),
            _ => None,
        }
    }

    /// Which of the wanted CPUs it strikes.
    pub fn cpus(self, wanted: &[usize]) -> Vec<usize> {
        match self {
            Boot::MachineCheck(cpu) | Boot::DoubleFault(cpu) => vec![cpu],
            _ => wanted.to_vec(),
        }
    }

    /// Goes all of its legs.
    pub fn go(self, trip: &mut Trip<'_>) -> Result<(), Failure> {
        let cpus = self.cpus(&trip.wish.cpus);
        if let Boot::DoubleFault(cpu) = self {
            return trip.leg_of_all(cpu, &paths::DOUBLE_FAULT);
        }
        trip.gather()?;
        for &cpu in &cpus {
            if trip.over {
                return Ok(());
            }
            match self {
                Boot::Tour => tour(trip, cpu)?,
                Boot::Kill(kind) => {
                    kill(trip, cpu, &KILLS[kind].0)?;
                    survive(trip, cpu, KILLS[kind].0.name)?;
                }
                Boot::IretFault => {
                    iret_fault(trip, cpu)?;
                    survive(trip, cpu, paths::IRET_FAULT.name)?;
                }
                _ => machine_check(trip, cpu)?,
            }
        }
        if self == Boot::Tour { trip.wake_legs(cpus) } else { Ok(()) }
    }
}

/// A program from its start to its CPU's idling.
fn tour(trip: &mut Trip<'_>, cpu: usize) -> Result<(), Failure> {
    trip.tell_nmi_stack(cpu)?;
    trip.along(paths::START.name, cpu, &paths::START.walk(trip.code)?)?;
    trip.nmi_leg(cpu)?;
    trip.leg(cpu, &paths::SYSRET, |_, _| Ok(true))?;
    trip.debug_leg(cpu)?;
    trip.hostile_legs(cpu)?;
    trip.leg(cpu, &paths::COPY, |_, _| Ok(true))?;
    trip.leg(cpu, &paths::COPY_FAULT, |_, _| Ok(true))?;
    trip.leg(cpu, &paths::TICK, |_, _| Ok(true))?;
    trip.leg(cpu, &paths::IRET, |_, registers| Ok(registers.get("r11") & super::registers::TF != 0))?;
    trip.leg(cpu, &paths::DEBUG, |_, _| Ok(true))?;
    trip.leg(cpu, &paths::END, |_, _| Ok(true))?;
    trip.leg(cpu, &paths::IDLE, |_, _| Ok(true))?;
    trip.leg(cpu, &paths::TICK_IDLE, |_, _| Ok(true))?;
    if !trip.over {
        // Where it holds nothing that another CPU could wait for.
        let halt = trip.code.function(paths::IDLE.entry)?.start();
        trip.reach(paths::IDLE.name, cpu, halt, |_, _| Ok(true))?;
    }
    Ok(())
}

fn kill(trip: &mut Trip<'_>, cpu: usize, path: &'static Path) -> Result<(), Failure> {
    // On its way the program makes the kernel's copy fault, which is not the one that is meant. An error code comes
    // in front of RIP and CS.
    trip.leg(cpu, path, |guest, registers| match path.entry {
        "vector_0e" => Ok(guest.words::<3>(cpu, registers.rsp())?[2] & 3 == 3),
        _ => Ok(true),
    })
}

fn iret_fault(trip: &mut Trip<'_>, cpu: usize) -> Result<(), Failure> {
    /// A selector beyond the GDT's limit.
    const NO_SEGMENT: u64 = 0xfff3;
    let iretq = trip.code.label("ringside_iretq_to_user")?;
    trip.reach(paths::IRET_FAULT.name, cpu, iretq, |_, _| Ok(true))?;
    let rsp = trip.guest.registers(cpu)?.rsp();
    trip.guest.write_word(cpu, rsp + 8, NO_SEGMENT)?;
    trip.leg(cpu, &paths::IRET_FAULT, |_, _| Ok(true))
}

/// The kernel ends the program, and goes on, while no other CPU runs.
fn survive(trip: &mut Trip<'_>, cpu: usize, name: &'static str) -> Result<(), Failure> {
    if trip.over {
        return Ok(());
    }
    let end = trip.code.function(paths::END.entry)?.start();
    trip.reach(name, cpu, end, |_, _| Ok(true))
}

fn machine_check(trip: &mut Trip<'_>, cpu: usize) -> Result<(), Failure> {
    let entry = trip.code.function(paths::SYSRET.entry)?.start();
    trip.reach(paths::MACHINE_CHECK.name, cpu, entry, |_, _| Ok(true))?;
    trip.guest.inject_machine_check(cpu)?;
    trip.leg(cpu, &paths::MACHINE_CHECK, |_, _| Ok(true))
}

impl Trip<'_> {
    /// Lets all CPUs run until each is about to start its program, where it holds nothing that another one could wait
    /// for.
    fn gather(&mut self) -> Result<(), Failure> {
        let start = self.code.function(paths::START.entry)?.start();
        self.guest.arm(&[start])?;
        let mut going: Vec<_> = (0..self.guest.cpus()).collect();
        while !going.is_empty() {
            let cpu = self.guest.run(&going);
            let cpu = cpu.map_err(|error| {
                error.waiting_for(|| format!("the CPUs {going:?} started their programs"))
            })?;
            // Two that come there at the same time stop the machine twice.
            if self.guest.registers(cpu)?.rip() == start {
                going.retain(|&own| own != cpu);
            }
        }
        Ok(())
    }

    /// Lets all CPUs run. Those that were struck idle until the last of the others has ended, which wakes them.
    fn wake_legs(&mut self, mut asleep: Vec<usize>) -> Result<(), Failure> {
        let wake = paths::WAKE.walk(self.code)?;
        let all: Vec<_> = (0..self.guest.cpus()).collect();
        while wake.iter().any(|&address| self.wish.has(paths::WAKE.name, address))
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
                asleep.retain(|&own| own != cpu);
                self.along(paths::WAKE.name, cpu, &wake)?;
            } else {
                self.guest.step(cpu)?;
            }
        }
        Ok(())
    }

    /// Leads one CPU along a path while all run.
    fn leg_of_all(&mut self, cpu: usize, path: &'static Path) -> Result<(), Failure> {
        let walk = path.walk(self.code)?;
        self.guest.arm(&walk[..1])?;
        let all: Vec<_> = (0..self.guest.cpus()).collect();
        let stopped = self.guest.run(&all);
        let stopped =
            stopped.map_err(|error| error.waiting_for(|| format!("CPU {cpu} ran off its stack")))?;
        if stopped != cpu {
            let error = InjectError::Wrong(format!("CPU {stopped} came to {}, not CPU {cpu}", path.entry));
            return Err(error.into());
        }
        self.along(path.name, cpu, &walk)
    }
}

/// Does this boot serve to strike like this? A machine check in another one's handler resets the machine, as a real CPU
/// shuts down; and ring 0 is not stepped in handlers that have a stack of their own.
pub fn can(boot: Boot, deed: Deed) -> bool {
    match boot {
        Boot::MachineCheck(_) => deed == Deed::Nmi,
        Boot::DoubleFault(_) => deed != Deed::Debug,
        _ => true,
    }
}
