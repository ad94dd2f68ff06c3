//! The initial state of a copy of the program. It must contain no data of the kernel and none of the previous copy.

use core::arch::asm;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU64, Ordering};

use user::fpu::Fpu;
use user::start::entry_registers;

use crate::back::{Back, Difference};
use crate::state::State;

/// Initialised memory. Each copy must find the value from the program file, and then overwrites it.
static INITIAL: AtomicU64 = AtomicU64::new(INITIAL_VALUE);
/// The value of `INITIAL` in the program file.
const INITIAL_VALUE: u64 = 0x0123_4567_89ab_cdef;

/// Zeroed memory. Each copy must find zeros, and then overwrites them.
struct Zeroed(UnsafeCell<[u64; 1024]>);

// SAFETY: a program has one thread, and only `first_difference` accesses this memory.
unsafe impl Sync for Zeroed {}

static ZEROED: Zeroed = Zeroed(UnsafeCell::new([0; 1024]));

/// Returns the first difference from the expected initial state. Call it before any code changes x87 or SSE registers.
pub fn first_difference() -> Option<Difference> {
    registers().into_iter().chain(segments()).chain(fpu()).chain(memory()).find(|it| it.expected != it.got)
}

fn registers() -> [Difference; 16] {
    entry_registers().all().map(|(register, got, expected)| Difference { register, expected, got })
}

/// Checks the selectors, and checks that the FS and GS bases are 0: an fs- or gs-relative access must read the given
/// address.
fn segments() -> [Difference; 6] {
    let (ds, es, fs, gs): (u64, u64, u64, u64);
    let (fs_word, gs_word): (u64, u64);
    // SAFETY: reads segment registers and, if the bases are correct, a word of this program. Otherwise it reads another
    // word, or the copy is killed, which the next copy reports.
    unsafe {
        asm!(
            "mov {ds:r}, ds",
            "mov {es:r}, es",
            "mov {fs:r}, fs",
            "mov {gs:r}, gs",
            "mov {fs_word}, fs:[{at}]",
            "mov {gs_word}, gs:[{at}]",
            ds = out(reg) ds,
            es = out(reg) es,
            fs = out(reg) fs,
            gs = out(reg) gs,
            fs_word = lateout(reg) fs_word,
            gs_word = lateout(reg) gs_word,
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
        ("a word at the fs base", fs_word, initial),
        ("a word at the gs base", gs_word, initial),
    ]
    .map(|(register, got, expected)| Difference { register, expected, got })
}

fn fpu() -> Option<Difference> {
    let mut state = State::ZERO;
    // SAFETY: writes 512 bytes, the size of `Fpu`, which is 16-byte aligned.
    unsafe { asm!("fxsave64 [{}]", in(reg) &raw mut state.fpu, options(nostack, preserves_flags)) };
    let start = State { fpu: Fpu::RESET, ..State::ZERO };
    Back::unchanged(start.rflags).difference(&start, &state)
}

/// Checks memory, then overwrites it, so that the next copy can check it.
fn memory() -> [Difference; 2] {
    let initial = INITIAL.swap(!INITIAL_VALUE, Ordering::Relaxed);
    // SAFETY: no other code accesses this memory, and this function is called once.
    let zeroed = unsafe { &mut *ZEROED.0.get() };
    let sum = zeroed.iter().fold(0, |sum, word| sum | word);
    zeroed.fill(u64::MAX);
    // Keep the compiler from removing stores that are never read.
    core::hint::black_box(&*zeroed);
    let pair = |register, expected, got| Difference { register, expected, got };
    [pair("initialised memory", INITIAL_VALUE, initial), pair("zeroed memory", 0, sum)]
}
