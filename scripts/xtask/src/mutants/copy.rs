//! A copy of the source tree for building mutants. The tree itself is never changed.
//!
//! A file in the copy is written only if its content changes, so that cargo rebuilds only affected code.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};

use machine::error::Error;
use machine::tree::root;

use super::edits::Edit;
use super::mutant::Mutant;

/// The parts of the tree that cargo needs. `.cargo` is not copied, because cargo also finds it in the tree, which
/// contains the copy.
const PARTS: [&str; 6] = ["Cargo.toml", "Cargo.lock", "ap_trampoline", "kernel", "scripts", "user"];

/// An up-to-date copy with the edits of some mutants. The edits are undone on drop. A lock file ensures that only one
/// process uses the copy.
pub struct Copy {
    folder: PathBuf,
    edited: BTreeSet<PathBuf>,
    _lock: File,
}

impl Copy {
    /// Updates the copy in this directory, and applies the edits of these mutants.
    pub fn with(folder: &Path, mutants: &[&Mutant]) -> Result<Copy, Error> {
        let edited = edited(mutants)?;
        fs::create_dir_all(folder).map_err(|error| Error::file("create", folder, error))?;
        let lock = folder.with_extension("lock");
        let file = output::create(&lock).map_err(|error| Error::file("create", &lock, error))?;
        file.lock().map_err(|error| Error::file("lock", &lock, error))?;
        let mut files = BTreeSet::new();
        for part in PARTS {
            list(root(), Path::new(part), &mut files)?;
        }
        let mut old = BTreeSet::new();
        list(folder, Path::new(""), &mut old)?;
        for path in old.difference(&files) {
            let path = folder.join(path);
            fs::remove_file(&path).map_err(|error| Error::file("remove", &path, error))?;
        }
        for path in files.iter().filter(|path| !edited.contains_key(*path)) {
            write(&folder.join(path), &read(&root().join(path))?)?;
        }
        for (path, text) in &edited {
            write(&folder.join(path), text.as_bytes())?;
        }
        Ok(Copy { folder: folder.to_owned(), edited: edited.into_keys().collect(), _lock: file })
    }

    /// Returns the directory in which cargo must run.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        for path in &self.edited {
            // Ignore an error: the next call of `with` restores the copy.
            let _ = read(&root().join(path)).and_then(|text| write(&self.folder.join(path), &text));
        }
    }
}

/// Returns the files that these mutants change, with their new text.
pub fn edited(mutants: &[&Mutant]) -> Result<BTreeMap<PathBuf, String>, Error> {
    let mut texts = BTreeMap::new();
    for mutant in mutants {
        for edit in mutant.edits() {
            let path = PathBuf::from(edit.file);
            let text = match texts.remove(&path) {
                Some(text) => text,
                None => original(mutant, edit)?,
            };
            texts.insert(path, apply(mutant, edit, &text)?);
        }
    }
    Ok(texts)
}

fn original(mutant: &Mutant, edit: &Edit) -> Result<String, Error> {
    fs::read_to_string(root().join(edit.file)).map_err(|error| {
        let (name, file) = (mutant.name, edit.file);
        Error::Host(format!("the mutant {name} edits {file}, which cannot be read: {error}. If the file was moved, update scripts/xtask/src/mutants/edits.rs"))
    })
}

fn apply(mutant: &Mutant, edit: &Edit, text: &str) -> Result<String, Error> {
    match places(text, edit.find).as_slice() {
        [place] => Ok(format!("{}{}{}", &text[..place.start], edit.replace, &text[place.end..])),
        places => {
            let (name, file, count) = (mutant.name, edit.file, places.len());
            Err(Error::Host(format!(
                "the mutant {name} needs {:?} exactly once in {file}, but found it {count} times. See scripts/xtask/src/mutants/edits.rs",
                edit.find
            )))
        }
    }
}

/// Returns the positions at which a fragment occurs. White space in the fragment matches any white space.
fn places(text: &str, find: &str) -> Vec<Range<usize>> {
    let mut words = find.split_whitespace();
    let Some(first) = words.next() else { return Vec::new() };
    let end = |start: usize| {
        words.clone().try_fold(start + first.len(), |at, word| {
            let rest = text[at..].trim_start();
            let begin = text.len() - rest.len();
            (begin > at && rest.starts_with(word)).then_some(begin + word.len())
        })
    };
    text.match_indices(first).filter_map(|(start, _)| Some(start..end(start)?)).collect()
}

/// Adds a file, or all files below a directory except cargo's build output.
fn list(top: &Path, part: &Path, files: &mut BTreeSet<PathBuf>) -> Result<(), Error> {
    let path = top.join(part);
    let failed = |error| Error::file("read", &path, error);
    if !path.is_dir() {
        files.insert(part.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(&path).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if name != "target" {
            list(top, &part.join(name), files)?;
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|error| Error::file("read", path, error))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    if fs::read(path).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(|error| Error::file("create", folder, error))?;
    output::write(path, bytes).map_err(|error| Error::file("write", path, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutants::edits::EDITS;
    use crate::mutants::table::MUTANTS;

    #[test]
    fn every_mutant_has_its_edits_once() {
        let rows: Vec<_> = MUTANTS.iter().map(|mutant| mutant.name).collect();
        let edits: Vec<_> = EDITS.iter().map(|(name, _)| *name).collect();
        assert_eq!(rows, edits);
        assert_eq!(rows.iter().collect::<BTreeSet<_>>().len(), rows.len(), "duplicate name");
    }

    #[test]
    fn every_edit_applies_to_one_place_and_changes_it() {
        let wrong = |mutant: &Mutant| match edited(&[mutant]) {
            Err(error) => Some(error.to_string()),
            Ok(texts) if texts.is_empty() => Some(format!("the mutant {} has no edit", mutant.name)),
            Ok(texts) => texts.into_iter().find_map(|(path, text)| {
                let same = fs::read_to_string(root().join(&path)).expect("cannot read the file") == text;
                same.then(|| format!("the mutant {} does not change {}", mutant.name, path.display()))
            }),
        };
        let wrong: Vec<_> = MUTANTS.iter().filter_map(wrong).collect();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn edit_that_does_not_apply_names_the_mutant_and_the_file() {
        let mutant = &MUTANTS[0];
        let error_of = |file, find| {
            let edit = Edit { file, find, replace: "" };
            let text = original(mutant, &edit).and_then(|text| apply(mutant, &edit, &text));
            text.expect_err("the edit must not apply").to_string()
        };
        for (file, find) in
            [("kernel/src/gone.rs", "x"), ("kernel/src/lib.rs", "no such code"), ("kernel/src/lib.rs", "mod")]
        {
            let text = error_of(file, find);
            assert!(text.contains(mutant.name) && text.contains(file), "{text}");
        }
    }

    #[test]
    fn white_space_matches_any_white_space() {
        assert_eq!(places("a  b\n  c a bc a b c", "a b c"), [0..8, 14..19]);
        assert_eq!(places("ab ab", "ab"), [0..2, 3..5]);
        assert!(places("ab", "a b").is_empty());
    }

    #[test]
    fn copy_is_mutated_and_restored() {
        let top = tempfile::tempdir().expect("cannot create a directory");
        let folder = top.path().join("tree");
        let mutant = MUTANTS.iter().find(|mutant| mutant.name == "star-rpl").expect("it must exist");
        let path = mutant.edits()[0].file;
        let original = read(&root().join(path)).expect("cannot read the file");
        let copy = Copy::with(&folder, &[mutant]).expect("cannot create it");
        assert_ne!(read(&folder.join(path)).expect("it must exist"), original);
        fs::write(folder.join("kernel/src/old.rs"), "old").expect("cannot write the file");
        drop(copy);
        assert_eq!(read(&folder.join(path)).expect("it must exist"), original);
        let untouched = |path: &str| {
            fs::metadata(folder.join(path)).and_then(|data| data.modified()).expect("there must be a time")
        };
        let before = untouched(path);
        drop(Copy::with(&folder, &[]).expect("cannot create it"));
        assert_eq!(untouched(path), before);
        assert!(!folder.join("kernel/src/old.rs").exists());
    }
}
