//! The ring-3 programs: those in the source tree, which are embedded in the kernel, and the user's own.

use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::tree::root;

/// A program in the source tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Embedded {
    /// The name of the program, as accepted by `run` and by the kernel's `program=`.
    pub name: String,
    /// The first line of the program's documentation.
    pub about: String,
}

/// The program that a run starts on every CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// A program that is embedded in the kernel.
    Embedded(String),
    /// The user's own static ELF64 file, which is passed as a boot module, and its name.
    File(PathBuf, String),
}

impl Program {
    /// Returns the value for the kernel's `program=` key.
    pub fn name(&self) -> &str {
        match self {
            Program::Embedded(name) | Program::File(_, name) => name,
        }
    }
}

/// Lists the programs in the source tree, sorted by name.
pub fn embedded() -> Result<Vec<Embedded>, Error> {
    let folder = root().join("user/src/bin");
    let fail = |error| Error::file("read", &folder, error);
    let mut programs = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let source = if path.is_dir() { path.join("main.rs") } else { path.clone() };
        let is_source = source.extension().is_some_and(|extension| extension == "rs") && source.is_file();
        let Some(name) = path.file_stem().and_then(|stem| stem.to_str()).filter(|_| is_source) else {
            continue;
        };
        let text = std::fs::read_to_string(&source).map_err(|error| Error::file("read", &source, error))?;
        programs.push(Embedded { name: name.to_owned(), about: first_doc_line(&text) });
    }
    programs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(programs)
}

fn first_doc_line(source: &str) -> String {
    let docs = source.lines().find_map(|line| line.strip_prefix("//!"));
    docs.unwrap_or("").trim().to_owned()
}

/// Resolves the user's PROGRAM: either the name of a program in the source tree, or a file.
pub fn resolve(word: &str, embedded: &[Embedded]) -> Result<Program, Error> {
    if embedded.iter().any(|program| program.name == word) {
        return Ok(Program::Embedded(word.to_owned()));
    }
    if word.starts_with('-') {
        return Err(Error::Usage(format!("unknown option {word:?}; `run --help` lists the options")));
    }
    let path = Path::new(word);
    if path.is_file() {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        return Ok(Program::File(path.to_owned(), name.unwrap_or_default()));
    }
    let list: Vec<_> = embedded.iter().map(|program| program.name.as_str()).collect();
    Err(Error::Usage(if word.contains('/') {
        format!("there is no file {word:?}")
    } else {
        format!("there is no program {word:?}, and no such file. Programs: {}", list.join(", "))
    }))
}

/// Formats the output of `run --list`.
pub fn list(embedded: &[Embedded]) -> String {
    let width = embedded.iter().map(|program| program.name.len()).max().unwrap_or(0);
    embedded.iter().map(|program| format!("{:width$}  {}\n", program.name, program.about)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Vec<Embedded> {
        ["hello", "spin"].map(|name| Embedded { name: name.to_owned(), about: "About.".to_owned() }).into()
    }

    #[test]
    fn embedded_name_takes_precedence_over_file() {
        assert_eq!(
            resolve("hello", &tree()).expect("it must be a program"),
            Program::Embedded("hello".to_owned())
        );
    }

    #[test]
    fn file_is_named_by_its_last_component() {
        let folder = tempfile::tempdir().expect("cannot create a directory");
        let path = folder.path().join("a,b \"c");
        std::fs::write(&path, b"").expect("cannot write");
        let word = path.to_str().expect("invalid UTF-8");
        assert_eq!(resolve(word, &tree()).expect("it must be a file").name(), "a,b \"c");
    }

    #[test]
    fn unknown_name_lists_the_programs() {
        let Err(Error::Usage(text)) = resolve("hullo", &tree()) else { panic!("must fail") };
        assert!(text.ends_with("Programs: hello, spin"), "{text}");
        assert!(matches!(resolve("./hullo", &tree()), Err(Error::Usage(_))));
        assert!(matches!(resolve("--hullo", &tree()), Err(Error::Usage(text)) if text.contains("option")));
    }

    #[test]
    fn list_shows_first_doc_line_of_each_program() {
        assert_eq!(first_doc_line("//! Says hello.\n//! More.\n"), "Says hello.");
        assert_eq!(list(&tree()), "hello  About.\nspin   About.\n");
    }
}
