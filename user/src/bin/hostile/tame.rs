//! Edits random bytes so that they are useful as programs. The host tool also compiles this file, as it generates new
//! bytes for each seed.

/// Removes from random bytes the instruction with which they could crash QEMU and most of the endless loops, and ends
/// them with a `syscall`.
///
/// QEMU's TCG lets ring 3 load CS and the nonexistent segment registers 6 and 7, which are LDTR and TR in QEMU's own
/// state. The manuals specify #UD for all three. No kernel can prevent the load.
///
/// A short backward jump that is taken usually loops until the time limit, so 15 of 16 are made forward jumps.
pub const fn tame(bytes: &mut [u8]) {
    let end = bytes.len();
    // A `nop` keeps the preceding bytes from using the `syscall` as their operand.
    [bytes[end - 3], bytes[end - 2], bytes[end - 1]] = [0x90, 0x0f, 0x05];
    let mut at = 0;
    while at + 1 < end - 2 {
        let next = bytes[at + 1];
        bytes[at + 1] = match bytes[at] {
            // `mov` to a segment register: replace CS, 6 and 7 with SS, GS and FS.
            0x8e if matches!(next >> 3 & 7, 1 | 6 | 7) => next ^ 0b011 << 3,
            // `jcc`, `loop`, `loope`, `loopne`, `jrcxz` and `jmp` with a one-byte displacement.
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
    fn nonexistent_segment_registers_are_not_loaded() {
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
    fn few_short_jumps_go_backward() {
        let mut bytes = [0xeb; 160];
        tame(&mut bytes);
        let back = bytes.windows(2).filter(|pair| pair[0] == 0xeb && pair[1] >= 0x80);
        assert!((1..=10).contains(&back.count()));
    }
}
