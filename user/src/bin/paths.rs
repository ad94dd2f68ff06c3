//! Takes each path into and out of the kernel once, and compares all registers: [ENDING].
//!
//! `cargo xtask inject` stops each CPU at every kernel instruction of these paths in turn and injects an event there.
//! This program must not notice any of the events. ENDING selects how it ends. With every ENDING except `exit` the
//! kernel must kill the program.
//!
//! Exit codes: 1, a register or a result differs from its expected value; 2, unknown ENDING; 3, the program survived
//! its ending.
#![cfg_attr(target_os = "none", no_std, no_main)]

use core::arch::asm;
use core::fmt;
use core::sync::atomic::Ordering;

use kernel_abi::errno::Errno;
use kernel_abi::syscall::{SYS_NULL, SYS_WRITE_SERIAL};
use user::patterns::{Difference, difference, patterns};
use user::registers::{Registers, run_loop, run_syscall};
use user::{ExitCode, args, println, shared_page, sys};

user::program!(run);

/// Exit code if a register or a result differs from its expected value.
const DIFFERS: ExitCode = ExitCode(1);
/// Exit code if the program survives its ending.
const SURVIVED: ExitCode = ExitCode(3);

/// Stack pointers outside this program's stack: null, in the kernel half, and non-canonical. `cargo xtask inject`
/// writes one more into the shared page: the top of the CPU's NMI stack.
const STACK_POINTERS: [u64; 3] = [0, 0xffff_8000_0010_0000, 0x0000_8000_0000_0000];

/// A line of readable memory for the calls that copy.
static LINE: [u8; 40] = *b"paths: a line that the kernel has copied";

/// A row of the table of endings: a name and instructions that raise an exception.
macro_rules! ending {
    ($name:literal, $($instruction:literal),+) => {
        ($name, || {
            // SAFETY: the instructions raise an exception, which ends the program. If they raise none, they change only
            // the registers listed here.
            unsafe { asm!($($instruction),+, out("rax") _, out("rcx") _, out("rdx") _, out("rsi") _, out("r11") _) }
        })
    };
}

/// The endings. Comments name the expected exceptions.
const ENDINGS: [(&str, fn()); 10] = [
    ("exit", || sys::exit(ExitCode::SUCCESS)),
    // #DB after a system call that returns by `iretq`.
    ending!(
        "step",
        "xor eax, eax",
        "pushfq",
        "or qword ptr [rsp], 0x100",
        "popfq",
        "syscall",
        "nop",
        "pushfq",
        "and qword ptr [rsp], -0x101",
        "popfq"
    ),
    // #DB after a write of no bytes, which is a system call with a frame handler.
    ending!(
        "step-frame",
        "mov eax, 1",
        "xor esi, esi",
        "pushfq",
        "or qword ptr [rsp], 0x100",
        "popfq",
        "syscall",
        "nop",
        "pushfq",
        "and qword ptr [rsp], -0x101",
        "popfq"
    ),
    ending!("div0", "xor eax, eax", "cdq", "div eax"), // #DE
    ending!("int3", "int3"),                           // #BP
    ending!("int4", "int 4"),                          // #OF
    ending!("ud2", "ud2"),                             // #UD
    ending!("gp", "hlt"),                              // #GP
    ending!("null", "xor eax, eax", "mov rax, [rax]"), // #PF
    // #MF: an unmasked division by zero.
    ending!(
        "x87",
        "fninit",
        "push 0x37b",
        "fldcw [rsp]",
        "pop rax",
        "fld1",
        "fldz",
        "fdivp st(1), st",
        "fwait"
    ),
];

/// A difference from the expected values.
enum Wrong {
    /// A register, and the kernel entry after which it differs.
    Register(&'static str, Difference),
    /// The result in rax of a call with this stack pointer.
    Result { rsp: u64, rax: u64 },
    /// The value of rsp after a call with this stack pointer.
    Rsp { rsp: u64, got: u64 },
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wrong::Register(what, difference) => write!(f, "{what}: {difference}"),
            Wrong::Result { rsp, rax } => write!(f, "a call with rsp {rsp:#x} returned {rax:#x}"),
            Wrong::Rsp { rsp, got } => write!(f, "a call with rsp {rsp:#x} returned with rsp {got:#x}"),
        }
    }
}

fn run() -> ExitCode {
    let wanted = args().nth(1).unwrap_or(b"exit");
    let Some((name, end)) = ENDINGS.into_iter().find(|(name, _)| name.as_bytes() == wanted) else {
        println!("paths: unknown ending '{}'", wanted.escape_ascii());
        return ExitCode::USAGE;
    };
    if let Err(wrong) = each_path() {
        println!("paths: FAILED: {wrong}");
        return DIFFERS;
    }
    println!("paths: every register was preserved; ending: {name}");
    end();
    println!("paths: the program survived {name}");
    SURVIVED
}

/// Takes the paths in the order in which the host tool waits for them (`scripts/inject/src/paths/mod.rs`).
fn each_path() -> Result<(), Wrong> {
    let cpu = sys::get_cpu();
    let nmi_stack = shared_page().word(cpu as usize).load(Ordering::Relaxed);
    for registers in patterns(cpu) {
        call("a call", &Registers { rax: SYS_NULL, ..registers }, 0)?;
    }
    for rsp in STACK_POINTERS.into_iter().chain([nmi_stack]) {
        call_with_rsp(rsp)?;
    }
    for registers in patterns(cpu) {
        let registers = Registers { rax: SYS_WRITE_SERIAL, rdi: LINE.as_ptr() as u64, rsi: 40, ..registers };
        call("a copy", &registers, 40)?;
        call("a copy that fails", &Registers { rdi: 1 << 46, ..registers }, Errno::Fault.to_rax())?;
        println!();
    }
    patterns(cpu).iter().try_for_each(tick)
}

/// Makes a system call with these registers. All except rax, rcx and r11 must be preserved.
fn call(what: &'static str, registers: &Registers, result: u64) -> Result<(), Wrong> {
    // SAFETY: the calls made through this function at most read memory; the patterns have TF clear and exceptions
    // masked.
    let (before, after) = unsafe { run_syscall(registers) };
    let expected = Registers { rax: result, rcx: before.rip, r11: before.rflags, ..before };
    difference(&expected, &after).map_or(Ok(()), |difference| Err(Wrong::Register(what, difference)))
}

fn call_with_rsp(rsp: u64) -> Result<(), Wrong> {
    let (rax, got);
    // SAFETY: no instruction between the two `xchg` uses the stack, and the call preserves all other registers.
    unsafe {
        asm!(
            "xchg rsp, {rsp}",
            "syscall",
            "xchg rsp, {rsp}",
            rsp = inout(reg) rsp => got,
            inout("rax") SYS_NULL => rax,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    match (rax, got) {
        (0, got) if got == rsp => Ok(()),
        (0, got) => Err(Wrong::Rsp { rsp, got }),
        (rax, _) => Err(Wrong::Result { rsp, rax }),
    }
}

/// Loops in ring 3 with all registers filled until a tick has arrived.
fn tick(registers: &Registers) -> Result<(), Wrong> {
    let before = sys::ticks();
    while sys::ticks() == before {
        // SAFETY: the patterns have TF clear and exceptions masked.
        let (before, after) = unsafe { run_loop(&Registers { rcx: 1 << 16, ..*registers }) };
        if let Some(difference) = difference(&Registers { rcx: 0, ..before }, &after) {
            return Err(Wrong::Register("a tick", difference));
        }
    }
    Ok(())
}
