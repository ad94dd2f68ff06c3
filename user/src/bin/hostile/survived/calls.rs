//! Flags and stack pointers that ring 3 may set, and that system calls and interrupts must preserve.

use kernel_abi::syscall::{SYS_GET_CPU, SYS_NULL, TABLE_LEN};
use rand_xoshiro::rand_core::Rng;

use super::{call, expect_call};
use crate::back::{Back, FIXED_FLAGS, Value};
use crate::class::Class;
use crate::code;
use crate::maker::{STACK_POINTERS, stack_pointer};
use crate::probe::{Expect, Probe};
use crate::table::Group;

/// The preserved flags: carry, parity, adjust, zero, sign, direction, overflow, nested task, alignment check,
/// identification.
const KEPT: [u64; 10] = [1, 1 << 2, 1 << 4, 1 << 6, 1 << 7, 1 << 10, 1 << 11, 1 << 14, 1 << 18, 1 << 21];
/// Flags that ring 3 can only try to set: none; IOPL 3; resume; virtual-8086 mode and the virtual interrupt flags.
/// Other rows leave IF clear, to try to disable interrupts.
const INEFFECTIVE: [u64; 4] = [0, 3 << 12, 1 << 16, 1 << 17 | 1 << 19 | 1 << 20];
/// IF.
const IF: u64 = 1 << 9;

/// Flags for probes that do not test flags: none set, and flags that would have an effect in ring 0, alone and
/// together.
pub const FLAG_SAMPLES: [u64; 8] = [
    FIXED_FLAGS,
    FIXED_FLAGS | 1 << 10,
    FIXED_FLAGS | 1 << 14,
    FIXED_FLAGS | 1 << 18,
    FIXED_FLAGS | 1 << 21,
    FIXED_FLAGS | 3 << 12,
    FIXED_FLAGS & !IF,
    FIXED_FLAGS | 0x24_7cd5,
];

/// Calls that return: one without effect, one with a known result, and one with an unassigned number.
const CALLS: [u64; 3] = [SYS_NULL, SYS_GET_CPU, TABLE_LEN as u64];

/// System calls with every set of preserved flags, combined with every set that has no effect.
pub const FLAGS: Group = Group {
    rows: (1 << KEPT.len()) * INEFFECTIVE.len() as u64 * 2,
    make: |maker, row| {
        let (set, rest) = (row % (1 << KEPT.len()), row >> KEPT.len());
        let chosen = KEPT.iter().enumerate().filter(|(bit, _)| set >> bit & 1 != 0);
        let kept = chosen.fold(0, |flags, (_, flag)| flags | flag);
        let flags = kept | INEFFECTIVE[(rest / 2) as usize] | if rest % 2 == 0 { FIXED_FLAGS } else { 2 };
        let number = CALLS[(maker.random.next_u64() % 3) as usize];
        let mut probe = call(maker, Class::Flags, "flags across system call", number, number, [0; 2]);
        probe.state.rflags = flags;
        expect_call(maker, probe)
    },
};

/// System calls with every stack pointer.
pub const STACKS: Group = Group {
    rows: STACK_POINTERS * (FLAG_SAMPLES.len() * CALLS.len()) as u64,
    make: |maker, row| {
        let rest = row / STACK_POINTERS;
        let number = CALLS[rest as usize / FLAG_SAMPLES.len()];
        let mut probe =
            call(maker, Class::Stacks, "stack pointer across system call", number, number, [0; 2]);
        probe.state.rsp = stack_pointer(maker.cpu, row % STACK_POINTERS);
        probe.state.rflags = FLAG_SAMPLES[rest as usize % FLAG_SAMPLES.len()];
        expect_call(maker, probe)
    },
};

/// Loops without system calls, with these flags and stack pointers. One loop in four is long enough for ticks.
pub const TICKS: Group = Group {
    rows: STACK_POINTERS * FLAG_SAMPLES.len() as u64,
    make: |maker, row| {
        let rounds = if row.is_multiple_of(4) { 400_000 } else { 500 };
        let code = code!("2: jrcxz 3f", "lea rcx, [rcx - 1]", "jmp 2b", "3:");
        let mut probe = maker.probe(Class::Ticks, "loop of rounds", rounds, code);
        probe.state.rcx = rounds;
        probe.state.rsp = stack_pointer(maker.cpu, row % STACK_POINTERS);
        probe.state.rflags = FLAG_SAMPLES[(row / STACK_POINTERS) as usize];
        let kept = Back::unchanged(probe.state.rflags);
        Probe { expect: Expect::Back(Back { rcx: Value::Is(0), ..kept }), ..probe }
    },
};
