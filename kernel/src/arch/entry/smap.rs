//! Patches STAC and CLAC into the kernel's text if the CPU has SMAP. Each site, in the trap entries and in the copy
//! from user memory, starts as a three-byte NOP. So these paths need no branch for SMAP, and a CPU without SMAP never
//! executes an undefined opcode. Without SMAP, AC has no effect in ring 0.

use crate::arch::entry::points::{ringside_clac_paranoid, ringside_clac_tick, ringside_clac_trap};
use crate::arch::memory::usercopy::{ringside_clac_copy, ringside_stac_copy};

/// `nop dword ptr [rax]`, three bytes.
const NOP: [u8; 3] = [0x0f, 0x1f, 0x00];
/// `clac` (SDM 2A).
const CLAC: [u8; 3] = [0x0f, 0x01, 0xca];
/// `stac` (SDM 2B).
const STAC: [u8; 3] = [0x0f, 0x01, 0xcb];

/// Replaces the NOPs with STAC and CLAC.
///
/// # Safety
/// Called once, on the BSP, if CPUID reports SMAP, while the kernel's text is still writable (the boot tables) and
/// before any of these sites is executed.
pub unsafe fn enable_instructions() {
    let sites: [(unsafe extern "sysv64" fn(), [u8; 3]); 5] = [
        (ringside_clac_trap, CLAC),
        (ringside_clac_tick, CLAC),
        (ringside_clac_paranoid, CLAC),
        (ringside_stac_copy, STAC),
        (ringside_clac_copy, CLAC),
    ];
    for (site, instruction) in sites {
        let site = site as *const () as *mut [u8; 3];
        // SAFETY: the label marks a three-byte NOP in text that is still writable (guaranteed by the caller). No
        // serialising instruction follows the write, but no CPU has executed the site yet and no other CPU is running.
        unsafe {
            assert!(
                site.read_volatile() == NOP,
                "a patch site for STAC or CLAC does not hold a three-byte NOP"
            );
            site.write_volatile(instruction);
        }
    }
}
