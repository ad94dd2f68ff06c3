//! Causes a fault on every CPU or on one CPU: KIND [CPU].
//!
//! If CPU is given, the copies on the other CPUs show that they are not affected: each prints a line, makes 1000 system
//! calls, waits for three ticks, prints another line and exits with code 0.
//!
//! A kind `rsp-...` makes system calls and takes ticks with a stack pointer outside this program's stack. It must
//! survive and exit with code 0. With any other kind except `exit-code` and `panic` the kernel must kill the program.
//!
//! Exit codes: 2, invalid arguments; 3, the fault had no effect; 7, kind `exit-code`; 101, kind `panic`.
#![cfg_attr(target_os = "none", no_std, no_main)]

use core::arch::asm;
use core::fmt;

use kernel_abi::syscall::{SYS_GET_TICKS, SYS_NULL};
use user::{ExitCode, args, print, println, sys};

user::program!(run);

/// Exit code of the kind `exit-code`.
const EXIT_CODE: ExitCode = ExitCode(7);
/// Exit code if the program survives the fault.
const NO_CONSEQUENCE: ExitCode = ExitCode(3);

/// A row of the table of faults: a name and instructions without operands.
macro_rules! fault {
    ($name:literal, $($instruction:literal),+) => {
        ($name, || {
            // SAFETY: the instructions raise an exception, which ends the program. If they raise none, they change no
            // memory that Rust uses and only the registers listed here.
            unsafe {
                asm!($($instruction),+, out("rax") _, out("rcx") _, out("rdx") _, out("r11") _);
            }
        })
    };
}

/// The fault kinds. The comment on a row names the expected exception.
const KINDS: [(&str, fn()); 30] = [
    fault!("div0", "xor eax, eax", "cdq", "div eax"), // #DE
    fault!("ud2", "ud2"),                             // #UD
    fault!("int3", "int3"),                           // #BP
    fault!("null", "xor eax, eax", "mov rax, [rax]"), // #PF
    fault!("kernel-read", "movabs rax, 0xffff800000000000", "mov rax, [rax]"), // #PF
    fault!("kernel-write", "movabs rax, 0xffff800000000000", "mov [rax], rax"), // #PF
    fault!("kernel-jump", "mov rax, 0xffffffff80000000", "jmp rax"), // #PF
    fault!("text-write", "lea rax, [rip]", "mov [rax], al"), // #PF
    fault!("stack-execute", "mov rax, rsp", "jmp rax"), // #PF
    fault!("stack", "2: call 2b"),                    // #PF below the stack
    fault!("push-at-rsp-zero", "xor esp, esp", "push rax"), // #PF at the top of the kernel half
    fault!("gp", "movabs rax, 0x800000000000", "mov rax, [rax]"), // #GP: non-canonical address
    fault!("hlt", "hlt"),                             // #GP, like the other privileged instructions
    fault!("cli", "cli"),
    fault!("in", "mov edx, 0x80", "in al, dx"),
    fault!("out", "mov edx, 0xf4", "mov eax, 0x10", "out dx, eax"), // if it were permitted, the run would pass
    fault!("rdmsr", "mov ecx, 0xc0000080", "rdmsr"),
    fault!("wrmsr", "mov ecx, 0xc0000080", "xor eax, eax", "xor edx, edx", "wrmsr"),
    fault!("mov-cr", "mov rax, cr0"),
    fault!("sysenter", "sysenter"), // #GP, or #UD on CPUs without SYSENTER in long mode
    fault!("int80", "int 0x80"),
    fault!("int-timer", "int 0x20"),
    // #DB: the trap flag is set across a SYS_NULL. The kernel must neither be single-stepped nor lose the flag.
    fault!(
        "tf",
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
    // #UD: a call with the trap flag set returns by `iretq`, which executes one instruction before the trap. `sysretq`
    // would trap before it. The second one is a call with a frame handler.
    fault!("tf-null", "xor eax, eax", "pushfq", "or qword ptr [rsp], 0x100", "popfq", "syscall", "ud2"),
    fault!(
        "tf-write",
        "mov eax, 1",
        "xor esi, esi",
        "pushfq",
        "or qword ptr [rsp], 0x100",
        "popfq",
        "syscall",
        "ud2"
    ),
    ("rsp-zero", || with_rsp(0)),
    ("rsp-kernel", || with_rsp(0xffff_8000_0010_0000)),
    ("rsp-noncanonical", || with_rsp(0x0000_8000_0000_0000)),
    ("exit-code", || sys::exit(EXIT_CODE)),
    ("panic", || panic!("requested")),
];

fn run() -> ExitCode {
    let options = match parse(args().skip(1), sys::cpu_count()) {
        Ok(options) => options,
        Err(message) => {
            println!("fault: {message}");
            print!("usage: fault KIND [CPU], KIND one of");
            for (name, _) in KINDS {
                print!(" {name}");
            }
            println!();
            return ExitCode::USAGE;
        }
    };
    if options.cpu.is_some_and(|cpu| cpu != sys::get_cpu()) {
        return stand_by();
    }
    (options.fault)();
    println!("fault: the fault had no effect");
    NO_CONSEQUENCE
}

/// Parsed arguments.
#[derive(Debug)]
struct Options {
    fault: fn(),
    /// The CPU that causes the fault; `None` selects all CPUs.
    cpu: Option<u64>,
}

/// An error in the arguments.
#[derive(Debug, PartialEq, Eq)]
enum Usage<'a> {
    NoKind,
    UnknownKind(&'a [u8]),
    BadCpu(&'a [u8]),
    TooMany,
}

impl fmt::Display for Usage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Usage::NoKind => f.write_str("KIND is missing"),
            Usage::UnknownKind(kind) => write!(f, "unknown kind '{}'", kind.escape_ascii()),
            Usage::BadCpu(cpu) => write!(f, "'{}' is not the index of a CPU", cpu.escape_ascii()),
            Usage::TooMany => f.write_str("too many arguments"),
        }
    }
}

/// Parses the arguments that follow the program's name.
fn parse<'a>(mut arguments: impl Iterator<Item = &'a [u8]>, cpu_count: u64) -> Result<Options, Usage<'a>> {
    let kind = arguments.next().ok_or(Usage::NoKind)?;
    let (_, fault) =
        KINDS.into_iter().find(|(name, _)| name.as_bytes() == kind).ok_or(Usage::UnknownKind(kind))?;
    let cpu = match arguments.next() {
        None => None,
        // If the CPU did not exist, no copy would cause the fault, and the run would pass.
        Some(cpu) => Some(args::number(cpu).filter(|&number| number < cpu_count).ok_or(Usage::BadCpu(cpu))?),
    };
    if arguments.next().is_some() { Err(Usage::TooMany) } else { Ok(Options { fault, cpu }) }
}

/// Makes 1000 system calls and waits for three ticks while rsp has this value, then exits with code 0.
fn with_rsp(rsp: u64) {
    let ticks: u64;
    // SAFETY: no instruction between the two `xchg` uses the stack. The system calls read no memory and preserve all
    // registers except rax, rcx and r11.
    unsafe {
        asm!(
            "xchg rsp, {rsp}",
            "2:",
            "mov eax, {null}",
            "syscall",
            "dec {count:e}",
            "jnz 2b",

            "mov eax, {get_ticks}",
            "syscall",
            "lea {end}, [rax + 3]",
            "3:",
            "pause",
            "mov eax, {get_ticks}",
            "syscall",
            "cmp rax, {end}",
            "jb 3b",
            "xchg rsp, {rsp}",
            rsp = inout(reg) rsp => _,
            count = inout(reg) 1000 => _,
            end = out(reg) _,
            null = const SYS_NULL,
            get_ticks = const SYS_GET_TICKS,
            out("rax") ticks,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    println!("fault: survived until tick {ticks} with rsp {rsp:#x}");
    sys::exit(ExitCode::SUCCESS)
}

/// Keeps running while the copy on another CPU is killed.
fn stand_by() -> ExitCode {
    let cpu = sys::get_cpu();
    println!("fault: cpu {cpu} keeps running");
    for _ in 0..1000 {
        sys::null();
    }
    let end = sys::ticks() + 3;
    while sys::ticks() < end {
        core::hint::spin_loop();
    }
    println!("fault: cpu {cpu} ran to completion");
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed<'a>(arguments: &[&'a str]) -> Result<Option<u64>, Usage<'a>> {
        parse(arguments.iter().map(|argument| argument.as_bytes()), 4).map(|options| options.cpu)
    }

    #[test]
    fn kind_and_optional_cpu_are_parsed() {
        assert_eq!(parsed(&["div0"]), Ok(None));
        assert_eq!(parsed(&["exit-code", "3"]), Ok(Some(3)));
    }

    #[test]
    fn invalid_arguments_are_named() {
        assert_eq!(parsed(&[]), Err(Usage::NoKind));
        assert_eq!(parsed(&["div"]), Err(Usage::UnknownKind(b"div")));
        assert_eq!(parsed(&["div0", "all"]), Err(Usage::BadCpu(b"all")));
        assert_eq!(parsed(&["div0", "4"]), Err(Usage::BadCpu(b"4")));
        assert_eq!(parsed(&["div0", "0", "1"]), Err(Usage::TooMany));
    }

    #[test]
    fn names_are_distinct() {
        for (index, (name, _)) in KINDS.iter().enumerate() {
            assert!(KINDS[..index].iter().all(|(other, _)| other != name), "{name}");
        }
    }
}
