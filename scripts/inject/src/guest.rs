//! Controls a QEMU machine: starts it stopped, resumes chosen CPUs, sets breakpoints, and injects NMIs and machine
//! checks.

use std::ffi::OsString;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use machine::qmp::Qmp;
use machine::session::SessionResult;
use serde_json::{Value, json};

use super::error::InjectError;
use super::injector::parse_task_register;
use super::nmis::Nmis;
use super::process::{Console, QemuProcess};
use super::registers::{EFLAGS, IF, RIP, RSP, Registers, TF};
use super::rsp::{Rsp, Stop};

/// The timeout for a CPU to reach a breakpoint. This usually takes milliseconds, but may take longer on a busy host.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// A QEMU machine with its gdbstub and its monitor.
pub struct Guest {
    rsp: Rsp,
    monitor: Qmp<UnixStream>,
    process: QemuProcess,
    armed: Vec<u64>,
    /// The NMIs of each CPU, by QEMU's index. The kernel's CPU index is the same, because all CPUs come online.
    nmis: Vec<Nmis>,
    /// The address of each CPU's TSS; `None` until it has been read.
    task_states: Vec<Option<u64>>,
}

impl Guest {
    /// Starts QEMU with this command line, stopped at its first instruction.
    pub fn start(words: Vec<OsString>, cpus: usize, limit: Option<Duration>) -> Result<Guest, InjectError> {
        let (process, qmp, gdb) = QemuProcess::connect(words, limit)?;
        let monitor = Qmp::greet(qmp.try_clone().map_err(InjectError::Io)?, qmp)?;
        let mut rsp = Rsp::new(gdb);
        rsp.greet()?;
        let nmis = vec![Nmis::default(); cpus];
        Ok(Guest { rsp, monitor, process, armed: Vec::new(), nmis, task_states: vec![None; cpus] })
    }

    /// Sets breakpoints at these addresses and removes all others.
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

    /// Resumes these CPUs until one of them hits a breakpoint, and returns that CPU's index.
    pub fn run(&mut self, cpus: &[usize]) -> Result<usize, InjectError> {
        let action: Vec<_> = cpus.iter().map(|cpu| format!("c:{:x}", cpu + 1)).collect();
        let stopped = self.resume(&action.join(";"))?;
        for &cpu in cpus {
            // Another CPU may have stopped the machine before this one executed anything.
            if cpu == stopped { self.nmis[cpu].has_run() } else { self.nmis[cpu].may_have_run() }
        }
        Ok(stopped)
    }

    /// Executes one instruction on one CPU, with interrupts masked.
    pub fn step(&mut self, cpu: usize) -> Result<(), InjectError> {
        let armed = std::mem::take(&mut self.armed);
        armed.iter().try_for_each(|&address| self.rsp.remove(address))?;
        self.resume(&format!("s:{:x}", cpu + 1))?;
        self.arm(&armed)
    }

    fn resume(&mut self, action: &str) -> Result<usize, InjectError> {
        match self.rsp.resume(action)? {
            Stop::Cpu(cpu) => Ok(cpu),
            Stop::Ended => Err(InjectError::Closed),
        }
    }

    /// Makes an NMI pending on every CPU whose LINT1 is configured as NMI, which is every online CPU. A CPU takes its
    /// NMI when it is resumed.
    pub fn inject_nmi(&mut self) -> Result<(), InjectError> {
        self.monitor.execute("inject-nmi")?;
        self.nmis.iter_mut().for_each(Nmis::sent);
        Ok(())
    }

    /// Makes an uncorrected machine check pending on one CPU. The CPU takes it when it is resumed.
    pub fn inject_machine_check(&mut self, cpu: usize) -> Result<(), InjectError> {
        // Bank 0. Status bits: valid, uncorrected, reporting enabled, processor context corrupt. Error code: bus error.
        let reply = self.ask_monitor(&format!("mce {cpu} 0 0xb200000000000800 0x5 0 0"), cpu)?;
        if reply.trim().is_empty() {
            Ok(())
        } else {
            Err(InjectError::Mismatch(format!("QEMU's `mce` command failed: {reply}")))
        }
    }

    /// Executes a command of QEMU's human monitor for one CPU and returns its output.
    pub fn ask_monitor(&mut self, command: &str, cpu: usize) -> Result<String, InjectError> {
        let arguments = json!({ "command-line": command, "cpu-index": cpu });
        match self.monitor.execute_with("human-monitor-command", arguments)? {
            Value::String(text) => Ok(text),
            other => Err(InjectError::Mismatch(format!("QEMU's monitor replied {other} instead of text"))),
        }
    }

    /// Returns the address of a CPU's TSS. It does not change after the kernel has set it.
    pub fn task_state(&mut self, cpu: usize) -> Result<u64, InjectError> {
        if let Some(known) = self.task_states[cpu] {
            return Ok(known);
        }
        let text = self.ask_monitor("info registers", cpu)?;
        let base = parse_task_register(&text);
        let base =
            base.ok_or_else(|| InjectError::Mismatch("QEMU's monitor shows no task register".to_owned()))?;
        self.task_states[cpu] = Some(base);
        Ok(base)
    }

    /// Reads all registers of a CPU.
    pub fn registers(&mut self, cpu: usize) -> Result<Registers, InjectError> {
        Registers::new(self.rsp.registers(cpu)?).ok_or_else(|| {
            InjectError::Mismatch("QEMU's register layout differs from that of QEMU 7.2 to 10".to_owned())
        })
    }

    /// Sets TF, so that the CPU takes a #DB after its next instruction.
    pub fn set_trap_flag(&mut self, cpu: usize) -> Result<(), InjectError> {
        let flags = self.registers(cpu)?.get("eflags") | TF;
        self.rsp.write_register(cpu, EFLAGS, &(flags as u32).to_le_bytes())
    }

    /// Reads words of memory through this CPU's page tables.
    pub fn words<const N: usize>(&mut self, cpu: usize, address: u64) -> Result<[u64; N], InjectError> {
        let bytes = self.rsp.read(cpu, address, N * 8)?;
        let mut words = [0; N];
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_le_bytes(bytes.try_into().unwrap_or_default());
        }
        Ok(words)
    }

    /// Writes a word of memory through this CPU's page tables.
    pub fn write_word(&mut self, cpu: usize, address: u64, word: u64) -> Result<(), InjectError> {
        self.write(cpu, address, &word.to_le_bytes())
    }

    /// Writes memory through this CPU's page tables.
    pub fn write(&mut self, cpu: usize, address: u64, bytes: &[u8]) -> Result<(), InjectError> {
        self.rsp.write(cpu, address, bytes)
    }

    /// Simulates an NMI inside an NMI handler: enters the handler as a CPU does, on the NMI stack, which ends at `top`.
    /// QEMU cannot deliver this NMI, because it blocks NMIs until the next `iretq`, whereas a real CPU can also unblock
    /// them after an SMI.
    pub fn enter_nmi(&mut self, cpu: usize, top: u64, handler: u64) -> Result<(), InjectError> {
        self.enter(cpu, top, handler)?;
        self.nmis[cpu].entered();
        Ok(())
    }

    /// Simulates an interrupt in ring 0: pushes the interrupted state on the stack that ends at `top`, clears IF and
    /// sets RIP to the handler, as a CPU does (SDM 3A, 6.14.2).
    pub fn enter(&mut self, cpu: usize, top: u64, handler: u64) -> Result<(), InjectError> {
        let now = self.registers(cpu)?;
        let frame = [now.rip(), now.get("cs"), now.get("eflags"), now.rsp(), now.get("ss")];
        let rsp = top.wrapping_sub(size_of_val(&frame) as u64);
        let bytes: Vec<_> = frame.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.write(cpu, rsp, &bytes)?;
        self.rsp.write_register(cpu, RSP, &rsp.to_le_bytes())?;
        self.rsp.write_register(cpu, RIP, &handler.to_le_bytes())?;
        let flags = (now.get("eflags") & !IF) as u32;
        self.rsp.write_register(cpu, EFLAGS, &flags.to_le_bytes())
    }

    /// Continues a CPU that is at the first instruction of an interrupt's handler at the handler of another interrupt.
    pub fn replace_handler(&mut self, cpu: usize, handler: u64) -> Result<(), InjectError> {
        self.rsp.write_register(cpu, RIP, &handler.to_le_bytes())
    }

    /// Returns the number of CPUs.
    pub fn cpus(&self) -> usize {
        self.nmis.len()
    }

    /// Removes all breakpoints, detaches, and waits until QEMU exits.
    pub fn release(mut self) -> Result<(SessionResult, Console, Vec<Nmis>), InjectError> {
        self.arm(&[])?;
        self.nmis.iter_mut().for_each(Nmis::has_run);
        // QEMU may exit before it replies.
        match self.rsp.detach() {
            Ok(()) | Err(InjectError::Closed) => {}
            Err(error) => return Err(error),
        }
        let (ended, console) = self.process.finish()?;
        Ok((ended, console, self.nmis))
    }

    /// Stops QEMU if it is still running. Returns its exit and the console output.
    pub fn end(mut self) -> Result<(SessionResult, Console), InjectError> {
        // This fails if QEMU has already exited.
        let _ = self.monitor.execute("quit");
        drop(self.rsp);
        self.process.finish()
    }
}
