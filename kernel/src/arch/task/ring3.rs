//! Runs a program on a CPU: loads it, enters it with `iretq`, and ends it at `SYS_EXIT`, at a fault or when it exceeds
//! its time limit.

use kernel_abi::record::Outcome;
use kernel_abi::trace::Kind;
use x86_64::registers::model_specific::Msr;

use crate::arch::cpu::fpu::FPU_RESET;
use crate::arch::cpu::msr::{IA32_FS_BASE, IA32_KERNEL_GS_BASE};
use crate::arch::exit::points::{enter_ring3, restart_on};
use crate::arch::memory::loaded::{Common, Program, StartError};
use crate::arch::memory::paging;
use crate::arch::panic::stop;
use crate::arch::percpu::PerCpuData;
use crate::arch::percpu::print::ProgramLine;
use crate::arch::task::idle;
use crate::exception::Fault;
use crate::repeat::End;

/// Loads a copy of the program (see [`Program::load`]). Ends the run if the copy's mappings violate W^X.
///
/// # Errors
/// [`StartError`].
pub fn load<A>(file: &[u8], argv: A, env: &[&str], common: &'static Common) -> Result<Program, StartError>
where
    A: Iterator<Item: Iterator<Item = u8>> + Clone,
{
    let program = Program::load(file, argv, env, common)?;
    // End the run while the program still owns its frames: freeing the frames that wrong page tables refer to could
    // cause a second failure.
    if let Err(audit) = program.space.audit().check() {
        stop::end(format_args!("broken invariant: a program's mappings are wrong: {audit:?}"));
    }
    Ok(program)
}

/// Assigns the program to this CPU, which must have none. When the program has ended and its memory is freed, the CPU
/// calls `next`.
pub fn assign(cpu: &PerCpuData, program: Program, next: fn(&'static PerCpuData) -> !) {
    *cpu.program.borrow_mut() = Some(program);
    cpu.after_program.set(Some(next));
}

/// Starts the assigned program in ring 3.
///
/// # Panics
/// If no program is assigned.
pub fn start(cpu: &'static PerCpuData) -> ! {
    let start = {
        let program = cpu.program.borrow();
        let program = program.as_ref().expect("a program must be assigned before it is started");
        // SAFETY: the program's tables stay valid while they are loaded, because `ended` loads the kernel's tables
        // before it drops the program.
        unsafe { program.space.load() };
        program.start
    };
    for base in [IA32_FS_BASE, IA32_KERNEL_GS_BASE] {
        // SAFETY: ring 0 uses neither of the two MSRs: the kernel GS base is in IA32_GS_BASE until the `swapgs` of the
        // exit path (invariant: GS-BASE).
        unsafe { Msr::new(base).write(0) };
    }
    cpu.trace(Kind::ProgramStart, start.rip, start.rsp);
    // SAFETY: interrupts are off (invariant: IF-OFF), the GS base is the kernel's (GS-BASE), the address space was
    // loaded above, and `start_frame` built the frame.
    unsafe { enter_ring3(&start, &FPU_RESET) }
}

/// Ends the program with its exit code. Called for `SYS_EXIT`.
pub fn exit(cpu: &PerCpuData, code: i32) -> ! {
    end(cpu, End::Exited(code))
}

/// Ends the program because of an exception that it raised.
pub(in crate::arch) fn kill(cpu: &PerCpuData, fault: Fault) -> ! {
    end(cpu, End::Faulted(fault))
}

/// Ends the program if it has exceeded its time limit or this CPU must leave the run. Called after each interrupt from
/// ring 3, once its EOI is sent, and by a system call during which ticks were handled.
#[inline(always)]
pub fn end_if_over_limit(cpu: &PerCpuData) {
    if cpu.rounds.is_over_limit(cpu.ticks()) {
        end_at_limit(cpu);
    }
}

#[cold]
#[inline(never)]
fn end_at_limit(cpu: &PerCpuData) -> ! {
    end(cpu, cpu.rounds.at_limit())
}

fn end(cpu: &PerCpuData, end: End) -> ! {
    cpu.trace(Kind::ProgramEnd, u64::from(end.outcome() != Outcome::Exited), end.code() as u64);
    cpu.rounds.end(end);
    // SAFETY: interrupts are off (invariant: IF-OFF), and the syscall stack is this CPU's (ONE-STACK). Its contents are
    // no longer needed: the program does not resume, and no caller of this function holds a borrow of per-CPU data. If
    // this function was called on an IST stack, it switches to the syscall stack. In that case, too, the GS base is
    // this CPU's, and `start` sets IA32_KERNEL_GS_BASE for the next program.
    unsafe { restart_on(cpu.syscall_stack_top, cpu, ended) }
}

/// Frees the ended program and calls the function passed to [`assign`]. Runs on an empty syscall stack.
extern "sysv64" fn ended(cpu: &'static PerCpuData) -> ! {
    let mut rest = None;
    cpu.line.borrow_mut().flush(|text| rest = Some(ProgramLine::new(cpu, text)));
    if let Some(line) = rest {
        line.write(cpu, idle::PRINTING);
    }
    paging::load_kernel_tables();
    drop(cpu.program.take());
    let next = cpu.after_program.get().expect("`assign` must set `after_program` before a program starts");
    next(cpu)
}
