//! Finds a program's file, either in the archive embedded in the kernel image or in the boot loader's module.

use core::fmt;

use kernel_abi::layout::PAGE_SIZE;
use tar_no_std::{TarArchiveRef, TarFormatString};

use crate::arch::boot::BootInfo;
use crate::arch::memory::physmem;
use crate::cmdline::Token;
use crate::physmap::phys_to_virt;

/// The embedded programs: a tar archive.
#[derive(Clone, Copy, Debug)]
pub struct Archive(pub &'static [u8]);

/// The reason why the program's file is not found.
#[derive(Debug)]
pub enum ProgramError<'a> {
    /// The command line names a program that is not in the archive.
    Unknown(Token<'a>, Archive),
    /// The module is empty or not in usable memory.
    Module,
}

impl fmt::Display for ProgramError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProgramError::Unknown(name, archive) => {
                write!(f, "no program named {name}; the embedded programs are:")?;
                archive.names().try_for_each(|name| write!(f, " {}", name.as_str().unwrap_or("?")))?;
                f.write_str("; to run another file, pass it as a module (-initrd FILE)")
            }
            ProgramError::Module => f.write_str("the boot module is empty or outside usable memory"),
        }
    }
}

impl core::error::Error for ProgramError<'_> {}

impl Archive {
    fn entries(self) -> impl Iterator<Item = tar_no_std::ArchiveEntry<'static>> {
        TarArchiveRef::new(self.0).ok().into_iter().flat_map(|archive| archive.entries())
    }

    /// Iterates over the names of the embedded programs.
    fn names(self) -> impl Iterator<Item = TarFormatString<256>> {
        self.entries().map(|entry| entry.filename())
    }
}

/// Returns the file of the program to run: the boot module if there is one, else the embedded program with that name.
///
/// # Errors
/// [`ProgramError`].
pub fn find<'a>(
    info: &BootInfo,
    name: Token<'a>,
    archive: Archive,
) -> Result<&'static [u8], ProgramError<'a>> {
    let Some(module) = info.module else {
        return archive
            .entries()
            .find(|entry| entry.filename().as_str().is_ok_and(|filename| name == *filename))
            .map(|entry| entry.data())
            .ok_or(ProgramError::Unknown(name, archive));
    };
    let end = module.start.checked_add(module.len).ok_or(ProgramError::Module)?;
    let inside = |region: crate::frames::Region| {
        region.start <= module.start && end <= region.start.saturating_add(region.len)
    };
    // The physical map does not contain a page that lies only partly in memory.
    let pages = module.start & !(PAGE_SIZE - 1)..end.next_multiple_of(PAGE_SIZE);
    if module.len == 0 || !physmem::usable(info).any(inside) || !info.covers(pages) {
        return Err(ProgramError::Module);
    }
    // SAFETY: the module is in usable memory, which the physical map covers, and the frame allocator never allocates
    // its frames (invariant: OWN-FRAMES).
    Ok(unsafe { core::slice::from_raw_parts(phys_to_virt(module.start), module.len as usize) })
}
