//! xmm0 to xmm15 and MXCSR. Programs of this tree are compiled without SSE, so whatever is loaded here stays until
//! it is stored: what lies in between is system calls and interrupts alone.

use core::arch::naked_asm;

use crate::patterns::Vectors;
use crate::violation::Difference;

/// MXCSR as a program starts with it.
#[cfg(test)]
const MXCSR_RESET: u32 = 0x1f80;

const XMM: [&str; 16] = [
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
    "xmm12", "xmm13", "xmm14", "xmm15",
];

/// The first register that is not as it should be; of an xmm register the half that is not.
pub fn first_difference(
    expected: &Vectors,
    expected_mxcsr: u32,
    got: &Vectors,
    mxcsr: u32,
) -> Option<Difference> {
    let (expected_words, got_words) = (expected.as_flattened(), got.as_flattened());
    let differ = expected_words.iter().zip(got_words).fold(0, |all, (one, other)| all | (one ^ other));
    if differ == 0 && expected_mxcsr == mxcsr {
        return None;
    }
    let place = expected_words.iter().zip(got_words).position(|(one, other)| one != other);
    Some(match place {
        Some(place) => {
            Difference { register: XMM[place / 2], expected: expected_words[place], got: got_words[place] }
        }
        None => Difference { register: "MXCSR", expected: expected_mxcsr.into(), got: mxcsr.into() },
    })
}

/// Loads all of them. Given: a call by the System V convention. Leaves: MXCSR changed, unlike that convention.
///
/// # Safety
/// MXCSR has its exceptions masked, and code that computes with floats does not run before it is put back.
#[unsafe(naked)]
pub unsafe extern "sysv64" fn load(vectors: &Vectors, mxcsr: &u32) {
    naked_asm!(
        "movups xmm0, [rdi + {size} * 0]",
        "movups xmm1, [rdi + {size} * 1]",
        "movups xmm2, [rdi + {size} * 2]",
        "movups xmm3, [rdi + {size} * 3]",
        "movups xmm4, [rdi + {size} * 4]",
        "movups xmm5, [rdi + {size} * 5]",
        "movups xmm6, [rdi + {size} * 6]",
        "movups xmm7, [rdi + {size} * 7]",
        "movups xmm8, [rdi + {size} * 8]",
        "movups xmm9, [rdi + {size} * 9]",
        "movups xmm10, [rdi + {size} * 10]",
        "movups xmm11, [rdi + {size} * 11]",
        "movups xmm12, [rdi + {size} * 12]",
        "movups xmm13, [rdi + {size} * 13]",
        "movups xmm14, [rdi + {size} * 14]",
        "movups xmm15, [rdi + {size} * 15]",
        "ldmxcsr [rsi]",
        "ret",
        size = const size_of::<[u64; 2]>(),
    )
}

/// Stores all of them. Given: a call by the System V convention. Leaves: what it asks for.
#[unsafe(naked)]
pub extern "sysv64" fn store(vectors: &mut Vectors, mxcsr: &mut u32) {
    naked_asm!(
        "movups [rdi + {size} * 0], xmm0",
        "movups [rdi + {size} * 1], xmm1",
        "movups [rdi + {size} * 2], xmm2",
        "movups [rdi + {size} * 3], xmm3",
        "movups [rdi + {size} * 4], xmm4",
        "movups [rdi + {size} * 5], xmm5",
        "movups [rdi + {size} * 6], xmm6",
        "movups [rdi + {size} * 7], xmm7",
        "movups [rdi + {size} * 8], xmm8",
        "movups [rdi + {size} * 9], xmm9",
        "movups [rdi + {size} * 10], xmm10",
        "movups [rdi + {size} * 11], xmm11",
        "movups [rdi + {size} * 12], xmm12",
        "movups [rdi + {size} * 13], xmm13",
        "movups [rdi + {size} * 14], xmm14",
        "movups [rdi + {size} * 15], xmm15",
        "stmxcsr [rsi]",
        "ret",
        size = const size_of::<[u64; 2]>(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distinct() -> Vectors {
        core::array::from_fn(|n| [n as u64 * 2 + 1, n as u64 * 2 + 2])
    }

    #[test]
    fn what_is_loaded_is_stored() {
        let (expected, mut got, mut mxcsr) = (distinct(), [[0; 2]; 16], 0);
        // SAFETY: exceptions are masked, and MXCSR is put back before anything is computed.
        unsafe {
            load(&expected, &0x7fbf);
            store(&mut got, &mut mxcsr);
            load(&[[0; 2]; 16], &MXCSR_RESET);
        }
        assert_eq!((got, mxcsr), (expected, 0x7fbf));
    }

    #[test]
    fn each_half_of_each_register_is_compared() {
        let expected = distinct();
        assert_eq!(first_difference(&expected, 1, &expected, 1), None);
        for index in 0..16 {
            for half in 0..2 {
                let mut got = expected;
                got[index][half] ^= 1 << 63;
                let difference = first_difference(&expected, 1, &got, 2).unwrap();
                assert_eq!(difference.register, format!("xmm{index}"));
                assert_eq!((difference.expected, difference.got), (expected[index][half], got[index][half]));
            }
        }
        let difference = Difference { register: "MXCSR", expected: 1, got: 2 };
        assert_eq!(first_difference(&expected, 1, &expected, 2), Some(difference));
    }
}
