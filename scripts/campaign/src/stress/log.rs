//! Writes the log of a boot. The log is kept if the boot fails.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use machine::error::Error;
use machine::tree::relative;
use output::{Log, Target};

use super::seeds::Seed;

/// An open log. It starts with the replay command, followed by the console output.
pub struct BootLog {
    path: PathBuf,
    log: Log<Target>,
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
        let path = folder.join(format!("{seed}-{:04x}.log", hasher.finish() & 0xffff));
        let target = Target::create(&path).map_err(|error| Error::file("write", &path, error))?;
        let mut log = BootLog { path, log: Log::buffered(target) };
        log.line(format!("$ {replay}").as_bytes());
        Ok(log)
    }

    /// Returns the path of the boot's trace.
    pub fn trace(&self) -> PathBuf {
        self.path.with_extension("rtrace")
    }

    /// Appends a line.
    pub fn line(&mut self, line: &[u8]) {
        self.log.line(line);
    }

    /// Appends a section with a title, unless its text is empty.
    pub fn section(&mut self, title: &str, text: &str) {
        if !text.trim_end().is_empty() {
            self.line(format!("--- {title}\n{}", text.trim_end()).as_bytes());
        }
    }

    /// Closes the log, and keeps or removes it. Returns the path of a kept log, relative to the checkout if it is
    /// inside.
    ///
    /// # Errors
    /// If the log must be kept but could not be written.
    pub fn end(self, keep: bool) -> Result<Option<PathBuf>, Error> {
        if !keep {
            return Ok(None);
        }
        let written = self.log.finish().and_then(|mut target| target.finish());
        written.map_err(|error| Error::file("write", &self.path, error))?;
        Ok(Some(relative(&self.path).to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_failed_boot_keeps_its_log() {
        let folder = tempfile::tempdir().expect("cannot create a directory");
        let begin = || {
            let folder = folder.path().join("logs");
            let mut log = BootLog::begin(&folder, Seed(0xfeed), "cargo xtask stress").expect("cannot begin");
            log.line(b"[cpu0] \xff");
            log.section("nothing", "\n");
            log.section("problems", "one\ntwo\n");
            log
        };
        let log = begin().end(true).expect("cannot write the log").expect("there must be a path");
        let text = std::fs::read(&log).expect("cannot read the log");
        assert_eq!(text, b"$ cargo xtask stress\n[cpu0] \xff\n--- problems\none\ntwo\n");
        // A passed boot does not remove the log of an earlier failure.
        let entries =
            || std::fs::read_dir(log.parent().expect("no parent directory")).expect("cannot list").count();
        let passed = begin();
        assert_eq!(entries(), 2);
        assert_eq!(passed.end(false).expect("unexpected error"), None);
        assert!(entries() == 1 && log.exists());
    }
}
