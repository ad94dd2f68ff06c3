//! Reads the CPUs' serial files after a boot with `--serial-dir`, in which only the first CPU writes to the console.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use machine::error::Error;
use machine::serial_ports::SerialLogs;
use trace::input;

/// Maximum size of a file in bytes.
const SIZE_MAX: u64 = 4 << 30;

/// The serial files of one boot.
pub struct SerialFiles {
    folder: PathBuf,
    logs: SerialLogs,
}

impl SerialFiles {
    /// Creates the directory, and removes the files of an earlier boot, which may have had more CPUs.
    pub fn create(folder: PathBuf, cpus: u32) -> Result<SerialFiles, Error> {
        fs::create_dir_all(&folder).map_err(|error| Error::file("create the directory", &folder, error))?;
        for path in others(&folder)? {
            fs::remove_file(&path).map_err(|error| Error::file("remove", &path, error))?;
        }
        let logs = SerialLogs::create(&folder, cpus)?;
        Ok(SerialFiles { folder, logs })
    }

    /// Connects QEMU to the files.
    pub fn wire(&self, words: Vec<OsString>) -> Vec<OsString> {
        self.logs.wire(words)
    }

    /// Writes a console line to the first CPU's file if the first CPU printed it.
    pub fn take(&mut self, line: &[u8]) {
        self.logs.take(line);
    }

    /// Passes each line of the other CPUs to `on_line`, without the newline.
    ///
    /// # Errors
    /// If one of the files could not be written or cannot be read.
    pub fn lines(self, mut on_line: impl FnMut(&[u8])) -> Result<(), Error> {
        self.logs.finish()?;
        for path in others(&self.folder)? {
            let text = input::read(&path, SIZE_MAX).map_err(|error| Error::file("read", &path, error))?;
            let text = text.strip_suffix(b"\n").unwrap_or(&text);
            if !text.is_empty() {
                text.split(|&byte| byte == b'\n')
                    .for_each(|line| on_line(line.strip_suffix(b"\r").unwrap_or(line)));
            }
        }
        Ok(())
    }
}

/// Returns the paths of all files except that of the first CPU, whose lines were received on the console.
fn others(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let fail = |error| Error::file("read", folder, error);
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        let number = name.strip_prefix("cpu").and_then(|name| name.strip_suffix(".log"));
        if number.and_then(|number| number.parse::<u32>().ok()).is_some_and(|number| number != 0) {
            paths.push(path);
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_other_cpus_are_read_from_files() {
        let folder = tempfile::tempdir().expect("cannot create a directory");
        fs::write(folder.path().join("cpu7.log"), "of an earlier boot\n").expect("cannot write");
        fs::write(folder.path().join("notes.txt"), "the user's\n").expect("cannot write");
        let mut files = SerialFiles::create(folder.path().to_owned(), 1).expect("cannot create");
        assert!(!folder.path().join("cpu7.log").exists() && folder.path().join("notes.txt").exists());
        files.take(b"[cpu0] from the console");
        fs::write(folder.path().join("cpu1.log"), b"[cpu1] a\r\n[cpu1] \xff\ncut").expect("cannot write");
        fs::write(folder.path().join("cpu2.log"), b"").expect("cannot write");
        let mut lines = Vec::new();
        files.lines(|line| lines.push(line.to_vec())).expect("cannot read");
        assert_eq!(lines, [b"[cpu1] a".to_vec(), b"[cpu1] \xff".to_vec(), b"cut".to_vec()]);
    }
}
