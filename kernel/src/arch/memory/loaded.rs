//! A loaded program: an address space built from the program's ELF file, and the interrupt frame that starts the
//! program.

use core::fmt;

use kernel_abi::layout::{PAGE_SIZE, SHARED_PAGE, STACK_SIZE, STACK_TOP, USER_END};
use x86_64::registers::rflags::RFlags;

use crate::arch::memory::address_space::{AddressSpace, Rights};
use crate::arch::memory::paging::MapError;
use crate::frame::InterruptFrame;
use crate::frames::Frame;
use crate::initial_stack::{self, ArgumentsTooLong};
use crate::program::{Image, LoadError, Segment};
use crate::selectors::{USER_CODE, USER_DATA};

/// The part of the program's stack that arguments and environment may take, in bytes. It is limited because the program
/// needs the rest, and because the kernel first builds both on its own stack.
const ARGUMENTS_MAX: usize = STACK_SIZE as usize / 4;

/// The reason why a program cannot be started.
#[derive(Debug)]
pub enum StartError {
    /// The file is not a valid program for this kernel.
    Load(LoadError),
    /// A page of the program cannot be mapped.
    Map(MapError),
    /// The arguments and the environment are too long for the program's stack.
    Arguments(ArgumentsTooLong),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot load: ")?;
        match self {
            StartError::Load(error) => error.fmt(f),
            StartError::Map(error) => error.fmt(f),
            StartError::Arguments(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for StartError {}

impl From<LoadError> for StartError {
    fn from(error: LoadError) -> StartError {
        StartError::Load(error)
    }
}

impl From<MapError> for StartError {
    fn from(error: MapError) -> StartError {
        StartError::Map(error)
    }
}

/// The memory that all copies of a program share.
pub struct Common {
    /// The frame of the page that all copies may write to.
    shared_page: Frame,
    /// The pages that no copy may write to. `None` if each copy has its own.
    read_only: Option<AddressSpace>,
}

impl Common {
    /// Prepares the memory that the copies share. Maps the program's read-only pages once, so that the machine needs
    /// less memory, and an emulator translates the code once instead of once per CPU. If the mapping fails, each copy
    /// gets its own pages, or cannot be loaded for the same reason.
    ///
    /// If `own_pages` is true, each copy gets its own copy of these pages.
    #[must_use]
    pub fn new(file: &[u8], shared_page: Frame, own_pages: bool) -> Common {
        let read_only = if own_pages { None } else { read_only(file).ok() };
        Common { shared_page, read_only }
    }
}

/// Builds an address space of the program's read-only pages.
fn read_only(file: &[u8]) -> Result<AddressSpace, StartError> {
    let mut space = AddressSpace::new()?;
    for segment in Image::parse(file)?.segments().filter(|segment| !segment.writable) {
        map_copied(&mut space, &segment)?;
    }
    Ok(space)
}

/// Returns the rights to a segment's pages.
fn rights(segment: &Segment<'_>) -> Rights {
    Rights { write: segment.writable, execute: segment.executable }
}

/// Maps each page of a segment with `map`.
fn map_pages(
    segment: &Segment<'_>,
    mut map: impl FnMut(u64, Rights) -> Result<(), MapError>,
) -> Result<(), MapError> {
    for page in (segment.first_page()..segment.end_page()).step_by(PAGE_SIZE as usize) {
        match map(page, rights(segment)) {
            // Two segments with the same rights may share a page.
            Ok(()) | Err(MapError::Occupied) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Maps a segment to new frames and fills them.
fn map_copied(space: &mut AddressSpace, segment: &Segment<'_>) -> Result<(), MapError> {
    map_pages(segment, |page, rights| space.map(page, rights))?;
    space.write(segment.vaddr, segment.data);
    Ok(())
}

/// A loaded program.
pub struct Program {
    pub(in crate::arch) space: AddressSpace,
    /// The frame with which `iretq` starts the program.
    pub(in crate::arch) start: InterruptFrame,
}

impl Program {
    /// Builds the address space for a copy of the program: segments, stack with arguments and environment, and the
    /// shared memory.
    ///
    /// # Errors
    /// [`StartError`]. All memory allocated until then is freed.
    pub fn load<A>(file: &[u8], argv: A, env: &[&str], common: &'static Common) -> Result<Program, StartError>
    where
        A: Iterator<Item: Iterator<Item = u8>> + Clone,
    {
        let image = Image::parse(file)?;
        let mut space = AddressSpace::new()?;
        for segment in image.segments() {
            match &common.read_only {
                Some(from) if !segment.writable => {
                    map_pages(&segment, |page, rights| space.map_as_in(from, page, rights))?;
                }
                _ => map_copied(&mut space, &segment)?,
            }
        }
        for page in (STACK_TOP - STACK_SIZE..STACK_TOP).step_by(PAGE_SIZE as usize) {
            space.map(page, Rights { write: true, execute: false })?;
        }
        space.map_shared(SHARED_PAGE, common.shared_page, Rights { write: true, execute: false })?;

        let mut top = [0; ARGUMENTS_MAX];
        let rsp =
            initial_stack::write(&mut top, STACK_TOP, argv, env, &image).map_err(StartError::Arguments)?;
        let used = (STACK_TOP - rsp) as usize;
        space.write(rsp, &top[ARGUMENTS_MAX - used..]);
        Ok(Program { space, start: start_frame(image.entry(), rsp) })
    }

    /// Returns the memory that the program uses, page tables included, in KiB.
    #[must_use]
    pub fn memory_kib(&self) -> u64 {
        self.space.frames() * (PAGE_SIZE / 1024)
    }
}

/// Builds the frame with which `iretq` starts a program: user segments, and IF as the only flag. `iretq` cannot fault
/// on this frame, because RIP and RSP lie in the user half and so are canonical.
fn start_frame(rip: u64, rsp: u64) -> InterruptFrame {
    assert!(rip < USER_END && rsp < USER_END, "a program's entry or stack lies outside the user half");
    InterruptFrame {
        rip,
        cs: USER_CODE.0.into(),
        // Bit 1 is always set (SDM 1, 3.4.3).
        rflags: RFlags::INTERRUPT_FLAG.bits() | 1 << 1,
        rsp,
        ss: USER_DATA.0.into(),
    }
}
