//! The system calls: the table and the handlers. A leaf handler gets its arguments in registers; a frame handler reads
//! them from the frame.
//!
//! This module compiles unchanged for ELF and PE targets, because no function in it specifies a calling convention.
#![forbid(unsafe_code)]

use kernel_abi::errno::Errno;
use kernel_abi::syscall::{Call, TABLE_LEN, WRITE_SERIAL_MAX};
use kernel_abi::trace::Kind;

use crate::arch::entry::calls::{self, Arguments, Functions, Leaf};
use crate::arch::entry::points::FrameCalls;
use crate::arch::inject;
use crate::arch::memory::usercopy;
use crate::arch::percpu::print::ProgramLine;
use crate::arch::percpu::{CallTables, PerCpuData};
use crate::arch::task::{idle, ring3};
use crate::cmdline::Place;
use crate::frame::SyscallFrame;
use crate::user_slice::UserSlice;

/// The functions of the system calls, by table. Each is a leaf handler or a frame handler.
pub static TABLES: CallTables = {
    let mut functions = [Functions::leaf::<Unused>(); TABLE_LEN + 1];
    let mut n = 0;
    while n < Call::ALL.len() {
        functions[Call::ALL[n] as usize] = functions_of(Call::ALL[n]);
        n += 1;
    }
    functions[TABLE_LEN] = Functions::beyond_the_table::<Unused>();
    calls::tables(functions)
};

/// Returns the functions of a system call. Evaluated only at compile time, to build the tables.
const fn functions_of(call: Call) -> Functions {
    match call {
        Call::Null => Functions::leaf::<Null>(),
        Call::WriteSerial | Call::Exit => Functions::frame::<FrameHandlers>(),
        Call::GetTicks => Functions::leaf::<GetTicks>(),
        Call::GetCpu => Functions::leaf::<GetCpu>(),
        Call::CpuCount => Functions::leaf::<CpuCount>(),
        Call::ClockNs => Functions::leaf::<ClockNs>(),
        Call::Trace => Functions::leaf::<Trace>(),
    }
}

/// The handlers that get the whole frame.
struct FrameHandlers;

impl FrameCalls for FrameHandlers {
    #[inline]
    fn call(index: u64, frame: &mut SyscallFrame, cpu: &PerCpuData) {
        frame.rax = if index == Call::Exit as u64 { exit(frame, cpu) } else { write_serial(frame, cpu) };
    }
}

/// All numbers without a system call.
struct Unused;

impl Leaf for Unused {
    fn call(_: Arguments) -> u64 {
        Errno::NoSys.to_rax()
    }
}

/// `SYS_NULL`.
struct Null;

impl Leaf for Null {
    fn call(_: Arguments) -> u64 {
        0
    }
}

/// `SYS_GET_TICKS`.
struct GetTicks;

impl Leaf for GetTicks {
    fn call(_: Arguments) -> u64 {
        PerCpuData::current_ticks()
    }
}

/// `SYS_GET_CPU`.
struct GetCpu;

impl Leaf for GetCpu {
    fn call(_: Arguments) -> u64 {
        PerCpuData::current_id()
    }
}

/// `SYS_CPU_COUNT`.
struct CpuCount;

impl Leaf for CpuCount {
    fn call(_: Arguments) -> u64 {
        PerCpuData::current_cpus_online()
    }
}

/// `SYS_CLOCK_NS`.
struct ClockNs;

impl Leaf for ClockNs {
    fn call(_: Arguments) -> u64 {
        PerCpuData::current().clock_ns()
    }
}

/// `SYS_TRACE`.
struct Trace;

impl Leaf for Trace {
    fn call(arguments: Arguments) -> u64 {
        PerCpuData::current().trace(Kind::User, arguments.rdi, arguments.rsi);
        0
    }
}

/// `SYS_WRITE_SERIAL`. A call with no bytes needs none of the registers and of the stack that [`write`] uses.
fn write_serial(frame: &SyscallFrame, cpu: &PerCpuData) -> u64 {
    match frame.saved.rsi {
        0 => 0,
        length => write(frame.saved.rdi, length, cpu),
    }
}

/// Takes at most [`WRITE_SERIAL_MAX`] bytes and sends at most one line, so that the call's time is bounded for any
/// length: by one turn of each other CPU at the console. Ticks are handled while it waits.
#[inline(never)]
fn write(pointer: u64, length: u64, cpu: &PerCpuData) -> u64 {
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

/// `SYS_EXIT`: ends the program. The exit code is the low half of rdi, as an `int`.
fn exit(frame: &SyscallFrame, cpu: &PerCpuData) -> u64 {
    inject::at(cpu, Place::Syscall);
    ring3::exit(cpu, frame.saved.rdi as u32 as i32)
}
