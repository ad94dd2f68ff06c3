//! The memory of the trace: the directory and one ring per CPU.

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use kernel_abi::layout::PAGE_SIZE;
use kernel_abi::trace::{Directory, MAGIC, Record, RingHeader};

use crate::arch::memory::physmem;
use crate::cmdline::TraceOptions;
use crate::physmap::phys_to_virt;

/// Physical address of the directory; 0 if tracing is off.
static DIRECTORY: AtomicU64 = AtomicU64::new(0);

/// Whether to send the rings over the console at the end of the run.
pub(super) static SEND_AT_END: AtomicBool = AtomicBool::new(false);

/// The error if there is not enough contiguous memory for the rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoomForRings {
    cpus: u32,
    records: u32,
}

impl fmt::Display for NoRoomForRings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "no contiguous memory for {} trace rings of {} records (32 bytes each): reduce trace_records=, \
             or give the machine more memory",
            self.cpus, self.records
        )
    }
}

impl core::error::Error for NoRoomForRings {}

/// If tracing is on, allocates the directory and a ring for each CPU in the list. The host finds the directory once
/// [`publish`] has completed it.
///
/// # Errors
/// [`NoRoomForRings`].
pub fn init(options: TraceOptions, cpus: u32, boot_tsc: u64) -> Result<(), NoRoomForRings> {
    if options.kinds == 0 {
        return Ok(());
    }
    let error = NoRoomForRings { cpus, records: options.records };
    let stride = (size_of::<RingHeader>() as u64 + u64::from(options.records) * size_of::<Record>() as u64)
        .next_multiple_of(PAGE_SIZE);
    let frames = 1 + u64::from(cpus) * stride / PAGE_SIZE;
    let start = physmem::alloc_contiguous(frames).ok_or(error)?.start();
    let directory = phys_to_virt(start).cast::<Directory>();
    // SAFETY: the frames are never freed, and nothing else refers to them (invariant: OWN-FRAMES); the physical map
    // contains them.
    unsafe {
        directory.cast::<u8>().write_bytes(0, (frames * PAGE_SIZE) as usize);
        directory.write(Directory {
            magic: [0; 16],
            cpus,
            capacity: options.records,
            first_ring: start + PAGE_SIZE,
            ring_stride: stride,
            tsc_hz: 0,
            boot_tsc,
            kinds: options.kinds,
            mode: u32::from(options.stream),
        });
    }
    SEND_AT_END.store(options.serial, Ordering::Relaxed);
    DIRECTORY.store(start, Ordering::Release);
    Ok(())
}

/// If tracing is on, stores the frequency of the TSC in the directory, and completes it.
pub fn publish(tsc_hz: u64) {
    let start = DIRECTORY.load(Ordering::Acquire);
    if start == 0 {
        return;
    }
    let directory = phys_to_virt(start).cast::<Directory>();
    // SAFETY: `init` has filled in the directory, and only the host reads these two fields. The magic is written last:
    // if the host finds the magic, the directory is complete.
    unsafe {
        (&raw mut (*directory).tsc_hz).write_volatile(tsc_hz);
        (&raw mut (*directory).magic).write_volatile(MAGIC);
    }
}

/// Returns the directory, if tracing is on.
pub(super) fn directory() -> Option<&'static Directory> {
    let start = DIRECTORY.load(Ordering::Acquire);
    // SAFETY: `init` filled in the directory before it published the address. Afterwards only `publish` changes two
    // fields, which the kernel does not read until then.
    (start != 0).then(|| unsafe { &*phys_to_virt(start).cast::<Directory>() })
}

/// Returns the ring of the CPU with index `place` in the list.
pub(super) fn ring_at(directory: &Directory, place: u32) -> *mut RingHeader {
    phys_to_virt(directory.first_ring + u64::from(place) * directory.ring_stride).cast()
}
