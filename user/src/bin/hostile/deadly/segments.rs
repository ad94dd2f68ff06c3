//! Segment registers: loads of every selector that ring 3 must not load.

use super::{dies, selector_error};
use crate::class::Class;
use crate::code;
use crate::maker::{SELECTORS, scratch, scratch_stack};
use crate::probe::{MakeCode, PROTECTION};
use crate::state::DATA;
use crate::table::Group;

/// Loads by `mov`; the last one loads SS.
const MOVE: [(&str, MakeCode); 5] = [
    ("mov ds", || code!("mov ds, ebx")),
    ("mov es", || code!("mov es, ebx")),
    ("mov fs", || code!("mov fs, ebx")),
    ("mov gs", || code!("mov gs, ebx")),
    ("mov ss", || code!("mov ss, ebx")),
];

/// Loads by `pop` of the two registers for which long mode has one.
const POP: [(&str, MakeCode); 2] = [("pop fs", || code!("pop fs")), ("pop gs", || code!("pop gs"))];

/// Number of selectors that no segment register accepts.
const FORBIDDEN: u64 = {
    let (mut count, mut index) = (0, 0);
    while index < SELECTORS.len() {
        if is_forbidden(SELECTORS[index]) {
            count += 1;
        }
        index += 1;
    }
    count
};

/// Returns whether a selector is neither null nor one of ring 3's own segments.
const fn is_forbidden(selector: u64) -> bool {
    !matches!(selector & !3, 0 | 0x18 | 0x20)
}

fn forbidden(index: u64) -> u64 {
    let mut selectors = SELECTORS.iter().copied().filter(|selector| is_forbidden(*selector));
    selectors.nth(index as usize).unwrap_or(0x08)
}

/// Selectors that all segment registers except SS accept.
const NOT_FOR_SS: [u64; 6] = [0, 3, 0x18, 0x1a, 0x20, 0x23];
const _: () = assert!(DATA == 0x1b, "SS accepts DATA, so it is not listed above");

/// `mov` to every segment register of every selector that it must not accept.
pub const MOVES: Group = Group {
    rows: MOVE.len() as u64 * FORBIDDEN + NOT_FOR_SS.len() as u64,
    make: |maker, row| {
        let (name, code, selector) = match NOT_FOR_SS.get(row as usize) {
            Some(selector) => (MOVE[4].0, MOVE[4].1, *selector),
            None => {
                let row = row - NOT_FOR_SS.len() as u64;
                let (name, code) = MOVE[(row / FORBIDDEN) as usize];
                (name, code, forbidden(row % FORBIDDEN))
            }
        };
        let fault = (PROTECTION, selector_error(selector));
        let mut probe = dies(maker, Class::Segments, name, selector, code(), fault);
        probe.state.rbx = selector;
        probe
    },
};

/// `pop` of every forbidden selector.
pub const POPS: Group = Group {
    rows: POP.len() as u64 * FORBIDDEN,
    make: |maker, row| {
        let (name, code) = POP[(row / FORBIDDEN) as usize];
        let selector = forbidden(row % FORBIDDEN);
        let fault = (PROTECTION, selector_error(selector));
        let probe = dies(maker, Class::Segments, name, selector, code(), fault);
        // SAFETY: the scratch stack holds no Rust values, and only the probe being made uses it.
        unsafe { (*scratch())[((scratch_stack() - scratch() as u64) / 8) as usize] = selector };
        probe
    },
};
