//! The x87 and SSE state with which programs start and with which the firmware is called. The kernel's own code does not
//! use the FPU, so between system calls the registers hold the values of the program that ran last.

use core::arch::asm;

/// The x87 control word with all exceptions masked and full precision.
const FCW: u16 = 0x037f;
/// MXCSR with all exceptions masked and rounding to nearest.
const MXCSR: u32 = 0x1f80;

/// An FXSAVE image (SDM 1, 10.5.1).
#[repr(C, align(16))]
pub struct FpuImage {
    fcw: u16,
    unused: [u8; 22],
    mxcsr: u32,
    rest: [u8; 484],
}

/// The x87 and SSE state at a program's start: all registers zero, all exceptions masked.
pub static FPU_RESET: FpuImage = FpuImage { fcw: FCW, unused: [0; 22], mxcsr: MXCSR, rest: [0; 484] };

const _: () = assert!(size_of::<FpuImage>() == 512, "the image must have the 512 bytes that FXRSTOR reads");

/// Loads [`FPU_RESET`]. FNINIT also clears the addresses of the last x87 instruction, which FXRSTOR may leave on AMD (APM 2,
/// 11.4.4).
///
/// # Safety
/// CR4.OSFXSR is set, and CR0.EM and CR0.TS are clear. The FPU state of the program that ran last is no longer needed.
pub(in crate::arch) unsafe fn reset() {
    // SAFETY: the instructions do not fault with these control bits (guaranteed by the caller). They change only the FPU
    // state, which counts as changed by the ABI.
    unsafe {
        asm!("fninit", "fxrstor64 [{}]", in(reg) &raw const FPU_RESET, clobber_abi("sysv64"), options(nostack));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the x87 control word and MXCSR.
    fn control() -> (u16, u32) {
        let (mut fcw, mut mxcsr) = (0_u16, 0_u32);
        // SAFETY: the instructions only store registers in the two variables.
        unsafe {
            asm!("fnstcw [{}]", "stmxcsr [{}]", in(reg) &raw mut fcw, in(reg) &raw mut mxcsr, options(nostack));
        }
        (fcw, mxcsr)
    }

    #[test]
    fn control_words_are_reset() {
        assert_eq!(control(), (FCW, MXCSR));
        let (fcw, mxcsr) = (0x0c7f_u16, 0x7fc0_u32);
        // SAFETY: no code computes with floating-point numbers before `reset`.
        unsafe {
            asm!("fldcw [{}]", "ldmxcsr [{}]", in(reg) &raw const fcw, in(reg) &raw const mxcsr, options(nostack));
            let before = control();
            reset();
            assert_eq!((before, control()), ((fcw, mxcsr), (FCW, MXCSR)));
        }
    }
}
