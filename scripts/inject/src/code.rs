//! The instructions of the kernel's entry and exit code. The functions are found by name in the kernel's ELF, and each
//! is decoded completely.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic};
use object::{Object, ObjectSection, ObjectSymbol, SectionKind, SymbolKind};
use trace::input::read;

use super::error::InjectError;

/// The modules of the entry and exit assembly. All functions of these modules and their submodules, except [`RUST`],
/// belong to the entry and exit code.
const MODULES: [&str; 2] = ["kernel::arch::entry::points::", "kernel::arch::exit::points::"];
/// Functions of those modules that are compiled Rust. They run between entry and exit.
const RUST: [&str; 2] = ["syscall::frame_wrapper", "syscall::recorded"];
/// Functions of other modules that belong to the entry and exit code.
const OTHERS: [&str; 5] = [
    "kernel::arch::inject::floor::floor_saving",
    "kernel::arch::inject::floor::floor_shortest",
    "kernel::arch::memory::usercopy::copy_bytes",
    "kernel::arch::task::idle::halt",
    "kernel::arch::task::idle::take_interrupts",
];
/// Instructions that change GS or AC or that leave ring 0. They must not occur outside the entry and exit code.
const PATH_ONLY: [Mnemonic; 5] =
    [Mnemonic::Swapgs, Mnemonic::Sysretq, Mnemonic::Iretq, Mnemonic::Stac, Mnemonic::Clac];

/// Maximum size of a kernel's ELF file in bytes.
const ELF_MAX: u64 = 2 << 30;

/// A function of the entry and exit code.
#[derive(Debug)]
pub struct Function {
    /// The function's name, without its module.
    pub name: String,
    /// The function's instructions, in order of address.
    pub instructions: Vec<Instruction>,
}

/// The entry and exit code.
#[derive(Debug)]
pub struct Code {
    /// The functions, in order of address.
    pub functions: Vec<Function>,
    labels: HashMap<String, u64>,
}

/// An address as function and offset.
#[derive(Clone, PartialEq, Eq)]
pub struct Place {
    /// The function's name.
    pub function: String,
    /// The offset from the function's start, in bytes.
    pub offset: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{:#x}", self.function, self.offset)
    }
}

impl Code {
    /// Reads the entry and exit code from a kernel's ELF.
    pub fn load(kernel: &Path) -> Result<Code, InjectError> {
        let bytes = read(kernel, ELF_MAX)
            .map_err(|error| InjectError::Code(format!("cannot read {}: {error}", kernel.display())))?;
        let bad = |error| InjectError::Code(format!("{} is not an ELF file: {error}", kernel.display()));
        let file = object::File::parse(&*bytes).map_err(bad)?;
        let mut code = Code { functions: Vec::new(), labels: HashMap::new() };
        for symbol in file.symbols().filter(|symbol| symbol.is_definition()) {
            let name = addr2line::demangle_auto(symbol.name().map_err(bad)?.into(), None);
            if symbol.kind() == SymbolKind::Text && is_path_code(&name) {
                let name = name.rsplit("::").next().unwrap_or(&name).to_owned();
                let text = text(&file, symbol.address(), symbol.size());
                let text =
                    text.ok_or_else(|| InjectError::Code(format!("{name} has no bytes in the ELF")))?;
                code.functions.push(Function { instructions: decode(text, symbol.address())?, name });
            } else {
                code.labels.insert(name.into_owned(), symbol.address());
            }
        }
        code.functions.sort_by_key(Function::start);
        code.check_no_others(&file)?;
        Ok(code)
    }

    /// Finds the function of this name.
    pub fn function(&self, name: &str) -> Result<&Function, InjectError> {
        let found = self.functions.iter().find(|function| function.name == name);
        found.ok_or_else(|| InjectError::Code(format!("the kernel has no function {name}")))
    }

    /// Returns the address of a label that the assembly exports.
    pub fn label(&self, name: &str) -> Result<u64, InjectError> {
        let found = self.labels.get(name).copied();
        found.ok_or_else(|| InjectError::Code(format!("the kernel has no label {name}")))
    }

    /// Returns the instruction at an address of the entry and exit code.
    pub fn at(&self, address: u64) -> Result<&Instruction, InjectError> {
        let all = self.functions.iter().flat_map(|function| &function.instructions);
        let found = all.into_iter().find(|instruction| instruction.ip() == address);
        found.ok_or_else(|| {
            InjectError::Code(format!("{address:#x} is not an instruction of the entry and exit code"))
        })
    }
    /// Converts an address to function and offset.
    pub fn place(&self, address: u64) -> Place {
        let holds = |function: &&Function| function.instructions.iter().any(|one| one.ip() == address);
        match self.functions.iter().find(holds) {
            Some(function) => Place { function: function.name.clone(), offset: address - function.start() },
            None => Place { function: "0".to_owned(), offset: address },
        }
    }

    /// Parses a place such as `syscall_entry+0x3` and returns its address.
    pub fn parse(&self, text: &str) -> Result<u64, InjectError> {
        let (name, offset) = text.split_once('+').unwrap_or((text, "0"));
        let digits = offset.strip_prefix("0x").map_or((offset, 10), |digits| (digits, 16));
        let offset = u64::from_str_radix(digits.0, digits.1);
        let offset = offset.map_err(|_| InjectError::Code(format!("{text} is not SYMBOL+OFFSET")))?;
        let address = self.function(name)?.start().wrapping_add(offset);
        self.at(address)
            .map(Instruction::ip)
            .map_err(|_| InjectError::Code(format!("no instruction starts at {text}; see --list")))
    }

    /// Checks that the list of functions is complete: no other function contains an instruction of [`PATH_ONLY`]. The
    /// boot code, which runs before the IDT is loaded, contains none of them either.
    fn check_no_others(&self, file: &object::File<'_>) -> Result<(), InjectError> {
        let ranges: Vec<_> = self.functions.iter().map(|function| function.start()..function.end()).collect();
        for section in file.sections().filter(|section| section.kind() == SectionKind::Text) {
            let Ok(data) = section.data() else { continue };
            for instruction in Decoder::with_ip(64, data, section.address(), DecoderOptions::NONE).iter() {
                let is_inside = ranges.iter().any(|range| range.contains(&instruction.ip()));
                if !is_inside && PATH_ONLY.contains(&instruction.mnemonic()) {
                    return Err(InjectError::Code(format!(
                        "{instruction} at {:#x} is outside the entry and exit code",
                        instruction.ip()
                    )));
                }
            }
        }
        Ok(())
    }
}

impl Function {
    /// Returns the address of the function's first byte.
    pub fn start(&self) -> u64 {
        self.instructions.first().map_or(0, Instruction::ip)
    }

    pub fn end(&self) -> u64 {
        self.instructions.last().map_or(0, Instruction::next_ip)
    }
}

fn is_path_code(name: &str) -> bool {
    match MODULES.iter().find_map(|module| name.strip_prefix(module)) {
        Some(rest) => !RUST.contains(&rest),
        None => OTHERS.contains(&name),
    }
}

fn text<'a>(file: &object::File<'a>, address: u64, size: u64) -> Option<&'a [u8]> {
    file.sections().find_map(|section| section.data_range(address, size).ok().flatten())
}

fn decode(bytes: &[u8], address: u64) -> Result<Vec<Instruction>, InjectError> {
    let all: Vec<_> = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE).iter().collect();
    match all.iter().find(|one| one.is_invalid() || one.flow_control() == FlowControl::Exception) {
        Some(one) => Err(InjectError::Code(format!("{:#x} cannot be decoded", one.ip()))),
        None if all.is_empty() => Err(InjectError::Code(format!("there is no code at {address:#x}"))),
        None => Ok(all),
    }
}

#[cfg(test)]
impl Code {
    /// Creates the code of these functions, each given by its name, start address and bytes.
    pub fn of(functions: &[(&str, u64, &[u8])]) -> Code {
        let decoded = |&(name, address, bytes): &(&str, u64, &[u8])| Function {
            name: name.to_owned(),
            instructions: decode(bytes, address).expect("cannot decode"),
        };
        Code { functions: functions.iter().map(decoded).collect(), labels: HashMap::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_without_end_is_refused_with_its_name() {
        let error = Code::load(Path::new("/dev/zero")).expect_err("it must be rejected");
        assert_eq!(error.to_string(), "cannot read /dev/zero: it is a device, not a file");
    }

    #[test]
    fn place_is_parsed_as_it_is_displayed() {
        let code = Code::of(&[("halt", 0x1000, &[0xfb, 0xf4, 0xfa, 0xc3])]);
        assert_eq!(code.place(0x1002).to_string(), "halt+0x2");
        for text in ["halt+0x2", "halt+2"] {
            assert_eq!(code.parse(text).expect("there must be a place"), 0x1002);
        }
        assert_eq!(code.parse("halt").expect("there must be a place"), 0x1000);
        for text in ["halt+4", "halt+x", "stop"] {
            assert!(code.parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn entry_and_exit_code_is_recognised_by_its_module() {
        assert!(is_path_code("kernel::arch::entry::points::vector_02"));
        assert!(is_path_code("kernel::arch::exit::points::iret_to_user"));
        assert!(is_path_code("kernel::arch::task::idle::halt"));
        assert!(!is_path_code("kernel::arch::entry::points::syscall::frame_wrapper"));
        assert!(!is_path_code("kernel::arch::task::idle::idle_until"));
    }

    #[test]
    fn undecodable_bytes_are_an_error() {
        // swapgs; sysretq
        let code = [0x0f, 0x01, 0xf8, 0x48, 0x0f, 0x07];
        let places: Vec<_> =
            decode(&code, 0x1000).expect("cannot decode").iter().map(Instruction::ip).collect();
        assert_eq!(places, [0x1000, 0x1003]);
        assert!(decode(&code[..5], 0x1000).is_err());
        assert!(decode(&[], 0x1000).is_err());
    }
}
