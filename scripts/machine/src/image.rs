//! Disk images from which UEFI firmware starts the loader. The crate `image` makes them. It is built only when an image
//! is needed.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::error::Error;
use crate::iso::{Contents, remove_old, words_path};
use crate::toolchain::host_cargo;
use crate::tree::root;
use crate::{cargo, quoting, uefi};

/// The beginning of the QEMU option that attaches an image as a disk. The image's path follows.
pub const DISK: &str = "if=none,id=disk,format=raw,readonly=on,file=";

/// Makes an image and writes it to `out`. The path `-` is standard output.
///
/// # Errors
/// If a file cannot be read or written, or the crate cannot be built.
pub fn make(contents: Contents<'_>, out: &Path) -> Result<(), Error> {
    let tool = || {
        let mut command = host_cargo();
        command.current_dir(root()).stdin(Stdio::null());
        command
    };
    let mut command = tool();
    command.args(["build", "--locked", "--package", "image", "--target-dir"]).arg(root().join("target"));
    cargo::build(command, "the disk image builder", cargo::Show::Slow)?;
    let absolute = |path: &Path| std::path::absolute(path).map_err(|error| Error::file("find", path, error));
    let folder = uefi::folder(&uefi::loader_path(contents.kernel), contents.cmdline, contents.module)?;
    // Only cargo knows the path of the executable.
    let mut command = tool();
    command.args(["run", "--quiet", "--locked", "--package", "image", "--target-dir"]);
    command.arg(root().join("target")).arg("--");
    command.arg(if out == Path::new("-") { out.to_owned() } else { absolute(out)? }).arg(folder);
    let failed = |text: String| Error::Host(format!("the disk image was not written: {text}"));
    let status = command.status().map_err(|error| failed(error.to_string()))?;
    if status.success() { Ok(()) } else { Err(failed(status.to_string())) }
}

/// Returns the image for a run, which is made unless the same image exists. As for an [`iso`](crate::iso) image, a file
/// in the same directory holds the words of QEMU's command line that would start the same kernel without firmware.
///
/// # Errors
/// The errors of [`make`].
pub fn of_run(contents: Contents<'_>) -> Result<PathBuf, Error> {
    let Contents { kernel, module, cmdline } = contents;
    let read = |path: &Path| std::fs::read(path).map_err(|error| Error::file("read", path, error));
    let mut hasher = DefaultHasher::new();
    (read(&uefi::loader_path(kernel))?, module.map(read).transpose()?).hash(&mut hasher);
    (kernel, module, cmdline).hash(&mut hasher);
    let folder = root().join("target/image");
    std::fs::create_dir_all(&folder).map_err(|error| Error::file("create", &folder, error))?;
    let path = folder.join(format!("{:016x}.img", hasher.finish()));
    if !path.exists() {
        remove_old(&folder);
        let mut words = vec!["-kernel".into(), kernel.into(), "-append".into(), cmdline.into()];
        words.extend(module.into_iter().flat_map(|module| ["-initrd".into(), module.into()]));
        let place = words_path(&path);
        output::write(&place, quoting::shell_quoted(&words))
            .map_err(|error| Error::file("write", &place, error))?;
        make(contents, &path)?;
    }
    Ok(path)
}
