//! Return addresses of a panic's backtrace, turned into functions and lines.

use std::path::Path;

use addr2line::Loader;

use crate::tree::relative;

/// The kernel's symbols and line tables.
pub struct Symbols(Option<Loader>);

impl Symbols {
    /// Reads them from the kernel's ELF. Without them a backtrace has addresses only.
    pub fn load(kernel: &Path) -> Symbols {
        Symbols(Loader::new(kernel).ok())
    }

    /// One frame of the backtrace as lines to print: the function first, then those that it was inlined into.
    pub fn describe(&self, number: usize, ip: u64) -> Vec<String> {
        // A return address is the instruction behind the call, which may be another line's.
        let places = self.0.as_ref().map(|loader| places(loader, ip.saturating_sub(1))).unwrap_or_default();
        if places.is_empty() {
            return vec![format!("  {number:2}: {ip:#018x} ?")];
        }
        let line = |(i, place): (usize, String)| match i {
            0 => format!("  {number:2}: {ip:#018x} {place}"),
            _ => format!("      {:18} inlined into {place}", ""),
        };
        places.into_iter().enumerate().map(line).collect()
    }
}

fn places(loader: &Loader, address: u64) -> Vec<String> {
    let mut places = Vec::new();
    if let Ok(mut frames) = loader.find_frames(address) {
        while let Ok(Some(frame)) = frames.next() {
            let name =
                frame.function.as_ref().and_then(|name| name.demangle().ok().map(|name| name.into_owned()));
            let file = frame.location.as_ref().and_then(|location| location.file);
            let line = frame.location.as_ref().and_then(|location| location.line);
            places.push(match (name, file, line) {
                (Some(name), Some(file), Some(line)) => format!("{name} ({}:{line})", short(file)),
                (Some(name), Some(file), None) => format!("{name} ({})", short(file)),
                (Some(name), None, _) => name,
                (None, _, _) => continue,
            });
        }
    }
    if places.is_empty()
        && let Some(symbol) = loader.find_symbol(address)
    {
        // Assembly has a symbol, but no line table.
        places.push(addr2line::demangle_auto(symbol.into(), None).into_owned());
    }
    places
}

fn short(file: &str) -> String {
    relative(Path::new(file)).display().to_string()
}
