//! The end that nobody wanted: one CPU stops all others, tells what happened, and ends the run as a panic.

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
use crate::arch::devices::serial::print;
use crate::arch::devices::{qemu, serial};
use crate::arch::percpu::{self, PerCpuData};
use crate::arch::trace;
use crate::cpu::CpuId;
use crate::exception;
use crate::frame::TrapFrame;
use crate::layout::{self, IstStack};
use crate::text::Text;

/// Nobody has stopped the machine.
const NOBODY: u32 = u32::MAX;
/// The BSP has, before it had per-CPU data.
const EARLY: u32 = u32::MAX - 1;

/// The CPU that tells the story; the others that have something to tell only stop.
static TELLER: AtomicU32 = AtomicU32::new(NOBODY);
/// CPUs that have stopped for it.
static STOPPED: AtomicU32 = AtomicU32::new(0);

/// How long the teller waits for the others, in TSC ticks: half a second at the least on any CPU, since a
/// hypervisor may have put one to sleep. A CPU that does not stop by then is itself broken.
const PATIENCE: u64 = 1 << 31;

/// If another CPU tells the end, this one stops here for good. For the NMI handler, and for loops that wait: a CPU that
/// panics before it has a local APIC cannot send NMIs.
pub(in crate::arch) fn park_if_stopping(cpu: &PerCpuData) {
    let teller = TELLER.load(Ordering::Acquire);
    if teller != NOBODY && teller != cpu.area.0 {
        STOPPED.fetch_add(1, Ordering::Release);
        park();
    }
}

/// Halts this CPU for good.
pub fn park() -> ! {
    loop {
        interrupts::disable();
        hlt();
    }
}

/// The registers that mean something at a call: those that the callee preserves.
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
    /// The caller's own.
    #[inline(always)]
    fn here() -> CallRegisters {
        let mut here = CallRegisters::default();
        // SAFETY: copies registers; the push and pop leave the stack as it was.
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

/// Where the story starts.
enum At<'a> {
    /// A trap: all registers of the interrupted code.
    Trap(&'a TrapFrame),
    /// A call.
    Call(CallRegisters),
}

/// The kernel's panic handler.
pub fn panic(info: &PanicInfo<'_>) -> ! {
    let at = At::Call(CallRegisters::here());
    let message = match info.location() {
        Some(location) => Text::<400>::of(format_args!("{} ({location})", info.message())),
        None => Text::of(format_args!("{}", info.message())),
    };
    tell(message.as_str(), &at)
}

/// Ends the run because the machine, the firmware or the loader is not what the kernel needs: no place in the source
/// is to blame, so none is named.
pub fn end(message: fmt::Arguments<'_>) -> ! {
    tell(Text::<400>::of(message).as_str(), &At::Call(CallRegisters::here()))
}

/// An exception in ring 0 that nothing can mend.
pub(in crate::arch) fn fatal_trap(frame: &TrapFrame) -> ! {
    let name = exception::name(frame.vector);
    let rsp = frame.interrupted.rsp;
    // In a guard page, RSP, or the faulting address close to it, means that a stack overflowed. CR2 alone does not: it
    // may be old, and ring 3 can put any address there.
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
    tell(message.as_str(), &At::Trap(frame))
}

fn tell(message: &str, at: &At<'_>) -> ! {
    interrupts::disable();
    // Without a GS base there is still a stack.
    let by_stack = || percpu::of_stack(CallRegisters::here().rsp);
    let cpu = PerCpuData::try_current().or_else(by_stack);
    become_teller(cpu);

    let who = match cpu {
        Some(cpu) => Text::<16>::of(format_args!("[cpu{}]  ", cpu.id().0)),
        None => Text::of(format_args!("[cpu?]  ")),
    };
    let who = who.as_str();
    print(format_args!("{}", Record::Panic { cpu: cpu.map(|cpu| cpu.id().0), message }));
    let rbp = match at {
        At::Trap(frame) => {
            print_trap_registers(who, frame);
            frame.rbp
        }
        At::Call(r) => {
            print(format_args!(
                "{who} RSP={:#018x} RBP={:#018x} RBX={:#018x} RFLAGS={:#x}",
                r.rsp, r.rbp, r.rbx, r.rflags
            ));
            print(format_args!(
                "{who} R12={:#018x} R13={:#018x} R14={:#018x} R15={:#018x}",
                r.r12, r.r13, r.r14, r.r15
            ));
            r.rbp
        }
    };
    print(format_args!(
        "{who} CR2={:#x} CR3={:#x} {} GS base={:#x}",
        Cr2::read_raw(),
        Cr3::read_raw().0.start_address(),
        ControlState::read(),
        crate::arch::cpu::msr::gs_base()
    ));
    if let At::Trap(frame) = at
        && image::is_text(frame.interrupted.rip)
    {
        print(format_args!("{}", Record::Frame { ip: frame.interrupted.rip }));
    }
    backtrace(cpu.map(|cpu| cpu.area), rbp);
    trace::send_if_wanted();
    print(format_args!("{}", VerdictRecord { verdict: Verdict::Panic, records: 0, warnings: 0 }));
    qemu::exit(Verdict::Panic)
}

fn print_trap_registers(who: &str, f: &TrapFrame) {
    let i = &f.interrupted;
    print(format_args!(
        "{who} RIP={:#018x} RSP={:#018x} CS={:#x} SS={:#x} RFLAGS={:#x} error code={:#x}",
        i.rip, i.rsp, i.cs, i.ss, i.rflags, f.error_code
    ));
    print(format_args!(
        "{who} RAX={:#018x} RBX={:#018x} RCX={:#018x} RDX={:#018x}",
        f.rax, f.rbx, f.rcx, f.rdx
    ));
    print(format_args!(
        "{who} RSI={:#018x} RDI={:#018x} RBP={:#018x} R8 ={:#018x}",
        f.rsi, f.rdi, f.rbp, f.r8
    ));
    print(format_args!(
        "{who} R9 ={:#018x} R10={:#018x} R11={:#018x} R12={:#018x}",
        f.r9, f.r10, f.r11, f.r12
    ));
    print(format_args!("{who} R13={:#018x} R14={:#018x} R15={:#018x}", f.r13, f.r14, f.r15));
}

/// Makes this CPU the only one that runs. If another one is telling already, this one stops instead.
fn become_teller(cpu: Option<&PerCpuData>) {
    let me = cpu.map_or(EARLY, |cpu| cpu.area.0);
    match TELLER.compare_exchange(NOBODY, me, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => {}
        // A panic while telling: whatever is broken, at least the verdict gets out.
        Err(teller) if teller == me => qemu::exit(Verdict::Panic),
        // The teller's NMI finds it here, and counts it.
        Err(_) => park(),
    }
    let is_other = |other: &&PerCpuData| cpu.is_none_or(|cpu| other.area != cpu.area);
    let mut alone = !percpu::created().filter(is_other).any(PerCpuData::is_running);
    if let Some(cpu) = cpu {
        // SAFETY: this CPU will not go on with what it was doing, so a borrow that is still open is as good as
        // given back.
        if let Some(apic) = unsafe { &mut *cpu.apic.as_ptr() } {
            let mut others = 0;
            let stops = |other: &&PerCpuData| other.is_running();
            for other in percpu::created().filter(is_other).filter(stops) {
                apic.send_nmi(other.apic_id);
                others += 1;
            }
            let start = tsc::now();
            while STOPPED.load(Ordering::Acquire) < others && tsc::now().wrapping_sub(start) < PATIENCE {
                spin_loop();
            }
            alone = true;
        }
    }
    if alone {
        // SAFETY: there are no others, or they are stopped, or broken beyond waiting for.
        unsafe { serial::bypass_lock() };
    }
}

/// The stacks of a CPU; before it has an index, the BSP's first one.
fn stack_of(cpu: Option<CpuId>, address: u64) -> Option<core::ops::Range<u64>> {
    let own = cpu.into_iter().flat_map(|cpu| {
        IstStack::ALL
            .map(|which| layout::ist_stack(cpu, which))
            .into_iter()
            .chain([layout::syscall_stack(cpu)])
    });
    own.chain([image::boot_stack()]).find(|stack| stack.contains(&address))
}

/// Follows the frame pointers: each points to the caller's, with the return address above it.
fn backtrace(cpu: Option<CpuId>, mut rbp: u64) {
    for _ in 0..64 {
        let Some(stack) = stack_of(cpu, rbp) else { return };
        if !rbp.is_multiple_of(8) || rbp + 16 > stack.end {
            return;
        }
        let words = VirtAddr::new(rbp).as_ptr::<[u64; 2]>();
        // SAFETY: both words lie in a stack of this CPU's, which is mapped.
        let [next, ip] = unsafe { words.read() };
        if !image::is_text(ip) {
            return;
        }
        print(format_args!("{}", Record::Frame { ip }));
        // Callers lie higher on the same stack; a trap leads to another one.
        if next <= rbp && stack.contains(&next) {
            return;
        }
        rbp = next;
    }
}
