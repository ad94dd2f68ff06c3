//! Names the functions that a run executes: the kernel's, and those of its program.
//!
//! Both are linked at fixed addresses, so an address in the upper half belongs to the kernel's ELF file and any other
//! to the program's.

use std::cell::OnceCell;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use kernel_abi::DEFAULT_PROGRAM;

use crate::executable::stripped;
use crate::facts::Facts;
use crate::image::DISK;
use crate::rip::rip;
use crate::symbols::Symbols;
use crate::tree::{bare_artifacts, root};
use crate::{cmdline, iso, uefi};

/// The lowest address of the kernel's half.
const UPPER_HALF: u64 = 1 << 63;

/// Exceptions that are reported after their instruction, so that RIP is the address of the next one.
const TRAPS: [&str; 2] = ["(#BP)", "(#OF)"];

/// The ELF files of a run. Each is read when the first of its addresses is looked up.
pub struct Code {
    kernel_path: PathBuf,
    program: ProgramFile,
    kernel: OnceCell<Symbols>,
    user: OnceCell<Symbols>,
}

/// The location of the program's symbols.
#[derive(Debug, PartialEq, Eq)]
enum ProgramFile {
    /// In the file that the kernel received as its boot module.
    Module(PathBuf),
    /// In the build of a program of this tree, whose stripped form the kernel contains.
    Embedded(String),
}

impl Code {
    /// Finds the files from QEMU's command line: the kernel, and the program as the boot module or by its name. They
    /// may also be in the image of a run.
    pub fn of_command<S: AsRef<OsStr>>(qemu: &[S]) -> Code {
        let cdrom = qemu.iter().rposition(|word| word.as_ref() == "-cdrom").and_then(|at| qemu.get(at + 1));
        let disk = qemu.iter().find_map(|word| word.as_ref().to_str()?.strip_prefix(DISK));
        let image =
            cdrom.map(|image| image.as_ref().into()).or(disk.map(|disk| disk.replace(",,", ",").into()));
        let image: Option<PathBuf> = image;
        if let Some(words) = image.and_then(|image| iso::words(&image)) {
            return Code::of_command(&words);
        }
        let value = |name: &str| {
            let at = qemu.iter().rposition(|word| word.as_ref() == name)?;
            qemu.get(at + 1).map(|word| word.as_ref().to_owned())
        };
        if let Some(partition) = uefi::Partition::of_command(qemu) {
            let kernel = uefi::kernel_path(&partition.loader);
            return Code::new(kernel, ProgramFile::Module(partition.program));
        }
        let program = match value("-initrd") {
            Some(module) => ProgramFile::Module(found(Path::new(&module))),
            None => {
                let line = value("-append").unwrap_or_default();
                let name = cmdline::value(&line.to_string_lossy(), "program");
                ProgramFile::Embedded(name.unwrap_or_else(|| DEFAULT_PROGRAM.to_owned()))
            }
        };
        let kernel = value("-kernel").unwrap_or_default();
        Code::new(uefi::kernel_path(&found(Path::new(&kernel))), program)
    }

    /// Uses the symbols of this ELF file for the program.
    #[must_use]
    pub fn with_program(self, elf: PathBuf) -> Code {
        Code::new(self.kernel_path, ProgramFile::Module(elf))
    }

    fn new(kernel_path: PathBuf, program: ProgramFile) -> Code {
        Code { kernel_path, program, kernel: OnceCell::new(), user: OnceCell::new() }
    }

    /// Returns the kernel's symbols.
    pub fn kernel(&self) -> &Symbols {
        self.kernel.get_or_init(|| Symbols::load(&self.kernel_path))
    }

    /// Returns the program's ELF file. `None` if the kernel contains another build of it.
    pub fn program_path(&self) -> Option<PathBuf> {
        match &self.program {
            ProgramFile::Module(path) => Some(path.clone()),
            ProgramFile::Embedded(name) => {
                let path = bare_artifacts().join(name);
                let program = stripped(&std::fs::read(&path).ok()?).ok()?;
                let kernel = std::fs::read(&self.kernel_path).ok()?;
                contains(&kernel, &program).then_some(path)
            }
        }
    }

    /// Returns the paths of the ELF files.
    pub fn paths(&self) -> impl Iterator<Item = PathBuf> {
        [Some(self.kernel_path.clone()), self.program_path()].into_iter().flatten()
    }

    /// Returns the function and source line of an instruction, if a symbol names it.
    pub fn place(&self, instruction: u64) -> Option<String> {
        if instruction >= UPPER_HALF {
            return self.kernel().place(instruction);
        }
        let load = || self.program_path().map_or_else(Symbols::default, |path| Symbols::load(&path));
        self.user.get_or_init(load).place(instruction)
    }

    /// Returns the function and source line of the first RIP in a message.
    pub fn place_in(&self, message: &str) -> Option<String> {
        let is_trap = TRAPS.iter().any(|trap| message.contains(trap));
        let (_, rip) = rip(message)?;
        self.place(rip.wrapping_sub(u64::from(is_trap)))
    }

    /// Inserts the function and source line after each RIP in a message, if they are known.
    pub fn named(&self, message: &str) -> String {
        let (mut named, mut rest) = (String::new(), message);
        let is_trap = TRAPS.iter().any(|trap| message.contains(trap));
        while let Some((end, rip)) = rip(rest) {
            named += &rest[..end];
            if let Some(place) = self.place(rip.wrapping_sub(u64::from(is_trap))) {
                named += &format!(" in {place}");
            }
            rest = &rest[end..];
        }
        named + rest
    }

    /// Adds to the result of each CPU the function and source line at which its program was killed.
    pub fn add_kill_locations(&self, facts: &mut Facts) {
        for cpu in &mut facts.cpus {
            cpu.place = self.place_in(&cpu.reason);
        }
    }

    /// Adds the function and source line of every RIP to the registers that QEMU's monitor printed.
    pub fn named_registers(&self, text: &str) -> String {
        let mut named = String::with_capacity(text.len());
        for line in text.split_inclusive('\n') {
            named += line;
            let rip = line.strip_prefix("RIP=").and_then(|rest| rest.split(' ').next());
            let rip = rip.and_then(|digits| u64::from_str_radix(digits, 16).ok());
            if let Some(place) = rip.and_then(|rip| self.place(rip)) {
                named += &format!("    in {place}\n");
            }
        }
        named
    }
}

/// A relative path is relative to the current directory, or to the source tree.
fn found(path: &Path) -> PathBuf {
    let in_tree = root().join(path);
    if !path.exists() && in_tree.exists() { in_tree } else { path.to_owned() }
}

/// Returns whether a kernel contains a program.
fn contains(kernel: &[u8], program: &[u8]) -> bool {
    let Some(first) = program.first() else { return false };
    let mut rest = kernel;
    while let Some(at) = rest.iter().position(|byte| byte == first) {
        rest = &rest[at..];
        if rest.starts_with(program) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_on_the_command_line() {
        let code =
            Code::of_command(&["qemu", "-kernel", "/k", "-append", "tick_hz=5 program=hello -- program=x"]);
        assert_eq!(code.kernel_path, Path::new("/k"));
        assert_eq!(code.program, ProgramFile::Embedded("hello".to_owned()));
        assert_eq!(
            Code::of_command(&["qemu", "-append", ""]).program,
            ProgramFile::Embedded("selftest".to_owned())
        );
        let code = Code::of_command(&["qemu", "-initrd", "/p", "-append", "program=p"]);
        assert_eq!(code.program, ProgramFile::Module("/p".into()));
    }

    #[test]
    fn files_are_found_by_the_image_of_a_run() {
        let folder = tempfile::tempdir().expect("cannot create a directory");
        std::fs::write(folder.path().join("x.words"), "-kernel /k -append 'program=hello x=1'")
            .expect("cannot write");
        let disk = format!("{DISK}{}", folder.path().join("x.img").display());
        for words in [["-cdrom".into(), folder.path().join("x.iso")], ["-drive".into(), disk.into()]] {
            let code = Code::of_command(&words);
            assert_eq!(code.kernel_path, Path::new("/k"));
            assert_eq!(code.program, ProgramFile::Embedded("hello".to_owned()));
        }
    }

    #[test]
    fn loader_names_its_kernel() {
        let code = Code::of_command(&["qemu", "-kernel", "/k.efi", "-append", "program=hello"]);
        assert_eq!(code.kernel_path, Path::new("/k"));
        assert_eq!(code.program, ProgramFile::Embedded("hello".to_owned()));
        let words = uefi::partition(Path::new("/k.efi"), "program=p", Path::new("/p"))
            .expect("cannot write the directory");
        let code = Code::of_command(&words);
        assert_eq!(code.kernel_path, Path::new("/k"));
        assert_eq!(code.program, ProgramFile::Module("/p".into()));
    }

    #[test]
    fn another_build_of_a_program_is_not_used() {
        assert!(contains(b"..ab.abc.", b"abc"));
        assert!(!contains(b"..ab.abd.", b"abc"));
        assert!(!contains(b"abc", b""));
    }

    #[test]
    fn registers_are_followed_by_the_place() {
        let executable = std::env::current_exe().expect("cannot read the test executable");
        let code = Code::of_command::<&str>(&[]).with_program(executable);
        let text = "CPU#0\nRIP=0000000000000001 RFL=2\n";
        assert_eq!(code.named_registers(text), text, "no code at this address");
    }
}
