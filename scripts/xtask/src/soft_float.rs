//! Checks that the kernel uses no FPU register. FPU registers hold ring 3's values, and kernel entry does not save
//! them.

use std::path::Path;

use iced_x86::{CpuidFeature, Decoder, DecoderOptions, InstructionInfoFactory, Mnemonic, Register};
use machine::error::Error;
use object::{Object, ObjectSection, SectionKind, SymbolMap, SymbolMapName};

/// Lists the kernel's instructions that use a vector, MMX or x87 register, each with address and symbol.
pub fn violations(kernel: &Path) -> Result<Vec<String>, Error> {
    let bytes = std::fs::read(kernel).map_err(|error| Error::file("read", kernel, error))?;
    let bad = |error| Error::Host(format!("{} is not an ELF file: {error}", kernel.display()));
    let file = object::File::parse(&*bytes).map_err(bad)?;
    let symbols = file.symbol_map();
    let mut found = Vec::new();
    let mut decoded = 0;
    for section in file.sections().filter(|section| section.kind() == SectionKind::Text) {
        let (instructions, uses) = scan(section.data().map_err(bad)?, section.address());
        decoded += instructions;
        found.extend(
            uses.into_iter()
                .map(|(ip, mnemonic)| format!("{ip:#018x} in {}: {mnemonic:?}", symbol_name(&symbols, ip))),
        );
    }
    if decoded == 0 {
        return Err(Error::Host(format!("{} has no code", kernel.display())));
    }
    Ok(found)
}

/// Returns the number of instructions, and those that use a vector, MMX or x87 register.
fn scan(code: &[u8], address: u64) -> (usize, Vec<(u64, Mnemonic)>) {
    let mut info = InstructionInfoFactory::new();
    let mut count = 0;
    let mut uses = Vec::new();
    for instruction in Decoder::with_ip(64, code, address, DecoderOptions::NONE).iter() {
        count += 1;
        let registers = info.info(&instruction).used_registers();
        // Many x87 instructions have no register operand. `fninit` is allowed: it resets the FPU for ring 3.
        let x87 = instruction.cpuid_features().contains(&CpuidFeature::FPU)
            && instruction.mnemonic() != Mnemonic::Fninit;
        if x87 || registers.iter().any(|used| is_fpu(used.register())) {
            uses.push((instruction.ip(), instruction.mnemonic()));
        }
    }
    (count, uses)
}

fn is_fpu(register: Register) -> bool {
    register.is_vector_register() || register.is_mm() || register.is_st() || register.is_k()
}

fn symbol_name(symbols: &SymbolMap<SymbolMapName<'_>>, address: u64) -> String {
    let name = symbols.before(address).map(|symbol| symbol.name());
    name.map_or("?".to_owned(), |name| addr2line::demangle_auto(name.into(), None).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_vector_and_x87_instructions_are_violations() {
        // mov rax, rbx; movaps xmm1, xmm0; fld1; ret
        let code = [0x48, 0x89, 0xd8, 0x0f, 0x28, 0xc8, 0xd9, 0xe8, 0xc3];
        let (count, uses) = scan(&code, 0x1000);
        assert_eq!(count, 4);
        let places: Vec<_> = uses.iter().map(|&(ip, _)| ip).collect();
        assert_eq!(places, [0x1003, 0x1006]);
    }
}
