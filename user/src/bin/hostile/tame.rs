//! What random bytes must not be, to be of use as programs. The host tool compiles this file too: it fills the bytes
//! anew for each seed.

/// Takes out of random bytes the instruction by which they could break QEMU, and most of the endless loops, and ends
/// them with a `syscall`.
///
/// QEMU's TCG lets ring 3 load CS, and the segment registers 6 and 7, which there are not, and which are LDTR and TR in
/// QEMU's memory. The manuals have #UD for all three; no kernel can do anything about it.
///
/// A short jump backwards that is taken is mostly taken for ever, until the time limit: 15 of 16 become jumps forwards.
pub const fn tame(bytes: &mut [u8]) {
    let end = bytes.len();
    // A `nop`, so that no byte before it takes the `syscall` for its operand.
    [bytes[end - 3], bytes[end - 2], bytes[end - 1]] = [0x90, 0x0f, 0x05];
    let mut at = 0;
    while at + 1 < end - 2 {
        let next = bytes[at + 1];
        bytes[at + 1] = match bytes[at] {
            // `mov` to a segment register: SS, GS and FS instead of CS, 6 and 7.
            0x8e if matches!(next >> 3 & 7, 1 | 6 | 7) => next ^ 0b011 << 3,
            // `jcc`, `loop` and its kin, `jmp`, each with a displacement of one byte.
            0x70..=0x7f | 0xe0..=0xe3 | 0xeb if !at.is_multiple_of(16) => next & 0x7f,
            _ => next,
        };
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_segment_register_is_loaded_that_there_is_not() {
        for second in 0..=u8::MAX {
            let mut bytes = [0x8e; 64];
            bytes[1] = second;
            tame(&mut bytes);
            for pair in bytes.windows(2).filter(|pair| pair[0] == 0x8e) {
                assert!(!matches!(pair[1] >> 3 & 7, 1 | 6 | 7), "{pair:x?}");
            }
            assert_eq!(bytes[61..], [0x90, 0x0f, 0x05]);
        }
    }

    #[test]
    fn few_short_jumps_go_back() {
        let mut bytes = [0xeb; 160];
        tame(&mut bytes);
        let back = bytes.windows(2).filter(|pair| pair[0] == 0xeb && pair[1] >= 0x80);
        assert!((1..=10).contains(&back.count()));
    }
}
