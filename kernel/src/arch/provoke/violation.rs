//! Protection violations of ring 0's own.

use crate::arch::memory::loaded::Program;
use crate::cmdline::Violation;
use crate::layout::{KERNEL_BASE, PHYSMAP_BASE};

/// Does with the program's address space loaded what no code of ring 0's may do: the proof that the CPU stops it. The
/// program is of no use afterwards.
pub(super) fn violate(program: &mut Program, violation: Violation) {
    let entry = program.start.rip;
    /// A `ret` (SDM 2B).
    const RET: u8 = 0xc3;
    program.space.write(entry, &[RET]);
    // SAFETY: the CPU loads the kernel's tables before it drops the program.
    unsafe { program.space.load() };
    let text = violate as *const () as usize;
    let at = match violation {
        Violation::WriteText => text,
        Violation::WriteAlias => (PHYSMAP_BASE + (text as u64 - KERNEL_BASE)) as usize,
        Violation::ReadUser | Violation::RunUser => entry as usize,
    };
    let byte = core::ptr::with_exposed_provenance_mut::<u8>(at);
    // SAFETY: each of them ends in a page fault. If one does not, a byte of this function is overwritten with
    // itself, a byte of the program's is read, or the `ret` there is run, and a test fails.
    unsafe {
        match violation {
            Violation::WriteText | Violation::WriteAlias => byte.write_volatile(byte.read_volatile()),
            Violation::ReadUser => drop(byte.read_volatile()),
            Violation::RunUser => core::mem::transmute::<*mut u8, extern "sysv64" fn()>(byte)(),
        }
    }
}
