//! The source files of one crate, and the imports between them.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use super::source::{self, Source};

/// The import graph of a crate.
pub struct Graph {
    /// The files. The first is the crate root.
    pub files: Vec<File>,
    /// The imports, sorted. For each pair of files, only the first import in the text is listed.
    pub imports: Vec<Import>,
}

/// A source file. Each file is one module.
pub struct File {
    /// The file's path.
    pub path: PathBuf,
    /// The module's path, relative to the crate root.
    pub module: Vec<String>,
    source: Source,
}

/// An import of one file by another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Import {
    /// The importing file: an index of [`Graph::files`].
    pub from: usize,
    /// The imported file.
    pub to: usize,
    /// The line in the importing file.
    pub line: usize,
    /// The imported path or macro, as written in the source.
    pub text: String,
}

impl Graph {
    /// Reads a crate, starting at its root file. `read` returns a file's text, or `None` if the file does not exist.
    ///
    /// # Errors
    /// A declared module has no file.
    pub fn read(root: &Path, read: &dyn Fn(&Path) -> Option<String>) -> Result<Graph, String> {
        let mut files = Vec::new();
        let mut next = VecDeque::from([(root.to_owned(), Vec::new())]);
        while let Some((path, module)) = next.pop_front() {
            let text = read(&path).ok_or_else(|| format!("{}: cannot read this file", path.display()))?;
            let source = source::read(&text);
            let folder = children_folder(&path, module.is_empty());
            for declared in &source.modules {
                let name = &declared.name;
                let candidates = match &declared.file {
                    Some(file) => vec![path.with_file_name(file)],
                    None => vec![folder.join(format!("{name}.rs")), folder.join(name).join("mod.rs")],
                };
                let file = candidates.into_iter().find(|file| read(file).is_some());
                let file = file.ok_or_else(|| format!("{}: no file for `mod {name};`", path.display()))?;
                next.push_back((file, [&module[..], std::slice::from_ref(name)].concat()));
            }
            files.push(File { path, module, source });
        }
        let imports = imports(&files);
        Ok(Graph { files, imports })
    }

    /// Returns the modules that a file declares, in order of declaration.
    pub fn declared(&self, file: usize) -> impl Iterator<Item = &str> {
        self.files[file].source.modules.iter().map(|declared| declared.name.as_str())
    }
    /// Returns the index of a module's file.
    pub fn file_of(&self, module: &[&str]) -> Option<usize> {
        self.files.iter().position(|file| file.module == module)
    }

    /// Finds import cycles of three or more files, the shortest first. Cycles may share files, but not imports.
    pub fn cycles(&self) -> Vec<Vec<&Import>> {
        let mut rest: Vec<&Import> = self.imports.iter().collect();
        let mut found = Vec::new();
        while let Some(cycle) = shortest_cycle(&rest) {
            rest.retain(|import| !cycle.contains(import));
            found.push(cycle);
        }
        found
    }
}

/// Returns the directory that contains the files of a file's submodules.
fn children_folder(path: &Path, is_root: bool) -> PathBuf {
    if is_root || path.ends_with("mod.rs") {
        path.parent().unwrap_or(Path::new("")).to_owned()
    } else {
        path.with_extension("")
    }
}

/// Returns the shortest cycle of three or more files. Two files that import each other do not count as a cycle.
fn shortest_cycle<'a>(imports: &[&'a Import]) -> Option<Vec<&'a Import>> {
    let mut out: BTreeMap<usize, Vec<&'a Import>> = BTreeMap::new();
    for &import in imports {
        out.entry(import.from).or_default().push(import);
    }
    imports
        .iter()
        .filter_map(|&first| {
            let mut cycle = vec![first];
            cycle.extend(path_back(&out, first)?);
            Some(cycle)
        })
        .min_by_key(Vec::len)
}

/// Returns the shortest chain of imports from an import's target back to its source, except for a direct import.
fn path_back<'a>(out: &BTreeMap<usize, Vec<&'a Import>>, first: &Import) -> Option<Vec<&'a Import>> {
    let mut reached_by: BTreeMap<usize, &'a Import> = BTreeMap::new();
    let mut queue = VecDeque::from([first.to]);
    while let Some(file) = queue.pop_front() {
        for &import in out.get(&file).into_iter().flatten() {
            let is_direct = import.from == first.to && import.to == first.from;
            if is_direct || import.to == first.to || reached_by.contains_key(&import.to) {
                continue;
            }
            reached_by.insert(import.to, import);
            queue.push_back(import.to);
        }
    }
    let mut path = vec![*reached_by.get(&first.from)?];
    while path.last().is_some_and(|import| import.from != first.to) {
        path.push(reached_by[&path.last()?.from]);
    }
    path.reverse();
    Some(path)
}

fn imports(files: &[File]) -> Vec<Import> {
    let by_module: BTreeMap<&[String], usize> =
        files.iter().enumerate().map(|(n, file)| (&file.module[..], n)).collect();
    let macros: BTreeMap<&str, usize> = files
        .iter()
        .enumerate()
        .flat_map(|(n, file)| file.source.macros.iter().map(move |name| (name.as_str(), n)))
        .collect();
    let mut found: BTreeMap<(usize, usize), Import> = BTreeMap::new();
    for (from, file) in files.iter().enumerate() {
        let by_path = file.source.paths.iter().filter_map(|path| {
            let to = match path.segments.last().and_then(|name| macros.get(name.as_str())) {
                Some(&to) => to,
                None => by_module[resolve(&by_module, &file.module, path)?],
            };
            Some(Import { from, to, line: path.line, text: path.segments.join("::") })
        });
        let by_macro = file.source.invoked.iter().filter_map(|(line, name)| {
            Some(Import { from, to: *macros.get(name.as_str())?, line: *line, text: format!("{name}!") })
        });
        for import in by_path.chain(by_macro).filter(|import| import.to != from) {
            found.entry((import.from, import.to)).or_insert(import);
        }
    }
    found.into_values().collect()
}

/// Returns the module of the deepest file to which a path resolves, or `None` if the path names another crate or a
/// local item.
fn resolve<'a>(
    files: &BTreeMap<&'a [String], usize>,
    module: &[String],
    path: &source::Path,
) -> Option<&'a [String]> {
    let mut base = [module, &path.inside].concat();
    let mut segments = &path.segments[..];
    match segments.first()?.as_str() {
        "crate" => {
            base.clear();
            segments = &segments[1..];
        }
        "self" | "super" => {
            while let [first, rest @ ..] = segments {
                match first.as_str() {
                    "self" => {}
                    "super" => base.truncate(base.len().checked_sub(1)?),
                    _ => break,
                }
                segments = rest;
            }
        }
        child => {
            base.push(child.to_owned());
            files.get(&base[..])?;
            segments = &segments[1..];
        }
    }
    base.extend(segments.iter().cloned());
    (0..=base.len()).rev().find_map(|len| files.get_key_value(&base[..len]).map(|(module, _)| *module))
}
