//! Constructs probes (see `probe`), with random values in every register that the probe does not set.

use core::cell::UnsafeCell;

use kernel_abi::layout::{PAGE_SIZE, SHARED_PAGE, STACK_SIZE, STACK_TOP, USER_END, USER_START};
use rand_xoshiro::Xoroshiro128PlusPlus;
use rand_xoshiro::rand_core::Rng;
use user::fpu::Fpu;

use crate::back::{Back, FIXED_FLAGS};
use crate::class::Class;
use crate::console::Console;
use crate::features::Features;
use crate::probe::{Code, Expect, Probe, address};
use crate::state::State;

/// A stack that no other code uses, for probes that need a valid stack.
#[repr(align(4096))]
struct Scratch(UnsafeCell<[u64; 512]>);

// SAFETY: a program has one thread, and these words hold no Rust values.
unsafe impl Sync for Scratch {}

static SCRATCH: Scratch = Scratch(UnsafeCell::new([0; 512]));

/// Returns the words of the scratch stack.
pub fn scratch() -> *mut [u64; 512] {
    SCRATCH.0.get()
}

/// Returns an address in the middle of the scratch stack, so that pushes and pops stay inside it.
pub fn scratch_stack() -> u64 {
    scratch() as u64 + PAGE_SIZE / 2
}

/// Start of the kernel half and of the physical map.
pub const PHYSICAL: u64 = 0xffff_8000_0000_0000;
/// Start of the kernel image.
pub const KERNEL: u64 = 0xffff_ffff_8000_0000;
/// Start of the per-CPU areas, which follow each other (`kernel/src/layout.rs`). A program may know these addresses: no
/// protection depends on their secrecy.
const PER_CPU: u64 = 0xffff_d000_0000_0000;
/// Size of one CPU's area.
const PER_CPU_STRIDE: u64 = 0x4_0000;
/// Offsets in an area: the ends of the stacks for system calls, NMI, #DB, #MC and #DF, and the start of the data block.
const STACK_ENDS: [u64; 6] = [0x1_0000, 0x1_8000, 0x2_0000, 0x2_8000, 0x3_0000, 0x3_8000];

/// The number of stack pointers that [`stack_pointer`] can return.
pub const STACK_POINTERS: u64 = 27;

/// Returns a stack pointer outside all stacks of the program.
pub fn stack_pointer(cpu: u64, index: u64) -> u64 {
    const PLAIN: [u64; 15] = [
        0,
        1,
        8,
        USER_START,
        SHARED_PAGE,
        SHARED_PAGE + PAGE_SIZE,
        // The lowest address of the stack, just above its guard page, and the page above the stack.
        STACK_TOP - STACK_SIZE,
        STACK_TOP + PAGE_SIZE,
        USER_END,
        (1 << 47) - 8,
        1 << 47,
        0xffff_7fff_ffff_fff8,
        PHYSICAL,
        PHYSICAL + 0x10_0000,
        KERNEL + 0x1000,
    ];
    let stacks = PLAIN.len() as u64;
    match index {
        0..15 => PLAIN[index as usize],
        // This CPU's kernel stacks, then those of the next CPU.
        _ => {
            let place = (index - stacks) as usize;
            let cpu = if place < STACK_ENDS.len() { cpu } else { cpu ^ 1 };
            PER_CPU + cpu * PER_CPU_STRIDE + STACK_ENDS[place % STACK_ENDS.len()] - 8
        }
    }
}

/// Selectors: null selectors, those of the GDT with RPL 0 and 3, LDT selectors, and selectors beyond the end of the
/// GDT.
pub const SELECTORS: [u64; 24] = [
    0, 1, 2, 3, 0x08, 0x0b, 0x10, 0x13, 0x18, 0x1b, 0x20, 0x23, 0x28, 0x2b, 0x30, 0x33, 0x38, 0x3b, 0x04,
    0x07, 0x0c, 0x1f, 0xfff8, 0xffff,
];

/// Constructs probes.
pub struct Maker {
    /// This CPU's index.
    pub cpu: u64,
    /// The number of CPUs.
    pub cpus: u64,
    /// This CPU's features.
    pub features: Features,
    /// This CPU's console line.
    pub console: Console,
    /// Source of random register values.
    pub random: Xoroshiro128PlusPlus,
}

impl Maker {
    /// Returns a probe that enters `code` with random registers and a valid stack.
    pub fn probe(&mut self, class: Class, name: &'static str, detail: u64, code: Code) -> Probe {
        let state = State { rip: address(code), rsp: scratch_stack(), ..self.poison() };
        Probe { class, name, detail, state, expect: Expect::Back(Back::unchanged(state.rflags)) }
    }

    /// Returns random registers, all too large to be valid arguments, and random arithmetic flags.
    fn poison(&mut self) -> State {
        let mut next = || self.random.next_u64() | 1 << 62;
        let mut state = State::filled(&mut next);
        state.rflags = next() & 0x8d5 | FIXED_FLAGS;
        self.poison_fpu(&mut state.fpu);
        state
    }

    /// Varies the x87 and SSE state: exceptions masked or unmasked, and with probability 1/4 a pending x87 exception.
    fn poison_fpu(&mut self, fpu: &mut Fpu) {
        let choice = self.random.next_u64();
        let mut next = || self.random.next_u64();
        fpu.xmm = [(); 16].map(|()| [next(), next()]);
        // Normalised numbers (leading bit set), the form in which the FPU itself stores them.
        fpu.st = [(); 8].map(|()| [next() | 1 << 63, 0x3fff | next() & 0x8000]);
        fpu.x87_tags = 0xff;
        // Random rounding mode and exception masks. The reserved bits of MXCSR stay clear.
        fpu.mxcsr = (choice >> 32) as u32 & 0xffbf;
        (fpu.x87_control, fpu.x87_status) = match choice & 3 {
            0 => PENDING,
            1 => (0x0f7f, 0x0000),
            2 => (0x007f, 0x0020),
            _ => (0x037f, 0x0041),
        };
    }
}

/// x87 control and status words with a pending, unmasked invalid-operation exception.
pub const PENDING: (u16, u16) = (0x0340, 0x8081);
