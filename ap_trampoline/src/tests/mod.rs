//! Tests of the installed page: the instructions of each part, and the memory that they read and write.

use iced_x86::{Decoder, DecoderOptions, Instruction};

use crate::config::CONFIG_OFFSET;
use crate::{CodeLayout, Parameters, install};

mod arrival;
mod code;
mod features;
mod machine;
mod parameters;
mod tables;

/// The lowest page, a page in the middle, the highest page below video memory, and the highest page of all.
const PAGES: [u32; 4] = [0x1000, 0x8000, 0x9f000, 0xff000];

/// Returns parameters in which no two values are equal, so that swapped values are detected.
fn parameters(page: u32) -> Parameters {
    Parameters {
        page,
        cr3: 0x0123_4000,
        cr0: 0x8001_0033,
        efer: 0x901,
        cr4: 0xa0,
        slots: 0xffff_8000_0055_5540,
        slot_count: 15,
        entry: 0xffff_ffff_8011_2233,
        x2apic: true,
        apic_registers: 0xffff_e000_0000_0000,
        basic_features: 0x0700_8000,
        extended_features: 0x2010_0800,
        report: 0x0456_7000,
    }
}

fn installed(page: u32) -> [u8; 4096] {
    let mut bytes = [0; 4096];
    install(&mut bytes, &parameters(page)).expect("the parameters are valid");
    bytes
}

fn decode(bytes: &[u8], bitness: u32, from: usize, to: usize) -> Vec<Instruction> {
    let code = &bytes[from..to];
    Decoder::with_ip(bitness, code, from as u64, DecoderOptions::NONE).into_iter().collect()
}

/// The three parts of the code, decoded with instruction pointers relative to the start of the page.
struct Code {
    real: Vec<Instruction>,
    protected: Vec<Instruction>,
    long: Vec<Instruction>,
}

impl Code {
    fn of(bytes: &[u8]) -> Self {
        let CodeLayout { code32, code64, end, .. } = CodeLayout::of_blob();
        assert!(code32 < code64 && code64 < end && end <= CONFIG_OFFSET);
        Self {
            real: decode(bytes, 16, 0, code32),
            protected: decode(bytes, 32, code32, code64),
            long: decode(bytes, 64, code64, end),
        }
    }

    fn all(&self) -> impl Iterator<Item = &Instruction> {
        self.real.iter().chain(&self.protected).chain(&self.long)
    }
}

fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes(bytes[offset..offset + 2].try_into().unwrap())
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(bytes[offset..offset + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes[offset..offset + 8].try_into().unwrap())
}

/// Returns the offset in the page of a memory operand. The operand is addressed relative to the start of the page.
fn operand_offset(instruction: &Instruction) -> usize {
    instruction.memory_displacement64() as usize
}
