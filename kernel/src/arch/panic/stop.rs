//! The panic path: one CPU stops all others, reports the failure, and ends the run with the verdict `panic`.

use core::arch::asm;
use core::fmt;
use core::hint::spin_loop;
use core::mem::offset_of;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicU32, Ordering};

use kernel_abi::record::{Record, VerdictRecord};
use kernel_abi::verdict::Verdict;
use x86_64::VirtAddr;
use x86_64::instructions::{hlt, interrupts};
use x86_64::registers::control::{Cr2, Cr3};

use crate::arch::boot::image;
use crate::arch::cpu::control::ControlState;
use crate::arch::cpu::machine_check::MachineCheck;
use crate::arch::cpu::tsc;
use crate::arch::devices::serial::{print, print_record};
use crate::arch::devices::{finish, serial};
use crate::arch::interrupts::apic::LocalApic;
use crate::arch::percpu::{self, PerCpuData};
use crate::arch::trace;
use crate::cpu::CpuId;
use crate::exception;
use crate::frame::TrapFrame;
use crate::layout::{self, IstStack};
use crate::plural::Count;
use crate::text::Text;

/// The value of `PANIC_CPU` while no CPU has panicked.
const NONE: u32 = u32::MAX;
/// The value of `PANIC_CPU` if the BSP panicked before it had per-CPU data.
const EARLY: u32 = u32::MAX - 1;

/// The area index of the CPU that panicked first. That CPU reports the panic; a CPU that panics later only stops
/// (invariant: ONE-PANIC).
static PANIC_CPU: AtomicU32 = AtomicU32::new(NONE);

/// How long the panicking CPU waits for the others, in TSC ticks: at least half a second on any CPU, because a
/// hypervisor may have descheduled one of them. A CPU that has not stopped by then is assumed to be broken.
const STOP_TIMEOUT: u64 = 1 << 31;

/// Parks this CPU if another CPU has panicked. Called by the NMI handler, and in wait loops during which NMIs may be
/// masked or cannot be sent yet.
pub(in crate::arch) fn park_if_stopping(cpu: &PerCpuData) {
    let panic_cpu = PANIC_CPU.load(Ordering::Acquire);
    if panic_cpu != NONE && panic_cpu != cpu.area.0 {
        stop(cpu);
    }
}

/// Returns whether a CPU is panicking.
pub(in crate::arch) fn is_panicking() -> bool {
    PANIC_CPU.load(Ordering::Acquire) != NONE
}

/// Parks this CPU because another CPU is panicking. A CPU that parked before the panicking CPU's NMI arrived calls this
/// function again from its NMI handler. So the function sets a flag instead of counting the calls, because a count
/// would end the panicking CPU's wait too early.
fn stop(cpu: &PerCpuData) -> ! {
    cpu.published.stopped.store(true, Ordering::Release);
    park()
}

/// Halts this CPU permanently.
pub fn park() -> ! {
    loop {
        interrupts::disable();
        hlt();
    }
}

/// The registers that are meaningful at a call: rsp, RFLAGS and the callee-saved registers.
#[derive(Clone, Copy, Default)]
struct CallRegisters {
    rbx: u64,
    rbp: u64,
    rsp: u64,
    r12: u64,
    r13: u64,
    r14: u64,
    r15: u64,
    rflags: u64,
}

impl CallRegisters {
    /// Reads the caller's registers.
    #[inline(always)]
    fn here() -> CallRegisters {
        let mut here = CallRegisters::default();
        // SAFETY: the code only stores registers in the fields of `here`. Push and pop are balanced, and nothing below
        // rsp is in use (the kernel is compiled without a red zone).
        unsafe {
            asm!(
                "mov [{here} + {rbx}], rbx",
                "mov [{here} + {rbp}], rbp",
                "mov [{here} + {rsp}], rsp",
                "mov [{here} + {r12}], r12",
                "mov [{here} + {r13}], r13",
                "mov [{here} + {r14}], r14",
                "mov [{here} + {r15}], r15",
                "pushfq",
                "pop qword ptr [{here} + {rflags}]",
                here = in(reg) &raw mut here,
                rbx = const offset_of!(CallRegisters, rbx),
                rbp = const offset_of!(CallRegisters, rbp),
                rsp = const offset_of!(CallRegisters, rsp),
                r12 = const offset_of!(CallRegisters, r12),
                r13 = const offset_of!(CallRegisters, r13),
                r14 = const offset_of!(CallRegisters, r14),
                r15 = const offset_of!(CallRegisters, r15),
                rflags = const offset_of!(CallRegisters, rflags),
            );
        }
        here
    }
}

/// The code that failed.
enum Origin<'a> {
    /// The code was interrupted by a trap: all registers are known.
    Trap(&'a TrapFrame),
    /// The code called the panic path.
    Call(CallRegisters),
}

/// Handles a Rust panic: reports it and ends the run.
pub fn panic(info: &PanicInfo<'_>) -> ! {
    let origin = Origin::Call(CallRegisters::here());
    let message = match info.location() {
        Some(location) => Text::<400>::of(format_args!("{} ({location})", info.message())),
        None => Text::of(format_args!("{}", info.message())),
    };
    report(message.as_str(), &origin)
}

/// Ends the run with the verdict `panic`, without a source location. For causes outside the kernel source (the machine,
/// the firmware or the loader does not meet the requirements) and for violated invariants.
pub fn end(message: fmt::Arguments<'_>) -> ! {
    report(Text::<400>::of(message).as_str(), &Origin::Call(CallRegisters::here()))
}

/// Ends the run for an exception that the kernel cannot recover from: an exception in ring 0, #MC or #DF.
pub(in crate::arch) fn fatal_trap(frame: &TrapFrame) -> ! {
    let name = exception::name(frame.vector);
    let rsp = frame.interrupted.rsp;
    // A stack has overflowed if RSP lies in a guard page, or if the faulting address lies there and is close to RSP.
    // CR2 alone is not enough: its value may be from an earlier fault, and ring 3 can cause a fault at any address.
    let cr2 = Some(Cr2::read_raw()).filter(|cr2| rsp.abs_diff(*cr2) < layout::IST_STACK_SIZE);
    let overflowed = [rsp, rsp.wrapping_sub(8)].into_iter().chain(cr2).find_map(layout::guard_of);
    let machine_check = (frame.vector == exception::MACHINE_CHECK).then(MachineCheck::read).flatten();
    let ring = if frame.interrupted.from_user() { 3 } else { 0 };
    let message = match (frame.vector, overflowed) {
        (exception::DOUBLE_FAULT | exception::PAGE_FAULT, Some((cpu, stack))) => {
            Text::<400>::of(format_args!("{name}: the {stack} of {cpu} overflowed"))
        }
        (exception::MACHINE_CHECK, _) if let Some(cause) = machine_check => {
            Text::of(format_args!("{name} in ring {ring}: {cause}"))
        }
        _ if ring == 3 => Text::of(format_args!("{name} in ring 3")),
        _ => Text::of(format_args!("{name} in ring 0, error code {:#x}", frame.error_code)),
    };
    report(message.as_str(), &Origin::Trap(frame))
}

/// Stops the other CPUs, prints message, registers and backtrace, and exits with the verdict `panic`.
fn report(message: &str, origin: &Origin<'_>) -> ! {
    interrupts::disable();
    // A CPU whose GS base is not set identifies itself by its stack.
    let by_stack = || percpu::of_stack(CallRegisters::here().rsp);
    let cpu = PerCpuData::try_current().or_else(by_stack);
    let (stopped, others) = become_panic_cpu(cpu);

    let prefix = match cpu {
        Some(cpu) => Text::<16>::of(format_args!("[cpu{}]  ", cpu.id().0)),
        None => Text::of(format_args!("[cpu?]  ")),
    };
    let prefix = prefix.as_str();
    print_record(&Record::Panic { cpu: cpu.map(|cpu| cpu.id().0), message });
    if others > 0 {
        print(format_args!("{prefix} {stopped} of {} stopped", Count(others as u64, "other CPU")));
    }
    let rbp = match origin {
        Origin::Trap(frame) => {
            print_trap_registers(prefix, frame);
            frame.rbp
        }
        Origin::Call(r) => {
            print(format_args!(
                "{prefix} RSP={:#018x} RBP={:#018x} RBX={:#018x} RFLAGS={:#x}",
                r.rsp, r.rbp, r.rbx, r.rflags
            ));
            print(format_args!(
                "{prefix} R12={:#018x} R13={:#018x} R14={:#018x} R15={:#018x}",
                r.r12, r.r13, r.r14, r.r15
            ));
            r.rbp
        }
    };
    print(format_args!(
        "{prefix} CR2={:#x} CR3={:#x} {} GS base={:#x}",
        Cr2::read_raw(),
        Cr3::read_raw().0.start_address(),
        ControlState::read(),
        crate::arch::cpu::msr::gs_base()
    ));
    if let Origin::Trap(frame) = origin
        && image::is_text(frame.interrupted.rip)
    {
        print_record(&Record::Frame { ip: frame.interrupted.rip });
    }
    backtrace(cpu.map(|cpu| cpu.area), rbp);
    trace::send_if_requested();
    percpu::print::dropped_records();
    print_record(&Record::Verdict(VerdictRecord { verdict: Verdict::Panic, records: 0, warnings: 0 }));
    finish::end_run(Verdict::Panic)
}

fn print_trap_registers(prefix: &str, f: &TrapFrame) {
    let i = &f.interrupted;
    print(format_args!(
        "{prefix} RIP={:#018x} RSP={:#018x} CS={:#x} SS={:#x} RFLAGS={:#x} error code={:#x}",
        i.rip, i.rsp, i.cs, i.ss, i.rflags, f.error_code
    ));
    print(format_args!(
        "{prefix} RAX={:#018x} RBX={:#018x} RCX={:#018x} RDX={:#018x}",
        f.rax, f.rbx, f.rcx, f.rdx
    ));
    print(format_args!(
        "{prefix} RSI={:#018x} RDI={:#018x} RBP={:#018x} R8 ={:#018x}",
        f.rsi, f.rdi, f.rbp, f.r8
    ));
    print(format_args!(
        "{prefix} R9 ={:#018x} R10={:#018x} R11={:#018x} R12={:#018x}",
        f.r9, f.r10, f.r11, f.r12
    ));
    print(format_args!("{prefix} R13={:#018x} R14={:#018x} R15={:#018x}", f.r13, f.r14, f.r15));
}

/// Makes this CPU the panicking CPU and stops the others. Parks this CPU instead if another CPU is already panicking.
/// Returns how many of the other CPUs have stopped, and their number.
fn become_panic_cpu(cpu: Option<&PerCpuData>) -> (usize, usize) {
    let me = cpu.map_or(EARLY, |cpu| cpu.area.0);
    match PANIC_CPU.compare_exchange(NONE, me, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => {}
        // The panic path itself panicked: nothing more can be printed, but QEMU's exit status still reports the panic.
        Err(panic_cpu) if panic_cpu == me => finish::end_run(Verdict::Panic),
        Err(_) => cpu.map_or_else(|| park(), stop),
    }
    let is_other = |other: &&PerCpuData| cpu.is_none_or(|cpu| other.area != cpu.area);
    let others = || percpu::created().filter(is_other).filter(|other| other.is_running());
    let mut alone = others().next().is_none();
    if let Some(cpu) = cpu {
        if cpu.injected.awaits_second_panic.get() {
            wait_until(|| others().any(|other| other.published.stopped.load(Ordering::Acquire)));
        }
        // SAFETY: this CPU never resumes the interrupted code, so a borrow that is still active there is not used
        // again.
        alone |= unsafe { stop_by_nmi(cpu) };
    }
    if alone {
        // SAFETY: each other CPU either has not started, has stopped, or has not responded to an NMI within the timeout
        // (invariant: ONE-PANIC).
        unsafe { serial::bypass_lock() };
    }
    (others().filter(|other| other.published.stopped.load(Ordering::Acquire)).count(), others().count())
}

/// Stops the other CPUs at the end of a run, before the machine is reset or powered off.
pub fn stop_others(cpu: &PerCpuData) {
    if PANIC_CPU.compare_exchange(NONE, cpu.area.0, Ordering::AcqRel, Ordering::Acquire).is_ok() {
        // SAFETY: the run has ended: this CPU holds no borrow of its APIC.
        unsafe { stop_by_nmi(cpu) };
    }
}

/// Sends an NMI to each other CPU that is running, and waits up to [`STOP_TIMEOUT`] for all of them to stop. Returns
/// whether this CPU could send NMIs. It cannot if its local APIC is globally disabled. The caller has set `PANIC_CPU`.
///
/// # Safety
/// A borrow of this CPU's APIC that is still active is not used again.
unsafe fn stop_by_nmi(cpu: &PerCpuData) -> bool {
    let others = || percpu::created().filter(|other| other.area != cpu.area && other.is_running());
    // Before the registers of the APIC are mapped, no other CPU runs.
    if others().next().is_none() {
        return true;
    }
    // SAFETY: guaranteed by the caller. No other CPU accesses the cell (invariant: OWNER-ONLY).
    let enabled = unsafe { &mut *cpu.apic.as_ptr() };
    let mut before_enable = None;
    if enabled.is_none() {
        // SAFETY: the BSP maps the registers before it starts another CPU.
        before_enable = unsafe { LocalApic::for_sending() };
    }
    let Some(apic) = enabled.as_mut().or(before_enable.as_mut()) else { return false };
    for other in others() {
        other.published.stop_requested.store(true, Ordering::Relaxed);
        apic.send_nmi(other.apic_id);
    }
    wait_until(|| percpu::created().all(PerCpuData::has_stopped_if_requested));
    true
}

/// Waits up to [`STOP_TIMEOUT`] for the condition to become true.
fn wait_until(condition: impl Fn() -> bool) {
    let start = tsc::now();
    while !condition() && tsc::now().wrapping_sub(start) < STOP_TIMEOUT {
        spin_loop();
    }
}

/// Finds the stack that contains the address: one of this CPU's stacks or the boot stack.
fn stack_of(cpu: Option<CpuId>, address: u64) -> Option<core::ops::Range<u64>> {
    let stacks = cpu.into_iter().flat_map(|cpu| {
        IstStack::ALL
            .map(|which| layout::ist_stack(cpu, which))
            .into_iter()
            .chain([layout::syscall_stack(cpu)])
    });
    stacks.chain([image::boot_stack()]).find(|stack| stack.contains(&address))
}

/// Prints the return addresses along the chain of frame pointers: each points to the caller's saved frame pointer, and
/// the return address lies above that.
fn backtrace(cpu: Option<CpuId>, mut rbp: u64) {
    for _ in 0..64 {
        let Some(stack) = stack_of(cpu, rbp) else { return };
        if !rbp.is_multiple_of(8) || rbp + 16 > stack.end {
            return;
        }
        let words = VirtAddr::new(rbp).as_ptr::<[u64; 2]>();
        // SAFETY: both words lie in one of this CPU's stacks or the boot stack, which are mapped.
        let [next, ip] = unsafe { words.read() };
        if !image::is_text(ip) {
            return;
        }
        print_record(&Record::Frame { ip });
        // On the same stack, a caller's frame is at a higher address. Any other address is valid only if a trap
        // switched stacks.
        if next <= rbp && stack.contains(&next) {
            return;
        }
        rbp = next;
    }
}
