//! An emulator that is just large enough for the trampoline's 64-bit part and its first lines.
//!
//! It implements the instructions that occur there and panics at any other, and at memory that does not exist.

use std::collections::{BTreeMap, HashMap};

use iced_x86::{Instruction, Mnemonic, OpKind, Register};

/// The results of CPUID: leaf to EAX, EBX, ECX, EDX. Leaves that are not listed return zeros.
pub(super) type Cpuid = HashMap<u32, [u32; 4]>;

pub(super) struct Machine {
    registers: HashMap<Register, u64>,
    memory: BTreeMap<u64, u8>,
    zero: bool,
    carry: bool,
    cpuid: Cpuid,
}

/// How the run ended.
#[derive(Debug, PartialEq)]
pub(super) enum End {
    Halted,
    /// Jumped through memory to this address.
    Entered(u64),
}

impl Machine {
    pub(super) fn new(cpuid: Cpuid) -> Self {
        Self { registers: HashMap::new(), memory: BTreeMap::new(), zero: false, carry: false, cpuid }
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

    /// Writing 32 bits clears the upper half; writing 16 bits keeps the rest.
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
        let byte = |i: usize| u64::from(self.memory[&(address + i as u64)]) << (8 * i);
        (0..size).map(byte).sum()
    }

    pub(super) fn write(&mut self, address: u64, value: u64, size: usize) {
        for (address, byte) in (address..).zip(&value.to_le_bytes()[..size]) {
            *self.memory.get_mut(&address).expect("memory that exists") = *byte;
        }
    }

    fn address(&self, instruction: &Instruction) -> u64 {
        self.register(instruction.memory_base()).wrapping_add(instruction.memory_displacement64())
    }

    fn operand(&self, instruction: &Instruction, operand: u32) -> u64 {
        match instruction.op_kind(operand) {
            OpKind::Register => self.register(instruction.op_register(operand)),
            OpKind::Memory => self.read(self.address(instruction), instruction.memory_size().size()),
            _ => instruction.immediate(operand),
        }
    }

    /// Runs from the first instruction to `hlt` or to a jump out of `code`.
    pub(super) fn run(&mut self, code: &[Instruction]) -> End {
        let mut next = 0;
        for _ in 0..10_000 {
            let instruction = &code[next];
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
                next = code.iter().position(|instruction| instruction.ip() == target).unwrap();
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
            Mnemonic::Mov => self.set_register(destination, right()),
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
                let leaf = self.register(Register::EAX) as u32;
                let answer = self.cpuid.get(&leaf).copied().unwrap_or_default();
                for (register, value) in
                    [Register::EAX, Register::EBX, Register::ECX, Register::EDX].into_iter().zip(answer)
                {
                    self.set_register(register, value.into());
                }
            }
            _ => panic!("{instruction} is not implemented here"),
        }
    }
}
