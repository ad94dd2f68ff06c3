//! x87 and SSE state in the layout of `fxsave64` (AMD APM volume 2, "FXSAVE format"; Intel SDM volume 1, 10.5.1).

use core::mem::offset_of;

/// The x87 and SSE state. `fxrstor64` accepts any value in any field except `mxcsr`, whose reserved bits must be clear.
#[repr(C, align(16))]
#[derive(Clone, Copy)]
pub struct Fpu {
    /// Rounding mode, precision, and exception masks.
    pub x87_control: u16,
    /// Exception flags, condition codes, and the top-of-stack pointer (the number of the register that is ST0).
    pub x87_status: u16,
    /// One bit per register; a set bit means that the register is in use.
    pub x87_tags: u8,
    reserved: u8,
    /// Opcode and addresses of the last x87 instruction, which not every CPU saves.
    last_instruction: [u16; 9],
    /// SSE control and status register.
    pub mxcsr: u32,
    mxcsr_mask: u32,
    /// ST0 to ST7, ten bytes each.
    pub st: [[u64; 2]; 8],
    /// xmm0 to xmm15.
    pub xmm: [[u64; 2]; 16],
    rest: [u64; 12],
}

const _: () = assert!(size_of::<Fpu>() == 512, "the struct must have the 512 bytes that fxsave64 writes");
const _: () = assert!(offset_of!(Fpu, mxcsr) == 24 && offset_of!(Fpu, st) == 32, "fxsave64's layout");
const _: () = assert!(offset_of!(Fpu, xmm) == 160, "fxsave64's layout");

impl Fpu {
    /// The state at program start.
    pub const RESET: Fpu = Fpu {
        x87_control: 0x37f,
        x87_status: 0,
        x87_tags: 0,
        reserved: 0,
        last_instruction: [0; 9],
        mxcsr: 0x1f80,
        mxcsr_mask: 0,
        st: [[0; 2]; 8],
        xmm: [[0; 2]; 16],
        rest: [0; 12],
    };
}
