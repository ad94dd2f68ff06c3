//! How ACPI powers a machine off and resets it.
#![forbid(unsafe_code)]

/// A PM1 control register, with the value that selects the state S5, "soft off".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SleepControl {
    /// The register's I/O port.
    pub port: u16,
    /// `SLP_TYPx` for S5.
    pub sleep_type: u8,
}

/// The reset register: the value to write to an I/O port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResetRegister {
    /// The I/O port.
    pub port: u16,
    /// The value that resets the machine.
    pub value: u8,
}

/// The registers with which the machine is powered off and reset, according to the firmware's tables. A register is
/// `None` if the tables do not name it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Power {
    /// The registers that power the machine off: PM1a and PM1b.
    pub off: [Option<SleepControl>; 2],
    /// The register that resets the machine.
    pub reset: Option<ResetRegister>,
}

/// Returns the new value of a PM1 control register: `SLP_TYP` (bits 10 to 12) and `SLP_EN` (bit 13) as for the sleep
/// type, the other bits unchanged (ACPI 6.5, 4.8.3.2.1).
#[must_use]
pub const fn sleep_value(control: u16, sleep_type: u8) -> u16 {
    control & !(0b111 << 10) | (sleep_type as u16 & 0b111) << 10 | 1 << 13
}

/// Returns the sleep types of S5 for PM1a and PM1b, from the package `\_S5` in the DSDT's byte code. The package
/// contains only constants, so it can be read without an interpreter (ACPI 6.5, 7.4.2 and 20.2).
#[must_use]
pub fn soft_off_types(dsdt: &[u8]) -> Option<[u8; 2]> {
    const PACKAGE: u8 = 0x12;
    let at = dsdt.windows(5).position(|bytes| bytes == [b'_', b'S', b'5', b'_', PACKAGE])? + 5;
    // The upper two bits of the package length's first byte give the number of its additional bytes.
    let additional = usize::from(dsdt.get(at)? >> 6);
    // The number of elements precedes the elements.
    let mut rest = dsdt.get(at + 1 + additional + 1..)?;
    let mut next = || {
        let (value, len) = match *rest {
            // ZeroOp, OneOp, and a byte after its prefix.
            [value @ (0 | 1), ..] => (value, 1),
            [0x0a, value, ..] => (value, 2),
            _ => return None,
        };
        rest = &rest[len..];
        Some(value)
    };
    Some([next()?, next()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soft_off_types_are_read_from_byte_code() {
        let table: [(&[u8], Option<[u8; 2]>); 7] = [
            (b"..\x08_S5_\x12\x06\x04\x00\x00\x00\x00", Some([0, 0])),
            (b"..\x08_S5_\x12\x0a\x04\x0a\x05\x01\x00\x00", Some([5, 1])),
            (b"..\x08_S5_\x12\x47\x00\x04\x0a\x07\x0a\x06", Some([7, 6])),
            (b"..\x08_S4_\x12\x06\x04\x00\x00\x00\x00", None),
            (b"_S5_\x12\x06\x04\x00", None),
            (b"_S5_\x12", None),
            (b"_S5_\x12\x06\x04\x70\x00", None),
        ];
        for (dsdt, expected) in table {
            assert_eq!(soft_off_types(dsdt), expected, "{dsdt:x?}");
        }
    }

    #[test]
    fn other_bits_of_the_control_register_are_kept() {
        assert_eq!(sleep_value(0x1c01, 5), 0x3401);
        assert_eq!(sleep_value(1, 0xff), 0x3c01);
    }
}
