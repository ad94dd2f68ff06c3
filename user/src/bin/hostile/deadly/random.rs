//! Random bytes as code: each offset is the entry point of a different program.

use rand_xoshiro::rand_core::Rng;

use crate::back::{FIXED_FLAGS, KEPT_FLAGS};
use crate::class::Class;
use crate::maker::{Maker, scratch, scratch_stack};
use crate::probe::{Code, Expect, Probe};
use crate::table::Group;
use crate::tame::tame;

/// The number of bytes.
const LEN: usize = 32 * 1024;

/// Pages of code; the host tool finds them by name and regenerates them from the seed of each run
/// (`cargo xtask hostile`).
#[repr(align(4096))]
pub struct Bytes([u8; LEN]);

/// The last instruction is a `syscall`, whatever the rest is.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".code_last")]
#[used]
static HOSTILE_RANDOM_CODE: Bytes = Bytes({
    let mut bytes = [0; LEN];
    let (mut at, mut state) = (0, 0x9e37_79b9_7f4a_7c15_u64);
    while at < LEN {
        // xorshift64 (Marsaglia, 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes[at] = (state >> 32) as u8;
        at += 1;
    }
    tame(&mut bytes);
    bytes
});

/// The first byte's address.
pub fn start() -> u64 {
    (&raw const HOSTILE_RANDOM_CODE.0) as u64
}

/// One past the last byte's address.
pub fn end() -> u64 {
    start() + LEN as u64
}

/// Stands for the code at the end, which has no symbol of its own.
pub const CODE_AT_END: Code = crate::state::back;

/// One program. There are too many for a table.
pub const PROGRAM: Group = Group { rows: 1, make: |maker, _| program(maker) };

fn program(maker: &mut Maker) -> Probe {
    let offset = maker.random.next_u64() % (LEN as u64 - 16);
    let mut probe = maker.probe(Class::Random, "random bytes at offset", offset, crate::state::back);
    probe.state.rip = start() + offset;
    probe.expect = Expect::Anyhow;
    // Returns continue in the random bytes.
    for index in 0..512 {
        let target = start() + maker.random.next_u64() % LEN as u64;
        // SAFETY: the scratch memory holds no Rust values; only the probe being made uses it.
        unsafe { (*scratch())[index] = target };
    }
    let mut register = |register: &mut u64| match maker.random.next_u64() % 4 {
        0 => *register = scratch_stack() + maker.random.next_u64() % 256,
        1 => *register = start() + maker.random.next_u64() % LEN as u64,
        // Left at their random values.
        _ => {}
    };
    let state = &mut probe.state;
    for place in [
        &mut state.rbx,
        &mut state.rcx,
        &mut state.rdx,
        &mut state.rsi,
        &mut state.rdi,
        &mut state.rbp,
        &mut state.r8,
        &mut state.r9,
        &mut state.r12,
        &mut state.r15,
    ] {
        register(place);
    }
    state.rflags = maker.random.next_u64() & KEPT_FLAGS | FIXED_FLAGS;
    probe
}
