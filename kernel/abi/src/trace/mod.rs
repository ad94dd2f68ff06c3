//! The trace format: fixed-size records in one ring buffer per CPU, in physical memory. The layout allows the host to
//! read the records while the guest runs and after it has crashed.
//!
//! ```text
//!   Directory          one page; the host finds it by the magic at its start
//!   Ring 0             RingHeader, then `capacity` records
//!   Ring 1             `ring_stride` bytes after ring 0, and so on: one per CPU, in the order of the CPU list
//! ```
//!
//! Each CPU is the only writer of its ring and takes no lock. It reserves a slot by adding 1 to `head` in a single
//! instruction, so that an NMI reserves a different slot. Then it fills in the record and writes `sequence` last. A
//! record whose `sequence` does not match its slot is still being written, or was overwritten.

use core::mem::{offset_of, size_of};

use bytemuck::{Pod, Zeroable};

pub use self::kind::{Field, GROUPS, Group, Kind, Style, all_groups};

mod kind;
pub mod packing;
pub mod reading;
pub mod serial;

/// The first bytes of the directory's page.
pub const MAGIC: [u8; 16] = *b"ringside-trace\x00\x01";

/// The vector of a [`Kind::IpiSent`] event for an INIT.
pub const IPI_INIT: u64 = 0x100;
/// The vector of a [`Kind::IpiSent`] event for a start-up IPI, plus the page number.
pub const IPI_STARTUP: u64 = 0x200;
/// The vector of a [`Kind::IpiSent`] event for an NMI.
pub const IPI_NMI: u64 = 0x300;
/// The destination of a [`Kind::IpiSent`] event to all CPUs except the sender.
pub const IPI_TO_OTHERS: u64 = u64::MAX;

/// One event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Record {
    /// The TSC of the CPU that wrote the record.
    pub tsc: u64,
    /// See [`Kind`].
    pub a: u64,
    /// See [`Kind`].
    pub b: u64,
    /// The low half of the record's number in this ring, counted from 1; 0 means an empty slot. Written last.
    pub sequence: u32,
    /// The number of a [`Kind`].
    pub kind: u16,
    /// Always 0.
    pub reserved: u16,
}

/// The header of a ring. The words of the writer and of the reader are on separate cache lines.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct RingHeader {
    /// The number of slots that the writer has reserved so far. The next slot has index `head % capacity`.
    pub head: u64,
    /// In a stream, the number of records dropped so far because the ring was full.
    pub dropped: u64,
    /// Index of the CPU in the CPU list.
    pub cpu: u32,
    /// The APIC id of the CPU.
    pub apic_id: u32,
    /// The value to add to this CPU's TSC to get the BSP's.
    pub tsc_offset: i64,
    writer_padding: [u64; 4],
    /// In a stream, the number of records that the host has taken. Written by the host.
    pub tail: u64,
    reader_padding: [u64; 7],
}

/// The directory, which holds the location of the rings. It occupies one page.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Directory {
    /// [`MAGIC`], written last.
    pub magic: [u8; 16],
    /// Number of rings.
    pub cpus: u32,
    /// The number of records in a ring, a power of two.
    pub capacity: u32,
    /// Physical address of the first ring.
    pub first_ring: u64,
    /// The distance from one ring to the next, in bytes.
    pub ring_stride: u64,
    /// Frequency of the TSC in hertz; 0 until it is measured.
    pub tsc_hz: u64,
    /// The BSP's TSC at the start of the kernel.
    pub boot_tsc: u64,
    /// Mask of the kinds that are recorded.
    pub kinds: u32,
    /// 0: a flight recorder, where new records overwrite the oldest. 1: a stream, where new records are dropped while
    /// the ring is full.
    pub mode: u32,
}

const _: () = {
    assert!(size_of::<Record>() == 32, "the host and the kernel's writer depend on 32-byte records");
    assert!(offset_of!(Record, sequence) == 24, "sequence, kind and reserved must form the last word");
    assert!(size_of::<RingHeader>() == 128, "records must start 128 bytes into a ring");
    assert!(offset_of!(RingHeader, tail) == 64, "the reader's word must be on its own cache line");
    assert!(size_of::<Directory>() <= 4096, "the directory must fit in a page");
    assert!(
        cfg!(target_endian = "little"),
        "the host reads these structures directly from the kernel's memory"
    );
};
