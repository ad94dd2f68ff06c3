//! `image OUT DIRECTORY`: writes a disk image with the files of a directory that `xtask` has filled.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use image::File;
use output::eprintln;

/// The files that the image may have: the loader, which must exist, the command line, and the user's program.
const FILES: [&str; 3] = ["EFI/BOOT/BOOTX64.EFI", "ringside/cmdline.txt", "ringside/program"];

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let [out, folder] = &arguments[..] else {
        eprintln!("usage: image OUT DIRECTORY; start it with `cargo xtask image`");
        return ExitCode::from(2);
    };
    match write(Path::new(out), Path::new(folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn write(out: &Path, folder: &Path) -> Result<(), String> {
    let files = FILES.into_iter().filter_map(|path| read(folder, path).transpose());
    let files = files.collect::<Result<Vec<_>, _>>()?;
    let name = |error: io::Error| format!("cannot write {}: {error}", out.display());
    let disk = image::disk(&files).map_err(name)?;
    output::write(out, disk).map_err(name)
}

/// Reads a file of the directory. `None` if the file does not exist and is optional.
fn read(folder: &Path, path: &'static str) -> Result<Option<File>, String> {
    let place: PathBuf = folder.join(path);
    match std::fs::read(&place) {
        Ok(bytes) => Ok(Some(File { path, bytes })),
        // A link to a file that does not exist is an error.
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                && place.symlink_metadata().is_err()
                && path != FILES[0] =>
        {
            Ok(None)
        }
        Err(error) => Err(format!("cannot read {}: {error}", place.display())),
    }
}
