//! Generates a synthetic trace of programs that make system calls, with ticks and idle time. It serves to benchmark the
//! converters and to compare them with other tools without running a guest.

use std::path::Path;

use kernel_abi::errno::Errno;
use kernel_abi::syscall::{SYS_CLOCK_NS, SYS_EXIT, SYS_GET_TICKS, SYS_NULL, SYS_TRACE, SYS_WRITE_SERIAL};
use kernel_abi::trace::{Kind, Record, all_groups};

use super::error::Error;
use super::file::{Cpu, Header, Mode, Writer};

/// TSC frequency in hertz.
const TSC_HZ: u64 = 2_400_000_000;
/// The BSP's TSC at kernel start.
const BOOT_TSC: u64 = 5_000_000_000;
/// TSC ticks between two timer ticks.
const TICK: u64 = TSC_HZ / 100;
/// Number of records passed to the writer per call.
const BATCH: usize = 1024;

/// Writes a trace of about `records` records. The result is reproducible.
pub fn write(path: &Path, records: u64, cpus: u32) -> Result<Header, Error> {
    let mut writer = Writer::create(path, cpus as usize)?;
    let mut header = Header {
        tsc_hz: TSC_HZ,
        boot_tsc: BOOT_TSC,
        kinds: Header::kind_names(all_groups()),
        mode: Mode::Stream,
        command: vec!["synthetic".to_owned(), records.to_string()],
        ..Header::default()
    };
    for cpu in 0..cpus {
        let tsc_offset = i64::from(cpu) * -1000;
        header.cpus.push(Cpu { cpu, apic_id: cpu * 2, tsc_offset, ..Cpu::default() });
        let mut machine = Machine::new(cpu, tsc_offset);
        let mut left = records / u64::from(cpus.max(1));
        let mut batch = Vec::with_capacity(BATCH);
        while left > 0 {
            batch.clear();
            while left > 0 && batch.len() < BATCH {
                left -= 1;
                batch.push(machine.next(left == 1));
            }
            writer.append(cpu as usize, &batch)?;
        }
    }
    writer.finish(header)
}

/// Generates the records of one CPU.
struct Machine {
    tsc: u64,
    next_tick: u64,
    ticks: u64,
    sequence: u32,
    random: u64,
    state: State,
}

enum State {
    Booting,
    Ring3,
    InCall(u64),
    Over,
    Idle,
}

impl Machine {
    fn new(cpu: u32, tsc_offset: i64) -> Machine {
        let tsc = (BOOT_TSC + 1000 * u64::from(cpu)).wrapping_sub_signed(tsc_offset);
        Machine {
            tsc,
            next_tick: tsc + TICK,
            ticks: 0,
            sequence: 0,
            random: 0x9e37_79b9_7f4a_7c15 ^ u64::from(cpu) << 32,
            state: State::Booting,
        }
    }

    /// Returns a pseudo-random number below `limit` (xorshift64).
    fn random(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % limit
    }

    /// Returns the next record of the CPU. With `last`, at most one more record follows.
    fn next(&mut self, last: bool) -> Record {
        self.tsc += 200 + self.random(400);
        self.sequence += 1;
        let ready = matches!(self.state, State::Ring3 | State::Idle);
        let (kind, a, b) = if ready && self.tsc >= self.next_tick && !last {
            self.next_tick += TICK;
            self.ticks += 1;
            (Kind::Tick, self.ticks, 0x1_0000_0040)
        } else {
            self.step(last)
        };
        Record { tsc: self.tsc, a, b, sequence: self.sequence, kind: kind as u16, reserved: 0 }
    }

    fn step(&mut self, last: bool) -> (Kind, u64, u64) {
        const CALLS: [u64; 6] =
            [SYS_NULL, SYS_NULL, SYS_WRITE_SERIAL, SYS_GET_TICKS, SYS_CLOCK_NS, SYS_TRACE];
        let (state, record) = match self.state {
            State::Booting => (State::Ring3, (Kind::ProgramStart, 0x1_0000_0000, 0x7fff_fe00_0000)),
            State::Ring3 if last => (State::Over, (Kind::SyscallEnter, SYS_EXIT, 0)),
            State::Ring3 => match self.random(16) {
                // Test programs also make calls with numbers that no system call has.
                0 => (State::InCall(99), (Kind::SyscallEnter, 99, 0)),
                n => {
                    let number = CALLS[n as usize % CALLS.len()];
                    (State::InCall(number), (Kind::SyscallEnter, number, 0x1_0000_2000))
                }
            },
            State::InCall(99) => (State::Ring3, (Kind::SyscallExit, 99, Errno::NoSys.to_rax())),
            State::InCall(number) => (State::Ring3, (Kind::SyscallExit, number, self.ticks)),
            State::Over => (State::Idle, (Kind::ProgramEnd, 0, 0)),
            State::Idle => (State::Over, (Kind::IdleIn, 0, 0)),
        };
        self.state = state;
        record
    }
}
