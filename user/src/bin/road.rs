//! Goes each way into the kernel and back once, with all registers watched, and ends as it is told: [ENDING].
//!
//! `cargo xtask inject` stops each CPU on the way, at one instruction of the kernel's after the other, and strikes. The
//! program must not notice. Exit codes: 1, a register or a result was not what it has to be; 2, there is no such
//! ENDING; 3, the ending was survived. Every ENDING but `exit` has to end in the kernel killing the program.
#![cfg_attr(target_os = "none", no_std, no_main)]

use core::arch::asm;
use core::fmt;
use core::sync::atomic::Ordering;

use kernel_abi::errno::Errno;
use kernel_abi::syscall::{SYS_NULL, SYS_WRITE_SERIAL};
use user::patterns::{Difference, difference, patterns};
use user::registers::{Registers, over_loop, over_syscall};
use user::{ExitCode, args, println, shared_page, sys};

user::program!(run);

/// What came back is not what has to.
const DIFFERS: ExitCode = ExitCode(1);
/// The program is still there after its ending.
const SURVIVED: ExitCode = ExitCode(3);

/// Stack pointers of which none is a stack of this program's: null, the kernel's half, not canonical. The host adds
/// one in the shared page: the top of the stack that the CPU's NMIs have for themselves.
const STACK_POINTERS: [u64; 3] = [0, 0xffff_8000_0010_0000, 0x0000_8000_0000_0000];

/// Where a line that all of it can be read from lies.
static LINE: [u8; 40] = *b"road: a line that the kernel has to copy";

/// One line of the table of endings: a name, and instructions that end in an exception.
macro_rules! ending {
    ($name:literal, $($instruction:literal),+) => {
        ($name, || {
            // SAFETY: the instructions are there to be stopped by the CPU. If they are not, they change registers that
            // are listed, and the program ends.
            unsafe { asm!($($instruction),+, out("rax") _, out("rcx") _, out("rdx") _, out("r11") _) }
        })
    };
}

/// How one can end. The vector that follows stands beside each.
const ENDINGS: [(&str, fn()); 9] = [
    ("exit", || sys::exit(ExitCode::SUCCESS)),
    // #DB, behind a system call that leaves by `iretq`.
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
    ending!("div0", "xor eax, eax", "cdq", "div eax"), // #DE
    ending!("int3", "int3"),                           // #BP
    ending!("int4", "int 4"),                          // #OF
    ending!("ud2", "ud2"),                             // #UD
    ending!("gp", "hlt"),                              // #GP
    ending!("null", "xor eax, eax", "mov rax, [rax]"), // #PF
    // #MF: a division by zero that is not masked.
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

/// What was not as it should be.
enum Wrong {
    /// A register, over what.
    Register(&'static str, Difference),
    /// rax behind a call with this stack pointer.
    Result { rsp: u64, rax: u64 },
    /// rsp behind that call.
    Rsp { rsp: u64, got: u64 },
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wrong::Register(what, difference) => write!(f, "{what}: {difference}"),
            Wrong::Result { rsp, rax } => write!(f, "a call with rsp {rsp:#x} returned {rax:#x}"),
            Wrong::Rsp { rsp, got } => write!(f, "a call with rsp {rsp:#x} came back with rsp {got:#x}"),
        }
    }
}

fn run() -> ExitCode {
    let wanted = args().nth(1).unwrap_or(b"exit");
    let Some((name, end)) = ENDINGS.into_iter().find(|(name, _)| name.as_bytes() == wanted) else {
        println!("road: there is no ending '{}'", wanted.escape_ascii());
        return ExitCode::USAGE;
    };
    if let Err(wrong) = each_way() {
        println!("road: FAILED: {wrong}");
        return DIFFERS;
    }
    println!("road: every register came back; the end: {name}");
    end();
    println!("road: {name} was survived");
    SURVIVED
}

/// In the order in which the host waits for them (`scripts/xtask/src/inject/tour.rs`).
fn each_way() -> Result<(), Wrong> {
    let cpu = sys::get_cpu();
    let own = shared_page().word(cpu as usize).load(Ordering::Relaxed);
    for registers in patterns(cpu) {
        call("a call", &Registers { rax: SYS_NULL, ..registers }, 0)?;
    }
    for rsp in STACK_POINTERS.into_iter().chain([own]) {
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

/// Makes a system call with these registers, of which all but rax, rcx and r11 have to come back.
fn call(what: &'static str, registers: &Registers, result: u64) -> Result<(), Wrong> {
    // SAFETY: the calls made from here read memory at most; the patterns have TF clear and masked exceptions.
    let (before, after) = unsafe { over_syscall(registers) };
    let expected = Registers { rax: result, rcx: before.rip, r11: before.rflags, ..before };
    difference(&expected, &after).map_or(Ok(()), |difference| Err(Wrong::Register(what, difference)))
}

fn call_with_rsp(rsp: u64) -> Result<(), Wrong> {
    let (rax, got);
    // SAFETY: nothing between the two changes of rsp touches the stack; the call keeps all other registers.
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

/// Loops in ring 3, with all registers filled, until a tick has come.
fn tick(registers: &Registers) -> Result<(), Wrong> {
    let before = sys::ticks();
    while sys::ticks() == before {
        // SAFETY: the patterns have TF clear and masked exceptions.
        let (before, after) = unsafe { over_loop(&Registers { rcx: 1 << 16, ..*registers }) };
        if let Some(difference) = difference(&Registers { rcx: 0, ..before }, &after) {
            return Err(Wrong::Register("a tick", difference));
        }
    }
    Ok(())
}
