//! Far transfers to every selector, `iretq` to every code and stack segment, and transfers to non-canonical addresses.

use super::{GP, dies, page_error, pf, selector_error};
use crate::class::Class;
use crate::code;
use crate::maker::{Maker, SELECTORS, scratch, scratch_stack};
use crate::probe::{Code, Death, Expect, PROTECTION, Probe, address};
use crate::state::{CODE, DATA, go};
use crate::table::Group;

/// Target of far transfers with a valid selector: an unmapped address that fits in 32 bits.
const NOWHERE: u64 = 0x2000;

/// Far jumps with the target in memory.
pub const JUMPS: Group = Group {
    rows: SELECTORS.len() as u64,
    make: |maker, row| through_memory(maker, "far jmp", code!(".byte 0xff, 0x2b"), SELECTORS[row as usize]),
};

/// Far calls with the target in memory. They exclude ring 3's own code segment, as QEMU truncates the pushed return
/// address to 32 bits.
pub const CALLS: Group = Group {
    rows: SELECTORS.len() as u64,
    make: |maker, row| {
        let selector = SELECTORS[row as usize];
        // Use the kernel's code selector with the same RPL instead.
        let selector = if is_user_code(selector) { 0x08 | selector & 3 } else { selector };
        through_memory(maker, "far call", code!(".byte 0xff, 0x1b"), selector)
    },
};

/// Returns a far transfer whose offset and selector are at the address in rbx.
fn through_memory(maker: &mut Maker, name: &'static str, code: Code, selector: u64) -> Probe {
    let mut probe = dies(maker, Class::Far, name, selector, code, (PROTECTION, selector_error(selector)));
    write_words(0, &[NOWHERE | selector << 32]);
    probe.state.rbx = scratch() as u64;
    if is_user_code(selector) {
        probe.expect = lands();
    }
    probe
}

/// Far returns.
pub const RETURNS: Group = Group {
    rows: SELECTORS.len() as u64,
    make: |maker, row| {
        let selector = SELECTORS[row as usize];
        let code = code!(".byte 0x48, 0xcb");
        let mut probe =
            dies(maker, Class::Far, "far ret", selector, code, (PROTECTION, selector_error(selector)));
        write_words(256, &[NOWHERE, selector]);
        probe.state.rsp = scratch_stack();
        if selector == CODE {
            probe.expect = lands();
        }
        probe
    },
};

/// `iretq` to any code segment.
pub const CODE_BY_IRETQ: Group = Group {
    rows: SELECTORS.len() as u64,
    make: |maker, row| {
        let selector = SELECTORS[row as usize];
        let mut probe =
            dies(maker, Class::Far, "iretq, cs", selector, go, (PROTECTION, selector_error(selector)));
        (probe.state.rip, probe.state.cs) = (NOWHERE, selector);
        if selector == CODE {
            probe.expect = lands();
        }
        probe
    },
};

/// `iretq` to any stack segment.
pub const STACK_BY_IRETQ: Group = Group {
    rows: SELECTORS.len() as u64,
    make: |maker, row| {
        let selector = SELECTORS[row as usize];
        let mut probe =
            dies(maker, Class::Far, "iretq, ss", selector, go, (PROTECTION, selector_error(selector)));
        (probe.state.rip, probe.state.ss) = (NOWHERE, selector);
        if selector == DATA {
            probe.expect = lands();
        }
        probe
    },
};

/// Non-canonical addresses.
const HOLE: [u64; 4] = [1 << 47, 1 << 63, 0xffff_7fff_ffff_ffff, 0x1234_5678_9abc_def0];

/// `iretq`, `jmp` and `ret` to non-canonical addresses. CPUs differ in which instruction raises the fault.
pub const NOT_CANONICAL: Group = Group {
    rows: 3 * HOLE.len() as u64,
    make: |maker, row| {
        let target = HOLE[row as usize % HOLE.len()];
        let (name, code): (_, Code) = match row as usize / HOLE.len() {
            0 => ("iretq to a non-canonical address", go),
            1 => ("jmp to a non-canonical address", code!("jmp rbx")),
            _ => ("ret to a non-canonical address", code!("ret")),
        };
        let mut probe = dies(maker, Class::Far, name, target, code, GP);
        write_words(256, &[target]);
        probe.state.rbx = target;
        if name.starts_with("iretq") {
            probe.state.rip = target;
        }
        probe.expect = Expect::Dies(Death { or_rip: target, ..Death::new(GP.0, GP.1, address(code)) });
        probe
    },
};

/// Returns the outcome of a transfer that succeeds: a fault at the unmapped target.
fn lands() -> Expect {
    let (vector, error) = pf(page_error::EXECUTE);
    Expect::Dies(Death { cr2: NOWHERE, ..Death::new(vector, error, NOWHERE) })
}

fn is_user_code(selector: u64) -> bool {
    selector & !3 == CODE & !3
}

/// Writes words to the scratch stack, starting at word `from`.
fn write_words(from: usize, words: &[u64]) {
    // SAFETY: the scratch stack holds no Rust values, and only the probe being made uses it.
    let memory = unsafe { &mut *scratch() };
    memory[from..from + words.len()].copy_from_slice(words);
}
