//! Resolves the return addresses in a panic backtrace to functions and source lines.

use std::path::Path;
use std::sync::Arc;

use addr2line::Context;
use gimli::{Dwarf, EndianArcSlice, LittleEndian, SectionId};
use object::{Object, ObjectSection};

use crate::tree::relative;

/// The bytes of a debug-information section.
type Section = EndianArcSlice<LittleEndian>;

/// The kernel's symbols and line tables.
#[derive(Default)]
pub struct Symbols {
    /// The line tables, if the kernel has any.
    lines: Option<Context<Section>>,
    /// Addresses and mangled names of functions, sorted by address.
    functions: Vec<(u64, String)>,
}

impl Symbols {
    /// Loads symbols and line tables from the kernel's ELF file. If that fails, backtraces show only addresses.
    pub fn load(kernel: &Path) -> Symbols {
        let Ok(bytes) = std::fs::read(kernel) else { return Symbols::default() };
        let Ok(file) = object::File::parse(&*bytes) else { return Symbols::default() };
        let section = |id: SectionId| {
            let data = file.section_by_name(id.name()).and_then(|section| section.data().ok());
            Ok::<_, gimli::Error>(Section::new(Arc::from(data.unwrap_or_default()), LittleEndian))
        };
        let lines = Dwarf::load(section).and_then(Context::from_dwarf).ok();
        let map = file.symbol_map();
        let functions =
            map.symbols().iter().map(|symbol| (symbol.address(), symbol.name().to_owned())).collect();
        Symbols { lines, functions }
    }

    /// Formats one frame of the backtrace: first the innermost function, then the functions that it was inlined into.
    pub fn describe(&self, number: usize, ip: u64) -> Vec<String> {
        // A return address is the address of the instruction after the call, which may belong to another source line.
        let places = self.places(ip.saturating_sub(1));
        if places.is_empty() {
            return vec![format!("  {number:2}: {ip:#018x} ?")];
        }
        let line = |(i, place): (usize, String)| match i {
            0 => format!("  {number:2}: {ip:#018x} {place}"),
            _ => format!("      {:18} inlined into {place}", ""),
        };
        places.into_iter().enumerate().map(line).collect()
    }

    /// Returns the function at an address and those that it was inlined into, each with its source location.
    fn places(&self, address: u64) -> Vec<String> {
        let mut found: Vec<(Option<String>, String)> = Vec::new();
        if let Some(lines) = &self.lines
            && let Ok(mut frames) = lines.find_frames(address).skip_all_loads()
        {
            while let Ok(Some(frame)) = frames.next() {
                let name = frame.function.as_ref().and_then(|name| name.demangle().ok());
                let place = frame.location.as_ref().map_or(String::new(), |location| {
                    match (location.file, location.line) {
                        (Some(file), Some(line)) => format!(" ({}:{line})", short(file)),
                        (Some(file), None) => format!(" ({})", short(file)),
                        (None, _) => String::new(),
                    }
                });
                found.push((name.map(|name| name.into_owned()), place));
            }
        }
        // The line tables contain function names without module paths. The symbol at the address, which names the
        // outermost function, contains the path as well. Assembly has no line table, only symbols.
        if let Some(symbol) = self.symbol(address) {
            let name = addr2line::demangle_auto(symbol.into(), None).into_owned();
            match found.last_mut() {
                Some(last) => last.0 = Some(name),
                None => found.push((Some(name), String::new())),
            }
        }
        found.into_iter().map(|(name, place)| format!("{}{place}", name.as_deref().unwrap_or("?"))).collect()
    }

    /// Returns the name of the last symbol that starts at or before the address.
    fn symbol(&self, address: u64) -> Option<&str> {
        let after = self.functions.partition_point(|(start, _)| *start <= address);
        self.functions[..after].last().map(|(_, name)| name.as_str())
    }
}

/// Shortens the path of a source file to a path in this tree, the standard library or the package.
fn short(file: &str) -> String {
    if let Some((_, rest)) = file.split_once("/rust/library/") {
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
        let own = crate::tree::root().join("kernel/src/run.rs");
        assert_eq!(short(own.to_str().expect("text")), "kernel/src/run.rs");
        assert_eq!(short("/usr/lib/rustlib/src/rust/library/core/src/panicking.rs"), "core/src/panicking.rs");
        assert_eq!(
            short("/home/x/.cargo/registry/src/some-index/spin-0.12.3/src/once.rs"),
            "spin-0.12.3/src/once.rs"
        );
    }

    #[test]
    fn function_is_found_with_module_path_and_line() {
        let own = std::fs::read("/proc/self/exe").expect("own file");
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("own");
        std::fs::write(&path, &own).expect("a copy");
        let file = object::File::parse(&*own).expect("an ELF file");
        use object::{Object, ObjectSymbol};
        let symbol =
            file.symbols().find(|symbol| symbol.name().is_ok_and(|name| name.contains("7symbols5short")));
        let address = symbol.expect("the function above").address();
        let text = Symbols::load(&path).describe(7, address + 1).join("\n");
        assert!(text.starts_with("   7: 0x") && text.contains("symbols::short"), "{text}");
        assert!(text.contains("(scripts/machine/src/symbols.rs:"), "{text}");
    }

    #[test]
    fn address_is_shown_without_symbols() {
        let lines = Symbols::load(Path::new("/nonexistent")).describe(0, 0xffff_ffff_8000_1234);
        assert_eq!(lines, ["   0: 0xffffffff80001234 ?"]);
    }
}
