//! Finds the code of a run that was traced.

use std::path::{Path, PathBuf};

use output::eprintln;
use trace::places::{Find, Origin};

use crate::code::Code;
use crate::symbols::Symbols;

/// Returns a function that names the code at the addresses in a trace, from the user's ELF files or from those on the
/// run's command line. `None` if neither is known.
pub fn find(origin: &Origin<'_>) -> Option<Find> {
    if !origin.symbols.is_empty() {
        let load = |elf: &PathBuf| {
            let symbols = Symbols::load(elf);
            if symbols.is_empty() {
                eprintln!("{} has no function symbols", elf.display());
            }
            symbols
        };
        let files: Vec<_> = origin.symbols.iter().map(load).collect();
        return Some(Box::new(move |address| files.iter().find_map(|symbols| symbols.place(address))));
    }
    // `stress` records its command line as one word.
    let words = match origin.command {
        [] => return None,
        [line] => shlex::split(line).unwrap_or_default(),
        words => words.to_vec(),
    };
    let code = Code::of_command(&words);
    if let Some(newer) = code.paths().find(|elf| is_newer(elf, origin.trace)) {
        eprintln!(
            "{} is newer than the trace, so functions are not named; name the ELF files of the run with --symbols",
            newer.display()
        );
        return None;
    }
    Some(Box::new(move |address| code.place(address)))
}

/// Returns whether a file was written after another one.
fn is_newer(file: &Path, than: &Path) -> bool {
    let modified = |path: &Path| path.metadata().and_then(|data| data.modified());
    matches!((modified(file), modified(than)), (Ok(file), Ok(than)) if file > than)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn newer_program_is_not_used() {
        let folder = tempfile::tempdir().expect("cannot create a directory");
        let (trace, elf) = (folder.path().join("x.rtrace"), folder.path().join("x"));
        std::fs::copy("/proc/self/exe", &elf).expect("cannot copy");
        let written = std::fs::File::create(&trace).expect("cannot create the trace");
        let command = ["qemu", "-initrd", elf.to_str().expect("invalid UTF-8")].map(str::to_owned);
        let one_word = [format!("qemu -initrd {}", elf.display())];
        let origin = |command| find(&Origin { trace: &trace, command, symbols: &[] });
        assert!(origin(&command[..]).is_some());
        assert!(origin(&one_word[..]).is_some());
        assert!(origin(&[]).is_none(), "no command line");
        written.set_modified(SystemTime::now() - Duration::from_secs(60)).expect("cannot set the time");
        assert!(origin(&command[..]).is_none());
        assert!(origin(&one_word[..]).is_none());
        let symbols = [elf.clone()];
        assert!(find(&Origin { trace: &trace, command: &[], symbols: &symbols }).is_some());
    }
}
