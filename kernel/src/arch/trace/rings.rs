//! The memory of the rings: where the directory is, and each CPU's ring.

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use kernel_abi::layout::PAGE_SIZE;
use kernel_abi::trace::{Directory, MAGIC, Record, RingHeader};

use crate::arch::memory::physmem;
use crate::cmdline::TraceOptions;
use crate::physmap::phys_to_virt;

/// Physical address of the directory; 0 if nothing is traced.
static DIRECTORY: AtomicU64 = AtomicU64::new(0);

/// At the end the rings are sent over the console.
pub(super) static SENT_AT_THE_END: AtomicBool = AtomicBool::new(false);

/// No memory for the rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoomForRings {
    cpus: u32,
    records: u32,
}

impl fmt::Display for NoRoomForRings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "no stretch of memory for {} trace rings of {} records (32 bytes each): give fewer with \
             trace_records=, or more memory",
            self.cpus, self.records
        )
    }
}

impl core::error::Error for NoRoomForRings {}

/// Makes the directory and a ring for each CPU of the list.
///
/// # Errors
/// [`NoRoomForRings`].
pub fn init(options: TraceOptions, cpus: u32, tsc_hz: u64, boot_tsc: u64) -> Result<(), NoRoomForRings> {
    if options.kinds == 0 {
        return Ok(());
    }
    let error = NoRoomForRings { cpus, records: options.records };
    let stride = (size_of::<RingHeader>() as u64 + u64::from(options.records) * size_of::<Record>() as u64)
        .next_multiple_of(PAGE_SIZE);
    let frames = 1 + u64::from(cpus) * stride / PAGE_SIZE;
    let start = physmem::alloc_contiguous(frames).ok_or(error)?.start();
    let directory = phys_to_virt(start).cast::<Directory>();
    // SAFETY: the frames are ours for good, mapped, and zeroed here. The magic goes last: who finds it finds the rest.
    unsafe {
        directory.cast::<u8>().write_bytes(0, (frames * PAGE_SIZE) as usize);
        directory.write(Directory {
            magic: [0; 16],
            cpus,
            capacity: options.records,
            first_ring: start + PAGE_SIZE,
            ring_stride: stride,
            tsc_hz,
            boot_tsc,
            kinds: options.kinds,
            mode: u32::from(options.stream),
        });
        (&raw mut (*directory).magic).write_volatile(MAGIC);
    }
    SENT_AT_THE_END.store(options.serial, Ordering::Relaxed);
    DIRECTORY.store(start, Ordering::Release);
    Ok(())
}

/// The directory, if anything is traced.
pub(super) fn directory() -> Option<&'static Directory> {
    let start = DIRECTORY.load(Ordering::Acquire);
    // SAFETY: `init` filled it in before it published the address, and nobody changes it.
    (start != 0).then(|| unsafe { &*phys_to_virt(start).cast::<Directory>() })
}

/// The ring of a CPU of the list.
pub(super) fn ring_at(directory: &Directory, place: u32) -> *mut RingHeader {
    phys_to_virt(directory.first_ring + u64::from(place) * directory.ring_stride).cast()
}
