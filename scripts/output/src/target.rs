//! A result file, which is replaced atomically: it has either its complete previous contents or its complete new
//! contents.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::closed::close;
use crate::in_place::open_in_place;
use crate::{Stream, is_reader_gone};

/// The number of symbolic links that Linux follows (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// Writes a complete result. The path `-` is standard output.
///
/// # Errors
/// If it cannot be written. An error of standard output is kept for [`lost`](crate::lost).
pub fn write(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> io::Result<()> {
    let mut target = Target::create(path.as_ref())?;
    target.write_all(bytes.as_ref())?;
    target.finish()
}

/// A result that is being written.
///
/// If the path is a regular file or does not exist, the result is written to a temporary file in the same directory,
/// which replaces the path at the end. So a tool that is killed leaves the previous result, and two instances of the
/// tool that write the same result do not interfere with each other. Symbolic links are followed and kept. Any other
/// file, such as a FIFO or a device, is written in place.
pub struct Target(To);

enum To {
    /// The path `-`.
    Stdout,
    /// A temporary file that will be renamed to this path.
    Replace(NamedTempFile, PathBuf),
    /// The file itself.
    InPlace(File),
    /// The result is finished, or its reader has closed the pipe. Nothing more is written.
    Nothing,
}

impl Target {
    /// Opens a target. The path `-` is standard output.
    ///
    /// # Errors
    /// If neither the file nor its directory can be written.
    pub fn create(path: &Path) -> io::Result<Target> {
        if path == Path::new("-") {
            return Ok(Target(To::Stdout));
        }
        let (path, is_open_file) = follow(path)?;
        let found = match fs::metadata(&path) {
            Ok(found) => Some(found),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if is_open_file || found.as_ref().is_some_and(|found| !found.is_file()) {
            // Append, because another process may write to the same file: `--json /dev/stdout >file`.
            let mut options = OpenOptions::new();
            return Ok(Target(To::InPlace(open_in_place(&path, options.append(is_open_file).write(true))?)));
        }
        match temporary(&path, found.as_ref()) {
            Ok(part) => Ok(Target(To::Replace(part, path))),
            // The directory is not writable, but the file may be.
            Err(_) if found.is_some() => Ok(Target(To::InPlace(truncated(&path)?))),
            Err(error) => Err(without_path(error)),
        }
    }

    /// Completes the result. Call this once. If the target is dropped without this call, the previous file remains.
    ///
    /// # Errors
    /// If the file cannot be replaced.
    pub fn finish(&mut self) -> io::Result<()> {
        let (part, path) = match std::mem::replace(&mut self.0, To::Nothing) {
            To::Replace(part, path) => (part, path),
            To::InPlace(file) => return close(file),
            To::Stdout | To::Nothing => return Ok(()),
        };
        let (file, part) = part.into_parts();
        close(file)?;
        part.persist(&path).or_else(|error| {
            // A file that is a mount point, as in a container, cannot be replaced, but it can be written.
            if !path.is_file() {
                return Err(error.error);
            }
            let mut to = truncated(&path)?;
            io::copy(&mut File::open(&error.path)?, &mut to)?;
            close(to)
        })
    }

    fn file(&mut self) -> Option<&mut File> {
        match &mut self.0 {
            To::Replace(part, _) => Some(part.as_file_mut()),
            To::InPlace(file) => Some(file),
            To::Stdout | To::Nothing => None,
        }
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if matches!(self.0, To::Stdout) {
            Stream::Out.write(bytes);
        }
        let Some(file) = self.file() else { return Ok(bytes.len()) };
        match file.write(bytes) {
            Err(error) if is_reader_gone(&error) => {
                self.0 = To::Nothing;
                Ok(bytes.len())
            }
            written => written,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Follows symbolic links up to a path that is not a link, whether or not that path exists. Also returns whether the
/// path is one of this process's open files (`/dev/stdout`, `/proc/self/fd/3`), whose link leads to a file and not to a
/// path.
fn follow(path: &Path) -> io::Result<(PathBuf, bool)> {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        let Ok(target) = fs::read_link(&path) else { return Ok((path, false)) };
        if fs::canonicalize(folder(&path)).is_ok_and(|folder| folder.starts_with("/proc")) {
            return Ok((path, true));
        }
        path = folder(&path).join(target);
    }
    Err(rustix::io::Errno::LOOP.into())
}

/// Returns whether a result at this path replaces a file, so that it can be written more than once.
pub fn is_replaced(path: &Path) -> bool {
    let Ok((path, is_open_file)) = follow(path) else { return false };
    let is_other = || fs::metadata(&path).is_ok_and(|found| !found.is_file());
    path != Path::new("-") && !is_open_file && !is_other()
}

/// Returns the directory for temporary files that are needed to create a result. It is the directory of the result,
/// because its file system must have room for the result in any case. If the result is not a regular file, it is the
/// system's directory.
pub fn spool_folder(path: &Path) -> PathBuf {
    match follow(path) {
        Ok((path, false)) if fs::metadata(&path).is_ok_and(|found| !found.is_file()) => std::env::temp_dir(),
        Ok((path, false)) => folder(&path).to_owned(),
        _ => std::env::temp_dir(),
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Creates a temporary file in the directory of `path`, with the permissions of the file that it will replace.
fn temporary(path: &Path, replaced: Option<&Metadata>) -> io::Result<NamedTempFile> {
    // As for every new file, the system clears the bits that are set in the umask.
    let new = fs::Permissions::from_mode(0o666);
    let part = tempfile::Builder::new()
        .prefix(".ringside-")
        .suffix(".part")
        .permissions(new)
        .tempfile_in(folder(path))?;
    if let Some(replaced) = replaced {
        part.as_file().set_permissions(replaced.permissions())?;
        // Only root can change the owner. An error is ignored: the file then belongs to the user.
        let _ = std::os::unix::fs::fchown(part.as_file(), Some(replaced.uid()), Some(replaced.gid()));
    }
    Ok(part)
}

fn truncated(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).truncate(true).open(path)
}

/// Returns the error of the system in an error of `tempfile`, which adds the name of the temporary file. The caller
/// adds the name of the result.
fn without_path(error: io::Error) -> io::Error {
    match error.to_string().split_once(" at path ") {
        Some((text, _)) => io::Error::new(error.kind(), text),
        None => error,
    }
}

#[cfg(test)]
mod tests;
