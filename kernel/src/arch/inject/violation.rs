//! Protection violations by ring 0 on request.

use crate::arch::memory::loaded::Program;
use crate::cmdline::Violation;
use crate::layout::{KERNEL_BASE, PHYSMAP_BASE};

/// Loads the program's address space and performs a forbidden access in ring 0, to test that the CPU raises a page
/// fault. Overwrites the program's first instruction.
pub(super) fn violate(program: &mut Program, violation: Violation) {
    let entry = program.start.rip;
    /// The opcode of `ret` (SDM 2B).
    const RET: u8 = 0xc3;
    program.space.write(entry, &[RET]);
    // SAFETY: the page fault ends the run. If no fault occurs, `ring3::ended` loads the kernel's page tables before it
    // drops the program.
    unsafe { program.space.load() };
    let text = violate as *const () as usize;
    let at = match violation {
        Violation::WriteText => text,
        Violation::WriteAlias => (PHYSMAP_BASE + (text as u64 - KERNEL_BASE)) as usize,
        Violation::ReadUser | Violation::RunUser => entry as usize,
    };
    let byte = core::ptr::with_exposed_provenance_mut::<u8>(at);
    // SAFETY: each access raises a page fault (invariants: W^X, USER-COPY). An access that does not fault has no
    // effect: it overwrites a byte of this function with the same value, reads a byte of the program's memory, or
    // executes the `ret` there. The test then fails.
    unsafe {
        match violation {
            Violation::WriteText | Violation::WriteAlias => byte.write_volatile(byte.read_volatile()),
            Violation::ReadUser => drop(byte.read_volatile()),
            Violation::RunUser => core::mem::transmute::<*mut u8, extern "sysv64" fn()>(byte)(),
        }
    }
}
