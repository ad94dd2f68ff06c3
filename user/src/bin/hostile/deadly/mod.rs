//! Deadly probes: each must end the copy in exactly the predicted way.

mod far;
mod faults;
mod interrupts;
mod memory;
mod privileged;
pub mod random;
mod segments;

use crate::class::Class;
use crate::maker::Maker;
use crate::probe::{Code, Death, Expect, PAGE, PROTECTION, Probe, UNDEFINED, address};
use crate::table::Group;

/// All groups except the random code.
pub const GROUPS: &[Group] = &[
    privileged::PROTECTED,
    privileged::UNDEFINED_HERE,
    privileged::LAX,
    privileged::PREVENTED,
    privileged::BY_VENDOR,
    interrupts::BY_NUMBER,
    interrupts::OTHERS,
    far::JUMPS,
    far::CALLS,
    far::RETURNS,
    far::CODE_BY_IRETQ,
    far::STACK_BY_IRETQ,
    far::NOT_CANONICAL,
    segments::MOVES,
    segments::POPS,
    memory::UNMAPPED,
    memory::KERNEL_ACCESSES,
    memory::NOT_CANONICAL,
    memory::NOT_PERMITTED,
    memory::ACROSS,
    faults::FAULTS,
    faults::STEPS,
    faults::STACK_ACCESS,
    faults::EXITS,
];

/// Returns a probe whose first instruction raises an exception.
fn dies(
    maker: &mut Maker,
    class: Class,
    name: &'static str,
    detail: u64,
    code: Code,
    fault: (u64, u64),
) -> Probe {
    let mut probe = maker.probe(class, name, detail, code);
    probe.expect = Expect::Dies(Death::new(fault.0, fault.1, address(code)));
    probe
}

/// Returns the error code for a selector: the selector without its RPL (SDM 3A, 6.13).
fn selector_error(selector: u64) -> u64 {
    selector & 0xfffc
}

/// Sets the expected address of the page fault.
fn about(probe: Probe, cr2: u64) -> Probe {
    match probe.expect {
        Expect::Dies(death) => Probe { expect: Expect::Dies(Death { cr2, ..death }), ..probe },
        _ => probe,
    }
}

/// Page-fault error codes (SDM 3A, 4.7) of accesses by ring 3. Bit 0: the page is present; bit 1: write; bit 2: user
/// mode; bit 4: instruction fetch.
mod page_error {
    pub const READ: u64 = 0b100;
    pub const WRITE: u64 = 0b110;
    pub const EXECUTE: u64 = 0b1_0100;
    pub const PRESENT: u64 = 0b1;
}

/// #UD, which has no error code.
const UD: (u64, u64) = (UNDEFINED, 0);
/// #GP with error code 0.
const GP: (u64, u64) = (PROTECTION, 0);

/// #PF with this error code.
const fn pf(error: u64) -> (u64, u64) {
    (PAGE, error)
}
