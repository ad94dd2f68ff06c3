//! A program's life on a CPU: loaded, entered by `iretq`, ended by `SYS_EXIT` or by a fault.

use kernel_abi::record::Outcome;
use kernel_abi::trace::Kind;
use x86_64::registers::model_specific::Msr;

use crate::arch::cpu::msr::{IA32_FS_BASE, IA32_KERNEL_GS_BASE};
use crate::arch::exit::points::{FPU_RESET, enter_ring3, restart_on};
use crate::arch::memory::loaded::{Program, StartError};
use crate::arch::memory::paging;
use crate::arch::panic::stop;
use crate::arch::percpu::PerCpuData;
use crate::arch::percpu::print;
use crate::exception::Fault;
use crate::frames::Frame;
use crate::repeat::End;

/// Loads a copy, see [`Program::load`]. Mappings that break W^X end the run.
///
/// # Errors
/// [`StartError`].
pub fn load<A>(file: &[u8], argv: A, env: &[&str], shared: Frame) -> Result<Program, StartError>
where
    A: Iterator<Item: Iterator<Item = u8>> + Clone,
{
    let loaded = Program::load(file, argv, env, shared);
    if let Err(StartError::Mappings(audit)) = loaded {
        stop::end(format_args!("broken invariant: a program's mappings are wrong: {audit:?}"));
    }
    loaded
}

/// Gives the program to this CPU, which has none. When it has ended and its memory is given back, the CPU goes on with
/// `next`.
pub fn assign(cpu: &PerCpuData, program: Program, next: fn(&'static PerCpuData) -> !) {
    *cpu.program.borrow_mut() = Some(program);
    cpu.after_program.set(Some(next));
}

/// Enters ring 3.
///
/// # Panics
/// If no program is assigned.
pub fn start(cpu: &'static PerCpuData) -> ! {
    let start = {
        let program = cpu.program.borrow();
        let program = program.as_ref().expect("a program is assigned before it is started");
        // SAFETY: `ended` loads the kernel's tables before it drops the program.
        unsafe { program.space.load() };
        program.start
    };
    for base in [IA32_FS_BASE, IA32_KERNEL_GS_BASE] {
        // SAFETY: ring 0 uses neither: its own GS base is in IA32_GS_BASE until the exit's `swapgs`.
        unsafe { Msr::new(base).write(0) };
    }
    cpu.trace(Kind::ProgramStart, start.rip, start.rsp);
    // SAFETY: interrupts are off in ring 0, the GS base is ours, the address space is loaded and the frame was
    // made by `start_frame`.
    unsafe { enter_ring3(&start, &FPU_RESET) }
}

/// `SYS_EXIT`.
pub fn exit(cpu: &PerCpuData, code: i32) -> ! {
    end(cpu, End::Exited(code))
}

/// Ends the program for what it did.
pub(in crate::arch) fn kill(cpu: &PerCpuData, fault: Fault) -> ! {
    end(cpu, End::Faulted(fault))
}

/// Ends the program if it has had its time. To be asked where a tick may have come, behind its end of interrupt.
pub(in crate::arch) fn end_if_over_limit(cpu: &PerCpuData) {
    if let Some(limit) = cpu.rounds.over_limit(cpu.ticks()) {
        end(cpu, End::TimeLimit(limit));
    }
}

fn end(cpu: &PerCpuData, end: End) -> ! {
    cpu.trace(Kind::ProgramEnd, u64::from(end.outcome() != Outcome::Exited), end.code() as u64);
    cpu.rounds.end(end);
    // SAFETY: interrupts are off, and nothing on the stack is needed any more: the program's frames are dead and
    // no borrow of per-CPU data is open across a system call's end. From an IST stack this is the way back; the
    // GS base is ours, and the next program sets the other one.
    unsafe { restart_on(cpu.syscall_stack_top, cpu, ended) }
}

/// On an empty syscall stack: takes the program down and goes on with what follows.
extern "sysv64" fn ended(cpu: &'static PerCpuData) -> ! {
    cpu.line.borrow_mut().flush(|line| print::write_program_line(cpu, line));
    paging::load_kernel_tables();
    drop(cpu.program.take());
    let next = cpu.after_program.get().expect("a program that has ended was assigned");
    next(cpu)
}
