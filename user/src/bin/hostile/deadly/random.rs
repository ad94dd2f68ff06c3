//! Random bytes executed as code. Each offset is the entry point of a different program.

use rand_xoshiro::rand_core::Rng;

use crate::back::{FIXED_FLAGS, KEPT_FLAGS};
use crate::class::Class;
use crate::maker::{Maker, scratch, scratch_stack};
use crate::probe::{Code, Expect, Probe};
use crate::table::Group;
use crate::tame::tame;

/// The number of random bytes.
const LEN: usize = 32 * 1024;

/// Code pages of random bytes. The host tool finds them by symbol name and generates new bytes from the seed of each
/// run (`cargo xtask hostile`).
#[repr(align(4096))]
pub struct Bytes([u8; LEN]);

/// The random bytes. The last instruction is always a `syscall`.
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

/// Returns the address of the first byte.
pub fn start() -> u64 {
    (&raw const HOSTILE_RANDOM_CODE.0) as u64
}

/// Returns the address after the last byte.
pub fn end() -> u64 {
    start() + LEN as u64
}

/// Placeholder for the code at the end, which has no symbol of its own.
pub const CODE_AT_END: Code = crate::state::back;

/// Random code from a random offset. There are too many offsets for a table.
pub const PROGRAM: Group = Group { rows: 1, make: |maker, _| program(maker) };

fn program(maker: &mut Maker) -> Probe {
    let offset = maker.random.next_u64() % (LEN as u64 - 16);
    let mut probe = maker.probe(Class::Random, "random bytes at offset", offset, crate::state::back);
    probe.state.rip = start() + offset;
    probe.expect = Expect::Anyhow;
    // A `ret` jumps into the random bytes again.
    for index in 0..512 {
        let target = start() + maker.random.next_u64() % LEN as u64;
        // SAFETY: the scratch stack holds no Rust values, and only the probe being made uses it.
        unsafe { (*scratch())[index] = target };
    }
    let mut register = |register: &mut u64| match maker.random.next_u64() % 4 {
        0 => *register = scratch_stack() + maker.random.next_u64() % 256,
        1 => *register = start() + maker.random.next_u64() % LEN as u64,
        // Keep the random value.
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
