//! A run: every CPU gets its copy of the program, all enter ring 3 together, and when the last copy has ended the
//! BSP tells what each did.
#![forbid(unsafe_code)]

use kernel_abi::record::{BootRecord, CallsRecord, CpuRecord, Outcome, SharesRecord, VerdictRecord};
use kernel_abi::verdict::Verdict;
use spin::Once;

use crate::arch::devices::{qemu, serial};
use crate::arch::memory::loaded::{Program, StartError};
use crate::arch::memory::physmem;
use crate::arch::panic::{check, dump, rare, stop};
use crate::arch::percpu::{Ended, PerCpuData};
use crate::arch::provoke;
use crate::arch::task::idle::{idle, idle_until};
use crate::arch::task::ring3;
use crate::arch::trace;
use crate::clock;
use crate::cmdline::Options;
use crate::cpu::{ApicId, CpuId};
use crate::frames::Frame;
use crate::repeat::{self, End, Reason};
use crate::sync::Gate;
use crate::syscall;
use crate::text::Text;

/// How many tick intervals the rate is measured over, once the programs have ended: 200 ms at 100 Hz.
const TICK_INTERVALS: u64 = 20;
/// A slow tick is not waited for longer than this.
const TICK_PATIENCE_NS: u64 = 400_000_000;

/// All copies are loaded: into ring 3.
static START: Gate = Gate::new();
/// All copies have ended.
static DONE: Gate = Gate::new();
/// All CPUs have published what they did.
static PUBLISHED: Gate = Gate::new();
/// What the BSP prepared.
static RUN: Once<Run> = Once::new();

/// What is run, and on what machine.
pub struct Run {
    /// What the command line asks for.
    pub options: Options<'static>,
    /// The program's file.
    pub file: &'static [u8],
    /// The page that all copies share.
    pub shared: Frame,
    /// How many frames were free before the first program was loaded, and have to be when the last has ended.
    pub free_frames: u64,
    /// CPUs that the firmware lists and that did not come, with the reason.
    pub missing: &'static [ApicId],
    /// The CPUs that came, by dense index.
    pub online: &'static [&'static PerCpuData],
    /// What the boot found; the program's memory is added in the end.
    pub boot: BootRecord,
    /// Things that went wrong without ending the run, so far.
    pub warnings: u32,
}

/// The BSP's last step of the boot: lets all CPUs go on into the run, itself included.
pub fn begin(cpu: &'static PerCpuData, run: Run) -> ! {
    let online = run.online.len() as u32;
    for gate in [&START, &DONE, &PUBLISHED] {
        gate.announce(online);
    }
    RUN.call_once(|| run);
    cpu.wake_others();
    take_part(cpu)
}

/// Every CPU, once it is online: waits for the run, loads its copy, and enters ring 3 with the others.
pub fn take_part(cpu: &'static PerCpuData) -> ! {
    idle_until(cpu, || RUN.is_completed());
    let run = run();
    if run.options.dump_cpus {
        // First, so that a CPU which is not as it should be is shown as it is.
        dump::print(cpu);
    }
    end_if_broken(cpu);
    cpu.set_cpus_online(run.online.len() as u32);
    provoke::configure(cpu, &run.options);
    let mut loaded = load(cpu, run);
    let memory_kib = loaded.as_ref().map_or(0, Program::memory_kib);
    cpu.published.program_kib.call_once(|| memory_kib);
    START.arrive();
    wake_others_if_open(cpu, &START);
    idle_until(cpu, || START.is_open());
    provoke::before_program(cpu, &run.options, loaded.as_mut().ok());
    enter(cpu, run, loaded)
}

/// Runs one copy.
fn enter(cpu: &'static PerCpuData, run: &Run, loaded: Result<Program, StartError>) -> ! {
    match loaded {
        Ok(program) => {
            cpu.rounds.begin(&run.options.repeat, cpu.ticks());
            provoke::program_starts(cpu);
            ring3::assign(cpu, program, ended);
            ring3::start(cpu)
        }
        Err(error) => {
            cpu.rounds.end(End::NotStarted(Reason::of(format_args!("{error}"))));
            ended(cpu)
        }
    }
}

/// A CPU on which something does not hold that always should must not run ring 3, nor tell how a program went.
fn end_if_broken(cpu: &PerCpuData) {
    if let Err(broken) = check::all(cpu) {
        stop::end(format_args!("broken invariant on {}: {broken}", cpu.id()));
    }
}

fn load(cpu: &PerCpuData, run: &Run) -> Result<Program, StartError> {
    let argv = core::iter::once(run.options.program).chain(run.options.program_args());
    let env = repeat::environment(&cpu.rounds, &run.options.repeat);
    let env = env.each_ref().map(Text::as_str);
    ring3::load(run.file, argv.map(|argument| argument.bytes()), &env, run.shared)
}

fn run() -> &'static Run {
    RUN.get().expect("no CPU takes part before there is a run")
}

/// The last one through the gate wakes the CPUs that halted in front of it.
fn wake_others_if_open(cpu: &PerCpuData, gate: &Gate) {
    if gate.is_open() {
        cpu.wake_others();
    }
}

/// A copy has ended and its memory is given back: starts the next one, if there is one.
fn ended(cpu: &'static PerCpuData) -> ! {
    end_if_broken(cpu);
    let run = run();
    let end = cpu.rounds.latest().expect("a copy's end is noted before its CPU comes here");
    if run.options.repeat.again(&end, cpu.rounds.starts()) {
        enter(cpu, run, load(cpu, run))
    }
    match end {
        End::Exited(_) => {}
        End::NotStarted(reason) => say!(cpu, "{}", reason.as_str()),
        End::Faulted(_) | End::TimeLimit(_) => say!(cpu, "program killed: {}", end.reason().as_str()),
    }
    finish(cpu, end)
}

/// The CPU's last copy has ended: waits for the others and for enough ticks, publishes what this CPU did, and on the
/// BSP tells the whole.
fn finish(cpu: &'static PerCpuData, end: End) -> ! {
    provoke::programs_ended(cpu);
    DONE.arrive();
    wake_others_if_open(cpu, &DONE);
    idle_until(cpu, || DONE.is_open());
    // The machine is idle now, so what is measured is the timer, not how busy the host is.
    cpu.measure_ticks();
    let since = cpu.clock_ns();
    idle_until(cpu, || {
        cpu.measured_ticks().0 >= TICK_INTERVALS || cpu.clock_ns().saturating_sub(since) >= TICK_PATIENCE_NS
    });
    cpu.with_apic(|apic| apic.stop_ticking());
    provoke::all_programs_ended(cpu);
    rare::report_nmis(cpu);
    rare::report_debugs(cpu, syscall::ENTRY as *const () as u64);

    let (intervals, ns) = cpu.measured_ticks();
    let tick_millihertz = if intervals < 2 { 0 } else { clock::tick_millihertz(intervals, ns) };
    cpu.published.ended.call_once(|| Ended {
        end,
        starts: cpu.rounds.starts(),
        killed: cpu.rounds.killed(),
        calls: cpu.calls(),
        ticks: cpu.ticks(),
        tick_millihertz,
        shares: cpu.shares(),
    });
    if run().options.trace.serial && cpu.id() != CpuId::BSP {
        // The BSP sends this CPU's ring once it has arrived.
        cpu.stop_trace();
    }
    PUBLISHED.arrive();
    if cpu.id() != CpuId::BSP {
        let bsp = run().online[CpuId::BSP.index()].apic_id;
        cpu.wake(bsp);
        idle(cpu)
    }
    idle_until(cpu, || PUBLISHED.is_open());
    report(run())
}

/// Prints the records and ends the run.
fn report(run: &Run) -> ! {
    let free = physmem::free_count();
    if free != run.free_frames {
        let before = run.free_frames;
        stop::end(format_args!(
            "broken invariant: {before} frames were free before the programs, {free} after"
        ));
    }
    trace::send_if_wanted();
    let program = Text::<64>::of(format_args!("{}", run.options.program));
    let program_kib = run.online.iter().filter_map(|cpu| cpu.published.program_kib.get()).max();
    let per_cpu_kib = run.boot.per_cpu_kib + program_kib.copied().unwrap_or(0);
    serial::print(format_args!("{}", BootRecord { per_cpu_kib, ..run.boot }));
    let mut verdict = Verdict::Pass;
    for cpu in run.online {
        let ended = cpu.published.ended.get().expect("the gate opens when all have published");
        let (outcome, code, reason) = (ended.end.outcome(), ended.end.code(), ended.end.reason());
        if (outcome, code) != (Outcome::Exited, 0) {
            verdict = Verdict::ProgramFailed;
        }
        serial::print(format_args!(
            "{}",
            CpuRecord {
                cpu: cpu.id().0,
                apic_id: cpu.apic_id.0,
                program: program.as_str(),
                outcome,
                code,
                starts: ended.starts,
                killed: ended.killed,
                syscalls: ended.calls.iter().sum(),
                ticks: ended.ticks,
                tick_millihertz: ended.tick_millihertz,
                reason: reason.as_str(),
            }
        ));
        serial::print(format_args!("{}", CallsRecord { cpu: cpu.id().0, counts: ended.calls }));
        if let Some([off, on]) = ended.shares {
            let (off, on) = ((off.calls, off.ns), (on.calls, on.ns));
            serial::print(format_args!("{}", SharesRecord { cpu: cpu.id().0, off, on }));
        }
    }
    let mut records = run.online.len() as u32;
    for apic_id in run.missing {
        serial::print(format_args!(
            "{}",
            CpuRecord {
                cpu: records,
                apic_id: apic_id.0,
                program: program.as_str(),
                outcome: Outcome::Missing,
                code: 0,
                starts: 0,
                killed: 0,
                syscalls: 0,
                ticks: 0,
                tick_millihertz: 0,
                reason: "did not come online in time",
            }
        ));
        records += 1;
    }
    serial::print(format_args!("{}", VerdictRecord { verdict, records, warnings: run.warnings }));
    qemu::exit(verdict)
}
