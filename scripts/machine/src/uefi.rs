//! The files that a UEFI boot needs: the firmware, the loader, and, if the user provides a program, the partition from
//! which the firmware starts the loader.

use std::ffi::{OsStr, OsString};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::archive::write_if_changed;
use crate::error::Error;
use crate::options::MachineOptions;
use crate::quoting::escape_commas;
use crate::tree::root;

/// The paths of UEFI firmware for QEMU without Secure Boot, in Debian, Arch, Fedora and openSUSE, and of QEMU's own.
/// `setup.sh` searches the same paths, which a test checks.
pub const FIRMWARE: [&str; 6] = [
    "/usr/share/ovmf/OVMF.fd",
    "/usr/share/OVMF/OVMF_CODE_4M.fd",
    "/usr/share/edk2/x64/OVMF.4m.fd",
    "/usr/share/edk2/ovmf/OVMF_CODE.fd",
    "/usr/share/qemu/ovmf-x86_64.bin",
    "/usr/share/qemu/edk2-x86_64-code.fd",
];

/// The file name extension of the loader. The loader that contains a kernel is in the kernel's directory.
const EXTENSION: &str = "efi";

/// The beginning of the QEMU option that presents a directory as a partition. The directory's path follows.
const PARTITION: &str = "driver=vvfat,if=none,id=esp,read-only=on,dir=";

/// The paths on the partition. The firmware reads the first, and the loader reads the others.
const LOADER: &str = "EFI/BOOT/BOOTX64.EFI";
const COMMAND_LINE: &str = "ringside/cmdline.txt";
const PROGRAM: &str = "ringside/program";

/// Returns the firmware that the user chose, or the first that is installed.
///
/// # Errors
/// If there is none.
pub fn firmware(options: &MachineOptions) -> Result<PathBuf, Error> {
    if let Some(firmware) = &options.firmware {
        return Ok(firmware.clone());
    }
    let found = FIRMWARE.into_iter().map(Path::new).find(|path| path.is_file());
    found.map(Path::to_owned).ok_or_else(|| {
        Error::Host(
            "no UEFI firmware was found: install Debian's package ovmf, or name a file with --firmware"
                .to_owned(),
        )
    })
}

/// Returns the path of the loader that contains a kernel. The file need not exist yet.
pub fn loader_path(kernel: &Path) -> PathBuf {
    kernel.with_added_extension(EXTENSION)
}

/// Returns the path of the kernel that a loader contains. Any other path is returned unchanged.
pub fn kernel_path(loader: &Path) -> PathBuf {
    match loader.extension() {
        Some(extension) if extension == EXTENSION => loader.with_extension(""),
        _ => loader.to_owned(),
    }
}

/// Returns the words of QEMU's command line for a partition with this loader, command line and program. QEMU creates
/// the partition from a [`folder`].
///
/// # Errors
/// If the directory cannot be written.
pub fn partition(loader: &Path, cmdline: &str, program: &Path) -> Result<[OsString; 4], Error> {
    let folder = folder(loader, cmdline, Some(program))?;
    let drive = format!("{PARTITION}{}", escape_commas(&folder));
    Ok(["-drive", &drive, "-device", "virtio-blk-pci,drive=esp"].map(OsString::from))
}

/// Returns a directory that contains links to the files of a partition. The name of the directory depends on its
/// contents, so two runs share a directory only if they need the same files.
///
/// # Errors
/// If the directory cannot be written.
pub fn folder(loader: &Path, cmdline: &str, program: Option<&Path>) -> Result<PathBuf, Error> {
    let absolute = |path: &Path| std::path::absolute(path).map_err(|error| Error::file("find", path, error));
    let (loader, program) = (absolute(loader)?, program.map(absolute).transpose()?);
    let mut hasher = DefaultHasher::new();
    (&loader, cmdline, &program).hash(&mut hasher);
    let folder = root().join(format!("target/uefi/{:016x}", hasher.finish()));
    write_if_changed(&folder.join(COMMAND_LINE), cmdline.as_bytes())?;
    link(&loader, &folder.join(LOADER))?;
    program.map_or(Ok(()), |program| link(&program, &folder.join(PROGRAM)))?;
    Ok(folder)
}

/// Creates a symbolic link `link` to `file`.
fn link(file: &Path, link: &Path) -> Result<(), Error> {
    let fail = |error| Error::file("write", link, error);
    if std::fs::read_link(link).is_ok_and(|old| old == file) {
        return Ok(());
    }
    if let Some(folder) = link.parent() {
        std::fs::create_dir_all(folder).map_err(fail)?;
    }
    match symlink(file, link) {
        // Another run has just created the link.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made.map_err(fail),
    }
}

/// The files of the partition on QEMU's command line.
#[derive(Debug, PartialEq, Eq)]
pub struct Partition {
    /// The loader.
    pub loader: PathBuf,
    /// The user's program.
    pub program: PathBuf,
}

impl Partition {
    /// Finds the files of the partition on QEMU's command line.
    pub fn of_command<S: AsRef<OsStr>>(qemu: &[S]) -> Option<Partition> {
        let folder = qemu.iter().find_map(|word| word.as_ref().to_str()?.strip_prefix(PARTITION))?;
        let folder = PathBuf::from(folder.replace(",,", ","));
        let file = |name: &str| std::fs::read_link(folder.join(name)).ok();
        Some(Partition { loader: file(LOADER)?, program: file(PROGRAM)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::parse;

    #[test]
    fn setup_looks_for_the_firmware_in_the_same_places() {
        let script = std::fs::read_to_string(root().join("scripts/setup.sh")).expect("cannot read the file");
        let list = script.split_once("ringside_firmware=(").and_then(|(_, rest)| rest.split_once(')'));
        let listed: Vec<_> = list.expect("there must be a list").0.split_whitespace().collect();
        assert_eq!(listed, FIRMWARE);
    }

    #[test]
    fn chosen_firmware_is_not_searched() {
        let options: MachineOptions = parse(["--firmware", "/no/such.fd"]).expect("cannot parse");
        assert_eq!(firmware(&options).ok(), Some("/no/such.fd".into()));
    }

    #[test]
    fn loader_lies_beside_its_kernel() {
        for kernel in ["/a/kernel", "/a/kernel.elf", "k"].map(Path::new) {
            assert_eq!(kernel_path(&loader_path(kernel)), kernel);
            assert_eq!(kernel_path(kernel), kernel);
        }
    }

    #[test]
    fn files_of_a_partition_are_found_again() {
        let (loader, program) = (Path::new("/a/kernel.efi"), Path::new("/a,b/my program"));
        let words =
            partition(loader, "program=test-of-a-partition", program).expect("cannot write the directory");
        assert_eq!(
            words,
            partition(loader, "program=test-of-a-partition", program)
                .expect("cannot write the directory again")
        );
        assert_ne!(
            words,
            partition(loader, "program=test-of-another", program).expect("cannot write the directory")
        );
        let found = Partition::of_command(&words).expect("there must be a partition");
        assert_eq!(found, Partition { loader: loader.to_owned(), program: program.to_owned() });
        assert_eq!(Partition::of_command(&["-drive", "file=x"]), None);
    }
}
