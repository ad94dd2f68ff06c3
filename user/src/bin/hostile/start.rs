//! What a copy finds when it starts: nothing of the kernel's, and nothing of the copy that died before it.

use core::arch::asm;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU64, Ordering};

use user::fpu::Fpu;
use user::start::entry_registers;

use crate::back::{Back, Difference};
use crate::state::State;

/// Memory that each copy finds as its file has it, and that each copy changes.
static INITIAL: AtomicU64 = AtomicU64::new(INITIAL_VALUE);
/// What it is in the file.
const INITIAL_VALUE: u64 = 0x0123_4567_89ab_cdef;

/// The same, zero.
struct Zeroed(UnsafeCell<[u64; 1024]>);

// SAFETY: a program is one thread, and only `first_difference` uses it.
unsafe impl Sync for Zeroed {}

static ZEROED: Zeroed = Zeroed(UnsafeCell::new([0; 1024]));

/// The first thing that is not as it has to be. To be called before any code has changed x87 or SSE registers.
pub fn first_difference() -> Option<Difference> {
    registers().into_iter().chain(segments()).chain(fpu()).chain(memory()).find(|it| it.expected != it.got)
}

fn registers() -> [Difference; 16] {
    entry_registers().all().map(|(register, got, expected)| Difference { register, expected, got })
}

/// Selectors, and the bases behind FS and GS: 0, so that an address behind them is the address.
fn segments() -> [Difference; 6] {
    let (ds, es, fs, gs): (u64, u64, u64, u64);
    let (behind_fs, behind_gs): (u64, u64);
    // SAFETY: reads segment registers, and a word of this program's if the bases are what they should be; else it reads
    // another word, or the copy is killed, which the next one reports.
    unsafe {
        asm!(
            "mov {ds:r}, ds",
            "mov {es:r}, es",
            "mov {fs:r}, fs",
            "mov {gs:r}, gs",
            "mov {behind_fs}, fs:[{at}]",
            "mov {behind_gs}, gs:[{at}]",
            ds = out(reg) ds,
            es = out(reg) es,
            fs = out(reg) fs,
            gs = out(reg) gs,
            behind_fs = lateout(reg) behind_fs,
            behind_gs = lateout(reg) behind_gs,
            at = in(reg) &raw const INITIAL,
            options(nostack, preserves_flags),
        );
    }
    let initial = INITIAL.load(Ordering::Relaxed);
    [
        ("ds", ds, 0),
        ("es", es, 0),
        ("fs", fs, 0),
        ("gs", gs, 0),
        ("a word behind fs", behind_fs, initial),
        ("a word behind gs", behind_gs, initial),
    ]
    .map(|(register, got, expected)| Difference { register, expected, got })
}

fn fpu() -> Option<Difference> {
    let mut state = State::ZERO;
    // SAFETY: writes 512 bytes, which is what `Fpu` has, 16-byte aligned as it is.
    unsafe { asm!("fxsave64 [{}]", in(reg) &raw mut state.fpu, options(nostack, preserves_flags)) };
    let start = State { fpu: Fpu::RESET, ..State::ZERO };
    Back::unchanged(start.rflags).difference(&start, &state)
}

/// Looks at memory, and changes it for whoever comes next.
fn memory() -> [Difference; 2] {
    let initial = INITIAL.swap(!INITIAL_VALUE, Ordering::Relaxed);
    // SAFETY: nobody else uses it, and this is called once.
    let zeroed = unsafe { &mut *ZEROED.0.get() };
    let sum = zeroed.iter().fold(0, |sum, word| sum | word);
    zeroed.fill(u64::MAX);
    // So that the words are written although nobody reads them again.
    core::hint::black_box(&*zeroed);
    let pair = |register, expected, got| Difference { register, expected, got };
    [pair("initialised memory", INITIAL_VALUE, initial), pair("zeroed memory", 0, sum)]
}
