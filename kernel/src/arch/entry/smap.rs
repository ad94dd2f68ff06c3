//! STAC and CLAC where the CPU has SMAP: each place in the entry code is three bytes of no-operation that are
//! overwritten at boot. So the road has no branch for it, and a CPU without SMAP never meets an opcode that it
//! does not know. Without SMAP the flag AC means nothing in ring 0.

use crate::arch::entry::points::{ringside_clac_paranoid, ringside_clac_trap};
use crate::arch::memory::usercopy::{ringside_clac_copy, ringside_stac_copy};

/// `nop dword ptr [rax]`, three bytes.
const NOP: [u8; 3] = [0x0f, 0x1f, 0x00];
/// `clac` (SDM 2A).
const CLAC: [u8; 3] = [0x0f, 0x01, 0xca];
/// `stac` (SDM 2B).
const STAC: [u8; 3] = [0x0f, 0x01, 0xcb];

/// Writes the instructions into their places.
///
/// # Safety
/// Once, on the BSP, with SMAP in CPUID, while the kernel's text is still writable (the boot tables) and before
/// any of these places is run.
pub unsafe fn enable_instructions() {
    let places: [(unsafe extern "sysv64" fn(), [u8; 3]); 4] = [
        (ringside_clac_trap, CLAC),
        (ringside_clac_paranoid, CLAC),
        (ringside_stac_copy, STAC),
        (ringside_clac_copy, CLAC),
    ];
    for (place, instruction) in places {
        let place = place as *const () as *mut [u8; 3];
        // SAFETY: the label marks exactly three bytes of no-operation in text that the caller says is writable.
        // The jump that will lead there serialises nothing, but no CPU has fetched these bytes yet.
        unsafe {
            assert!(place.read_volatile() == NOP, "a place for STAC or CLAC does not hold what it should");
            place.write_volatile(instruction);
        }
    }
}
