//! The instructions of a path as rows, and the two tables of them: one for the terminal, one for the documentation.

use iced_x86::{Formatter, Instruction, MasmFormatter};
use machine::error::Error;
use machine::report::aligned;

use super::elf::{Elf, short};
use super::phase::{Phase, Phases, Start};
use super::source::{self, Line};

/// An executed instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The phase.
    pub phase: Phase,
    /// The address.
    pub address: u64,
    /// The function, without its module path, and the offset in it.
    pub function: String,
    /// See `function`.
    pub offset: u64,
    /// The instruction in the notation of the source, or disassembled if it is compiled.
    pub text: String,
    /// The file and line of the source.
    pub place: String,
    /// The comment in the assembly's source.
    pub role: String,
    /// Whether the instruction is compiled, and not written in assembly.
    pub is_compiled: bool,
}

/// Describes the instructions of a path. `user` is the program, in which the first instruction may lie.
pub fn rows(kernel: &Elf, user: &Elf, path: &[u64], starts: &'static [Start]) -> Result<Vec<Row>, Error> {
    let mut phases = Phases::new(starts);
    let mut found = Vec::new();
    for &address in path {
        let elf = if user.instruction(address).is_some() { user } else { kernel };
        let missing =
            || Error::Host(format!("{address:#x} was executed, but is in no function of the ELF file"));
        let (instruction, function) =
            elf.instruction(address).zip(elf.function(address)).ok_or_else(missing)?;
        let (name, offset) = (short(&function.name).to_owned(), address - function.range.start);
        let place = elf.symbols.place(address).unwrap_or_default();
        let place = place.rsplit_once(" (").map_or("", |(_, place)| place.trim_end_matches(')')).to_owned();
        let mut row = Row {
            phase: Phase::Entry,
            address,
            function: name,
            offset,
            text: disassembled(&instruction),
            place,
            role: String::new(),
            is_compiled: true,
        };
        if address < kernel.functions[0].range.start {
            row.is_compiled = false;
            "Ring 3 makes the call.".clone_into(&mut row.role);
            // The name of the program's function depends on what the compiler has inlined.
            "ring 3".clone_into(&mut row.function);
            row.offset = 0;
        } else if let Some(line) = line_of(elf, &row.function, function.range.start, &instruction)? {
            row.phase = phases.next(&row.function, Some(&line.text));
            (row.text, row.place, row.role, row.is_compiled) = (line.text, line.place, line.comment, false);
        } else {
            row.phase = phases.next(&row.function, None);
        }
        found.push(row);
    }
    match phases.missing() {
        Some((function, text, phase)) => Err(Error::Host(format!(
            "the path does not reach the phase {phase}, which begins with `{text}` in {function}: adapt \
             scripts/measure/src/phase.rs"
        ))),
        None => Ok(found),
    }
}

fn disassembled(instruction: &Instruction) -> String {
    let mut text = String::new();
    let mut formatter = MasmFormatter::new();
    formatter.options_mut().set_hex_prefix("0x");
    formatter.options_mut().set_hex_suffix("");
    formatter.options_mut().set_space_after_operand_separator(true);
    formatter.format(instruction, &mut text);
    text
}

/// Returns the source line of an instruction of a function in assembly: the function's n-th instruction is on the source's
/// n-th line. `None` if the function is compiled.
fn line_of(elf: &Elf, name: &str, start: u64, instruction: &Instruction) -> Result<Option<Line>, Error> {
    let Some(lines) = source::of_function(name)? else { return Ok(None) };
    let (mut number, mut address) = (0, start);
    while address < instruction.ip() {
        address = elf.instruction(address).map_or(u64::MAX, |before| before.next_ip());
        number += 1;
    }
    let line = lines.get(number).filter(|line| same_mnemonic(&line.text, instruction)).cloned();
    line.map(Some).ok_or_else(|| {
        Error::Host(format!(
            "instruction {number} of {name} is `{}`, but not in the source: has the source changed since the build?",
            disassembled(instruction)
        ))
    })
}

/// Returns whether the source text is an instruction of this kind. Some have two names.
fn same_mnemonic(text: &str, instruction: &Instruction) -> bool {
    let word = text.split(' ').next().unwrap_or_default();
    let word = match word {
        "jz" => "je",
        "jnz" => "jne",
        other => other,
    };
    format!("{:?}", instruction.mnemonic()).to_lowercase() == word
}

/// Formats all rows as a table. With `fold`, instructions of one kind that follow each other are one row.
pub fn table(rows: &[Row], fold: bool) -> String {
    let columns = [
        ("N", true),
        ("PHASE", false),
        ("ADDRESS", false),
        ("PLACE", false),
        ("INSTRUCTION", false),
        ("SOURCE", false),
        ("ROLE", false),
    ];
    let groups: Vec<&[Row]> = match fold {
        true => rows.chunk_by(is_list).collect(),
        false => rows.chunks(1).collect(),
    };
    let mut number = 0;
    let mut role = String::new();
    let cells = groups.into_iter().map(|group| {
        let first = &group[0];
        let place = match first.offset {
            0 => first.function.clone(),
            offset => format!("{}+{offset:#x}", first.function),
        };
        // A role is shown at the first of its instructions.
        let shown = if first.role == role { String::new() } else { first.role.clone() };
        role.clone_from(&first.role);
        number += group.len();
        let shown_number = number + 1 - group.len();
        [
            shown_number.to_string(),
            first.phase.to_string(),
            format!("{:#x}", first.address),
            place,
            texts(group),
            first.place.clone(),
            shown,
        ]
    });
    aligned(&columns, cells.collect::<Vec<_>>().into_iter())
}

/// Returns whether two instructions are of one list, such as pushes.
fn is_list(a: &Row, b: &Row) -> bool {
    let kind = |row: &Row| row.text.split_once(' ').map(|(word, _)| word.to_owned());
    let is_stack = |row: &Row| matches!(kind(row).as_deref(), Some("push" | "pop"));
    is_stack(a) && kind(a) == kind(b) && a.role == b.role && a.function == b.function
}

/// Formats instructions, those of one kind as a list: `push rcx, r11`.
fn texts(group: &[Row]) -> String {
    let lists = group.chunk_by(is_list).map(|list| {
        let rest = list[1..].iter().filter_map(|row| row.text.split_once(' ')).map(|(_, operand)| operand);
        std::iter::once(&*list[0].text).chain(rest).collect::<Vec<_>>().join(", ")
    });
    lists.collect::<Vec<_>>().join("; ")
}

/// Formats the table for the documentation. It contains nothing that depends on the compiler, except the number of compiled
/// instructions: no addresses, no compiled instructions and no line numbers.
pub fn markdown(rows: &[Row]) -> String {
    let mut text = format!(
        "{} instructions:\n\n| instructions | phase | function | code | purpose |\n|-|-|-|-|-|\n",
        rows.len()
    );
    let same = |a: &Row, b: &Row| {
        let is_same = (a.phase, a.is_compiled) == (b.phase, b.is_compiled);
        is_same && (a.is_compiled || (&a.function, &a.role) == (&b.function, &b.role))
    };
    for group in rows.chunk_by(same) {
        let first = &group[0];
        let code = if first.is_compiled { "compiled Rust".to_owned() } else { format!("`{}`", texts(group)) };
        text += &format!(
            "| {} | {} | `{}` | {code} | {} |\n",
            group.len(),
            first.phase,
            first.function,
            first.role.replace('|', "\\|")
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(function: &str, text: &str, role: &str, is_compiled: bool) -> Row {
        Row {
            phase: if is_compiled { Phase::Handler } else { Phase::Save },
            address: 0x10,
            function: function.to_owned(),
            offset: 4,
            text: text.to_owned(),
            place: "f.rs:1".to_owned(),
            role: role.to_owned(),
            is_compiled,
        }
    }

    fn path() -> Vec<Row> {
        vec![
            row("entry", "push rcx", "Save.", false),
            row("entry", "push r11", "Save.", false),
            row("entry", "call x", "Call.", false),
            row("plain", "xor eax, eax", "", true),
            row("plain", "ret", "", true),
        ]
    }

    #[test]
    fn lists_are_folded() {
        let folded = table(&path(), true);
        assert!(folded.contains("push rcx, r11") && folded.lines().count() == 5, "{folded}");
        assert!(folded.contains("\n3  save") && folded.contains("entry+0x4"), "{folded}");
        assert_eq!(table(&path(), false).lines().count(), 6);
    }

    #[test]
    fn documentation_counts_compiled_instructions() {
        let text = markdown(&path());
        assert!(text.starts_with("5 instructions:\n"), "{text}");
        assert!(text.contains("| 2 | save | `entry` | `push rcx, r11` | Save. |\n"), "{text}");
        assert!(text.contains("| 2 | handler | `plain` | compiled Rust |  |\n"), "{text}");
    }
}
