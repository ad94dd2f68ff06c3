//! Checks whether a file can be loaded as a ring-3 program. The loader makes no further checks.
//!
//! A program is a static ELF64 with fixed addresses (System V gABI, chapters 4 and 5; psABI for x86-64).
#![forbid(unsafe_code)]

mod error;

use kernel_abi::layout::{PAGE_SIZE, SHARED_PAGE, STACK_SIZE, STACK_TOP, USER_END, USER_START};
use object::elf;
use object::pod;
use object::{LittleEndian, elf::FileHeader64, elf::ProgramHeader64};

pub use self::error::{LoadError, Place};

const LE: LittleEndian = LittleEndian;

/// The maximum memory of a program's segments, in bytes, rounded up to pages. Every CPU has its own copy of the
/// program.
pub const MEMORY_MAX: u64 = 16 * 1024 * 1024;
/// The maximum number of program headers. It limits the time to compare all pairs of headers.
pub const HEADERS_MAX: u16 = 64;

/// A segment. Two segments may share a page if their access rights are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// First address. Need not be page-aligned.
    pub vaddr: u64,
    /// Size in memory in bytes, at least 1. The bytes after `data` are zero.
    pub mem_size: u64,
    /// The contents at `vaddr`, at most `mem_size` bytes.
    pub data: &'a [u8],
    /// Whether ring 3 may write to the segment.
    pub writable: bool,
    /// Whether ring 3 may execute the segment. Never set together with `writable`.
    pub executable: bool,
}

impl Segment<'_> {
    /// Returns one past the last address. This does not overflow, because the segment is below [`USER_END`].
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.vaddr + self.mem_size
    }

    /// Returns the address of the first page.
    #[must_use]
    pub const fn first_page(&self) -> u64 {
        self.vaddr / PAGE_SIZE * PAGE_SIZE
    }

    /// Returns the address after the last page.
    #[must_use]
    pub const fn end_page(&self) -> u64 {
        self.end().div_ceil(PAGE_SIZE) * PAGE_SIZE
    }

    fn touches_pages(&self, start: u64, end: u64) -> bool {
        self.first_page() < end && start < self.end_page()
    }

    fn conflicts_with(&self, other: &Segment<'_>) -> bool {
        let same_rights = (self.writable, self.executable) == (other.writable, other.executable);
        let share_bytes = self.vaddr < other.end() && other.vaddr < self.end();
        share_bytes || !same_rights && self.touches_pages(other.first_page(), other.end_page())
    }
}

/// A program that can be loaded. The type proves that no [`LoadError`] applies. It does not prove that the code is
/// correct.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    file: &'a [u8],
    header: &'a FileHeader64<LittleEndian>,
    headers: &'a [ProgramHeader64<LittleEndian>],
}

impl<'a> Image<'a> {
    /// Parses and checks a complete file.
    ///
    /// # Errors
    /// The first [`LoadError`]: of the file header and the size of the table, then of the program headers that request
    /// something that the kernel does not provide, then of the segments in the order of the file.
    pub fn parse(file: &'a [u8]) -> Result<Image<'a>, LoadError> {
        let truncated = LoadError::Truncated { len: file.len() };
        let header = file_header(file)?;
        let count = header.e_phnum.get(LE);
        if count > HEADERS_MAX {
            return Err(LoadError::TooManyHeaders(count));
        }
        let start = usize::try_from(header.e_phoff.get(LE)).map_err(|_| truncated)?;
        let table = file.get(start..).ok_or(truncated)?;
        let (headers, _) = pod::slice_from_bytes(table, usize::from(count)).map_err(|()| truncated)?;
        let image = Image { file, header, headers };
        image.check_segments()?;
        Ok(image)
    }

    /// Returns the entry point.
    #[must_use]
    pub fn entry(&self) -> u64 {
        self.header.e_entry.get(LE)
    }

    /// Returns the segments, in the order of the file; at least one.
    pub fn segments(&self) -> impl Iterator<Item = Segment<'a>> + Clone + use<'a> {
        let file = self.file;
        // `parse` has checked every header, so `segment` returns no error.
        loadable(self.headers).filter_map(move |(n, header)| segment(file, n, header).ok())
    }

    /// Returns the total number of pages of all segments. A page shared by two segments is counted twice.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.segments().map(|s| (s.end_page() - s.first_page()) / PAGE_SIZE).sum()
    }

    /// Returns the number of program headers, and their address in the program's memory if they are loaded.
    #[must_use]
    pub fn program_headers(&self) -> (u64, Option<u64>) {
        let start = self.header.e_phoff.get(LE);
        let len = size_of_val(self.headers) as u64;
        let holds = |h: &&ProgramHeader64<LittleEndian>| {
            let offset = h.p_offset.get(LE);
            let end = offset.saturating_add(h.p_filesz.get(LE));
            offset <= start && start.saturating_add(len) <= end
        };
        let vaddr = loadable(self.headers)
            .map(|(_, header)| header)
            .find(holds)
            .map(|header| header.p_vaddr.get(LE) + (start - header.p_offset.get(LE)));
        (self.headers.len() as u64, vaddr)
    }

    fn check_segments(&self) -> Result<(), LoadError> {
        if self.headers.iter().any(|h| matches!(h.p_type.get(LE), elf::PT_INTERP | elf::PT_DYNAMIC)) {
            return Err(LoadError::Dynamic);
        }
        self.headers.iter().enumerate().try_for_each(|(n, header)| requests(n, header))?;
        let (mut pages, mut entry_found) = (0_u64, false);
        for (n, header) in loadable(self.headers) {
            let this = segment(self.file, n, header)?;
            for (m, earlier) in loadable(self.headers).take_while(|&(m, _)| m < n) {
                if this.conflicts_with(&segment(self.file, m, earlier)?) {
                    return Err(LoadError::Overlap(place(m, earlier), place(n, header)));
                }
            }
            pages = pages.saturating_add((this.end_page() - this.first_page()) / PAGE_SIZE);
            entry_found |= this.executable && (this.vaddr..this.end()).contains(&self.entry());
        }
        match pages {
            0 => Err(LoadError::NoSegment),
            _ if pages > MEMORY_MAX / PAGE_SIZE => Err(LoadError::TooMuchMemory),
            _ if !entry_found => Err(LoadError::EntryOutside(self.entry())),
            _ => Ok(()),
        }
    }
}

/// Checks the fields of the file header that are needed to read the program headers.
fn file_header(file: &[u8]) -> Result<&FileHeader64<LittleEndian>, LoadError> {
    let truncated = LoadError::Truncated { len: file.len() };
    if !file.starts_with(&elf::ELFMAG) {
        return Err(LoadError::NotElf);
    }
    // Check class and encoding first: a 32-bit header is shorter, and its fields have different offsets.
    let &[_, _, _, _, class, encoding, version, ..] = file else { return Err(truncated) };
    if class != elf::ELFCLASS64.0 {
        return Err(LoadError::NotElf64);
    }
    if encoding != elf::ELFDATA2LSB.0 {
        return Err(LoadError::NotLittleEndian);
    }
    let (header, _) = pod::from_bytes::<FileHeader64<LittleEndian>>(file).map_err(|()| truncated)?;
    let entry_size = usize::from(header.e_phentsize.get(LE));
    match (header.e_machine.get(LE), header.e_type.get(LE)) {
        (machine, _) if machine != elf::EM_X86_64 => Err(LoadError::WrongMachine(machine.0)),
        (_, elf::ET_DYN) => Err(LoadError::Dynamic),
        (_, kind) if kind != elf::ET_EXEC => Err(LoadError::NotExecutable(kind.0)),
        _ if version != elf::EV_CURRENT.0 => Err(LoadError::UnknownVersion),
        _ if header.e_version.get(LE) != u32::from(elf::EV_CURRENT.0) => Err(LoadError::UnknownVersion),
        _ if usize::from(header.e_ehsize.get(LE)) != size_of_val(header) => Err(LoadError::UnknownVersion),
        _ if !is_known_abi(&header.e_ident) => Err(LoadError::OtherAbi(header.e_ident.os_abi.0)),
        _ if header.e_phnum.get(LE) == 0 => Err(LoadError::NoSegment),
        _ if entry_size != size_of::<ProgramHeader64<LittleEndian>>() => Err(LoadError::UnknownVersion),
        _ => Ok(header),
    }
}

/// Returns whether the file is for the System V ABI or its GNU variant, which static linkers choose for some symbols.
/// The kernel ignores what that variant adds.
fn is_known_abi(ident: &elf::Ident) -> bool {
    matches!(ident.os_abi, elf::ELFOSABI_NONE | elf::ELFOSABI_GNU) && ident.abi_version == 0
}

/// Returns the program headers of loadable segments, with their indices.
fn loadable(
    headers: &[ProgramHeader64<LittleEndian>],
) -> impl Iterator<Item = (usize, &ProgramHeader64<LittleEndian>)> + Clone {
    headers.iter().enumerate().filter(|(_, header)| {
        // Skip empty segments, which linkers emit. A segment with bytes in the file but not in memory is rejected
        // later.
        header.p_type.get(LE) == elf::PT_LOAD && (header.p_memsz.get(LE) | header.p_filesz.get(LE)) != 0
    })
}

/// Rejects non-loadable program headers that request features the kernel lacks. Headers of other types are informative:
/// a program runs without the features that they describe.
fn requests(index: usize, header: &ProgramHeader64<LittleEndian>) -> Result<(), LoadError> {
    let size = header.p_memsz.get(LE);
    match header.p_type.get(LE) {
        elf::PT_TLS if (size | header.p_filesz.get(LE)) != 0 => {
            Err(LoadError::ThreadLocal(place(index, header)))
        }
        elf::PT_GNU_STACK if header.p_flags.get(LE).0 & elf::PF_X.0 != 0 => {
            Err(LoadError::ExecutableStack { header: index })
        }
        // Size 0 requests the default size.
        elf::PT_GNU_STACK if size > STACK_SIZE => Err(LoadError::StackSize { header: index, size }),
        _ => Ok(()),
    }
}

fn place(index: usize, header: &ProgramHeader64<LittleEndian>) -> Place {
    Place { header: index, vaddr: header.p_vaddr.get(LE), mem_size: header.p_memsz.get(LE) }
}

/// Checks a single program header.
fn segment<'a>(
    file: &'a [u8],
    index: usize,
    header: &ProgramHeader64<LittleEndian>,
) -> Result<Segment<'a>, LoadError> {
    let place = place(index, header);
    if header.p_filesz.get(LE) > place.mem_size {
        return Err(LoadError::FileSizeExceedsMemory(place));
    }
    let end = place.vaddr.checked_add(place.mem_size);
    if place.vaddr < USER_START || end.is_none_or(|end| end > USER_END) {
        return Err(LoadError::OutsideUserSpace(place));
    }
    let flags = header.p_flags.get(LE).0;
    if flags & (elf::PF_R.0 | elf::PF_W.0 | elf::PF_X.0) == 0 {
        return Err(LoadError::NoRights(place));
    }
    let segment = Segment {
        vaddr: place.vaddr,
        mem_size: place.mem_size,
        data: file_bytes(file, header).ok_or(LoadError::Truncated { len: file.len() })?,
        writable: flags & elf::PF_W.0 != 0,
        executable: flags & elf::PF_X.0 != 0,
    };
    // The page below the stack is its guard.
    if segment.touches_pages(STACK_TOP - STACK_SIZE - PAGE_SIZE, STACK_TOP)
        || segment.touches_pages(SHARED_PAGE, SHARED_PAGE + PAGE_SIZE)
    {
        return Err(LoadError::Reserved(place));
    }
    if segment.writable && segment.executable {
        return Err(LoadError::WritableAndExecutable(place));
    }
    Ok(segment)
}

/// Returns the bytes of the file that a program header refers to; `None` if the file is too short.
fn file_bytes<'a>(file: &'a [u8], header: &ProgramHeader64<LittleEndian>) -> Option<&'a [u8]> {
    let len = usize::try_from(header.p_filesz.get(LE)).ok()?;
    if len == 0 {
        // The offset of an empty segment has no meaning. Linkers may set it beyond the end of the file.
        return Some(&[]);
    }
    let start = usize::try_from(header.p_offset.get(LE)).ok()?;
    file.get(start..start.checked_add(len)?)
}

#[cfg(test)]
pub(crate) mod tests;
