//! The source of a function in assembly (`naked_asm!`): each instruction with its line and the comment above it.
//!
//! The debug information has no lines for assembly. So the source is read, and the n-th instruction of the source belongs
//! to the n-th instruction of the function. [`Source::find`] is used only for instructions that agree.

use std::path::{Path, PathBuf};

use machine::error::Error;
use machine::tree;

/// An instruction in the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The instruction, with one space between mnemonic and operands.
    pub text: String,
    /// The comment above the instruction or above its group. Empty if there is none.
    pub comment: String,
    /// The file, relative to the checkout, and the line.
    pub place: String,
}

/// The directories with assembly in Rust files.
const DIRECTORIES: [&str; 3] =
    ["kernel/src/arch/entry/points", "kernel/src/arch/exit", "kernel/src/arch/entry"];
/// The file with the macros for lists of registers.
const MACROS: &str = "kernel/src/arch/entry/registers.rs";

/// Returns the instructions of a function. `None` if no file contains the function in assembly.
pub fn of_function(name: &str) -> Result<Option<Vec<Line>>, Error> {
    let macros = read(&tree::root().join(MACROS))?;
    for directory in DIRECTORIES {
        let directory = tree::root().join(directory);
        let entries =
            std::fs::read_dir(&directory).map_err(|error| Error::file("list", &directory, error))?;
        let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        files.sort();
        for file in files.into_iter().filter(|file| file.extension().is_some_and(|end| end == "rs")) {
            if let Some(lines) =
                parse(&read(&file)?, name, &tree::relative(&file).display().to_string(), &macros)
            {
                return Ok(Some(lines));
            }
        }
    }
    Ok(None)
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|error| Error::file("read", path, error))
}

/// Parses the instructions of the function `name` in the text of a file.
fn parse(text: &str, name: &str, file: &str, macros: &str) -> Option<Vec<Line>> {
    let mut lines = text.lines().zip(1..).skip_while(|(line, _)| {
        let definition = line.split_once("fn ").map(|(_, rest)| rest);
        !definition.and_then(|rest| rest.strip_prefix(name)).is_some_and(|rest| rest.starts_with(['(', '<']))
    });
    lines.next()?;
    // The body begins before the function ends.
    let mut body = lines.skip_while(|(line, _)| !line.contains("naked_asm!(") && *line != "}");
    let (first, number) = body.next()?;
    if first == "}" {
        return None;
    }
    let mut found = Vec::new();
    let mut push = |text: &str, comment: &str, line: usize| {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if !text.starts_with('.') && !text.ends_with(':') {
            found.push(Line { text, comment: comment.to_owned(), place: format!("{file}:{line}") });
        }
    };
    // A function of one line.
    let inside = first.split_once("naked_asm!(").map_or("", |(_, rest)| rest);
    for text in strings(inside) {
        push(text, "", number);
    }
    let (mut comment, mut in_comment) = (String::new(), false);
    for (line, number) in body {
        let line = line.trim();
        if let Some(text) = line.strip_prefix("//") {
            if !in_comment {
                comment.clear();
            }
            let separator = if comment.is_empty() { "" } else { " " };
            comment = format!("{comment}{separator}{}", text.trim());
            in_comment = true;
            continue;
        }
        in_comment = false;
        if line.is_empty() {
            comment.clear();
        } else if line.starts_with('"') {
            strings(line).for_each(|text| push(text, &comment, number));
        } else if let Some(called) = line.strip_suffix("!(),") {
            for text in expansion(macros, called)? {
                push(text, &comment, number);
            }
        } else {
            break;
        }
    }
    Some(found)
}

/// Returns the contents of the string literals in a line.
fn strings(line: &str) -> impl Iterator<Item = &str> {
    line.split('"').skip(1).step_by(2)
}

/// Returns the instructions that a macro expands to.
fn expansion<'a>(macros: &'a str, name: &str) -> Option<Vec<&'a str>> {
    let (_, rest) = macros.split_once(&format!("macro_rules! {name} "))?;
    let body = rest.split("\n}").next()?;
    Some(body.lines().flat_map(strings).map(|text| text.trim_end_matches("\\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACROS: &str =
        "macro_rules! save {\n    () => {\n  concat!(\n \"push   rax\\n\",\n \"push   rcx\\n\",\n)\n }\n}\n";

    #[test]
    fn instructions_have_their_comments_and_lines() {
        let text = "fn a() {\n}\n\npub unsafe extern \"sysv64\" fn b<C>() {\n    naked_asm!(\n        // One,\n        // two.\n        \
                    \"swapgs\",\n        \".globl x\",\n        \"x:\",\n        \"push   {y}\",\n\n        \"cld\",\n        // Three.\n        \
                    save!(),\n        y = const 1,\n    )\n}\n";
        let lines = parse(text, "b", "f.rs", MACROS).expect("the function must be found");
        let all: Vec<_> = lines.iter().map(|line| (&*line.text, &*line.comment, &*line.place)).collect();
        assert_eq!(
            all,
            [
                ("swapgs", "One, two.", "f.rs:8"),
                ("push {y}", "One, two.", "f.rs:11"),
                ("cld", "", "f.rs:13"),
                ("push rax", "Three.", "f.rs:15"),
                ("push rcx", "Three.", "f.rs:15"),
            ]
        );
        assert_eq!(parse(text, "a", "f.rs", MACROS), None, "it is not in assembly");
        assert_eq!(parse(text, "c", "f.rs", MACROS), None);
    }

    #[test]
    fn entry_points_of_the_kernel_are_found() {
        for (name, first) in [("syscall_entry", "swapgs"), ("tick_entry", "cld"), ("iret_to_user", "swapgs")]
        {
            let lines = of_function(name).expect("the files must be readable").expect("it must be found");
            assert_eq!(lines[0].text, first, "{name}");
        }
        assert_eq!(of_function("tick_from_user").expect("the files must be readable"), None);
    }
}
