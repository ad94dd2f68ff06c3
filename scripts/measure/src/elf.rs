//! The functions and instructions of an ELF file.

use std::ops::Range;
use std::path::Path;

use iced_x86::{Decoder, DecoderOptions, Instruction};
use machine::error::Error;
use machine::symbols::Symbols;
use object::{Object, ObjectSection, ObjectSymbol, SectionKind, SymbolKind};
use trace::input::read;

/// Maximum size of an ELF file in bytes.
const ELF_MAX: u64 = 2 << 30;
/// The length of the longest instruction.
const INSTRUCTION_MAX: usize = 15;

/// A function.
pub struct Function {
    /// The name with its module path.
    pub name: String,
    /// The addresses.
    pub range: Range<u64>,
}

/// An ELF file.
pub struct Elf {
    /// The functions, sorted by address.
    pub functions: Vec<Function>,
    /// The source lines.
    pub symbols: Symbols,
    code: Vec<(u64, Vec<u8>)>,
}

impl Elf {
    /// Reads a file.
    pub fn load(path: &Path) -> Result<Elf, Error> {
        let bytes = read(path, ELF_MAX).map_err(|error| Error::file("read", path, error))?;
        let bad = |error| Error::Host(format!("{} is not a valid ELF file: {error}", path.display()));
        let file = object::File::parse(&*bytes).map_err(bad)?;
        let mut functions = Vec::new();
        for symbol in file.symbols().filter(|symbol| symbol.is_definition() && symbol.size() != 0) {
            if symbol.kind() == SymbolKind::Text {
                let name = addr2line::demangle_auto(symbol.name().map_err(bad)?.into(), None).into_owned();
                functions.push(Function { name, range: symbol.address()..symbol.address() + symbol.size() });
            }
        }
        functions.sort_by_key(|function| function.range.start);
        let mut code = Vec::new();
        for section in file.sections().filter(|section| section.kind() == SectionKind::Text) {
            code.push((section.address(), section.data().map_err(bad)?.to_vec()));
        }
        Ok(Elf { functions, symbols: Symbols::parse(&bytes), code })
    }

    /// Returns the function that contains an address.
    pub fn function(&self, address: u64) -> Option<&Function> {
        let after = self.functions.partition_point(|function| function.range.start <= address);
        self.functions[..after].last().filter(|function| function.range.contains(&address))
    }

    /// Returns the function with this name, which is given without its module path.
    pub fn named(&self, name: &str) -> Result<&Function, Error> {
        let found = self.functions.iter().find(|function| short(&function.name) == name);
        found.ok_or_else(|| Error::Host(format!("the kernel has no function {name}")))
    }

    /// Decodes the instruction at an address.
    pub fn instruction(&self, address: u64) -> Option<Instruction> {
        let (start, bytes) = self.code.iter().find(|(start, bytes)| {
            address.checked_sub(*start).is_some_and(|offset| offset < bytes.len() as u64)
        })?;
        let rest = &bytes[(address - start) as usize..];
        let rest = &rest[..rest.len().min(INSTRUCTION_MAX)];
        let instruction = Decoder::with_ip(64, rest, address, DecoderOptions::NONE).decode();
        (!instruction.is_invalid()).then_some(instruction)
    }

    /// Returns all addresses at which these bytes are in the code.
    pub fn find(&self, pattern: &[u8]) -> Vec<u64> {
        let found = self.code.iter().flat_map(|(start, bytes)| {
            let at = bytes.windows(pattern.len()).enumerate().filter(|(_, window)| *window == pattern);
            at.map(move |(offset, _)| start + offset as u64)
        });
        found.collect()
    }
}

/// Returns a function's name without its module path.
pub fn short(name: &str) -> &str {
    name.rsplit("::").next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_and_instructions_of_this_executable_are_found() {
        let elf = Elf::load(&std::env::current_exe().expect("cannot find the executable"));
        let elf = elf.expect("cannot read the executable");
        let function = elf.functions.iter().find(|function| function.name.ends_with("elf::short"));
        let function = function.expect("there must be a function");
        let start = function.range.start;
        assert_eq!(elf.function(start).map(|function| &*function.name), Some(&*function.name));
        assert!(elf.instruction(start).is_some());
        assert!(elf.instruction(0).is_none());
        assert_eq!(short("a::b::c"), "c");
    }
}
