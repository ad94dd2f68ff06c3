//! Does what a program must not do, on every CPU or on one: KIND [CPU].
//!
//! A copy on another CPU than the chosen one shows that it runs on undisturbed: a line, 1000 system calls, three ticks,
//! another line, exit code 0. Exit codes: 2, the arguments make no sense; 3, the deed had no consequence;
//! 7 and 101 are those of the kinds `exit-code` and `panic`. A kind `rsp-...` makes system calls and takes ticks with
//! a stack pointer that points to no stack of this program's, and must come back: exit code 0. Any other kind must
//! end in the kernel killing the program.
#![cfg_attr(target_os = "none", no_std, no_main)]

use core::arch::asm;
use core::fmt;

use kernel_abi::syscall::{SYS_GET_TICKS, SYS_NULL};
use user::{ExitCode, args, print, println, sys};

user::program!(run);

/// The exit code of the kind `exit-code`.
const EXIT_CODE: ExitCode = ExitCode(7);
/// The program is still there after the deed.
const NO_CONSEQUENCE: ExitCode = ExitCode(3);

/// One line of a table of deeds: a name, and instructions that take no operands.
macro_rules! deed {
    ($name:literal, $($instruction:literal),+) => {
        ($name, || {
            // SAFETY: the instructions are there to be stopped by the CPU. If one is not, it leaves memory that Rust
            // uses alone, and the registers that it changes are listed.
            unsafe {
                asm!($($instruction),+, out("rax") _, out("rcx") _, out("rdx") _, out("r11") _);
            }
        })
    };
}

/// What one can ask for. The vector that follows stands beside each.
const KINDS: [(&str, fn()); 28] = [
    deed!("div0", "xor eax, eax", "cdq", "div eax"), // #DE
    deed!("ud2", "ud2"),                             // #UD
    deed!("int3", "int3"),                           // #BP
    deed!("null", "xor eax, eax", "mov rax, [rax]"), // #PF
    deed!("kernel-read", "movabs rax, 0xffff800000000000", "mov rax, [rax]"), // #PF
    deed!("kernel-write", "movabs rax, 0xffff800000000000", "mov [rax], rax"), // #PF
    deed!("kernel-jump", "mov rax, 0xffffffff80000000", "jmp rax"), // #PF
    deed!("text-write", "lea rax, [rip]", "mov [rax], al"), // #PF
    deed!("stack-execute", "mov rax, rsp", "jmp rax"), // #PF
    deed!("stack", "2: call 2b"),                    // #PF, below the stack
    deed!("noreturn-sp", "xor esp, esp", "push rax"), // #PF, at the top of the kernel's half
    deed!("gp", "movabs rax, 0x800000000000", "mov rax, [rax]"), // #GP: the address is not canonical
    deed!("hlt", "hlt"),                             // #GP, as are the other privileged instructions
    deed!("cli", "cli"),
    deed!("in", "mov edx, 0x80", "in al, dx"),
    deed!("out", "mov edx, 0xf4", "mov eax, 0x10", "out dx, eax"), // would end the run with a pass
    deed!("rdmsr", "mov ecx, 0xc0000080", "rdmsr"),
    deed!("wrmsr", "mov ecx, 0xc0000080", "xor eax, eax", "xor edx, edx", "wrmsr"),
    deed!("mov-cr", "mov rax, cr0"),
    deed!("sysenter", "sysenter"), // #GP, or #UD where the vendor has none in long mode
    deed!("int80", "int 0x80"),
    deed!("int-timer", "int 0x20"),
    // #DB: the trap flag is set over a SYS_NULL, which the kernel must neither step through nor forget.
    deed!(
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
    ("rsp-zero", || with_rsp(0)),
    ("rsp-kernel", || with_rsp(0xffff_8000_0010_0000)),
    ("rsp-noncanonical", || with_rsp(0x0000_8000_0000_0000)),
    ("exit-code", || sys::exit(EXIT_CODE)),
    ("panic", || panic!("told to")),
];

fn run() -> ExitCode {
    let order = match parse(args().skip(1), sys::cpu_count()) {
        Ok(order) => order,
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
    if order.cpu.is_some_and(|cpu| cpu != sys::get_cpu()) {
        return stand_by();
    }
    (order.deed)();
    println!("fault: nothing happened");
    NO_CONSEQUENCE
}

/// What the arguments ask for.
#[derive(Debug)]
struct Order {
    deed: fn(),
    /// The one CPU that is to do it; none means all of them.
    cpu: Option<u64>,
}

/// What is wrong with the arguments.
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
            Usage::NoKind => f.write_str("it takes a KIND"),
            Usage::UnknownKind(kind) => write!(f, "there is no kind '{}'", kind.escape_ascii()),
            Usage::BadCpu(cpu) => write!(f, "'{}' is not the number of a CPU", cpu.escape_ascii()),
            Usage::TooMany => f.write_str("it takes two arguments at most"),
        }
    }
}

/// Reads the arguments behind the program's name.
fn parse<'a>(mut arguments: impl Iterator<Item = &'a [u8]>, cpu_count: u64) -> Result<Order, Usage<'a>> {
    let kind = arguments.next().ok_or(Usage::NoKind)?;
    let (_, deed) =
        KINDS.into_iter().find(|(name, _)| name.as_bytes() == kind).ok_or(Usage::UnknownKind(kind))?;
    let cpu = match arguments.next() {
        None => None,
        // A CPU that is not there would leave the deed undone and the run looking well.
        Some(cpu) => Some(args::number(cpu).filter(|&number| number < cpu_count).ok_or(Usage::BadCpu(cpu))?),
    };
    if arguments.next().is_some() { Err(Usage::TooMany) } else { Ok(Order { deed, cpu }) }
}

/// Makes 1000 system calls and lets three ticks pass while rsp has this value, and ends the program well.
fn with_rsp(rsp: u64) {
    let ticks: u64;
    // SAFETY: nothing between the two changes of rsp touches the stack: no push, no call, no signal; the system
    // calls read no memory and keep all registers but rax, rcx and r11.
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
    println!("fault: ran on to tick {ticks} with rsp {rsp:#x}");
    sys::exit(ExitCode::SUCCESS)
}

/// Runs on while another CPU's copy is being killed.
fn stand_by() -> ExitCode {
    let cpu = sys::get_cpu();
    println!("fault: cpu {cpu} stands by");
    for _ in 0..1000 {
        sys::null();
    }
    let end = sys::ticks() + 3;
    while sys::ticks() < end {
        core::hint::spin_loop();
    }
    println!("fault: cpu {cpu} ran on");
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed<'a>(arguments: &[&'a str]) -> Result<Option<u64>, Usage<'a>> {
        parse(arguments.iter().map(|argument| argument.as_bytes()), 4).map(|order| order.cpu)
    }

    #[test]
    fn a_kind_and_perhaps_a_cpu() {
        assert_eq!(parsed(&["div0"]), Ok(None));
        assert_eq!(parsed(&["exit-code", "3"]), Ok(Some(3)));
    }

    #[test]
    fn anything_else_is_named() {
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
