//! Resolves addresses of code to functions and source lines.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use addr2line::Context;
use gimli::{Dwarf, EndianArcSlice, LittleEndian, SectionId};
use object::{Object, ObjectSection, ObjectSegment, ObjectSymbol, SymbolKind};

use crate::tree::relative;

/// The bytes of a debug-information section.
type Section = EndianArcSlice<LittleEndian>;

/// The symbols and line tables of an ELF file: the kernel or a program.
#[derive(Default)]
pub struct Symbols {
    /// The line tables, if the file has any.
    lines: Option<Context<Section>>,
    /// The functions, sorted by address.
    functions: Vec<Function>,
    /// The addresses of the executable segments.
    code: Vec<Range<u64>>,
}

/// A function or a label in assembly.
struct Function {
    start: u64,
    /// Number of bytes; 0 if the symbol has no size, for example a label in assembly.
    size: u64,
    /// The mangled name.
    name: String,
}

/// Maximum size of an ELF file whose symbols are read, in bytes. Debug information can be many times as large as the
/// code.
const ELF_MAX: u64 = 2 << 30;

impl Symbols {
    /// Loads symbols and line tables from an ELF file. If that fails, no address can be resolved.
    pub fn load(elf: &Path) -> Symbols {
        trace::input::read(elf, ELF_MAX).map_or_else(|_| Symbols::default(), |bytes| Symbols::parse(&bytes))
    }

    /// Like [`load`](Self::load), but takes the contents of an ELF file.
    pub fn parse(elf: &[u8]) -> Symbols {
        let Ok(file) = object::File::parse(elf) else { return Symbols::default() };
        let section = |id: SectionId| {
            let data = file.section_by_name(id.name()).and_then(|section| section.data().ok());
            Ok::<_, gimli::Error>(Section::new(Arc::from(data.unwrap_or_default()), LittleEndian))
        };
        let lines = Dwarf::load(section).and_then(Context::from_dwarf).ok();
        let code: Vec<_> = file.segments().filter_map(|segment| executable(&segment)).collect();
        let mut functions: Vec<_> = file.symbols().filter_map(|symbol| function(&symbol, &code)).collect();
        // Of several symbols at one address, the last one is found: prefer one with a size.
        functions.sort_by_key(|function| (function.start, function.size));
        Symbols { lines, functions, code }
    }

    /// Returns whether the file has no function symbols.
    pub fn is_empty(&self) -> bool {
        self.functions.is_empty()
    }

    /// Returns the function and source line of an instruction. If functions of the standard library were inlined there,
    /// it is the innermost function outside the library. Returns `None` if the file has no code at this address, or no
    /// symbol for it.
    pub fn place(&self, instruction: u64) -> Option<String> {
        if !self.code.iter().any(|code| code.contains(&instruction)) {
            return None;
        }
        let frames = self.frames(instruction, instruction);
        let outside_library = frames.iter().find(|frame| !frame.is_library);
        outside_library.or(frames.first()).map(Frame::to_string)
    }

    /// Formats one frame of the backtrace: first the innermost function, then the functions that it was inlined into.
    pub fn describe(&self, number: usize, ip: u64) -> Vec<String> {
        // A return address is the address of the instruction after the call, which may belong to another source line.
        let frames = self.frames(ip.saturating_sub(1), ip);
        if frames.is_empty() {
            return vec![format!("  {number:2}: {ip:#018x} ?")];
        }
        let line = |(i, frame): (usize, Frame)| match i {
            0 => format!("  {number:2}: {ip:#018x} {frame}"),
            _ => format!("      {:18} inlined into {frame}", ""),
        };
        frames.into_iter().enumerate().map(line).collect()
    }

    /// Returns the function at an address and those that it was inlined into. Where there is no line table, the
    /// location is the offset of `shown` from the start of the function.
    fn frames(&self, address: u64, shown: u64) -> Vec<Frame> {
        let mut found = Vec::new();
        if let Some(lines) = &self.lines
            && let Ok(mut frames) = lines.find_frames(address).skip_all_loads()
        {
            while let Ok(Some(frame)) = frames.next() {
                let name = frame.function.as_ref().and_then(|name| name.demangle().ok());
                let file = frame.location.as_ref().and_then(|location| location.file);
                let line = frame.location.as_ref().and_then(|location| location.line);
                found.push(Frame {
                    name: name.map(|name| name.into_owned()),
                    location: match (file, line) {
                        (Some(file), Some(line)) => format!(" ({}:{line})", short(file)),
                        (Some(file), None) => format!(" ({})", short(file)),
                        (None, _) => String::new(),
                    },
                    is_library: file.is_some_and(|file| in_library(file).is_some()),
                });
            }
        }
        // The line tables contain function names without module paths. The symbol at the address, which names the
        // outermost function, contains the path as well. Assembly has no line table, only symbols.
        if let Some(symbol) = self.symbol(address) {
            let name = Some(addr2line::demangle_auto(symbol.name.as_str().into(), None).into_owned());
            match found.last_mut() {
                Some(last) => last.name = name,
                None => {
                    let offset = shown - symbol.start;
                    let location = if offset == 0 { String::new() } else { format!("+{offset:#x}") };
                    found.push(Frame { name, location, is_library: false });
                }
            }
        }
        found
    }

    /// Returns the last symbol that starts at or before the address, unless it ends before the address.
    fn symbol(&self, address: u64) -> Option<&Function> {
        let after = self.functions.partition_point(|function| function.start <= address);
        let last = self.functions[..after].last();
        last.filter(|function| function.size == 0 || address - function.start < function.size)
    }
}

/// Returns the addresses of a segment if it is executable.
fn executable<'a>(segment: &impl ObjectSegment<'a>) -> Option<Range<u64>> {
    let object::SegmentFlags::Elf { p_flags, .. } = segment.flags() else { return None };
    let is_executable = p_flags.contains(object::elf::PF_X);
    is_executable.then(|| segment.address()..segment.address().saturating_add(segment.size()))
}

/// Returns the function or label that a symbol names, or `None` if the symbol names something else. Labels in assembly
/// have no type.
fn function<'a>(symbol: &impl ObjectSymbol<'a>, code: &[Range<u64>]) -> Option<Function> {
    let is_label = matches!(symbol.kind(), SymbolKind::Text | SymbolKind::Unknown | SymbolKind::Label);
    let (start, size) = (symbol.address(), symbol.size());
    let is_code = is_label && !symbol.is_undefined() && code.iter().any(|code| code.contains(&start));
    let name = symbol.name().ok().filter(|name| is_code && !name.is_empty())?.to_owned();
    Some(Function { start, size, name })
}

/// A function at an address, or one that it was inlined into.
struct Frame {
    name: Option<String>,
    /// The source line in parentheses, or the offset from the start of the function.
    location: String,
    /// Whether the source is the standard library's.
    is_library: bool,
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.name.as_deref().unwrap_or("?"), self.location)
    }
}

/// Returns the path in the standard library's source, if the file is part of it. Precompiled libraries have the path
/// `/rustc/COMMIT/library/...`.
fn in_library(file: &str) -> Option<&str> {
    let source = file.split_once("/rust/library/");
    source.or_else(|| file.strip_prefix("/rustc/")?.split_once("/library/")).map(|(_, rest)| rest)
}

/// Shortens the path of a source file to a path in this tree, the standard library or the package.
fn short(file: &str) -> String {
    if let Some(rest) = in_library(file) {
        return rest.to_owned();
    }
    if let Some((_, rest)) = file.split_once("/registry/src/") {
        return rest.split_once('/').map_or(rest, |(_, package)| package).to_owned();
    }
    relative(Path::new(file)).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_shortened() {
        let source = crate::tree::root().join("kernel/src/run.rs");
        assert_eq!(short(source.to_str().expect("invalid UTF-8")), "kernel/src/run.rs");
        assert_eq!(short("/usr/lib/rustlib/src/rust/library/core/src/panicking.rs"), "core/src/panicking.rs");
        assert_eq!(short("/rustc/5980761/library/core/src/hint.rs"), "core/src/hint.rs");
        assert_eq!(
            short("/home/x/.cargo/registry/src/some-index/spin-0.12.3/src/once.rs"),
            "spin-0.12.3/src/once.rs"
        );
    }

    #[test]
    fn function_is_found_with_module_path_and_line() {
        let executable = std::fs::read("/proc/self/exe").expect("cannot read the test executable");
        let folder = tempfile::tempdir().expect("cannot create a directory");
        let path = folder.path().join("own");
        std::fs::write(&path, &executable).expect("cannot copy");
        let file = object::File::parse(&*executable).expect("it must be an ELF file");
        use object::{Object, ObjectSymbol};
        let symbol =
            file.symbols().find(|symbol| symbol.name().is_ok_and(|name| name.contains("7symbols5short")));
        let address = symbol.expect("there must be a symbol").address();
        let text = Symbols::load(&path).describe(7, address + 1).join("\n");
        assert!(text.starts_with("   7: 0x") && text.contains("symbols::short"), "{text}");
        assert!(text.contains("(scripts/machine/src/symbols.rs:"), "{text}");
    }

    #[test]
    fn place_is_found_only_for_code() {
        let executable = std::fs::read("/proc/self/exe").expect("cannot read the test executable");
        let file = object::File::parse(&*executable).expect("it must be an ELF file");
        let of = |kind| {
            let mut symbols = file.symbols().filter(|symbol| symbol.size() != 0 && symbol.kind() == kind);
            symbols.find(|symbol| !symbol.is_undefined()).expect("there must be a symbol").address()
        };
        let symbols = Symbols::parse(&executable);
        assert!(symbols.place(of(SymbolKind::Text)).is_some());
        assert_eq!(symbols.place(of(SymbolKind::Data)), None, "data");
        assert_eq!(symbols.place(0), None, "no segment");
        assert_eq!(symbols.place(u64::MAX), None, "no segment");
    }

    #[test]
    fn address_is_shown_without_symbols() {
        let lines = Symbols::load(Path::new("/nonexistent")).describe(0, 0xffff_ffff_8000_1234);
        assert_eq!(lines, ["   0: 0xffffffff80001234 ?"]);
    }
}
