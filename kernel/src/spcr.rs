//! The firmware's table of the serial console (Serial Port Console Redirection Table, SPCR).
//!
//! Microsoft publishes the table's specification. The `acpi` crate is not used, because it reads the table through a
//! packed struct of the latest revision, which is longer than a table of an earlier revision.
#![forbid(unsafe_code)]

/// The serial console of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SerialConsole {
    /// The machine has none.
    Disabled,
    /// A UART at I/O ports.
    Ports {
        /// The first of the 8 ports.
        base: u16,
        /// The baud rate; `None` for the rate that the firmware has set.
        baud: Option<u32>,
    },
    /// A UART that the kernel cannot use, because its registers are not I/O ports or are not those of a 16550, or because
    /// the table is not valid.
    Unsupported,
}

/// Offsets of the fields that exist in all revisions, and the length of the first revisions.
const INTERFACE: usize = 36;
const ADDRESS_SPACE: usize = 40;
const ADDRESS: usize = 44;
const BAUD: usize = 58;
const LEN: usize = 80;
/// The offset of the baud rate as a number, from revision 4 on. It is 0 if the field of the earlier revisions holds the
/// rate.
const PRECISE_BAUD: usize = 76;

/// The interface types of a 16550: a full 16550, a 16450 that ignores writes to the FIFO control register, and a 16550
/// whose parameters the address structure gives.
const INTERFACES: [u8; 3] = [0, 1, 0x12];
/// The address space of I/O ports (ACPI 6.5, 5.2.3.2).
const PORTS: u8 = 1;
/// The highest base of 8 ports.
const BASE_MAX: u64 = 0xfff8;

impl SerialConsole {
    /// Reads a table, header included, whose checksum is correct.
    #[must_use]
    pub fn parse(table: &[u8]) -> SerialConsole {
        if table.len() < LEN {
            return SerialConsole::Unsupported;
        }
        let address = table[ADDRESS..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let precise = table[PRECISE_BAUD..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
        let baud = match (precise, table[BAUD]) {
            (0, 3) => Some(9600),
            (0, 4) => Some(19_200),
            (0, 6) => Some(57_600),
            (0, 7) => Some(115_200),
            (0, _) => None,
            (precise, _) => Some(precise),
        };
        match (table[ADDRESS_SPACE], address) {
            (_, 0) => SerialConsole::Disabled,
            (PORTS, 1..=BASE_MAX) if INTERFACES.contains(&table[INTERFACE]) => {
                SerialConsole::Ports { base: address as u16, baud }
            }
            _ => SerialConsole::Unsupported,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(interface: u8, space: u8, address: u64, baud: u8, precise: u32) -> [u8; 90] {
        let mut table = [0; 90];
        table[INTERFACE] = interface;
        table[ADDRESS_SPACE] = space;
        table[ADDRESS..][..8].copy_from_slice(&address.to_le_bytes());
        table[BAUD] = baud;
        table[PRECISE_BAUD..][..4].copy_from_slice(&precise.to_le_bytes());
        table
    }

    #[test]
    fn tables_are_read() {
        let ports = |base, baud| SerialConsole::Ports { base, baud };
        let rows = [
            (table(0, 1, 0x2f8, 7, 0), ports(0x2f8, Some(115_200))),
            (table(1, 1, 0x3f8, 3, 0), ports(0x3f8, Some(9600))),
            (table(0x12, 1, 0xfff8, 4, 0), ports(0xfff8, Some(19_200))),
            (table(0, 1, 0x2f8, 6, 0), ports(0x2f8, Some(57_600))),
            (table(0, 1, 0x2f8, 0, 0), ports(0x2f8, None)),
            (table(0, 1, 0x2f8, 7, 38_400), ports(0x2f8, Some(38_400))),
            (table(0, 1, 0, 7, 0), SerialConsole::Disabled),
            (table(0, 0, 0, 0, 0), SerialConsole::Disabled),
            (table(0, 1, 0xfff9, 7, 0), SerialConsole::Unsupported),
            (table(0, 0, 0xfe03_4000, 7, 0), SerialConsole::Unsupported),
            (table(3, 1, 0x2f8, 7, 0), SerialConsole::Unsupported),
        ];
        for (table, expected) in rows {
            assert_eq!(SerialConsole::parse(&table), expected, "{table:x?}");
        }
    }

    #[test]
    fn length_of_the_first_revisions_is_enough() {
        let table = table(0, 1, 0x2f8, 7, 0);
        assert_eq!(SerialConsole::parse(&table[..79]), SerialConsole::Unsupported);
        assert_eq!(SerialConsole::parse(&table[..80]), SerialConsole::parse(&table));
    }
}
