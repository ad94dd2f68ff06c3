//! Loads the kernel with the help of the firmware's boot services, and ends them.
#![allow(unsafe_code, reason = "accesses memory that the firmware allocates")]

use alloc::string::String;
use alloc::vec;
use core::convert::Infallible;
use core::fmt::Write;
use core::ops::Range;
use core::ptr::NonNull;
use core::slice;

use kernel_abi::boot::{COMMAND_LINE_MAX, FrameBuffer, Handover};
use uefi::boot::{AllocateType, MemoryType, OpenProtocolAttributes, OpenProtocolParams};
use uefi::mem::memory_map::{MemoryMap, MemoryMapMut};
use uefi::proto::console::gop::{GraphicsOutput, PixelFormat};
use uefi::proto::loaded_image::LoadedImage;
use uefi::proto::media::file::{File, FileAttribute, FileInfo, FileMode, RegularFile};
use uefi::proto::security::MemoryProtection;
use uefi::table::cfg::ConfigTableEntry;
use uefi::{CStr16, Status, boot, cstr16, system};

use crate::error::Error;
use crate::image::Image;
use crate::leave::{self, Destination};
use crate::{memory, options};

/// The file on the loader's partition that holds the command line, if there are no load options.
const COMMAND_LINE: (&CStr16, &str) = (cstr16!("\\ringside\\cmdline.txt"), "\\ringside\\cmdline.txt");
/// The file on the loader's partition that holds the user's program.
const PROGRAM: (&CStr16, &str) = (cstr16!("\\ringside\\program"), "\\ringside\\program");

/// The last address that the kernel's 32-bit code can access.
const BELOW_4_GIB: u64 = 0xffff_ffff;
/// The maximum number of requests for memory, if the firmware repeatedly returns memory in the range of the kernel's
/// image.
const ATTEMPTS: usize = 64;

/// Loads the kernel and starts it.
///
/// # Errors
/// [`Error`]. The boot services have not ended, so control can return to the firmware.
pub fn start(kernel: &[u8]) -> Result<Infallible, Error> {
    let image = Image::parse(kernel)?;
    reserve(&image)?;
    let source = allocate(MemoryType::LOADER_DATA, image.size(), &image)?;
    let page = allocate(MemoryType::LOADER_CODE, leave::PAGE, &image)?;
    let handover = allocate(MemoryType::LOADER_DATA, size_of::<Handover>(), &image)?.cast::<Handover>();
    // SAFETY: both were allocated above and belong to this function. Zeroed bytes are valid bytes.
    let handover = unsafe {
        source.write_bytes(0, image.size());
        image.write(slice::from_raw_parts_mut(source.as_ptr(), image.size()));
        handover.write(Handover::EMPTY);
        &mut *handover.as_ptr()
    };
    let line = command_line()?;
    let bytes = line.as_bytes();
    let place = handover.command_line[..COMMAND_LINE_MAX].get_mut(..bytes.len());
    place.ok_or(Error::CommandLine(bytes.len()))?.copy_from_slice(bytes);
    if let Some((program, len)) = program(&image)? {
        handover.module = program.addr().get() as u64;
        handover.module_len = len as u64;
    }
    handover.rsdp = rsdp();
    handover.system_table = uefi::table::system_table_raw().map_or(0, |table| table.addr().get() as u64);
    handover.frame_buffer = frame_buffer();
    let to = Destination {
        source: source.addr().get() as u32,
        destination: image.range.start,
        length: image.size() as u32,
        entry: image.entry,
        handover: (&raw const *handover).addr() as u32,
    };
    // SAFETY: the page was allocated above.
    unsafe { leave::install(page, to) };
    make_executable(page);
    say(format_args!("starting the kernel at {:#x}", image.range.start));

    // SAFETY: nothing that belongs to the boot services is used from here on: the allocator is not called again, as
    // `line` and the memory map are never dropped. The crate calls the firmware's function again if the memory map has
    // changed in between (UEFI 2.10, 7.4.6), and resets the machine if that fails too.
    let mut map = unsafe { boot::exit_boot_services(None) };
    map.sort();
    map.entries().filter_map(memory::range).for_each(|range| handover.add(range));
    // SAFETY: the page is installed, the boot services have ended, and `reserve` has found the image's range usable.
    unsafe { leave::cross(page) }
}

/// Prints on the firmware's console why the kernel was not started.
pub fn report(error: &Error) {
    say(format_args!("cannot start: {error}"));
}

/// Prints a line on the firmware's console. Errors are ignored, because the kernel can boot without this console.
fn say(text: core::fmt::Arguments<'_>) {
    system::with_stdout(|stdout| {
        // The firmware's own text may end without a line break.
        let _ = write!(stdout, "\n[loader] ringside: {text}\n");
    });
}

/// Reserves the range of the kernel's image, so that the loader's own memory does not lie there. If the firmware uses a
/// part of the range, checks that it does so only until the boot services end.
fn reserve(image: &Image<'_>) -> Result<(), Error> {
    let Range { start, end } = image.range;
    let pages = image.size() / 4096;
    if boot::allocate_pages(AllocateType::Address(start.into()), MemoryType::LOADER_DATA, pages).is_ok() {
        return Ok(());
    }
    let map = boot::memory_map(MemoryType::LOADER_DATA).map_err(Error::firmware("report its memory map"))?;
    match memory::is_usable(start.into()..end.into(), map.entries()) {
        true => Ok(()),
        false => Err(Error::Occupied(start.into(), u64::from(end) - 1)),
    }
}

/// Allocates whole pages below 4 GiB, outside the range of the kernel's image.
fn allocate(kind: MemoryType, bytes: usize, image: &Image<'_>) -> Result<NonNull<u8>, Error> {
    let pages = bytes.div_ceil(4096);
    for _ in 0..ATTEMPTS {
        let memory = boot::allocate_pages(AllocateType::MaxAddress(BELOW_4_GIB), kind, pages)
            .map_err(|_| Error::OutOfMemory)?;
        let start = memory.addr().get() as u64;
        if start + pages as u64 * 4096 <= image.range.start.into() || start >= image.range.end.into() {
            return Ok(memory);
        }
        // Keep the memory, so that the next attempt finds other memory.
    }
    Err(Error::OutOfMemory)
}

/// Returns the command line: the load options, or else the file, or else nothing.
fn command_line() -> Result<String, Error> {
    let image = boot::open_protocol_exclusive::<LoadedImage>(boot::image_handle());
    let image = image.map_err(Error::firmware("describe the loader's image"))?;
    if let Some(line) = image.load_options_as_bytes().and_then(options::from_load_options) {
        return Ok(line);
    }
    drop(image);
    let Some((file, len)) = open(COMMAND_LINE)? else { return Ok(String::new()) };
    // This check also limits the memory that is allocated.
    if len > COMMAND_LINE_MAX {
        return Err(Error::CommandLine(len));
    }
    let mut bytes = vec![0; len];
    fill(file, COMMAND_LINE.1, &mut bytes)?;
    options::from_file(bytes).ok_or(Error::NotText(COMMAND_LINE.1))
}

/// Opens a file on the loader's partition. Returns `None` if there is no such file, or if the loader was not started
/// from a file system (for example, if it was started from a network).
fn open((path, name): (&CStr16, &'static str)) -> Result<Option<(RegularFile, usize)>, Error> {
    let fail = |status| Error::File(name, status);
    let Ok(mut files) = boot::get_image_file_system(boot::image_handle()) else { return Ok(None) };
    let mut root = files.open_volume().map_err(|error| fail(error.status()))?;
    let file = match root.open(path, FileMode::Read, FileAttribute::empty()) {
        Err(error) if error.status() == Status::NOT_FOUND => return Ok(None),
        file => file.map_err(|error| fail(error.status()))?,
    };
    let mut file = file.into_regular_file().ok_or(fail(Status::INVALID_PARAMETER))?;
    let info = file.get_boxed_info::<FileInfo>().map_err(|error| fail(error.status()))?;
    let len = usize::try_from(info.file_size()).map_err(|_| Error::OutOfMemory)?;
    Ok(Some((file, len)))
}

/// Reads a complete file.
fn fill(mut file: RegularFile, name: &'static str, bytes: &mut [u8]) -> Result<(), Error> {
    match file.read(bytes) {
        Ok(read) if read == bytes.len() => Ok(()),
        Ok(_) => Err(Error::File(name, Status::END_OF_FILE)),
        Err(error) => Err(Error::File(name, error.status())),
    }
}

/// Reads the user's program into memory of its own. Returns `None` if there is no program.
fn program(image: &Image<'_>) -> Result<Option<(NonNull<u8>, usize)>, Error> {
    let Some((file, len)) = open(PROGRAM)?.filter(|(_, len)| *len != 0) else { return Ok(None) };
    let memory = allocate(MemoryType::LOADER_DATA, len, image)?;
    // SAFETY: the memory was allocated with this size. Zeroed bytes are valid bytes.
    let bytes = unsafe {
        memory.write_bytes(0, len);
        slice::from_raw_parts_mut(memory.as_ptr(), len)
    };
    fill(file, PROGRAM.1, bytes)?;
    Ok(Some((memory, len)))
}

/// Returns the address of the RSDP, preferably that of ACPI 2.0 or later; 0 if the firmware has none.
fn rsdp() -> u64 {
    system::with_config_table(|tables| {
        let find =
            |guid| tables.iter().find(|table| table.guid == guid).map(|table| table.address.addr() as u64);
        find(ConfigTableEntry::ACPI2_GUID).or_else(|| find(ConfigTableEntry::ACPI_GUID)).unwrap_or(0)
    })
}

/// Returns the frame buffer of the firmware's console. For a screen without a frame buffer, only the size is returned.
fn frame_buffer() -> FrameBuffer {
    let Ok(handle) = boot::get_handle_for_protocol::<GraphicsOutput>() else { return FrameBuffer::default() };
    let params = OpenProtocolParams { handle, agent: boot::image_handle(), controller: None };
    // SAFETY: the protocol is only read, while nothing else runs. Opening it exclusively would disconnect the
    // firmware's console from the screen.
    let screen =
        unsafe { boot::open_protocol::<GraphicsOutput>(params, OpenProtocolAttributes::GetProtocol) };
    let Ok(mut screen) = screen else { return FrameBuffer::default() };
    let mode = screen.current_mode_info();
    let (width, height) = mode.resolution();
    let size = FrameBuffer { width: width as u32, height: height as u32, ..FrameBuffer::NONE };
    let masks = match (mode.pixel_format(), mode.pixel_bitmask()) {
        (PixelFormat::Rgb, _) => [0xff, 0xff00, 0xff_0000],
        (PixelFormat::Bgr, _) => [0xff_0000, 0xff00, 0xff],
        (PixelFormat::Bitmask, Some(masks)) => [masks.red, masks.green, masks.blue],
        // The mode has no frame buffer to which the kernel could write.
        _ => return size,
    };
    let stride = mode.stride() as u32;
    let mut memory = screen.frame_buffer();
    FrameBuffer { start: memory.as_mut_ptr().addr() as u64, len: memory.size() as u64, stride, masks, ..size }
}

/// Makes the page executable if the firmware protects memory (UEFI 2.10, 37.2). Other firmware lacks this protocol, and
/// maps loader code as executable anyway.
fn make_executable(page: NonNull<u8>) {
    let Ok(handle) = boot::get_handle_for_protocol::<MemoryProtection>() else { return };
    let Ok(protection) = boot::open_protocol_exclusive::<MemoryProtection>(handle) else { return };
    use uefi::mem::memory_map::MemoryAttribute;
    let start = page.addr().get() as u64;
    let range = start..start + leave::PAGE as u64;
    // Make the page read-only first: the firmware may refuse a page that is both writable and executable.
    let _ = protection.set_memory_attributes(range.clone(), MemoryAttribute::READ_ONLY);
    let _ = protection.clear_memory_attributes(range, MemoryAttribute::EXECUTE_PROTECT);
}
