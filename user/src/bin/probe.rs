//! Tries one thing that ring 3 must not be able to do, or must not be able to notice, on every CPU: KIND.
//!
//! A kind that must be stopped ends in the kernel killing the program; exit code 3 means that nothing stopped it. A
//! kind that must go unnoticed ends with exit code 0. Exit code 2: the argument makes no sense.
#![cfg_attr(target_os = "none", no_std, no_main)]

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

use kernel_abi::syscall::{SYS_EXIT, SYS_NULL};
use user::{ExitCode, args, print, println, sys};

user::program!(run);

/// The program is still there after the deed.
const NO_CONSEQUENCE: ExitCode = ExitCode(3);

/// How many ticks a probe lasts that waits for something to go wrong.
const TICKS: u64 = 300;

/// Flags that ring 3 may set, and that must not be in force in ring 0: direction, nested task, alignment check.
const FLAGS: u64 = 0x4_4602;
/// Trap and nested task.
const STEP_NESTED: u64 = 0x4302;

/// One line of the table: a name, and instructions that end in an exception.
macro_rules! deed {
    ($name:literal, $($instruction:literal),+) => {
        ($name, || {
            // SAFETY: the instructions are there to be stopped by the CPU. If they are not, they leave memory that Rust
            // uses alone: they write at most to where nothing is, below the stack pointer.
            unsafe {
                asm!(
                    $($instruction,)+
                    out("rax") _, out("rcx") _, out("rdx") _, out("r11") _, out("rdi") _,
                );
            }
        })
    };
}

/// What one can ask for. What has to follow stands beside each.
const KINDS: [(&str, fn()); 15] = [
    // UMIP: #GP each.
    deed!("sgdt", "sgdt [rsp - 64]"),
    deed!("sidt", "sidt [rsp - 64]"),
    deed!("sldt", "sldt eax"),
    deed!("str", "str eax"),
    deed!("smsw", "smsw eax"),
    deed!("rdpmc", "xor ecx, ecx", "rdpmc"), // #GP
    // `wrgsbase rax`: #UD.
    deed!("wrgsbase", "xor eax, eax", ".byte 0xf3, 0x48, 0x0f, 0xae, 0xd8"),
    // The first descriptor of an LDT that must not be there: #GP.
    deed!("ldt", "mov eax, 7", "mov ds, eax"),
    // The flags on each way into ring 0. The kernel looks at its own when the program has ended.
    ("flags-exit", flags_at_exit),
    ("flags-fault", flags_at_fault),
    ("flags-debug", flags_at_debug),
    // A call with NT and TF set, which leaves by `iretq`: #DB behind it.
    ("step-nested", step_with_nested_task),
    // Under a storm of NMIs: neither must be noticed.
    ("gs-base", gs_base_stays),
    ("calls", calls),
    // Beside a CPU that panics: it must be silent.
    ("talk", talk),
];

fn run() -> ExitCode {
    let kind = args().nth(1).unwrap_or_default();
    let Some((name, deed)) = KINDS.into_iter().find(|(name, _)| name.as_bytes() == kind) else {
        print!("usage: probe KIND, KIND one of");
        for (name, _) in KINDS {
            print!(" {name}");
        }
        println!();
        return ExitCode::USAGE;
    };
    deed();
    println!("probe: {name}: nothing stopped it");
    NO_CONSEQUENCE
}

/// Ends the program with all flags set that it may set.
fn flags_at_exit() {
    // SAFETY: the call does not come back, so that nothing runs with these flags.
    unsafe {
        asm!(
            "push {flags}",
            "popfq",
            "syscall",
            "ud2",
            flags = const FLAGS,
            in("rax") SYS_EXIT,
            in("rdi") 0,
            options(noreturn),
        );
    }
}

fn flags_at_fault() {
    // SAFETY: does not come back, so that nothing runs with these flags.
    unsafe { asm!("push {flags}", "popfq", "ud2", flags = const FLAGS, options(noreturn)) }
}

/// `int1` is the one way to #DB that needs no flag.
fn flags_at_debug() {
    // SAFETY: as above.
    unsafe { asm!("push {flags}", "popfq", ".byte 0xf1", "ud2", flags = const FLAGS, options(noreturn)) }
}

fn step_with_nested_task() {
    // SAFETY: the trap comes behind the call; what it is made with is restored if not.
    unsafe {
        asm!(
            "pushfq",
            "push {flags}",
            "popfq",
            "syscall",
            "nop",
            "popfq",
            flags = const STEP_NESTED,
            inout("rax") SYS_NULL => _,
            out("rcx") _,
            out("r11") _,
        );
    }
}

/// Ring 3's GS base is 0: an address behind GS is the address.
fn gs_base_stays() {
    static WORD: AtomicU64 = AtomicU64::new(0x0123_4567_89ab_cdef);
    let end = sys::ticks() + TICKS;
    while sys::ticks() < end {
        for _ in 0..10_000 {
            let word: u64;
            // SAFETY: reads a word of this program's, if the base is what it should be; else faults.
            unsafe {
                asm!("mov {word}, gs:[{at}]", word = out(reg) word, at = in(reg) &raw const WORD, options(nostack));
            }
            if word != WORD.load(Ordering::Relaxed) {
                println!("probe: FAILED: behind GS lies {word:#x}");
                return;
            }
        }
    }
    sys::exit(ExitCode::SUCCESS)
}

/// One line after the other.
fn talk() {
    let end = sys::ticks() + TICKS;
    while sys::ticks() < end {
        println!("probe: a line that none should see after another CPU's last words");
    }
    sys::exit(ExitCode::SUCCESS)
}

/// System calls that do nothing, so that whatever strikes this CPU strikes on their way.
fn calls() {
    let end = sys::ticks() + TICKS;
    while sys::ticks() < end {
        for _ in 0..100 {
            sys::null();
        }
    }
    sys::exit(ExitCode::SUCCESS)
}
