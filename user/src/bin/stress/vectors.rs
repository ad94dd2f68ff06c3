//! xmm0 to xmm15 and MXCSR. Programs in this tree are compiled without SSE, so only system calls and interrupts could
//! change these registers between a load and the next comparison.

use core::arch::naked_asm;

use crate::patterns::Vectors;
use crate::violation::Difference;

/// MXCSR at program start.
#[cfg(test)]
pub const MXCSR_RESET: u32 = 0x1f80;

const XMM: [&str; 16] = [
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
    "xmm12", "xmm13", "xmm14", "xmm15",
];

/// Compares xmm0 to xmm15 and MXCSR with the values passed to [`load`]. Returns the first that differs; for an xmm
/// register, the half that differs. Clobbers the xmm registers.
#[inline]
pub fn first_difference(vectors: &Vectors, mxcsr: u32) -> Option<Difference> {
    let (mut changed, mut got) = (Vectors([[0; 2]; 16]), 0);
    let differs = compare(vectors, &mut changed, &mut got);
    (differs != 0 || got != mxcsr).then(|| name(vectors, &changed, mxcsr, got))
}

#[cold]
fn name(vectors: &Vectors, changed: &Vectors, mxcsr: u32, got: u32) -> Difference {
    let mut halves = vectors.0.as_flattened().iter().zip(changed.0.as_flattened()).enumerate();
    match halves.find(|(_, (_, changed))| **changed != 0) {
        Some((place, (&expected, &changed))) => {
            Difference { register: XMM[place / 2], expected, got: expected ^ changed }
        }
        None => Difference { register: "MXCSR", expected: mxcsr.into(), got: got.into() },
    }
}

/// Loads xmm0 to xmm15 and MXCSR. Entry state: a System V call. Exit state: MXCSR is changed, which that convention
/// does not permit.
///
/// # Safety
/// `mxcsr` has all exceptions masked, and no floating-point code runs before MXCSR is restored.
#[unsafe(naked)]
pub unsafe extern "sysv64" fn load(vectors: &Vectors, mxcsr: &u32) {
    naked_asm!(
        "movaps xmm0, [rdi + {size} * 0]",
        "movaps xmm1, [rdi + {size} * 1]",
        "movaps xmm2, [rdi + {size} * 2]",
        "movaps xmm3, [rdi + {size} * 3]",
        "movaps xmm4, [rdi + {size} * 4]",
        "movaps xmm5, [rdi + {size} * 5]",
        "movaps xmm6, [rdi + {size} * 6]",
        "movaps xmm7, [rdi + {size} * 7]",
        "movaps xmm8, [rdi + {size} * 8]",
        "movaps xmm9, [rdi + {size} * 9]",
        "movaps xmm10, [rdi + {size} * 10]",
        "movaps xmm11, [rdi + {size} * 11]",
        "movaps xmm12, [rdi + {size} * 12]",
        "movaps xmm13, [rdi + {size} * 13]",
        "movaps xmm14, [rdi + {size} * 14]",
        "movaps xmm15, [rdi + {size} * 15]",
        "ldmxcsr [rsi]",
        "ret",
        size = const size_of::<[u64; 2]>(),
    )
}

/// Compares the xmm registers with `vectors`. Entry state: a System V call. Exit state: `changed` holds the differing
/// bits and `mxcsr` the current MXCSR; rax is 0 if all xmm registers equal `vectors`.
#[unsafe(naked)]
extern "sysv64" fn compare(vectors: &Vectors, changed: &mut Vectors, mxcsr: &mut u32) -> u64 {
    naked_asm!(
        "stmxcsr [rdx]",

        // XOR with the expected values: an unchanged register becomes 0.
        "pxor xmm0, [rdi + {size} * 0]",
        "pxor xmm1, [rdi + {size} * 1]",
        "pxor xmm2, [rdi + {size} * 2]",
        "pxor xmm3, [rdi + {size} * 3]",
        "pxor xmm4, [rdi + {size} * 4]",
        "pxor xmm5, [rdi + {size} * 5]",
        "pxor xmm6, [rdi + {size} * 6]",
        "pxor xmm7, [rdi + {size} * 7]",
        "pxor xmm8, [rdi + {size} * 8]",
        "pxor xmm9, [rdi + {size} * 9]",
        "pxor xmm10, [rdi + {size} * 10]",
        "pxor xmm11, [rdi + {size} * 11]",
        "pxor xmm12, [rdi + {size} * 12]",
        "pxor xmm13, [rdi + {size} * 13]",
        "pxor xmm14, [rdi + {size} * 14]",
        "pxor xmm15, [rdi + {size} * 15]",
        "movaps [rsi + {size} * 0], xmm0",
        "movaps [rsi + {size} * 1], xmm1",
        "movaps [rsi + {size} * 2], xmm2",
        "movaps [rsi + {size} * 3], xmm3",
        "movaps [rsi + {size} * 4], xmm4",
        "movaps [rsi + {size} * 5], xmm5",
        "movaps [rsi + {size} * 6], xmm6",
        "movaps [rsi + {size} * 7], xmm7",
        "movaps [rsi + {size} * 8], xmm8",
        "movaps [rsi + {size} * 9], xmm9",
        "movaps [rsi + {size} * 10], xmm10",
        "movaps [rsi + {size} * 11], xmm11",
        "movaps [rsi + {size} * 12], xmm12",
        "movaps [rsi + {size} * 13], xmm13",
        "movaps [rsi + {size} * 14], xmm14",
        "movaps [rsi + {size} * 15], xmm15",

        // OR all differences into xmm0, then its two halves into rax.
        "por xmm0, xmm1",
        "por xmm0, xmm2",
        "por xmm0, xmm3",
        "por xmm0, xmm4",
        "por xmm0, xmm5",
        "por xmm0, xmm6",
        "por xmm0, xmm7",
        "por xmm0, xmm8",
        "por xmm0, xmm9",
        "por xmm0, xmm10",
        "por xmm0, xmm11",
        "por xmm0, xmm12",
        "por xmm0, xmm13",
        "por xmm0, xmm14",
        "por xmm0, xmm15",
        "movhlps xmm1, xmm0",
        "por xmm0, xmm1",
        "movq rax, xmm0",
        "ret",
        size = const size_of::<[u64; 2]>(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distinct() -> Vectors {
        Vectors(core::array::from_fn(|n| [n as u64 * 2 + 1, n as u64 * 2 + 2]))
    }

    /// Loads the registers with one set of values and compares them with another. Rust code for the host uses SSE
    /// itself, so no other code may run between the two.
    fn compared(loaded: &Vectors, loaded_mxcsr: u32, expected: &Vectors, mxcsr: u32) -> Option<Difference> {
        let (mut changed, mut got) = (Vectors([[0; 2]; 16]), 0);
        // SAFETY: exceptions are masked, and MXCSR is restored before any floating-point code runs.
        let differs = unsafe {
            load(loaded, &loaded_mxcsr);
            let differs = compare(expected, &mut changed, &mut got);
            load(loaded, &MXCSR_RESET);
            differs
        };
        (differs != 0 || got != mxcsr).then(|| name(expected, &changed, mxcsr, got))
    }

    #[test]
    fn each_half_of_each_register_is_compared() {
        let loaded = distinct();
        assert_eq!(compared(&loaded, 0x7fbf, &loaded, 0x7fbf), None);
        for index in 0..16 {
            for half in 0..2 {
                let mut other = loaded;
                other.0[index][half] ^= 1 << 63;
                let difference = compared(&loaded, 0x7fbf, &other, 0x7fbf).unwrap();
                assert_eq!(difference.register, format!("xmm{index}"));
                assert_eq!(difference.expected, other.0[index][half]);
                assert_eq!(difference.got, loaded.0[index][half]);
            }
        }
        let difference = Difference { register: "MXCSR", expected: 0x1f80, got: 0x7fbf };
        assert_eq!(compared(&loaded, 0x7fbf, &loaded, 0x1f80), Some(difference));
    }
}
