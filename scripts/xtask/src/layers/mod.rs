//! The check `check::layers`: no file imports from a higher layer, and there is no import cycle of more than two files.
//!
//! The order of the kernel's layers is the order of `mod` declarations. `kernel/src/lib.rs` declares the pure modules
//! (those without hardware access) first, then `arch`, then the modules above `arch`. `kernel/src/arch/mod.rs` declares
//! the layers of `arch`, the lowest first. (A blank line between two declarations keeps rustfmt from sorting them.) A
//! file may import from its own layer and from lower ones. Pure modules may import each other. In the UEFI loader
//! and the host tool only cycles within a crate are checked, because cargo rejects cycles between crates.

mod graph;
mod source;
mod tokens;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use self::graph::{Graph, Import};

/// The layer of the pure modules.
const PURE: usize = 0;

/// Checks the source tree. The error names each import that is not allowed.
pub fn check(root: &Path) -> Result<(), String> {
    let mut found = Vec::new();
    for file in crate_roots(root)? {
        let graph = read(root, &file)?;
        if file.starts_with("kernel") {
            found.extend(upward(&graph)?);
        }
        found.extend(graph.cycles().iter().map(|cycle| describe_cycle(&graph, cycle)));
    }
    if found.is_empty() { Ok(()) } else { Err(found.join("\n")) }
}

/// Returns the root files of the kernel's library, of the UEFI loader and of each crate of the host tool, relative to the checkout.
fn crate_roots(root: &Path) -> Result<Vec<PathBuf>, String> {
    let place = |error: std::io::Error| format!("cannot read {}: {error}", root.join("scripts").display());
    let mut folders = vec![PathBuf::from("kernel"), PathBuf::from("kernel/efi")];
    for entry in std::fs::read_dir(root.join("scripts")).map_err(place)? {
        folders.push(Path::new("scripts").join(entry.map_err(place)?.file_name()));
    }
    folders.sort();
    let roots: Vec<_> = folders
        .iter()
        .flat_map(|folder| ["src/lib.rs", "src/main.rs"].map(|file| folder.join(file)))
        .filter(|file| root.join(file).is_file())
        .collect();
    let is_there = |folder: &str| roots.iter().any(|file| file.starts_with(folder));
    if is_there("kernel") && is_there("scripts") { Ok(roots) } else { Err("no source was found".to_owned()) }
}

fn read(root: &Path, file: &Path) -> Result<Graph, String> {
    Graph::read(file, &|path| std::fs::read_to_string(root.join(path)).ok())
}

/// Returns a message for each import from a higher layer of the kernel.
fn upward(graph: &Graph) -> Result<Vec<String>, String> {
    let Some(arch) = graph.file_of(&["arch"]) else { return Ok(Vec::new()) };
    let layers: Vec<&str> = graph.declared(arch).collect();
    let last_pure = graph.declared(0).position(|name| name == "arch").ok_or("lib.rs declares no `arch`")?;
    let pure: Vec<&str> = graph.declared(0).take(last_pure).collect();
    let above = layers.len() + 1;
    let layer = |file: usize| match &graph.files[file].module[..] {
        [top, layer, ..] if top == "arch" => {
            1 + layers.iter().position(|name| name == layer).unwrap_or(layers.len())
        }
        [top, ..] if pure.contains(&top.as_str()) => PURE,
        // `arch/mod.rs`, `lib.rs`, and the modules that `lib.rs` declares after `arch`.
        _ => above,
    };
    let name = |layer: usize| match layer {
        PURE => "the pure modules (declared before `arch` in lib.rs)".to_owned(),
        layer if layer == above => "the modules above `arch` (declared after `arch` in lib.rs)".to_owned(),
        layer => format!("layer `{}`", layers[layer - 1]),
    };
    let goes_up = |import: &&Import| layer(import.from) < layer(import.to);
    let describe = |import: &Import| {
        let (from, to) = (name(layer(import.from)), name(layer(import.to)));
        format!("{}: an upward import, from {from} to {to}", place(graph, import))
    };
    Ok(graph.imports.iter().filter(goes_up).map(describe).collect())
}

fn describe_cycle(graph: &Graph, cycle: &[&Import]) -> String {
    let mut text = format!("an import cycle of {} files (at most two may import each other):", cycle.len());
    for import in cycle {
        let _ = write!(text, "\n  {}", place(graph, import));
    }
    text
}

fn place(graph: &Graph, import: &Import) -> String {
    let (from, to) = (graph.files[import.from].path.display(), graph.files[import.to].path.display());
    format!("{from}:{} imports `{}` ({to})", import.line, import.text)
}

#[cfg(test)]
mod tests;
