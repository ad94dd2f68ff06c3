//! The system calls: the dispatch table, and what each call does once its arguments are registers in a frame.
//!
//! Compiles unchanged for the ELF and the PE target: nothing here has a calling convention of its own.
#![forbid(unsafe_code)]

use core::hint::cold_path;

use kernel_abi::errno::Errno;
use kernel_abi::syscall::{Call, TABLE_LEN, WRITE_SERIAL_MAX};
use kernel_abi::trace::Kind;

use crate::arch::cpu::speculation;
use crate::arch::entry::points;
use crate::arch::memory::usercopy;
use crate::arch::percpu::PerCpuData;
use crate::arch::percpu::print;
use crate::arch::provoke;
use crate::arch::task::ring3;
use crate::cmdline::Place;
use crate::frame::SyscallFrame;
use crate::user_slice::UserSlice;

/// A call's handler: reads its arguments from the frame and returns what goes into rax.
type Handler = fn(&SyscallFrame, &PerCpuData) -> u64;

const TABLE: [Handler; TABLE_LEN] = {
    let mut table: [Handler; TABLE_LEN] = [no_such_call; TABLE_LEN];
    let mut n = 0;
    while n < Call::ALL.len() {
        table[Call::ALL[n] as usize] = handler(Call::ALL[n]);
        n += 1;
    }
    table
};

/// The handler of each call in the ABI's table. It is asked while the kernel is compiled; [`dispatch`] uses the numbers.
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

/// The table itself, so that the index goes into one address computation.
static DISPATCH: [Handler; TABLE_LEN] = TABLE;

/// Where `syscall` enters, with this table at the end of the path.
pub const ENTRY: unsafe extern "sysv64" fn() = points::syscall_entry::<Table>;

/// The table, as the entry knows it.
pub struct Table;

impl points::Calls for Table {
    #[inline]
    fn dispatch(frame: &mut SyscallFrame, cpu: &PerCpuData) {
        dispatch(frame, cpu);
    }
}

/// Runs the call that `frame.rax` names and puts its result there.
#[inline]
fn dispatch(frame: &mut SyscallFrame, cpu: &PerCpuData) {
    let number = frame.rax;
    frame.rax = if number < TABLE_LEN as u64 {
        let number = speculation::table_index(number);
        cpu.count_syscall(number);
        DISPATCH[number](frame, cpu)
    } else {
        // Out of the way of the others.
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

/// Takes at most [`WRITE_SERIAL_MAX`] bytes and sends at most one line, so that the call is bounded whatever is offered.
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
    let mut line = cpu.line.borrow_mut();
    line.push(&buffer[..copied], |line| print::write_program_line(cpu, line)) as u64
}

fn get_ticks(_: &SyscallFrame, cpu: &PerCpuData) -> u64 {
    cpu.ticks()
}

/// The code is rdi's low half, as an `int`.
fn exit(frame: &SyscallFrame, cpu: &PerCpuData) -> u64 {
    provoke::at(cpu, Place::Syscall);
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
