//! The system calls: the dispatch table, and the handlers, which read their arguments from the frame.
//!
//! This module compiles unchanged for ELF and PE targets, because no function in it specifies a calling convention.
#![forbid(unsafe_code)]

use core::hint::cold_path;

use kernel_abi::errno::Errno;
use kernel_abi::syscall::{Call, TABLE_LEN, WRITE_SERIAL_MAX};
use kernel_abi::trace::Kind;

use crate::arch::cpu::speculation;
use crate::arch::entry::points;
use crate::arch::inject;
use crate::arch::memory::usercopy;
use crate::arch::percpu::PerCpuData;
use crate::arch::percpu::print::ProgramLine;
use crate::arch::task::{idle, ring3};
use crate::cmdline::Place;
use crate::frame::SyscallFrame;
use crate::user_slice::UserSlice;

/// A handler: reads the call's arguments from the frame and returns the value for rax.
type Handler = fn(&SyscallFrame, &PerCpuData) -> u64;

/// The handlers by number. The entry for an unused number is [`no_such_call`].
const TABLE: [Handler; TABLE_LEN] = {
    let mut table: [Handler; TABLE_LEN] = [no_such_call; TABLE_LEN];
    let mut n = 0;
    while n < Call::ALL.len() {
        table[Call::ALL[n] as usize] = handler(Call::ALL[n]);
        n += 1;
    }
    table
};

/// Returns the handler of a system call. Evaluated only at compile time, to build the table.
const fn handler(call: Call) -> Handler {
    match call {
        Call::Null => null,
        Call::WriteSerial => write_serial,
        Call::GetTicks => get_ticks,
        Call::Exit => exit,
        Call::GetCpu => get_cpu,
        Call::CpuCount => cpu_count,
        Call::ClockNs => clock_ns,
        Call::Trace => trace,
    }
}

/// The table in memory. It is a static so that indexing it takes a single address computation.
static DISPATCH: [Handler; TABLE_LEN] = TABLE;

/// The entry point of `syscall` that dispatches to this table. It is a static because its address is compared: with a
/// constant, each crate that uses it could have its own copy of the generic function.
pub static ENTRY: unsafe extern "sysv64" fn() = points::syscall_entry::<Table>;

/// The table as the type parameter of the entry point.
pub struct Table;

impl points::Calls for Table {
    #[inline]
    fn dispatch(frame: &mut SyscallFrame, cpu: &PerCpuData) {
        dispatch(frame, cpu);
    }
}

/// Runs the call whose number is in `frame.rax` and stores its result there.
#[inline]
fn dispatch(frame: &mut SyscallFrame, cpu: &PerCpuData) {
    let number = frame.rax;
    frame.rax = if number < TABLE_LEN as u64 {
        let number = speculation::table_index(number);
        cpu.count_syscall(number);
        DISPATCH[number](frame, cpu)
    } else {
        // Keep this branch out of the fast path.
        cold_path();
        cpu.count_syscall(TABLE_LEN);
        Errno::NoSys.to_rax()
    };
}

fn no_such_call(_: &SyscallFrame, _: &PerCpuData) -> u64 {
    Errno::NoSys.to_rax()
}

fn null(_: &SyscallFrame, _: &PerCpuData) -> u64 {
    0
}

/// Takes at most [`WRITE_SERIAL_MAX`] bytes and sends at most one line, so that the call's time is bounded for any
/// length: by one turn of each other CPU at the console. Ticks are handled while it waits.
fn write_serial(frame: &SyscallFrame, cpu: &PerCpuData) -> u64 {
    let (pointer, length) = (frame.rdi, frame.rsi);
    if length == 0 {
        return 0;
    }
    let slice = match UserSlice::new(pointer, length) {
        Ok(slice) => slice,
        Err(errno) => return errno.to_rax(),
    };
    let mut buffer = [0; WRITE_SERIAL_MAX];
    let copied = usercopy::copy_from_user(&mut buffer, slice);
    if copied == 0 {
        return Errno::Fault.to_rax();
    }
    let mut line = None;
    let text = &buffer[..copied];
    let taken = cpu.line.borrow_mut().push(text, |text| line = Some(ProgramLine::new(cpu, text)));
    if let Some(line) = line {
        line.write(cpu, idle::PRINTING);
        ring3::end_if_over_limit(cpu);
    }
    taken as u64
}

fn get_ticks(_: &SyscallFrame, cpu: &PerCpuData) -> u64 {
    cpu.ticks()
}

/// Ends the program. The exit code is the low half of rdi, as an `int`.
fn exit(frame: &SyscallFrame, cpu: &PerCpuData) -> u64 {
    inject::at(cpu, Place::Syscall);
    ring3::exit(cpu, frame.rdi as u32 as i32)
}

fn get_cpu(_: &SyscallFrame, cpu: &PerCpuData) -> u64 {
    u64::from(cpu.id().0)
}

fn cpu_count(_: &SyscallFrame, cpu: &PerCpuData) -> u64 {
    u64::from(cpu.cpus_online())
}

fn clock_ns(_: &SyscallFrame, cpu: &PerCpuData) -> u64 {
    cpu.clock_ns()
}

fn trace(frame: &SyscallFrame, cpu: &PerCpuData) -> u64 {
    cpu.trace(Kind::User, frame.rdi, frame.rsi);
    0
}
