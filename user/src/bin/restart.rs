//! Ends differently in each round of `repeat=N`, and looks for state of the previous round: [--spin].
//!
//! With `--spin` some rounds never end by themselves, which requires `limit_ticks=`. Exit codes: 1, a round found state
//! of the previous round, or `last=` does not match how that round ended; 2, invalid argument.
#![cfg_attr(target_os = "none", no_std, no_main)]

use core::arch::{asm, naked_asm};
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU64, Ordering};

use kernel_abi::layout::{STACK_SIZE, STACK_TOP};
use user::start::entry_registers;
use user::{ExitCode, args, println, sys};

user::program!(run);

/// Ring 3's data segment selector.
const USER_DATA: u16 = 0x1b;

/// A word of initialised memory, and a word of zeroed memory.
static DATA: AtomicU64 = AtomicU64::new(INITIAL);
static BSS: AtomicU64 = AtomicU64::new(0);
const INITIAL: u64 = 0x0123_4567_89ab_cdef;

/// How a round ends. The kinds alternate from round to round; each CPU counts its own rounds.
#[derive(Clone, Copy)]
enum Ending {
    Exit,
    InvalidOpcode,
    PageFault,
    GeneralProtection,
    Spin,
}

impl Ending {
    const ALL: [Ending; 5] =
        [Ending::Exit, Ending::InvalidOpcode, Ending::PageFault, Ending::GeneralProtection, Ending::Spin];

    /// Returns the ending of a round. It also depends on the CPU, so that CPUs end differently at the same time.
    fn of(round: u64, cpu: u64, spin: bool) -> Ending {
        let endings = if spin { &Ending::ALL[..] } else { &Ending::ALL[..4] };
        endings[((round + cpu) % endings.len() as u64) as usize]
    }

    fn execute(self) -> ! {
        match self {
            Ending::Exit => sys::exit(ExitCode::SUCCESS),
            Ending::InvalidOpcode => invalid_opcode(),
            Ending::PageFault => page_fault(),
            Ending::GeneralProtection => general_protection(),
            Ending::Spin => spin(),
        }
    }
}

/// The value that `last=` must have in the next round.
impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |instruction: extern "sysv64" fn() -> !| instruction as *const () as u64;
        match self {
            Ending::Exit => f.write_str("exited:0"),
            Ending::InvalidOpcode => write!(f, "killed:0x6:0x0:{:#x}:0x0", at(invalid_opcode)),
            // Error code 4: a read from ring 3 of an unmapped page.
            Ending::PageFault => write!(f, "killed:0xe:0x4:{:#x}:0x8", at(page_fault)),
            Ending::GeneralProtection => write!(f, "killed:0xd:0x0:{:#x}:0x0", at(general_protection)),
            Ending::Spin => f.write_str("limit"),
        }
    }
}

#[unsafe(naked)]
extern "sysv64" fn invalid_opcode() -> ! {
    naked_asm!("ud2")
}

#[unsafe(naked)]
extern "sysv64" fn page_fault() -> ! {
    naked_asm!("mov al, byte ptr ds:[8]")
}

#[unsafe(naked)]
extern "sysv64" fn general_protection() -> ! {
    naked_asm!("hlt")
}

#[unsafe(naked)]
extern "sysv64" fn spin() -> ! {
    naked_asm!("2:", "jmp 2b")
}

fn run() -> ExitCode {
    let spin = match args().nth(1) {
        None => false,
        Some(b"--spin") => true,
        Some(_) => {
            println!("usage: restart [--spin]");
            return ExitCode::USAGE;
        }
    };
    let number = |name| args::environment(name).and_then(args::number);
    let (Some(round), Some(rounds)) = (number("round"), number("rounds")) else {
        println!("restart: FAILED: the environment has no round= and rounds=");
        return ExitCode::FAILURE;
    };
    let cpu = sys::get_cpu();
    let found = check_last(round, cpu, spin).and_then(|()| fresh());
    if let Err(what) = found {
        println!("restart: FAILED: round {round}: {what}");
        return ExitCode::FAILURE;
    }
    if round + 1 == rounds {
        println!("restart: {rounds} rounds, each started from fresh state");
        return ExitCode::SUCCESS;
    }
    spoil();
    Ending::of(round, cpu, spin).execute()
}

/// Checks that `last=` is the ending of the previous round.
fn check_last(round: u64, cpu: u64, spin: bool) -> Result<(), &'static str> {
    let mut expected = Expected { text: args::environment("last").unwrap_or_default() };
    let same = match round {
        0 => write!(expected, "none"),
        _ => write!(expected, "{}", Ending::of(round - 1, cpu, spin)),
    };
    if same.is_err() || !expected.text.is_empty() {
        return Err("last= does not match how the previous round ended");
    }
    Ok(())
}

/// The part of the expected text that has not been compared yet. Text written here is compared with it.
struct Expected {
    text: &'static [u8],
}

impl fmt::Write for Expected {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.text = self.text.strip_prefix(text.as_bytes()).ok_or(fmt::Error)?;
        Ok(())
    }
}

/// Checks that everything changed by [`spoil`] and the previous round has its initial value again.
fn fresh() -> Result<(), &'static str> {
    if entry_registers().all().iter().any(|(_, got, guaranteed)| got != guaranteed) {
        return Err("a register does not have its initial value");
    }
    if segments() != [0; 4] {
        return Err("a data segment is not null");
    }
    if DATA.load(Ordering::Relaxed) != INITIAL || BSS.load(Ordering::Relaxed) != 0 {
        return Err("a static does not have its initial value");
    }
    if stack_bottom().load(Ordering::Relaxed) != 0 {
        return Err("the stack is not zeroed");
    }
    fpu_is_fresh()
}

fn segments() -> [u16; 4] {
    let (ds, es, fs, gs);
    // SAFETY: only reads selectors.
    unsafe {
        asm!("mov {:x}, ds", "mov {:x}, es", "mov {:x}, fs", "mov {:x}, gs", out(reg) ds, out(reg) es,
            out(reg) fs, out(reg) gs, options(nomem, nostack, preserves_flags));
    }
    [ds, es, fs, gs]
}

/// The lowest word of the stack, which this program does not otherwise use.
fn stack_bottom() -> &'static AtomicU64 {
    let word = core::ptr::with_exposed_provenance::<AtomicU64>((STACK_TOP - STACK_SIZE) as usize);
    // SAFETY: the kernel maps the entire stack, and no frame of this program reaches its lowest word.
    unsafe { &*word }
}

/// An FXSAVE image (SDM 1, 10.5.1).
#[repr(C, align(16))]
struct FpuImage([u8; 512]);

/// Checks that the control words have their reset values and that all registers are empty and zero.
fn fpu_is_fresh() -> Result<(), &'static str> {
    let mut image = FpuImage([0; 512]);
    // SAFETY: writes 512 bytes, the size of the image, which is 16-byte aligned.
    unsafe { asm!("fxsave64 [{}]", in(reg) &raw mut image, options(nostack, preserves_flags)) };
    let control = image.0[..5] == [0x7f, 0x03, 0, 0, 0] && image.0[24..28] == 0x1f80_u32.to_le_bytes();
    if !control || image.0[32..416].iter().any(|&byte| byte != 0) {
        return Err("x87 or SSE state is not the reset state");
    }
    Ok(())
}

/// Changes all state that the next round checks.
fn spoil() {
    DATA.store(!INITIAL, Ordering::Relaxed);
    BSS.store(u64::MAX, Ordering::Relaxed);
    stack_bottom().store(u64::MAX, Ordering::Relaxed);
    let mut image = FpuImage([0x5a; 512]);
    // Mask all exceptions.
    image.0[..2].copy_from_slice(&0x027f_u16.to_le_bytes());
    image.0[24..28].copy_from_slice(&0x3f80_u32.to_le_bytes());
    // SAFETY: reads 512 bytes, the size of the image, which is 16-byte aligned. Compiled code uses neither x87 nor SSE.
    // The segment bases stay 0, as compiled code assumes.
    unsafe {
        asm!(
            "fxrstor64 [{image}]",
            "mov ds, {segment:e}",
            "mov es, {segment:e}",
            "mov fs, {segment:e}",
            "mov gs, {segment:e}",
            image = in(reg) &raw const image,
            segment = in(reg) u32::from(USER_DATA),
            options(nostack, preserves_flags),
        );
    }
}
