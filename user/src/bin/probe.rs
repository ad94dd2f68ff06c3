//! Attempts on every CPU an action that ring 3 must not be able to perform or to notice: KIND.
//!
//! If the action of a kind is forbidden, the kernel must kill the program. Exit codes: 0, no effect was noticed; 2,
//! invalid argument; 3, the program survived a forbidden action.
#![cfg_attr(target_os = "none", no_std, no_main)]

use core::arch::asm;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicU64, Ordering};

use kernel_abi::syscall::{SYS_EXIT, SYS_NULL};
use user::{ExitCode, args, print, println, shared_page, sys};

user::program!(run);

/// Exit code if the program survives a forbidden action.
const NO_CONSEQUENCE: ExitCode = ExitCode(3);

/// Duration, in ticks, of a probe that watches for a deviation.
const TICKS: u64 = 300;

/// Flags that ring 3 may set, and that must not stay in effect in ring 0: direction, nested task, alignment check.
const FLAGS: u64 = 0x4_4602;
/// TF and NT.
const STEP_NESTED: u64 = 0x4302;

/// A row of the table of kinds: a name and instructions that raise an exception.
macro_rules! probe {
    ($name:literal, $($instruction:literal),+) => {
        ($name, || {
            // SAFETY: the instructions raise an exception, which ends the program. If they raise none, they change no
            // memory that Rust uses: they write at most below the stack pointer.
            unsafe {
                asm!(
                    $($instruction,)+
                    out("rax") _, out("rcx") _, out("rdx") _, out("r11") _, out("rdi") _,
                );
            }
        })
    };
}

/// The kinds. Comments give the expected outcome.
const KINDS: [(&str, fn()); 17] = [
    // Each raises #GP because of UMIP.
    probe!("sgdt", "sgdt [rsp - 64]"),
    probe!("sidt", "sidt [rsp - 64]"),
    probe!("sldt", "sldt eax"),
    probe!("str", "str eax"),
    probe!("smsw", "smsw eax"),
    probe!("rdpmc", "xor ecx, ecx", "rdpmc"), // #GP
    // `wrgsbase rax`: #UD.
    probe!("wrgsbase", "xor eax, eax", ".byte 0xf3, 0x48, 0x0f, 0xae, 0xd8"),
    // Loads the first descriptor of an LDT. There must be no LDT: #GP.
    probe!("ldt", "mov eax, 7", "mov ds, eax"),
    // Sets flags before each kind of kernel entry. The kernel checks its own flags after the program has ended.
    ("flags-exit", flags_at_exit),
    ("flags-fault", flags_at_fault),
    ("flags-debug", flags_at_debug),
    // A call with NT and TF set, which returns by `iretq`; #DB follows.
    ("step-nested", step_with_nested_task),
    // For runs under NMI stress, which neither kind may notice.
    ("gs-base", gs_base_stays),
    ("calls", calls),
    // For runs in which another CPU panics, after which this CPU must print nothing.
    ("talk", talk),
    // For runs in which CPU 0 panics when its copy exits. The other copies then run in ring 3 and do not enter the
    // kernel by themselves, except for ticks.
    ("loop", loop_unless_on_cpu_0),
    // For runs that end in the firmware, which must not get these control words.
    ("fpu", exit_with_changed_fpu),
];

fn run() -> ExitCode {
    let kind = args().nth(1).unwrap_or_default();
    let Some((name, attempt)) = KINDS.into_iter().find(|(name, _)| name.as_bytes() == kind) else {
        print!("usage: probe KIND, KIND one of");
        for (name, _) in KINDS {
            print!(" {name}");
        }
        println!();
        return ExitCode::USAGE;
    };
    attempt();
    println!("probe: {name}: no exception was raised");
    NO_CONSEQUENCE
}

/// Ends the program while all flags that ring 3 may set are set.
fn flags_at_exit() {
    // SAFETY: the call does not return, so no code runs with these flags.
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
    // SAFETY: `ud2` ends the program, so no Rust code runs with these flags.
    unsafe { asm!("push {flags}", "popfq", "ud2", flags = const FLAGS, options(noreturn)) }
}

/// Raises #DB with `int1` while the flags are set. Unlike a single step, `int1` does not need TF.
fn flags_at_debug() {
    // SAFETY: the exception ends the program, so no Rust code runs with these flags.
    unsafe { asm!("push {flags}", "popfq", ".byte 0xf1", "ud2", flags = const FLAGS, options(noreturn)) }
}

fn step_with_nested_task() {
    // SAFETY: #DB ends the program after the call. If it does not, `popfq` restores the flags.
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

/// Checks that ring 3's GS base stays 0: a gs-relative access then reads the given address.
fn gs_base_stays() {
    static WORD: AtomicU64 = AtomicU64::new(0x0123_4567_89ab_cdef);
    let end = sys::ticks() + TICKS;
    while sys::ticks() < end {
        for _ in 0..10_000 {
            let word: u64;
            // SAFETY: reads a word of this program if the GS base is 0. Otherwise the read may fault, which ends the
            // program.
            unsafe {
                asm!("mov {word}, gs:[{at}]", word = out(reg) word, at = in(reg) &raw const WORD, options(nostack));
            }
            if word != WORD.load(Ordering::Relaxed) {
                println!("probe: FAILED: the word at the gs base is {word:#x}");
                return;
            }
        }
    }
    sys::exit(ExitCode::SUCCESS)
}

/// Prints continuously.
fn talk() {
    let end = sys::ticks() + TICKS;
    while sys::ticks() < end {
        println!("probe: a line that must not appear after another CPU's panic message");
    }
    sys::exit(ExitCode::SUCCESS)
}

/// Makes system calls that have no effect, so that NMIs hit the system-call path.
fn calls() {
    let end = sys::ticks() + TICKS;
    while sys::ticks() < end {
        for _ in 0..100 {
            sys::null();
        }
    }
    sys::exit(ExitCode::SUCCESS)
}

/// Loops forever without system calls. On CPU 0, exits once all others loop.
fn loop_unless_on_cpu_0() {
    let looping = shared_page().word(0);
    if sys::get_cpu() == 0 {
        while looping.load(Ordering::Relaxed) + 1 < sys::cpu_count() {
            spin_loop();
        }
        sys::exit(ExitCode::SUCCESS)
    }
    looping.fetch_add(1, Ordering::Relaxed);
    loop {
        spin_loop();
    }
}

/// Exits with other x87 and SSE control words than those at the start: rounding towards zero, flush to zero.
fn exit_with_changed_fpu() {
    let (fcw, mxcsr) = (0x0c7f_u16, 0xff80_u32);
    // SAFETY: all exceptions stay masked, and this program uses no floating-point numbers.
    unsafe {
        asm!("fldcw [{}]", "ldmxcsr [{}]", in(reg) &raw const fcw, in(reg) &raw const mxcsr, options(nostack));
    }
    sys::exit(ExitCode::SUCCESS)
}
