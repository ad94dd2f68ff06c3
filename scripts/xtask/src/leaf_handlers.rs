//! Checks that the leaf handlers of system calls reach only code that leaf handlers may run. The entry calls them with
//! ring 3's callee-saved registers in place and without a frame, so they must not panic, block or end the program.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic};
use machine::error::Error;
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};

/// The functions of the leaf handlers in the system-call tables.
const LEAVES: [&str; 5] = ["plain", "recording", "selective", "recording_number", "selective_number"];
/// The module of those functions.
const MODULE: &str = "kernel::arch::entry::calls::";
/// Functions that a leaf handler may call: those that write a trace record. They must fulfil the same conditions.
const CALLED: [&str; 2] =
    ["kernel::arch::trace::Tracer::record_cold", "kernel::arch::trace::Tracer::record_or_drop"];
/// Instructions that change the interrupt flag, halt the CPU, or trap. A division traps if the divisor is 0.
const FORBIDDEN: [Mnemonic; 7] = [
    Mnemonic::Sti,
    Mnemonic::Cli,
    Mnemonic::Hlt,
    Mnemonic::Ud2,
    Mnemonic::Int3,
    Mnemonic::Div,
    Mnemonic::Idiv,
];

/// A function of the kernel: its name and code.
struct Function<'a> {
    name: String,
    code: &'a [u8],
}

/// Lists everything in the kernel's leaf handlers, and in the functions that they call, that they must not do.
pub fn violations(kernel: &Path) -> Result<Vec<String>, Error> {
    let bytes = std::fs::read(kernel).map_err(|error| Error::file("read", kernel, error))?;
    let bad = |error| Error::Host(format!("{} is not an ELF file: {error}", kernel.display()));
    let file = object::File::parse(&*bytes).map_err(bad)?;
    let mut functions = BTreeMap::new();
    for symbol in file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() != 0) {
        let mut sections = file.sections();
        let code =
            sections.find_map(|section| section.data_range(symbol.address(), symbol.size()).ok().flatten());
        if let (Ok(name), Some(code)) = (symbol.name(), code) {
            let name = addr2line::demangle_auto(name.into(), None).into_owned();
            functions.insert(symbol.address(), Function { name, code });
        }
    }
    let leaves =
        functions.iter().filter(|(_, function)| is_leaf(&function.name)).map(|(&address, _)| address);
    let leaves: Vec<u64> = leaves.collect();
    if leaves.len() < LEAVES.len() {
        return Err(Error::Host(format!("{} has no leaf handlers", kernel.display())));
    }
    Ok(check(&functions, leaves))
}

fn is_leaf(name: &str) -> bool {
    name.strip_prefix(MODULE).is_some_and(|rest| LEAVES.contains(&rest))
}

/// Checks these functions and, transitively, all functions that they call or jump to.
fn check(functions: &BTreeMap<u64, Function<'_>>, leaves: Vec<u64>) -> Vec<String> {
    let mut found = Vec::new();
    let mut seen: BTreeSet<u64> = leaves.iter().copied().collect();
    let mut waiting = leaves;
    while let Some(address) = waiting.pop() {
        let Function { name, code } = &functions[&address];
        let inside = address..address + code.len() as u64;
        let instructions: Vec<_> =
            Decoder::with_ip(64, code, address, DecoderOptions::NONE).into_iter().collect();
        if has_loop(&instructions) {
            found.push(format!("{name} contains a loop"));
        }
        for instruction in &instructions {
            match target(instruction) {
                Target::None if FORBIDDEN.contains(&instruction.mnemonic()) => {
                    found.push(format!("{name} contains {:?}", instruction.mnemonic()));
                }
                Target::None => {}
                Target::Unknown => found.push(format!("{name} contains the indirect branch {instruction}")),
                Target::Address(to) if inside.contains(&to) => {}
                Target::Address(to) => match functions.get(&to) {
                    Some(callee) if is_leaf(&callee.name) || CALLED.contains(&&*callee.name) => {
                        if seen.insert(to) {
                            waiting.push(to);
                        }
                    }
                    callee => {
                        let callee = callee.map_or("an unknown function", |callee| &callee.name);
                        found.push(format!("{name} calls {callee}"));
                    }
                },
            }
        }
    }
    found
}

/// Returns whether the control flow of a function contains a cycle. A handler without one cannot wait, not even for a
/// lock, and takes a bounded time.
fn has_loop(instructions: &[Instruction]) -> bool {
    // Repeatedly leave out the instructions that no remaining instruction leads to. Those of a loop remain.
    let mut leading: BTreeMap<u64, usize> =
        instructions.iter().map(|instruction| (instruction.ip(), 0)).collect();
    let followers = |instruction: &Instruction| {
        let next = match instruction.flow_control() {
            FlowControl::UnconditionalBranch | FlowControl::IndirectBranch | FlowControl::Return => None,
            _ => Some(instruction.next_ip()),
        };
        let branch = match target(instruction) {
            Target::Address(to) => Some(to),
            Target::None | Target::Unknown => None,
        };
        next.into_iter().chain(branch)
    };
    for to in instructions.iter().flat_map(followers) {
        leading.entry(to).and_modify(|count| *count += 1);
    }
    let mut left: Vec<&Instruction> = instructions.iter().collect();
    loop {
        let (out, rest): (Vec<_>, Vec<_>) =
            left.iter().partition(|instruction| leading[&instruction.ip()] == 0);
        if out.is_empty() {
            return !rest.is_empty();
        }
        for to in out.into_iter().flat_map(followers) {
            leading.entry(to).and_modify(|count| *count -= 1);
        }
        left = rest;
    }
}

/// The address to which an instruction may branch.
enum Target {
    None,
    Address(u64),
    Unknown,
}

fn target(instruction: &Instruction) -> Target {
    match instruction.flow_control() {
        FlowControl::Call | FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch => {
            Target::Address(instruction.near_branch_target())
        }
        FlowControl::IndirectCall | FlowControl::IndirectBranch => Target::Unknown,
        _ => Target::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks a leaf handler with this code at 0x1000. At 0x2000 is a function that records, at 0x3000 one that panics.
    fn check_leaf(code: &[u8]) -> Vec<String> {
        let function = |name: &str, code| Function { name: name.to_owned(), code };
        let functions = BTreeMap::from([
            (0x1000, function("kernel::arch::entry::calls::plain", code)),
            (0x2000, function(CALLED[0], &[0xc3])),
            (0x3000, function("core::panicking::panic", &[0x0f, 0x0b])),
        ]);
        check(&functions, vec![0x1000])
    }

    #[test]
    fn leaf_may_record_and_return() {
        // xor eax, eax; call 0x2000; ret
        assert!(check_leaf(&[0x31, 0xc0, 0xe8, 0xf9, 0x0f, 0, 0, 0xc3]).is_empty());
    }

    #[test]
    fn leaf_that_can_panic_block_or_call_anything_is_reported() {
        // call 0x3000
        let panics = check_leaf(&[0xe8, 0xfb, 0x1f, 0, 0]);
        assert_eq!(panics, ["kernel::arch::entry::calls::plain calls core::panicking::panic"]);
        // call [rax]; hlt; ud2; div ecx; call 0x5000
        for code in [&[0xff, 0x10][..], &[0xf4], &[0x0f, 0x0b], &[0xf7, 0xf1], &[0xe8, 0xfb, 0x3f, 0, 0]] {
            assert_eq!(check_leaf(code).len(), 1, "{code:x?}");
        }
    }

    #[test]
    fn leaf_with_a_loop_is_reported() {
        // 1: pause; test eax, eax; jnz 1b; ret
        let waits = check_leaf(&[0xf3, 0x90, 0x85, 0xc0, 0x75, 0xfa, 0xc3]);
        assert_eq!(waits, ["kernel::arch::entry::calls::plain contains a loop"]);
        // A branch to an earlier address need not be a loop. jmp 2f; 1: ret; 2: jmp 1b
        assert!(check_leaf(&[0xeb, 0x01, 0xc3, 0xeb, 0xfd]).is_empty());
    }
}
