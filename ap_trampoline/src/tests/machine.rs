//! A minimal emulator for the 64-bit part, the feature check and the first instructions of the trampoline.
//!
//! It implements only the instructions that occur there. It panics at any other instruction and at an access to memory
//! that does not exist.

use std::collections::{BTreeMap, HashMap};

use iced_x86::{Instruction, Mnemonic, OpKind, Register};

/// A CPU's local APIC, and what CPUID reports about it. The ids differ, so that a test can tell which id the code used.
#[derive(Clone, Copy, Default)]
pub(super) struct Apic {
    /// Whether CPUID reports x2APIC mode.
    pub(super) has_x2apic: bool,
    /// The value of IA32_APIC_BASE.
    pub(super) base: u64,
    /// The id in x2APIC mode.
    pub(super) id: u32,
    /// The id in xAPIC mode.
    pub(super) xapic_id: u8,
    /// The id in leaf 1 of CPUID.
    pub(super) cpuid_id: u8,
}

const APIC_BASE: u64 = 0x1b;
const EXTD: u64 = 1 << 10;
const X2APIC_ID: u64 = 0x802;

pub(super) struct Machine {
    registers: HashMap<Register, u64>,
    memory: BTreeMap<u64, u8>,
    zero: bool,
    carry: bool,
    /// The features that CPUID reports: EDX of leaf 1 and EDX of leaf 0x8000_0001. The latter leaf may not exist.
    pub(super) features: (u32, Option<u32>),
    /// The local APIC. Its register page is not in `memory`.
    pub(super) apic: Apic,
    registers_page: u64,
}

/// The end of a run.
#[derive(Debug, PartialEq)]
pub(super) enum End {
    Halted,
    /// The code ran to its end.
    Continued,
    /// The code jumped through memory to this address.
    Entered(u64),
}

impl Machine {
    pub(super) fn new(apic: Apic, registers_page: u64) -> Self {
        let (registers, memory) = (HashMap::new(), BTreeMap::new());
        let features = (0x178b_fbff, Some(0x2c10_0800));
        Self { registers, memory, zero: false, carry: false, features, apic, registers_page }
    }

    pub(super) fn load(&mut self, address: u64, bytes: &[u8]) {
        self.memory.extend((address..).zip(bytes.iter().copied()));
    }

    pub(super) fn register(&self, register: Register) -> u64 {
        let value = self.registers.get(&register.full_register()).copied().unwrap_or(0);
        match register.size() {
            2 => value & 0xffff,
            4 => value & 0xffff_ffff,
            _ => value,
        }
    }

    /// Writes a register. Writing 32 bits clears the upper half; writing 16 bits preserves the other bits.
    pub(super) fn set_register(&mut self, register: Register, value: u64) {
        let full = register.full_register();
        let value = match register.size() {
            2 => (self.register(full) & !0xffff) | (value & 0xffff),
            4 => value & 0xffff_ffff,
            _ => value,
        };
        self.registers.insert(full, value);
    }

    pub(super) fn read(&self, address: u64, size: usize) -> u64 {
        if address == self.registers_page + 0x20 {
            assert!(self.apic.base & EXTD == 0 && size == 4, "the code reads the id register in x2APIC mode");
            // The lower bits of the id register are reserved.
            return u64::from(self.apic.xapic_id) << 24 | 0x00aa_aaaa;
        }
        let byte = |i: usize| u64::from(self.memory[&(address + i as u64)]) << (8 * i);
        (0..size).map(byte).sum()
    }

    pub(super) fn write(&mut self, address: u64, value: u64, size: usize) {
        for (address, byte) in (address..).zip(&value.to_le_bytes()[..size]) {
            *self.memory.get_mut(&address).expect("the code accesses memory that does not exist") = *byte;
        }
    }

    fn address(&self, instruction: &Instruction) -> u64 {
        let index = match instruction.memory_index() {
            Register::None => 0,
            index => self.register(index) * u64::from(instruction.memory_index_scale()),
        };
        self.register(instruction.memory_base()).wrapping_add(instruction.memory_displacement64()) + index
    }

    fn operand(&self, instruction: &Instruction, operand: u32) -> u64 {
        match instruction.op_kind(operand) {
            OpKind::Register => self.register(instruction.op_register(operand)),
            OpKind::Memory => self.read(self.address(instruction), instruction.memory_size().size()),
            _ => instruction.immediate(operand),
        }
    }

    /// Runs from the first instruction to `hlt`, to a jump out of `code`, or to the end of `code`.
    pub(super) fn run(&mut self, code: &[Instruction]) -> End {
        let mut next = 0;
        for _ in 0..10_000 {
            let Some(instruction) = code.get(next) else { return End::Continued };
            next += 1;
            let branch = match instruction.mnemonic() {
                Mnemonic::Hlt => return End::Halted,
                Mnemonic::Jmp if instruction.op0_kind() == OpKind::Memory => {
                    return End::Entered(self.operand(instruction, 0));
                }
                Mnemonic::Jmp => true,
                Mnemonic::Je => self.zero,
                Mnemonic::Jne => !self.zero,
                Mnemonic::Jb => self.carry,
                _ => {
                    self.step(instruction);
                    false
                }
            };
            if branch {
                let target = instruction.near_branch_target();
                let found = code.iter().position(|instruction| instruction.ip() == target);
                next = found.unwrap_or_else(|| {
                    assert_eq!(
                        code.last().map(Instruction::next_ip),
                        Some(target),
                        "the code branches out of its range"
                    );
                    code.len()
                });
            }
        }
        panic!("the code does not end");
    }

    /// Runs one instruction that does not branch.
    pub(super) fn step(&mut self, instruction: &Instruction) {
        let destination = instruction.op0_register();
        let left = || self.operand(instruction, 0);
        let right = || self.operand(instruction, 1);
        match instruction.mnemonic() {
            Mnemonic::Cli => {}
            Mnemonic::Mov if instruction.op0_kind() == OpKind::Memory => {
                self.write(self.address(instruction), right(), instruction.memory_size().size());
            }
            Mnemonic::Mov => self.set_register(destination, right()),
            Mnemonic::Not => self.set_register(destination, !left()),
            Mnemonic::And => self.set_register(destination, left() & right()),
            Mnemonic::Or => {
                let value = left() | right();
                self.set_register(destination, value);
                self.zero = value == 0;
            }
            Mnemonic::Xor => self.set_register(destination, left() ^ right()),
            Mnemonic::Shr => self.set_register(destination, left() >> right()),
            Mnemonic::Shl => self.set_register(destination, left() << right()),
            Mnemonic::Add => self.set_register(destination, left().wrapping_add(right())),
            Mnemonic::Dec => self.set_register(destination, left().wrapping_sub(1)),
            Mnemonic::Test => self.zero = left() & right() == 0,
            Mnemonic::Cmp => (self.zero, self.carry) = (left() == right(), left() < right()),
            Mnemonic::Cmpxchg => {
                let (seen, new) = (left(), right());
                self.zero = seen == self.register(Register::EAX);
                if self.zero {
                    self.write(self.address(instruction), new, 4);
                } else {
                    self.set_register(Register::EAX, seen);
                }
            }
            Mnemonic::Push => {
                let (value, top) = (left(), self.register(Register::RSP) - 8);
                self.set_register(Register::RSP, top);
                self.write(top, value, 8);
            }
            Mnemonic::Cpuid => {
                let (basic, extended) = self.features;
                let leaf_1 = [
                    0x0006_0fb1,
                    u32::from(self.apic.cpuid_id) << 24 | 0x800,
                    0x8000_0001 | u32::from(self.apic.has_x2apic) << 21,
                    basic,
                ];
                let results = match (self.register(Register::EAX), extended) {
                    (1, _) => leaf_1,
                    (0x8000_0000, _) => [0x8000_0000 + extended.map_or(0, |_| 8), 0, 0, 0],
                    (0x8000_0001, Some(extended)) => [0x0006_0fb1, 0, 0, extended],
                    (leaf, _) => panic!("the code reads CPUID leaf {leaf:#x}, which may not exist"),
                };
                let registers = [Register::EAX, Register::EBX, Register::ECX, Register::EDX];
                for (register, value) in registers.into_iter().zip(results) {
                    self.set_register(register, value.into());
                }
            }
            Mnemonic::Rdmsr => {
                let value = match self.register(Register::ECX) {
                    APIC_BASE => self.apic.base,
                    X2APIC_ID if self.apic.base & EXTD != 0 => self.apic.id.into(),
                    number => panic!("#GP: MSR {number:#x}"),
                };
                self.set_register(Register::EAX, value & 0xffff_ffff);
                self.set_register(Register::EDX, value >> 32);
            }
            Mnemonic::Wrmsr => {
                let value = self.register(Register::EDX) << 32 | self.register(Register::EAX);
                assert_eq!(self.register(Register::ECX), APIC_BASE);
                assert_eq!(value & !EXTD, self.apic.base & !EXTD, "the code must change only EXTD");
                assert!(self.apic.has_x2apic, "#GP: EXTD on a CPU without x2APIC mode");
                self.apic.base = value;
            }
            _ => panic!("{instruction} is not implemented here"),
        }
    }
}
