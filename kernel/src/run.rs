//! Performs a run: every CPU loads a copy of the program, all CPUs enter ring 3 together, and when the last copy has
//! ended, the BSP reports the results.
#![forbid(unsafe_code)]

use kernel_abi::record::{
    BootRecord, CallsRecord, CpuRecord, CyclesRecord, Outcome, Record, SharesRecord, VerdictRecord,
};
use kernel_abi::verdict::Verdict;
use spin::Once;

use crate::arch::devices::{finish, serial};
use crate::arch::entry::points::syscall_entry;
use crate::arch::inject::{self, ApFaults};
use crate::arch::memory::loaded::{Common, Program, StartError};
use crate::arch::memory::paging::MapError;
use crate::arch::memory::physmem;
use crate::arch::panic::{check, dump, rare, stop};
use crate::arch::percpu::{Ended, PerCpuData, print};
use crate::arch::smp::{cycle, this_cpu};
use crate::arch::task::idle::{idle, idle_until};
use crate::arch::task::ring3;
use crate::arch::trace;
use crate::clock;
use crate::cmdline::{Finish, Options};
use crate::cpu::{ApicId, CpuId};
use crate::cycles;
use crate::plural::{Count, verb};
use crate::repeat::{self, End, Reason};
use crate::stage::Cause;
use crate::sync::{self, Gate, Stagger};
use crate::text::Text;

/// Number of tick intervals over which the tick rate is measured after the programs have ended: 200 ms at 100 Hz.
const TICK_INTERVALS: u64 = 20;
/// The largest number of CPUs that are woken by one IPI to all of them.
const WAKE_TOGETHER_MAX: usize = 16;
/// Longest time to wait for these ticks.
const TICK_TIMEOUT_NS: u64 = 400_000_000;

/// Limits how many CPUs load their copies at the same time.
static LOADING: Stagger = Stagger::new();
/// Opens when all copies are loaded and may enter ring 3.
static START: Gate = Gate::new();
/// Opens when all copies have ended.
static DONE: Gate = Gate::new();
/// Opens when all CPUs have published their results.
static PUBLISHED: Gate = Gate::new();
/// The description of the run, which the BSP prepares.
static RUN: Once<Run> = Once::new();

/// The program to run, and the machine it runs on.
pub struct Run {
    /// The options of the command line.
    pub options: Options<'static>,
    /// The program's file.
    pub file: &'static [u8],
    /// The memory that all copies of the program share.
    pub common: Common,
    /// Number of frames that were free before the first program was loaded. The same number must be free after the last
    /// program has ended.
    pub free_frames: u64,
    /// The CPUs in the firmware's list that did not come online, each with the reason.
    pub missing: &'static [(ApicId, Cause)],
    /// The CPUs that are online, by dense index.
    pub online: &'static [&'static PerCpuData],
    /// The boot record. [`report`] adds the program's memory.
    pub boot: BootRecord,
}

/// Publishes the run and takes part in it. This is the last boot step of the BSP.
pub fn begin(cpu: &'static PerCpuData, run: Run) -> ! {
    let online = run.online.len() as u32;
    for gate in [&START, &DONE, &PUBLISHED] {
        gate.announce(online);
    }
    if run.options.cycle.is_some() {
        cycles::announce();
    }
    let run = RUN.call_once(|| run);
    let first = run.online.iter().take(Stagger::WIDTH as usize).skip(1);
    first.for_each(|other| cpu.wake(other.apic_id));
    take_part(cpu)
}

/// Waits until the BSP has published the run, loads this CPU's copy, and enters ring 3 together with the others. Called
/// by every CPU that is online, and again by a CPU that has left the run and come back.
pub fn take_part(cpu: &'static PerCpuData) -> ! {
    if cpu.generation != 0 {
        cycle::wake_bsp(cpu);
    }
    idle_until(cpu, || RUN.is_completed() && LOADING.is_turn(cpu.id().0));
    let run = run();
    this_cpu::set_number(cpu);
    if run.options.dump_cpus {
        // Print before the check below, so that the state of a CPU that fails the check is printed.
        dump::print(cpu);
    }
    end_if_broken(cpu);
    cpu.set_cpus_online(run.online.len() as u32);
    inject::configure(cpu, &run.options);
    let mut loaded = load(cpu, run);
    let memory_kib = loaded.as_ref().map_or(0, Program::memory_kib);
    cpu.published.program_kib.call_once(|| memory_kib);
    if cpu.generation == 0 {
        if let Some(next) = run.online.get(LOADING.finish() as usize) {
            cpu.wake(next.apic_id);
        }
        // A CPU that is asked to leave here leaves before its first copy.
        meet(cpu, &START, || {});
    }
    // Start the tick only now: while a CPU waits for the others, it needs no ticks, and the ticks of many CPUs would
    // take host time from the CPUs that are still loading.
    cpu.start_ticking();
    inject::before_program(cpu, &run.options, loaded.as_mut().ok());
    enter(cpu, run, loaded)
}

/// Runs one copy.
fn enter(cpu: &'static PerCpuData, run: &'static Run, loaded: Result<Program, StartError>) -> ! {
    if cycle::must_leave(cpu) {
        // The request to leave arrived while no copy was running. A request that arrives after this check interrupts the
        // copy at its first instruction.
        drop(loaded);
        leave(cpu)
    }
    match loaded {
        Ok(program) => {
            cpu.rounds.begin(&run.options.repeat, cpu.ticks());
            inject::program_starts(cpu);
            ring3::assign(cpu, program, ended);
            ring3::start(cpu)
        }
        Err(error) => {
            let reason = match (&error, least_memory_mib(run)) {
                (StartError::Map(MapError::OutOfMemory), Some(mib)) => Reason::of(format_args!(
                    "{error}: the copies on {} need at least {mib} MiB of usable memory",
                    Count(run.online.len() as u64, "CPU")
                )),
                _ => Reason::of(format_args!("{error}")),
            };
            cpu.rounds.end(End::NotStarted(reason));
            ended(cpu)
        }
    }
}

/// Leaves the run because the BSP has asked for it. The program's memory is freed.
fn leave(cpu: &PerCpuData) -> ! {
    rare::report_nmis(cpu);
    rare::report_debugs(cpu, syscall_entry as *const () as u64);
    rare::report_strays(cpu);
    cycle::leave(cpu)
}

/// Returns the minimum amount of usable memory, in MiB, with which every CPU can load its copy of the program, or
/// `None` until the BSP has loaded its own.
fn least_memory_mib(run: &Run) -> Option<u64> {
    let copy_kib = *run.online[CpuId::BSP.index()].published.program_kib.get().filter(|kib| **kib != 0)?;
    let kernel_kib = (physmem::total() - run.free_frames) * 4;
    Some((kernel_kib + run.online.len() as u64 * copy_kib).div_ceil(1024))
}

/// Ends the run if an invariant is broken on this CPU, because such a CPU must neither run ring 3 nor report results.
fn end_if_broken(cpu: &PerCpuData) {
    if let Err(broken) = check::all(cpu) {
        stop::end(format_args!("broken invariant on {}: {broken}", cpu.id()));
    }
}

/// Loads this CPU's next copy.
fn load(cpu: &PerCpuData, run: &'static Run) -> Result<Program, StartError> {
    let argv = core::iter::once(run.options.program).chain(run.options.program_args());
    let env = repeat::environment(&cpu.rounds, &run.options.repeat);
    let env = env.each_ref().map(Text::as_str);
    ring3::load(run.file, argv.map(|argument| argument.bytes()), &env, &run.common)
}

fn run() -> &'static Run {
    RUN.get().expect("a CPU must take part only after the run is published")
}

/// Waits at a gate until all CPUs have arrived there. The last one to arrive wakes the others. Calls `at_each_interrupt`
/// before each check of the gate.
///
/// With more than [`WAKE_TOGETHER_MAX`] CPUs, the wake-up fans out in a tree instead: the last CPU to arrive wakes the
/// BSP, and each CPU then wakes its children. If all of them woke at the same time, an emulator would translate the
/// same code for all of them at the same time, and they would spend their time waiting for its locks.
fn meet(cpu: &PerCpuData, gate: &Gate, at_each_interrupt: impl Fn()) {
    let online = run().online;
    let in_tree = online.len() > WAKE_TOGETHER_MAX;
    gate.arrive();
    if gate.is_open() {
        match in_tree {
            false => cpu.wake_others(),
            true if cpu.id() != CpuId::BSP => cpu.wake(online[CpuId::BSP.index()].apic_id),
            true => {}
        }
    }
    idle_until(cpu, || {
        at_each_interrupt();
        gate.is_open()
    });
    if in_tree {
        let next = sync::woken_by(cpu.id().index(), online.len());
        online[next].iter().for_each(|other| cpu.wake(other.apic_id));
    }
}

/// Starts the next copy, or finishes the run if there is none. Called after a copy has ended and its memory is freed.
fn ended(cpu: &'static PerCpuData) -> ! {
    end_if_broken(cpu);
    let run = run();
    let end = cpu.rounds.latest().expect("a copy's end must be stored before `ended` is called");
    let for_cycles = cpu.id() != CpuId::BSP && matches!(end, End::Exited(0)) && cycles::in_progress();
    if for_cycles || run.options.repeat.again(&end, cpu.rounds.starts()) {
        enter(cpu, run, load(cpu, run))
    }
    match end {
        End::Exited(_) => {}
        End::Offline => leave(cpu),
        End::NotStarted(reason) => say!(cpu, "{}", reason.as_str()),
        End::Faulted(_) | End::TimeLimit(_) => say!(cpu, "program killed: {}", end.reason().as_str()),
    }
    if let Some(asked) = run.options.cycle
        && cpu.id() == CpuId::BSP
    {
        conduct(cpu, run, asked, &end);
    }
    finish(cpu, end)
}

/// Takes APs offline and brings them back as often as `cycle=N` requests, unless the BSP's program has failed. A CPU
/// that does not come back counts as having arrived at the remaining gates.
fn conduct(cpu: &PerCpuData, run: &Run, asked: u32, end: &End) {
    if !matches!(end, End::Exited(0)) {
        cycles::cancel();
    } else if cycles::conduct(cpu, asked, ApFaults::of(&run.options), run.online).is_some() {
        DONE.arrive();
        PUBLISHED.arrive();
    }
}

/// Finishes the run on this CPU after its last copy has ended: waits for the other CPUs and for enough ticks, and
/// publishes this CPU's results. The BSP then reports the results of all CPUs.
fn finish(cpu: &'static PerCpuData, end: End) -> ! {
    inject::programs_ended(cpu);
    // A CPU whose last copy has ended does not leave.
    meet(cpu, &DONE, || cycle::decline(cpu));
    // All CPUs are idle now, so the measured tick rate depends on the timer and not on the load of the programs.
    cpu.measure_ticks();
    let since = cpu.clock_ns();
    idle_until(cpu, || {
        cpu.measured_ticks().0 >= TICK_INTERVALS || cpu.clock_ns().saturating_sub(since) >= TICK_TIMEOUT_NS
    });
    cpu.with_apic(|apic| apic.stop_ticking());
    inject::all_programs_ended(cpu, &run().options);
    print::report_dropped(cpu);
    rare::report_nmis(cpu);
    rare::report_debugs(cpu, syscall_entry as *const () as u64);
    rare::report_strays(cpu);

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
        // Stop recording first, because the BSP sends this CPU's ring once this CPU has arrived at the gate.
        cpu.stop_trace();
    }
    PUBLISHED.arrive();
    if cpu.id() != CpuId::BSP {
        if PUBLISHED.is_open() {
            cpu.wake(run().online[CpuId::BSP.index()].apic_id);
        }
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
            "broken invariant: {} {} free before the programs were loaded, {free} after they ended",
            Count(before, "frame"),
            verb(before, "was", "were")
        ));
    }
    if let Some(CyclesRecord { done, .. }) = cycles::record(run.options.cycle) {
        let bsp = run.online[CpuId::BSP.index()];
        say!(
            bsp,
            "after {} of leaving and coming back, no invariant is violated and as many frames are free as before",
            Count(done.into(), "cycle")
        );
    }
    trace::send_if_requested();
    let program = Text::<64>::of(format_args!("{}", run.options.program));
    let program_kib = run.online.iter().filter_map(|cpu| cpu.published.program_kib.get()).max();
    let per_cpu_kib = run.boot.per_cpu_kib + program_kib.copied().unwrap_or(0);
    serial::print_record(&Record::Boot(BootRecord { per_cpu_kib, ..run.boot }));
    let mut verdict = Verdict::Pass;
    for cpu in run.online {
        let ended =
            cpu.published.ended.get().expect("all CPUs must publish their results before the gate opens");
        let (outcome, code, reason) = (ended.end.outcome(), ended.end.code(), ended.end.reason());
        if (outcome, code) != (Outcome::Exited, 0) {
            verdict = Verdict::ProgramFailed;
        }
        serial::print_record(&Record::Cpu(CpuRecord {
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
        }));
        serial::print_record(&Record::Calls(CallsRecord { cpu: cpu.id().0, counts: ended.calls }));
        if let Some([off, on]) = ended.shares {
            let (off, on) = ((off.calls, off.ns), (on.calls, on.ns));
            serial::print_record(&Record::Shares(SharesRecord { cpu: cpu.id().0, off, on }));
        }
    }
    let mut records = run.online.len() as u32;
    for (apic_id, cause) in run.missing {
        let reason = Text::<128>::of(format_args!("{cause}"));
        serial::print_record(&Record::Cpu(CpuRecord {
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
            reason: reason.as_str(),
        }));
        records += 1;
    }
    if let Some(record) = cycles::record(run.options.cycle) {
        if record.done != record.asked {
            verdict = Verdict::ProgramFailed;
        }
        serial::print_record(&Record::Cycles(record));
    }
    print::dropped_records();
    let warnings = run.online.iter().map(|cpu| cpu.published.warnings()).sum();
    serial::print_record(&Record::Verdict(VerdictRecord { verdict, records, warnings }));
    if matches!(run.options.finish, Some(Finish::Reboot | Finish::PowerOff)) {
        stop::stop_others(run.online[CpuId::BSP.index()]);
    }
    finish::end_run(verdict)
}
