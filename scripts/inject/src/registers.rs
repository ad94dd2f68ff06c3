//! A CPU's registers as sent by QEMU's gdbstub, and the differences between two readings.

/// Name, offset and length in bytes of each register. Order and numbers are those of QEMU's `gdb-xml/i386-64bit.xml`.
/// The last entry marks the end.
const LAYOUT: [(&str, usize, usize); 67] = {
    const NAMES: [(&str, usize); 67] = [
        ("rax", 8),
        ("rbx", 8),
        ("rcx", 8),
        ("rdx", 8),
        ("rsi", 8),
        ("rdi", 8),
        ("rbp", 8),
        ("rsp", 8),
        ("r8", 8),
        ("r9", 8),
        ("r10", 8),
        ("r11", 8),
        ("r12", 8),
        ("r13", 8),
        ("r14", 8),
        ("r15", 8),
        ("rip", 8),
        ("eflags", 4),
        ("cs", 4),
        ("ss", 4),
        ("ds", 4),
        ("es", 4),
        ("fs", 4),
        ("gs", 4),
        ("fs_base", 8),
        ("gs_base", 8),
        ("k_gs_base", 8),
        ("cr0", 8),
        ("cr2", 8),
        ("cr3", 8),
        ("cr4", 8),
        ("cr8", 8),
        ("efer", 8),
        ("st0", 10),
        ("st1", 10),
        ("st2", 10),
        ("st3", 10),
        ("st4", 10),
        ("st5", 10),
        ("st6", 10),
        ("st7", 10),
        ("fctrl", 4),
        ("fstat", 4),
        ("ftag", 4),
        ("fiseg", 4),
        ("fioff", 4),
        ("foseg", 4),
        ("fooff", 4),
        ("fop", 4),
        ("xmm0", 16),
        ("xmm1", 16),
        ("xmm2", 16),
        ("xmm3", 16),
        ("xmm4", 16),
        ("xmm5", 16),
        ("xmm6", 16),
        ("xmm7", 16),
        ("xmm8", 16),
        ("xmm9", 16),
        ("xmm10", 16),
        ("xmm11", 16),
        ("xmm12", 16),
        ("xmm13", 16),
        ("xmm14", 16),
        ("xmm15", 16),
        ("mxcsr", 4),
        ("", 0),
    ];
    let mut layout = [("", 0, 0); 67];
    let (mut index, mut at) = (0, 0);
    while index < NAMES.len() {
        layout[index] = (NAMES[index].0, at, NAMES[index].1);
        at += NAMES[index].1;
        index += 1;
    }
    layout
};

/// The length of the register data in bytes.
pub const LENGTH: usize = LAYOUT[66].1;

/// The register number of rsp.
pub const RSP: usize = 7;
/// The register number of rip.
pub const RIP: usize = 16;
/// The register number of eflags.
pub const EFLAGS: usize = 17;

/// The resume flag. QEMU sets it in the frame of an NMI, and `iretq` loads it; the next instruction clears it.
pub const RF: u64 = 1 << 16;
/// The interrupt flag.
pub const IF: u64 = 1 << 9;
/// The trap flag.
pub const TF: u64 = 1 << 8;

/// One reading of all registers.
#[derive(Clone, PartialEq, Eq)]
pub struct Registers(Vec<u8>);

impl Registers {
    /// Wraps the bytes that QEMU sent. Returns `None` if they do not have this layout.
    pub fn new(bytes: Vec<u8>) -> Option<Registers> {
        // LME and LMA in EFER.
        const LONG_MODE: u64 = 1 << 8 | 1 << 10;
        let registers = Registers(bytes);
        let valid = registers.0.len() == LENGTH && registers.get("efer") & LONG_MODE == LONG_MODE;
        valid.then_some(registers)
    }

    /// Returns the low 64 bits of the register of this name.
    pub fn get(&self, name: &str) -> u64 {
        let place = LAYOUT.iter().find(|(other, ..)| *other == name);
        let &(_, at, length) = place.expect("the name must be in the table");
        let mut word = [0; 8];
        let length = length.min(8);
        word[..length].copy_from_slice(&self.0[at..at + length]);
        u64::from_le_bytes(word)
    }

    /// Returns rip.
    pub fn rip(&self) -> u64 {
        self.get("rip")
    }

    /// Returns rsp.
    pub fn rsp(&self) -> u64 {
        self.get("rsp")
    }

    /// Returns the flags without RF.
    pub fn flags(&self) -> u64 {
        self.get("eflags") & !RF
    }

    /// Returns the name of each register that differs from an earlier reading, and a text with both values. Ignores RF.
    pub fn changed_since<'a>(
        &'a self,
        earlier: &'a Registers,
    ) -> impl Iterator<Item = (&'static str, String)> + 'a {
        let differs = move |&(name, at, length): &(&'static str, usize, usize)| match name {
            "eflags" => self.flags() != earlier.flags(),
            _ => self.0[at..at + length] != earlier.0[at..at + length],
        };
        LAYOUT.into_iter().filter(differs).map(move |(name, at, length)| {
            let shown =
                |bytes: &[u8]| -> String { bytes.iter().rev().map(|byte| format!("{byte:02x}")).collect() };
            (
                name,
                format!(
                    "{name} {} became {}",
                    shown(&earlier.0[at..at + length]),
                    shown(&self.0[at..at + length])
                ),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(change: impl Fn(&mut Vec<u8>)) -> Option<Registers> {
        let mut bytes = vec![0; LENGTH];
        let efer = LAYOUT.iter().find(|(name, ..)| *name == "efer").expect("the layout must have EFER").1;
        bytes[efer..efer + 2].copy_from_slice(&0xd01_u16.to_le_bytes());
        change(&mut bytes);
        Registers::new(bytes)
    }

    #[test]
    fn layout_matches_qemu() {
        assert_eq!(LENGTH, 608);
        assert_eq!([RSP, RIP, EFLAGS].map(|number| LAYOUT[number].0), ["rsp", "rip", "eflags"]);
        let registers = reading(|bytes| bytes[172] = 7).expect("the reading must be valid");
        assert_eq!(registers.get("gs_base"), 7);
        assert!(reading(|bytes| bytes.truncate(600)).is_none());
        assert!(reading(|bytes| bytes[228..236].fill(0)).is_none());
    }

    #[test]
    fn changed_registers_are_named_except_rf() {
        let one = reading(|_| ()).expect("the reading must be valid");
        let other = reading(|bytes| {
            bytes[180] = 0x12;
            bytes[138] = 1;
        });
        let other = other.expect("the reading must be valid");
        let changes: Vec<_> = other.changed_since(&one).collect();
        assert_eq!(changes, [("k_gs_base", "k_gs_base 0000000000000000 became 0000000000000012".to_owned())]);
    }
}
