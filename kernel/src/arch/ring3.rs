//! A program's life on a CPU: built from its image, entered by `iretq`, ended by `SYS_EXIT` or by a fault.

use core::fmt;

use kernel_abi::layout::{PAGE_SIZE, SHARED_PAGE, STACK_SIZE, STACK_TOP, USER_END};
use kernel_abi::record::Outcome;
use kernel_abi::trace::Kind;
use x86_64::registers::model_specific::Msr;
use x86_64::registers::rflags::RFlags;

use super::address_space::{AddressSpace, Rights};
use super::entry::{FPU_RESET, enter_ring3, restart_on};
use super::msr::{IA32_FS_BASE, IA32_KERNEL_GS_BASE};
use super::paging::{self, MapError};
use super::percpu::PerCpuData;
use super::{serial, stop};
use crate::cmdline::Breach;
use crate::exception::Fault;
use crate::frame::InterruptFrame;
use crate::frames::Frame;
use crate::initial_stack::{self, ArgumentsTooLong};
use crate::layout::{KERNEL_BASE, PHYSMAP_BASE};
use crate::program::{Image, LoadError};
use crate::repeat::End;
use crate::run;
use crate::selectors::{USER_CODE, USER_DATA};

/// How much of its stack the arguments may take: the program needs the rest, and they are laid out on ours first.
const ARGUMENTS_MAX: usize = STACK_SIZE as usize / 4;

/// Why a program cannot be started.
#[derive(Debug)]
pub enum StartError {
    /// The file is no program for this kernel.
    Load(LoadError),
    /// There is no memory for it.
    Map(MapError),
    /// The arguments do not fit on its stack.
    Arguments(ArgumentsTooLong),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot load: ")?;
        match self {
            StartError::Load(error) => error.fmt(f),
            StartError::Map(error) => error.fmt(f),
            StartError::Arguments(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for StartError {}

impl From<LoadError> for StartError {
    fn from(error: LoadError) -> StartError {
        StartError::Load(error)
    }
}

impl From<MapError> for StartError {
    fn from(error: MapError) -> StartError {
        StartError::Map(error)
    }
}

/// A program that is loaded and has not ended.
pub struct Program {
    space: AddressSpace,
    start: InterruptFrame,
}

impl Program {
    /// Builds the address space of a copy: segments, stack with arguments and environment, shared page.
    ///
    /// # Errors
    /// [`StartError`]; no memory is lost by it.
    pub fn load<A>(file: &[u8], argv: A, env: &[&str], shared: Frame) -> Result<Program, StartError>
    where
        A: Iterator<Item: Iterator<Item = u8>> + Clone,
    {
        let image = Image::parse(file)?;
        let mut space = AddressSpace::new()?;
        for segment in image.segments() {
            let rights = Rights { write: segment.writable, execute: segment.executable };
            for page in (segment.first_page()..segment.end_page()).step_by(PAGE_SIZE as usize) {
                match space.map(page, rights) {
                    // Two segments with the same rights may meet in a page.
                    Ok(()) | Err(MapError::Occupied) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            space.write(segment.vaddr, segment.data);
        }
        for page in (STACK_TOP - STACK_SIZE..STACK_TOP).step_by(PAGE_SIZE as usize) {
            space.map(page, Rights { write: true, execute: false })?;
        }
        space.map_shared(SHARED_PAGE, shared)?;

        let mut top = [0; ARGUMENTS_MAX];
        let rsp =
            initial_stack::write(&mut top, STACK_TOP, argv, env, &image).map_err(StartError::Arguments)?;
        let used = (STACK_TOP - rsp) as usize;
        space.write(rsp, &top[ARGUMENTS_MAX - used..]);
        if let Err(audit) = space.audit().check() {
            stop::end(format_args!("broken invariant: a program's mappings are wrong: {audit:?}"));
        }
        Ok(Program { space, start: start_frame(image.entry(), rsp) })
    }

    /// Does on demand, with the program's address space loaded, what no code of ring 0's may do: the proof that the
    /// CPU stops it. The program is of no use afterwards.
    pub fn breach(&mut self, breach: Breach) {
        let entry = self.start.rip;
        /// A `ret` (SDM 2B).
        const RET: u8 = 0xc3;
        self.space.write(entry, &[RET]);
        // SAFETY: `ended` loads the kernel's tables before it drops the program.
        unsafe { self.space.load() };
        let text = Program::breach as *const () as usize;
        let at = match breach {
            Breach::WriteText => text,
            Breach::WriteAlias => (PHYSMAP_BASE + (text as u64 - KERNEL_BASE)) as usize,
            Breach::ReadUser | Breach::RunUser => entry as usize,
        };
        let byte = core::ptr::with_exposed_provenance_mut::<u8>(at);
        // SAFETY: each of them ends in a page fault. If one does not, a byte of this function is overwritten with
        // itself, a byte of the program's is read, or the `ret` there is run, and a test fails.
        unsafe {
            match breach {
                Breach::WriteText | Breach::WriteAlias => byte.write_volatile(byte.read_volatile()),
                Breach::ReadUser => drop(byte.read_volatile()),
                Breach::RunUser => core::mem::transmute::<*mut u8, extern "sysv64" fn()>(byte)(),
            }
        }
    }

    /// Memory that it takes, page tables included, in KiB.
    #[must_use]
    pub fn memory_kib(&self) -> u64 {
        self.space.frames() * (PAGE_SIZE / 1024)
    }
}

/// The frame by which `iretq` starts a program: ring 3's segments, interrupts on, nothing else. What `iretq`
/// would fault on is excluded here: the loader has checked that the entry lies in the user half.
fn start_frame(rip: u64, rsp: u64) -> InterruptFrame {
    assert!(rip < USER_END && rsp < USER_END, "a program starts outside of the user half");
    InterruptFrame {
        rip,
        cs: USER_CODE.0.into(),
        // Bit 1 is always set (SDM 1, 3.4.3).
        rflags: RFlags::INTERRUPT_FLAG.bits() | 1 << 1,
        rsp,
        ss: USER_DATA.0.into(),
    }
}

/// Gives the program to this CPU, which has none.
pub fn assign(cpu: &PerCpuData, program: Program) {
    *cpu.program.borrow_mut() = Some(program);
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
pub(super) fn kill(cpu: &PerCpuData, fault: Fault) -> ! {
    end(cpu, End::Faulted(fault))
}

/// Ends the program if it has had its time. To be asked where a tick may have come, behind its end of interrupt.
pub(super) fn end_if_over_limit(cpu: &PerCpuData) {
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

/// On an empty syscall stack: takes the program down and goes on with the run.
extern "sysv64" fn ended(cpu: &'static PerCpuData) -> ! {
    if !cfg!(feature = "mutant-line-kept") {
        cpu.line.borrow_mut().flush(|line| serial::write_program_line(cpu, line));
    }
    paging::load_kernel_tables();
    drop(cpu.program.take());
    run::ended(cpu)
}
