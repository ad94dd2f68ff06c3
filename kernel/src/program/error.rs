//! Errors of loading a program file.

use core::fmt;

use kernel_abi::layout::{SHARED_PAGE, STACK_SIZE, STACK_TOP, USER_END, USER_START};

use super::{HEADERS_MAX, MEMORY_MAX};

/// The memory range of a program header, for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Index of the program header, counted from 0 as `readelf -l` does.
    pub header: usize,
    /// First address.
    pub vaddr: u64,
    /// Bytes in memory.
    pub mem_size: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "segment {} ({:#x}, {:#x} bytes)", self.header, self.vaddr, self.mem_size)
    }
}

/// The reason why a file cannot be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// The file does not start with the ELF magic number.
    NotElf,
    /// The file ends before data that its headers refer to.
    Truncated {
        /// Length of the file in bytes.
        len: usize,
    },
    /// The file is not of class ELF64.
    NotElf64,
    /// The file is big-endian.
    NotLittleEndian,
    /// The file is for another architecture; the value is ELF's `e_machine`.
    WrongMachine(u16),
    /// The headers have an unknown version or size.
    UnknownVersion,
    /// The file is for another operating system; the value is ELF's `EI_OSABI`.
    OtherAbi(u8),
    /// The file is an object file, a core dump or similar; the value is ELF's `e_type`.
    NotExecutable(u16),
    /// The file needs a dynamic linker or relocation.
    Dynamic,
    /// The file has more than [`HEADERS_MAX`] program headers.
    TooManyHeaders(u16),
    /// The file has no loadable segment.
    NoSegment,
    /// A segment has more bytes in the file than in memory.
    FileSizeExceedsMemory(Place),
    /// A segment does not lie completely in the user half.
    OutsideUserSpace(Place),
    /// A segment overlaps the stack, the guard below it, or the shared page.
    Reserved(Place),
    /// A segment is both writable and executable.
    WritableAndExecutable(Place),
    /// A segment has no access rights. According to the gABI no access is permitted, but page tables cannot prevent
    /// ring 3 from reading a mapped page.
    NoRights(Place),
    /// The program uses thread-local storage. The kernel does not set the FS base, so the first access would fault.
    ThreadLocal(Place),
    /// The program needs an executable stack.
    ExecutableStack {
        /// Index of the program header.
        header: usize,
    },
    /// The program needs a larger stack than the kernel provides.
    StackSize {
        /// Index of the program header.
        header: usize,
        /// The required size, in bytes.
        size: u64,
    },
    /// Two segments overlap, or share a page with different access rights.
    Overlap(Place, Place),
    /// The segments take more memory than [`MEMORY_MAX`].
    TooMuchMemory,
    /// The entry point is not in an executable segment.
    EntryOutside(u64),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::NotElf => f.write_str("not an ELF file"),
            LoadError::Truncated { len } => {
                write!(f, "the ELF file is truncated: it has only {len} bytes, but its headers refer to more")
            }
            LoadError::NotElf64 => f.write_str("a 32-bit ELF file: compile it for x86-64 (-m64)"),
            LoadError::NotLittleEndian => f.write_str("a big-endian ELF file: compile it for x86-64"),
            LoadError::WrongMachine(machine) => {
                write!(f, "an ELF file for another machine (e_machine {machine}): compile it for x86-64")
            }
            LoadError::UnknownVersion => {
                f.write_str("an ELF file whose headers have an unknown version or size")
            }
            LoadError::OtherAbi(abi) => {
                write!(f, "an ELF file for another operating system (EI_OSABI {abi}): link it for System V")
            }
            LoadError::NotExecutable(kind) => {
                write!(
                    f,
                    "an ELF file that is not an executable (e_type {kind}): link it with -static -no-pie"
                )
            }
            LoadError::Dynamic => {
                f.write_str("dynamically linked or position independent: link with -static -no-pie")
            }
            LoadError::TooManyHeaders(count) => {
                write!(f, "the ELF file has {count} program headers; the maximum is {HEADERS_MAX}")
            }
            LoadError::NoSegment => f.write_str("the ELF file has no loadable segment"),
            LoadError::FileSizeExceedsMemory(place) => {
                write!(f, "{place} has more bytes in the file than in memory")
            }
            LoadError::OutsideUserSpace(place) => {
                write!(f, "{place} does not lie completely in user space, {USER_START:#x} to {USER_END:#x}")
            }
            LoadError::Reserved(place) => {
                write!(
                    f,
                    "{place} overlaps the stack below {STACK_TOP:#x} or the shared page at {SHARED_PAGE:#x}"
                )
            }
            LoadError::WritableAndExecutable(place) => {
                write!(f, "{place} is writable and executable: link with -z separate-code, without -N")
            }
            LoadError::NoRights(place) => {
                write!(f, "{place} has no access rights (p_flags 0): make it at least readable")
            }
            LoadError::ThreadLocal(place) => {
                write!(
                    f,
                    "{place} is thread-local storage (PT_TLS), which the kernel does not set up: use plain variables"
                )
            }
            LoadError::ExecutableStack { header } => {
                write!(
                    f,
                    "segment {header} needs an executable stack (PT_GNU_STACK), but the stack is never executable: avoid \
                     nested functions, and link with -z noexecstack"
                )
            }
            LoadError::StackSize { header, size } => {
                write!(
                    f,
                    "segment {header} needs a stack of {size} bytes (PT_GNU_STACK), but the stack has {STACK_SIZE}: \
                     link without -z stack-size"
                )
            }
            LoadError::Overlap(one, other) => {
                write!(f, "{one} and {other} overlap, or share a page with different access rights")
            }
            LoadError::TooMuchMemory => {
                write!(f, "the segments take more than {} MiB", MEMORY_MAX / 1024 / 1024)
            }
            LoadError::EntryOutside(entry) => {
                write!(f, "the entry point {entry:#x} is not in an executable segment")
            }
        }
    }
}

impl core::error::Error for LoadError {}
