//! Writes the log of a boot. The log is kept if the boot fails.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use machine::error::Error;
use machine::tree::relative;

use super::seeds::Seed;

/// An open log. It starts with the replay command, followed by the console output.
pub struct BootLog {
    /// Temporary path, used during the boot.
    part: PathBuf,
    /// Final path, used if the log is kept.
    log: PathBuf,
    file: BufWriter<File>,
}

impl BootLog {
    /// Creates the log of a boot. Boots with the same seed and options share a file name, so only the latest failure is
    /// kept.
    pub fn begin(folder: &Path, seed: Seed, replay: &str) -> Result<BootLog, Error> {
        std::fs::create_dir_all(folder).map_err(|error| Error::file("create", folder, error))?;
        // The name contains a hash of the options, because concurrent campaigns with other options may use the same
        // seeds.
        let mut hasher = DefaultHasher::new();
        replay.hash(&mut hasher);
        let log = folder.join(format!("{seed}-{:04x}.log", hasher.finish() & 0xffff));
        let part = log.with_extension(format!("{}.part", std::process::id()));
        let file = File::create(&part).map_err(|error| Error::file("write", &part, error))?;
        let mut log = BootLog { part, log, file: BufWriter::new(file) };
        log.line(format!("$ {replay}").as_bytes());
        Ok(log)
    }

    /// Returns the final path of the boot's trace, and the temporary path to write it to.
    pub fn trace(&self) -> (PathBuf, PathBuf) {
        let kept = self.log.with_extension("rtrace");
        let part = kept.with_extension(format!("rtrace.{}.part", std::process::id()));
        (kept, part)
    }

    /// Appends a line.
    pub fn line(&mut self, line: &[u8]) {
        // A write error in the log does not fail the boot.
        let _ = self.file.write_all(line).and_then(|()| self.file.write_all(b"\n"));
    }

    /// Appends a section with a title, unless its text is empty.
    pub fn section(&mut self, title: &str, text: &str) {
        if !text.trim_end().is_empty() {
            self.line(format!("--- {title}\n{}", text.trim_end()).as_bytes());
        }
    }

    /// Closes the log, and keeps or removes it. Returns the path of a kept log, relative to the checkout if it is
    /// inside.
    pub fn end(mut self, keep: bool) -> Option<PathBuf> {
        let flushed = self.file.flush().is_ok();
        let moved = keep && flushed && std::fs::rename(&self.part, &self.log).is_ok();
        if !moved && !keep {
            let _ = std::fs::remove_file(&self.part);
        }
        let path: &Path = if moved { &self.log } else { &self.part };
        keep.then(|| relative(path).to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_failed_boot_keeps_its_log() {
        let folder = tempfile::tempdir().expect("a folder");
        let begin = || {
            let folder = folder.path().join("logs");
            let mut log = BootLog::begin(&folder, Seed(0xfeed), "cargo xtask stress").expect("begins");
            log.line(b"[cpu0] \xff");
            log.section("nothing", "\n");
            log.section("problems", "one\ntwo\n");
            log
        };
        let log = begin().end(true).expect("a path");
        let text = std::fs::read(&log).expect("the log");
        assert_eq!(text, b"$ cargo xtask stress\n[cpu0] \xff\n--- problems\none\ntwo\n");
        // A passed boot does not remove the log of an earlier failure.
        let passed = begin();
        let part = passed.part.clone();
        assert!(part.exists());
        assert_eq!(passed.end(false), None);
        assert!(!part.exists() && log.exists());
    }
}
