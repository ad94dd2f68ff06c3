//! The trace: fixed-size records in one ring buffer per CPU, in physical memory, laid out so that the host can read
//! them while the guest runs, and after it has crashed.
//!
//! ```text
//!   Directory          one page; found by its magic at the start of a page
//!   Ring 0             RingHeader, then `capacity` records
//!   Ring 1             `ring_stride` bytes further, and so on: one per CPU, in the order of the CPU list
//! ```
//!
//! Only the CPU itself writes its ring, without a lock: it reserves a slot by adding 1 to `head` in one instruction, so
//! that an NMI in between reserves another slot; it fills in the record and writes `sequence` last. A record whose
//! sequence does not match its slot is being written, or was lost.

use core::mem::{offset_of, size_of};

use bytemuck::{Pod, Zeroable};

pub use self::kind::{Field, GROUPS, Group, Kind, Style, all_groups};

mod kind;
pub mod packing;
pub mod reading;
pub mod serial;

/// The first bytes of the directory's page.
pub const MAGIC: [u8; 16] = *b"ringside-trace\x00\x01";

/// [`Kind::IpiSent`]'s vector for an INIT.
pub const IPI_INIT: u64 = 0x100;
/// [`Kind::IpiSent`]'s vector for a start-up IPI, to which the page number is added.
pub const IPI_STARTUP: u64 = 0x200;
/// [`Kind::IpiSent`]'s vector for an NMI.
pub const IPI_NMI: u64 = 0x300;
/// [`Kind::IpiSent`]'s destination: all but the sender.
pub const IPI_TO_OTHERS: u64 = u64::MAX;

/// One event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Record {
    /// Time-stamp counter of the CPU that writes the record.
    pub tsc: u64,
    /// See [`Kind`].
    pub a: u64,
    /// See [`Kind`].
    pub b: u64,
    /// The low half of the record's number, counted from 1; 0 means an empty slot. Written last.
    pub sequence: u32,
    /// A [`Kind`]'s number.
    pub kind: u16,
    /// Always 0.
    pub reserved: u16,
}

/// The start of a ring. The writer's and the reader's words are on cache lines of their own.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct RingHeader {
    /// Slots reserved so far by the writer; the next one is slot `head % capacity`.
    pub head: u64,
    /// In a stream: records dropped so far because the ring was full.
    pub dropped: u64,
    /// Index of the CPU in the CPU list.
    pub cpu: u32,
    /// Its APIC id.
    pub apic_id: u32,
    /// Difference to be added to this CPU's TSC to get the BSP's.
    pub tsc_offset: i64,
    writer_padding: [u64; 4],
    /// In a stream: records that the host has drained. The host writes it.
    pub tail: u64,
    reader_padding: [u64; 7],
}

/// The page with the location of the rings.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Directory {
    /// [`MAGIC`], written last.
    pub magic: [u8; 16],
    /// Number of rings.
    pub cpus: u32,
    /// Records in a ring, a power of two.
    pub capacity: u32,
    /// Physical address of the first ring.
    pub first_ring: u64,
    /// Bytes from one ring to the next.
    pub ring_stride: u64,
    /// Frequency of the TSC in hertz; 0 until it is measured.
    pub tsc_hz: u64,
    /// The BSP's TSC at the kernel's start.
    pub boot_tsc: u64,
    /// Mask of the kinds that are recorded.
    pub kinds: u32,
    /// 0: the oldest records are overwritten. 1: a stream; when the ring is full, new records are dropped.
    pub mode: u32,
}

const _: () = {
    assert!(size_of::<Record>() == 32, "the host and the kernel's writer depend on 32-byte records");
    assert!(offset_of!(Record, sequence) == 24, "sequence, kind and reserved are the last word");
    assert!(size_of::<RingHeader>() == 128, "records start 128 bytes into a ring");
    assert!(offset_of!(RingHeader, tail) == 64, "the reader's word is on a cache line of its own");
    assert!(size_of::<Directory>() <= 4096, "the directory is one page");
    assert!(
        cfg!(target_endian = "little"),
        "the host reads these structures as the kernel's memory has them"
    );
};
