//! CD-ROM images from which GRUB starts the kernel through Multiboot2.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use crate::error::Error;
use crate::executable::stripped;
use crate::tree::root;
use crate::{cmdline, quoting};

/// The directory of GRUB's modules for BIOS. If it is given, `grub-mkrescue` adds no support for UEFI, which would need
/// more packages.
const BIOS_MODULES: &str = "/usr/lib/grub/i386-pc";

/// The time for which the images of runs are kept.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// The contents of an image.
#[derive(Clone, Copy, Debug)]
pub struct Contents<'a> {
    /// The kernel's ELF file.
    pub kernel: &'a Path,
    /// The user's own program, passed as a boot module.
    pub module: Option<&'a Path>,
    /// The kernel's command line.
    pub cmdline: &'a str,
}

/// The files of an image.
#[derive(Hash)]
struct Files {
    kernel: Vec<u8>,
    module: Option<Vec<u8>>,
    config: String,
}

/// Makes an image and writes it to `out`. The path `-` is standard output.
///
/// # Errors
/// If GRUB cannot pass the command line, a file cannot be read or written, or `grub-mkrescue` is missing or fails.
pub fn make(contents: Contents<'_>, out: &Path) -> Result<(), Error> {
    let image = Files::read(contents)?.image()?;
    output::write(out, image).map_err(|error| Error::file("write", out, error))
}

/// Returns the image for a run, which is made unless the same image exists. In the same directory is a file with the
/// words of QEMU's command line that would start the same kernel without GRUB, which [`Code`](crate::code::Code) reads.
///
/// # Errors
/// The errors of [`make`].
pub fn of_run(contents: Contents<'_>) -> Result<PathBuf, Error> {
    let files = Files::read(contents)?;
    let mut hasher = DefaultHasher::new();
    (&files, contents.kernel, contents.module).hash(&mut hasher);
    let folder = folder()?;
    let path = folder.join(format!("{:016x}.iso", hasher.finish()));
    if !path.exists() {
        remove_old(&folder);
        let mut words =
            vec!["-kernel".into(), contents.kernel.into(), "-append".into(), contents.cmdline.into()];
        words.extend(contents.module.into_iter().flat_map(|module| ["-initrd".into(), module.into()]));
        let write = |path: &Path, bytes: &[u8]| {
            output::write(path, bytes).map_err(|error| Error::file("write", path, error))
        };
        write(&words_path(&path), quoting::shell_quoted(&words).as_bytes())?;
        write(&path, &files.image()?)?;
    }
    Ok(path)
}

/// Returns the words that `of_run`, here or in [`image`](crate::image), has stored for an image.
pub fn words(image: &Path) -> Option<Vec<String>> {
    shlex::split(&std::fs::read_to_string(words_path(image)).ok()?)
}

/// Returns the path of the file with the words for an image.
pub(crate) fn words_path(image: &Path) -> PathBuf {
    image.with_extension("words")
}

/// Returns the directory for the images of runs and for temporary files.
fn folder() -> Result<PathBuf, Error> {
    let folder = root().join("target/iso");
    std::fs::create_dir_all(&folder).map_err(|error| Error::file("create", &folder, error))?;
    Ok(folder)
}

/// Removes the images of earlier runs. A machine that has opened an image can still read it. Another process may remove
/// the images at the same time.
pub(crate) fn remove_old(folder: &Path) {
    let is_old = |path: &Path| {
        let modified = path.metadata().and_then(|file| file.modified());
        modified.is_ok_and(|time| SystemTime::now().duration_since(time).is_ok_and(|age| age > KEPT))
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()).filter(|path| is_old(path)) {
        let _ = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
    }
}

impl Files {
    fn read(contents: Contents<'_>) -> Result<Files, Error> {
        let read = |path: &Path| std::fs::read(path).map_err(|error| Error::file("read", path, error));
        Ok(Files {
            // GRUB would also load the symbols and line tables.
            kernel: stripped(&read(contents.kernel)?)?,
            module: contents.module.map(read).transpose()?,
            config: config(contents.cmdline, contents.module.is_some())?,
        })
    }

    /// Returns the bytes of the image.
    fn image(&self) -> Result<Vec<u8>, Error> {
        let folder = folder()?;
        let fail = |error| Error::file("write", &folder, error);
        let temporary = tempfile::tempdir_in(&folder).map_err(fail)?;
        let tree = temporary.path().join("tree");
        std::fs::create_dir_all(tree.join("boot/grub")).map_err(fail)?;
        output::write(tree.join("boot/ringside"), &self.kernel).map_err(fail)?;
        if let Some(module) = &self.module {
            output::write(tree.join("boot/program"), module).map_err(fail)?;
        }
        output::write(tree.join("boot/grub/grub.cfg"), &self.config).map_err(fail)?;

        let image = temporary.path().join("image.iso");
        let mut command = Command::new("grub-mkrescue");
        if Path::new(BIOS_MODULES).is_dir() {
            command.args(["-d", BIOS_MODULES]);
        }
        command.args([
            "--locales=",
            "--themes=",
            "--fonts=",
            "--install-modules=multiboot2 serial terminfo vbe",
        ]);
        command.arg("-o").arg(&image).arg(&tree).stdin(Stdio::null());
        let output = command.output().map_err(|error| {
            Error::Host(format!("cannot start grub-mkrescue: {error}; install grub-pc-bin and xorriso"))
        })?;
        match std::fs::read(&image) {
            Ok(bytes) if output.status.success() => Ok(bytes),
            _ => Err(Error::Host(format!(
                "grub-mkrescue failed; it needs the packages grub-pc-bin and xorriso. It printed:\n{}",
                String::from_utf8_lossy(&output.stderr).trim_end()
            ))),
        }
    }
}

/// Returns GRUB's configuration. GRUB executes it without a menu. The module `vbe` finds the graphics mode that the
/// kernel's header requests, if the machine has a graphics card. GRUB prints its messages to the first serial port, as
/// the kernel does. The terminal type `dumb` keeps it from printing escape sequences.
fn config(line: &str, module: bool) -> Result<String, Error> {
    let words = cmdline::tokens(line).iter().map(|token| grub_word(token)).collect::<Result<String, _>>()?;
    let module = if module { "module2 /boot/program\n" } else { "" };
    Ok(format!(
        "serial --unit=0 --speed=115200\nterminfo serial dumb\nterminal_output serial\ninsmod vbe\n\
         multiboot2 /boot/ringside{words}\n{module}boot\n"
    ))
}

/// Quotes a token of the kernel's command line for GRUB, with a blank before it. GRUB escapes quotes and backslashes
/// when it joins the words to the command line, and encloses a word that contains a blank in double quotes, which the
/// kernel reverses.
///
/// # Errors
/// GRUB drops an empty word, and does not quote a word that contains a blank character other than a space.
fn grub_word(token: &str) -> Result<String, Error> {
    if token.is_empty() || token.contains(char::is_control) {
        return Err(Error::Usage(format!(
            "GRUB cannot pass {token:?} on the kernel's command line: it is empty or contains a control character"
        )));
    }
    Ok(format!(" '{}'", token.replace('\'', r"'\''")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grub_gets_each_token_as_one_word() {
        let text = config(r#""program=my prog" x=1 -- it's "a \"b\"" c\\d $e"#, true)
            .expect("the command line must be valid");
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("multiboot2 /boot/ringside "))
            .expect("there must be a line");
        let expected = ["program=my prog", "x=1", "--", "it's", r#"a "b""#, r"c\d", "$e"];
        assert_eq!(shlex::split(line).expect("the line must be quoted as for a shell"), expected);
        assert!(text.contains("\nmodule2 /boot/program\nboot\n"));
        assert!(!config("", false).expect("the command line must be valid").contains("module2"));
    }

    #[test]
    fn words_that_grub_would_change_are_refused() {
        for line in [r#"-- """#, "-- a\\\tb", "-- \"a\nb\""] {
            assert!(matches!(config(line, false), Err(Error::Usage(_))), "{line:?}");
        }
    }
}
