//! The log of a boot, which stays if the boot failed.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use machine::error::Error;
use machine::tree::relative;

use super::seeds::Seed;

/// A log that is being written: the replay command, then the console as it comes.
pub struct Keep {
    /// What is written to until it is known whether it stays.
    part: PathBuf,
    /// Its name if it stays.
    log: PathBuf,
    file: BufWriter<File>,
}

impl Keep {
    /// Begins the log of a boot. Another boot of the same seed with the same options has the same log: the last
    /// that failed.
    pub fn begin(folder: &Path, seed: Seed, replay: &str) -> Result<Keep, Error> {
        std::fs::create_dir_all(folder).map_err(|error| Error::file("create", folder, error))?;
        // Campaigns with other options may run beside this one, with the same seeds.
        let mut hasher = DefaultHasher::new();
        replay.hash(&mut hasher);
        let log = folder.join(format!("{seed}-{:04x}.log", hasher.finish() & 0xffff));
        let part = log.with_extension(format!("{}.part", std::process::id()));
        let file = File::create(&part).map_err(|error| Error::file("write", &part, error))?;
        let mut keep = Keep { part, log, file: BufWriter::new(file) };
        keep.line(format!("$ {replay}").as_bytes());
        Ok(keep)
    }

    /// Where a trace of the boot stays, and where it is written until it is known whether it stays.
    pub fn trace(&self) -> (PathBuf, PathBuf) {
        let stays = self.log.with_extension("rtrace");
        let part = stays.with_extension(format!("rtrace.{}.part", std::process::id()));
        (stays, part)
    }

    /// A line of the console, or of what is said behind it.
    pub fn line(&mut self, line: &[u8]) {
        // A full disk costs the log, not the boot.
        let _ = self.file.write_all(line).and_then(|()| self.file.write_all(b"\n"));
    }

    /// A part of its own.
    pub fn section(&mut self, title: &str, text: &str) {
        if !text.trim_end().is_empty() {
            self.line(format!("--- {title}\n{}", text.trim_end()).as_bytes());
        }
    }

    /// Ends the log, which is kept or not. The path is as a user in the checkout would write it.
    pub fn end(mut self, keep: bool) -> Option<PathBuf> {
        let whole = self.file.flush().is_ok();
        let moved = keep && whole && std::fs::rename(&self.part, &self.log).is_ok();
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
    fn only_the_log_of_a_failed_boot_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let begin = || {
            let folder = folder.path().join("logs");
            let mut keep = Keep::begin(&folder, Seed(0xfeed), "cargo xtask stress").expect("begins");
            keep.line(b"[cpu0] \xff");
            keep.section("nothing", "\n");
            keep.section("problems", "one\ntwo\n");
            keep
        };
        let log = begin().end(true).expect("a path");
        let text = std::fs::read(&log).expect("the log");
        assert_eq!(text, b"$ cargo xtask stress\n[cpu0] \xff\n--- problems\none\ntwo\n");
        // A pass leaves the log of the failure before it alone.
        let keep = begin();
        let part = keep.part.clone();
        assert!(part.exists());
        assert_eq!(keep.end(false), None);
        assert!(!part.exists() && log.exists());
    }
}
