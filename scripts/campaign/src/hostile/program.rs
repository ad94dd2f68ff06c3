//! Writes the program file with random bytes from a seed.

use std::path::{Path, PathBuf};

use object::{Object, ObjectSection, ObjectSymbol};

#[path = "../../../../user/src/bin/hostile/tame.rs"]
mod tame;

use machine::error::Error;
use machine::executable::stripped;
use machine::tree::bare_artifacts;

use crate::stress::lines::splitmix64;
use crate::stress::seeds::Seed;

/// The program's name, as it also appears in the kernel's records.
pub const PROGRAM: &str = "hostile";

/// The symbol of the random bytes (`user/src/bin/hostile/deadly/random.rs`).
const SYMBOL: &str = "HOSTILE_RANDOM_CODE";

/// Returns the path of the program's build, with symbols.
pub fn built() -> PathBuf {
    bare_artifacts().join(PROGRAM)
}

/// Writes the program file with random bytes from this seed into a directory, and returns its path.
pub fn write(folder: &Path, seed: Seed) -> Result<PathBuf, Error> {
    let built = built();
    let mut elf = std::fs::read(&built).map_err(|error| Error::file("read", &built, error))?;
    let range =
        random_range(&elf).ok_or_else(|| Error::Host(format!("{PROGRAM} has no {SYMBOL} in its code")))?;
    fill(&mut elf[range], seed);
    std::fs::create_dir_all(folder).map_err(|error| Error::file("create", folder, error))?;
    let path = folder.join(PROGRAM);
    output::write(&path, stripped(&elf)?).map_err(|error| Error::file("write", &path, error))?;
    Ok(path)
}

/// Returns the position of the random bytes in the file.
fn random_range(elf: &[u8]) -> Option<std::ops::Range<usize>> {
    let file = object::File::parse(elf).ok()?;
    let symbol = file.symbols().find(|symbol| symbol.name() == Ok(SYMBOL))?;
    let section = file.section_by_index(symbol.section_index()?).ok()?;
    let (offset, _) = section.file_range()?;
    let start =
        usize::try_from(offset.checked_add(symbol.address().checked_sub(section.address())?)?).ok()?;
    let end = start.checked_add(usize::try_from(symbol.size()).ok()?)?;
    (start < end && end <= elf.len()).then_some(start..end)
}

/// Fills the bytes from a seed, and removes instructions that QEMU cannot run (`tame.rs`).
fn fill(bytes: &mut [u8], seed: Seed) {
    for (number, word) in bytes.chunks_mut(8).enumerate() {
        let random = splitmix64(splitmix64(seed.0).wrapping_add(number as u64)).to_le_bytes();
        word.copy_from_slice(&random[..word.len()]);
    }
    tame::tame(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_bytes_depend_on_seed() {
        let bytes = |seed| {
            let mut bytes = vec![0; 4096];
            fill(&mut bytes, Seed(seed));
            bytes
        };
        assert_eq!(bytes(1), bytes(1));
        let same = bytes(1).iter().zip(bytes(2)).filter(|(a, b)| *a == b).count();
        assert!(same < 4096 / 16, "{same} bytes are the same");
    }
}
