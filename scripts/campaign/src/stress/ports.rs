//! With `--serial-dir` only the first CPU writes to the console; the others' lines are read from their files when the
//! boot has ended.

use std::fs;
use std::path::PathBuf;

use machine::error::Error;
use machine::serial_ports::FirstCpu;

/// The files of one boot.
pub struct Ports {
    folder: PathBuf,
    first: FirstCpu,
}

impl Ports {
    /// Makes the folder. What an earlier boot left there goes: it may have had more CPUs.
    pub fn create(folder: PathBuf) -> Result<Ports, Error> {
        let first = FirstCpu::create(&folder)?;
        let ports = Ports { folder, first };
        for path in ports.others()? {
            fs::remove_file(&path).map_err(|error| Error::file("remove", &path, error))?;
        }
        Ok(ports)
    }

    /// Takes a line of the console.
    pub fn take(&mut self, line: &[u8]) {
        self.first.take(line);
    }

    /// Hands over each line that did not come over the console, without its line end.
    pub fn lines(self, mut on_line: impl FnMut(&[u8])) -> Result<(), Error> {
        for path in self.others()? {
            let text = fs::read(&path).map_err(|error| Error::file("read", &path, error))?;
            let text = text.strip_suffix(b"\n").unwrap_or(&text);
            if !text.is_empty() {
                text.split(|&byte| byte == b'\n')
                    .for_each(|line| on_line(line.strip_suffix(b"\r").unwrap_or(line)));
            }
        }
        Ok(())
    }

    /// All files but the first CPU's, whose lines came over the console.
    fn others(&self) -> Result<Vec<PathBuf>, Error> {
        let fail = |error| Error::file("read", &self.folder, error);
        let mut paths = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
            let number = name.strip_prefix("cpu").and_then(|name| name.strip_suffix(".log"));
            if number.and_then(|number| number.parse::<u32>().ok()).is_some_and(|number| number != 0) {
                paths.push(path);
            }
        }
        Ok(paths)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_all_cpus_but_the_first_come_from_their_files() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("cpu7.log"), "of an earlier boot\n").expect("writes");
        fs::write(folder.path().join("notes.txt"), "the user's\n").expect("writes");
        let mut ports = Ports::create(folder.path().to_owned()).expect("creates");
        assert!(!folder.path().join("cpu7.log").exists() && folder.path().join("notes.txt").exists());
        ports.take(b"[cpu0] from the console");
        fs::write(folder.path().join("cpu1.log"), b"[cpu1] a\r\n[cpu1] \xff\ncut").expect("writes");
        fs::write(folder.path().join("cpu2.log"), b"").expect("writes");
        let mut lines = Vec::new();
        ports.lines(|line| lines.push(line.to_vec())).expect("reads");
        assert_eq!(lines, [b"[cpu1] a".to_vec(), b"[cpu1] \xff".to_vec(), b"cut".to_vec()]);
    }
}
