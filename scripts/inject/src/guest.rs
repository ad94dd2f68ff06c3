//! A machine under this tool's hand: started stopped, its CPUs let go one by one, stopped at one breakpoint, struck.

use std::ffi::OsString;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use machine::qmp::Qmp;
use machine::session::Ended;
use serde_json::{Value, json};

use super::error::InjectError;
use super::nmis::Nmis;
use super::registers::{EFLAGS, Registers, TF};
use super::rsp::{Rsp, Stop};
use super::strike::parse_task_register;
use super::wires::{Console, Wires};

/// How long a CPU may take to come to a breakpoint. It is a matter of milliseconds; a host may be busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The machine.
pub struct Guest {
    rsp: Rsp,
    monitor: Qmp<UnixStream>,
    wires: Wires,
    armed: Vec<u64>,
    /// By QEMU's index, which is the kernel's number too, as all of them come.
    nmis: Vec<Nmis>,
    /// Where each CPU's TSS is, once it was asked for.
    task_states: Vec<Option<u64>>,
}

impl Guest {
    /// Starts QEMU with these words and more, with so many CPUs, stopped at its first instruction.
    pub fn start(words: Vec<OsString>, cpus: usize, limit: Option<Duration>) -> Result<Guest, InjectError> {
        let (wires, qmp, gdb) = Wires::connect(words, limit)?;
        let monitor = Qmp::greet(qmp.try_clone().map_err(InjectError::Io)?, qmp)?;
        let mut rsp = Rsp::new(gdb);
        rsp.greet()?;
        let nmis = vec![Nmis::default(); cpus];
        Ok(Guest { rsp, monitor, wires, armed: Vec::new(), nmis, task_states: vec![None; cpus] })
    }

    /// Leaves breakpoints at these addresses and nowhere else.
    pub fn arm(&mut self, addresses: &[u64]) -> Result<(), InjectError> {
        for &address in self.armed.iter().filter(|address| !addresses.contains(address)) {
            self.rsp.remove(address)?;
        }
        for &address in addresses.iter().filter(|address| !self.armed.contains(address)) {
            self.rsp.insert(address)?;
        }
        self.armed = addresses.to_vec();
        Ok(())
    }

    /// Lets these CPUs run until one of them is at a breakpoint: that one.
    pub fn run(&mut self, cpus: &[usize]) -> Result<usize, InjectError> {
        let action: Vec<_> = cpus.iter().map(|cpu| format!("c:{:x}", cpu + 1)).collect();
        let stopped = self.go(&action.join(";"))?;
        for &cpu in cpus {
            // Another one may have stopped the machine before this one executed anything.
            if cpu == stopped { self.nmis[cpu].has_run() } else { self.nmis[cpu].may_have_run() }
        }
        Ok(stopped)
    }

    /// Lets one CPU execute one instruction, without taking an interrupt.
    pub fn step(&mut self, cpu: usize) -> Result<(), InjectError> {
        let armed = std::mem::take(&mut self.armed);
        armed.iter().try_for_each(|&address| self.rsp.remove(address))?;
        self.go(&format!("s:{:x}", cpu + 1))?;
        self.arm(&armed)
    }

    fn go(&mut self, action: &str) -> Result<usize, InjectError> {
        match self.rsp.resume(action)? {
            Stop::Cpu(cpu) => Ok(cpu),
            Stop::Ended => Err(InjectError::Closed),
        }
    }

    /// An NMI for every CPU; each takes it as soon as it runs. It reaches those whose LINT1 is an NMI: all that are
    /// online.
    pub fn inject_nmi(&mut self) -> Result<(), InjectError> {
        self.monitor.execute("inject-nmi")?;
        self.nmis.iter_mut().for_each(Nmis::sent);
        Ok(())
    }

    /// A machine check for one CPU, which it takes as soon as it runs: an error that nothing corrected.
    pub fn inject_machine_check(&mut self, cpu: usize) -> Result<(), InjectError> {
        // Bank 0; valid, uncorrected, reported, processor context corrupt; the error code of a bus error.
        let said = self.ask_monitor(&format!("mce {cpu} 0 0xb200000000000800 0x5 0 0"), cpu)?;
        if said.trim().is_empty() {
            Ok(())
        } else {
            Err(InjectError::Wrong(format!("QEMU's `mce` says: {said}")))
        }
    }

    /// What the monitor says of one CPU to a command that is meant for people.
    pub fn ask_monitor(&mut self, command: &str, cpu: usize) -> Result<String, InjectError> {
        let arguments = json!({ "command-line": command, "cpu-index": cpu });
        match self.monitor.execute_with("human-monitor-command", arguments)? {
            Value::String(text) => Ok(text),
            other => Err(InjectError::Wrong(format!("QEMU's monitor answers {other}"))),
        }
    }

    /// Where a CPU's TSS is. Once the kernel has set it, it stays.
    pub fn task_state(&mut self, cpu: usize) -> Result<u64, InjectError> {
        if let Some(known) = self.task_states[cpu] {
            return Ok(known);
        }
        let text = self.ask_monitor("info registers", cpu)?;
        let base = parse_task_register(&text);
        let base =
            base.ok_or_else(|| InjectError::Wrong("QEMU's monitor shows no task register".to_owned()))?;
        self.task_states[cpu] = Some(base);
        Ok(base)
    }

    /// All registers of a CPU.
    pub fn registers(&mut self, cpu: usize) -> Result<Registers, InjectError> {
        Registers::new(self.rsp.registers(cpu)?).ok_or_else(|| {
            InjectError::Wrong(
                "QEMU's registers are not laid out as its version 7.2 to 10 have them".to_owned(),
            )
        })
    }

    /// Lets a CPU trap behind its next instruction.
    pub fn set_trap_flag(&mut self, cpu: usize) -> Result<(), InjectError> {
        let flags = self.registers(cpu)?.get("eflags") | TF;
        self.rsp.write_register(cpu, EFLAGS, &(flags as u32).to_le_bytes())
    }

    /// Words of memory as this CPU sees it.
    pub fn words<const N: usize>(&mut self, cpu: usize, address: u64) -> Result<[u64; N], InjectError> {
        let bytes = self.rsp.read(cpu, address, N * 8)?;
        let mut words = [0; N];
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_le_bytes(bytes.try_into().unwrap_or_default());
        }
        Ok(words)
    }

    /// Writes a word.
    pub fn write_word(&mut self, cpu: usize, address: u64, word: u64) -> Result<(), InjectError> {
        self.rsp.write(cpu, address, &word.to_le_bytes())
    }

    /// So many CPUs there are.
    pub fn cpus(&self) -> usize {
        self.nmis.len()
    }

    /// Lets go of the machine, and waits for its end.
    pub fn release(mut self) -> Result<(Ended, Console, Vec<Nmis>), InjectError> {
        self.arm(&[])?;
        self.nmis.iter_mut().for_each(Nmis::has_run);
        // It may end before it answers.
        match self.rsp.detach() {
            Ok(()) | Err(InjectError::Closed) => {}
            Err(error) => return Err(error),
        }
        let (ended, console) = self.wires.finish()?;
        Ok((ended, console, self.nmis))
    }

    /// Ends the machine, if it has not ended, and says what it had to say.
    pub fn end(mut self) -> Result<(Ended, Console), InjectError> {
        // Whoever has ended already does not hear it.
        let _ = self.monitor.execute("quit");
        drop(self.rsp);
        self.wires.finish()
    }
}
