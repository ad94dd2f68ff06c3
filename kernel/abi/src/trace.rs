//! The trace: fixed-size records in one ring a CPU, in physical memory, laid out so that the host can read them
//! while the guest runs, and after it has crashed.
//!
//! ```text
//!   Directory          one page; found by its magic at the start of a page
//!   Ring 0             RingHeader, then `capacity` records
//!   Ring 1             `ring_stride` bytes further, and so on: one a CPU, in the order of the CPU list
//! ```
//!
//! A CPU alone writes its ring, without a lock: it takes a place by adding 1 to `head`, in one instruction, so that
//! an NMI in between takes another place; it fills the record in and writes `sequence` last. A record whose
//! sequence is not its place's is being written, or was lost.

use core::mem::{offset_of, size_of};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub mod packing;
pub mod reading;
pub mod serial;

/// The first bytes of the directory's page.
pub const MAGIC: [u8; 16] = *b"ringside-trace\x00\x01";

/// What a record tells. The number is the record's `kind` and the bit in the mask of enabled kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum Kind {
    /// A system call came in. a: number, b: first argument.
    SyscallEnter = 1,
    /// It leaves. a: number, b: result.
    SyscallExit = 2,
    /// Timer tick. a: ticks so far, b: interrupted RIP.
    Tick = 3,
    /// Another interrupt. a: vector, b: interrupted RIP.
    Interrupt = 4,
    /// This CPU sent an interprocessor interrupt. a: vector (or [`IPI_INIT`] and its kin), b: APIC id, or
    /// [`IPI_TO_OTHERS`].
    IpiSent = 5,
    /// It received one. a: vector, b: interrupted RIP.
    IpiReceived = 6,
    /// Non-maskable interrupt. a: NMIs so far, b: interrupted RIP.
    Nmi = 7,
    /// Exception in ring 3. a: vector, b: RIP.
    Fault = 8,
    /// A program starts. a: entry address, b: stack pointer.
    ProgramStart = 9,
    /// It has ended. a: 0 exited, 1 killed; b: exit code.
    ProgramEnd = 10,
    /// The CPU halts until an interrupt comes.
    IdleIn = 11,
    /// It goes on.
    IdleOut = 12,
    /// Bring-up. a: APIC id, b: the slot's state as in `ap_trampoline::slot_state`.
    ApState = 13,
    /// In a stream: so many records before this one were dropped. a: how many.
    Dropped = 14,
    /// `SYS_TRACE`. a: id, b: value.
    User = 15,
}

/// [`Kind::IpiSent`]'s vector for an INIT.
pub const IPI_INIT: u64 = 0x100;
/// [`Kind::IpiSent`]'s vector for a start-up IPI, to which the page number is added.
pub const IPI_STARTUP: u64 = 0x200;
/// [`Kind::IpiSent`]'s vector for an NMI.
pub const IPI_NMI: u64 = 0x300;
/// [`Kind::IpiSent`]'s destination: all but the sender.
pub const IPI_TO_OTHERS: u64 = u64::MAX;

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 15] = [
        Kind::SyscallEnter,
        Kind::SyscallExit,
        Kind::Tick,
        Kind::Interrupt,
        Kind::IpiSent,
        Kind::IpiReceived,
        Kind::Nmi,
        Kind::Fault,
        Kind::ProgramStart,
        Kind::ProgramEnd,
        Kind::IdleIn,
        Kind::IdleOut,
        Kind::ApState,
        Kind::Dropped,
        Kind::User,
    ];

    /// The kind's bit in a mask.
    #[must_use]
    pub const fn bit(self) -> u32 {
        1 << self as u32
    }

    /// The kind with this number.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as u16 == number)
    }

    /// Its name in text output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Kind::SyscallEnter => "syscall_enter",
            Kind::SyscallExit => "syscall_exit",
            Kind::Tick => "tick",
            Kind::Interrupt => "interrupt",
            Kind::IpiSent => "ipi_sent",
            Kind::IpiReceived => "ipi_received",
            Kind::Nmi => "nmi",
            Kind::Fault => "fault",
            Kind::ProgramStart => "program_start",
            Kind::ProgramEnd => "program_end",
            Kind::IdleIn => "idle_in",
            Kind::IdleOut => "idle_out",
            Kind::ApState => "ap_state",
            Kind::Dropped => "dropped",
            Kind::User => "user",
        }
    }
}

/// The words of `trace=` on the command line, with the kinds that each switches on.
pub const GROUPS: [(&str, u32); 9] = [
    ("syscall", Kind::SyscallEnter.bit() | Kind::SyscallExit.bit()),
    ("tick", Kind::Tick.bit()),
    ("interrupt", Kind::Interrupt.bit() | Kind::Nmi.bit()),
    ("ipi", Kind::IpiSent.bit() | Kind::IpiReceived.bit()),
    ("fault", Kind::Fault.bit()),
    ("program", Kind::ProgramStart.bit() | Kind::ProgramEnd.bit()),
    ("idle", Kind::IdleIn.bit() | Kind::IdleOut.bit()),
    ("boot", Kind::ApState.bit()),
    ("user", Kind::User.bit()),
];

/// `trace=all`: every group.
#[must_use]
pub const fn all_groups() -> u32 {
    let (mut mask, mut n) = (0, 0);
    while n < GROUPS.len() {
        mask |= GROUPS[n].1;
        n += 1;
    }
    mask
}

/// One event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Record {
    /// Time-stamp counter of the CPU that writes.
    pub tsc: u64,
    /// See [`Kind`].
    pub a: u64,
    /// See [`Kind`].
    pub b: u64,
    /// The low half of the record's number, counted from 1; 0 is an empty place. Written last.
    pub sequence: u32,
    /// A [`Kind`]'s number.
    pub kind: u16,
    /// 0.
    pub reserved: u16,
}

/// The start of a ring. The writer's and the reader's words are on cache lines of their own.
#[derive(Clone, Copy, Debug, Default, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C, align(64))]
pub struct RingHeader {
    /// Records taken so far, by the writer; the next one goes to place `head % capacity`.
    pub head: u64,
    /// In a stream: records that found the ring full, so far.
    pub dropped: u64,
    /// Place of the CPU in the CPU list.
    pub cpu: u32,
    /// Its APIC id.
    pub apic_id: u32,
    /// What to add to this CPU's TSC to get the BSP's.
    pub tsc_offset: i64,
    writer_padding: [u64; 4],
    /// In a stream: records that the host has drained. The host writes it.
    pub tail: u64,
    reader_padding: [u64; 7],
}

/// The page that says where the rings are.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Directory {
    /// [`MAGIC`], written last.
    pub magic: [u8; 16],
    /// How many rings there are.
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
    /// 0: the oldest records are overwritten. 1: a stream; a record that finds the ring full is dropped.
    pub mode: u32,
}

const _: () = {
    assert!(size_of::<Record>() == 32, "the host and the kernel's writer count on 32-byte records");
    assert!(offset_of!(Record, sequence) == 24, "sequence, kind and reserved are the last word");
    assert!(size_of::<RingHeader>() == 128, "records start 128 bytes into a ring");
    assert!(offset_of!(RingHeader, tail) == 64, "the reader's word is on a cache line of its own");
    assert!(size_of::<Directory>() <= 4096, "the directory is one page");
    assert!(
        cfg!(target_endian = "little"),
        "the host reads these structures as the kernel's memory has them"
    );
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_number_name_and_at_most_one_group() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_number(kind as u16), Some(kind));
            let groups = GROUPS.iter().filter(|(_, mask)| mask & kind.bit() != 0).count();
            // Drops are recorded whenever there is a stream; nobody asks for them.
            assert_eq!(groups, usize::from(kind != Kind::Dropped), "{}", kind.name());
        }
        assert_eq!(Kind::from_number(0), None);
        assert_eq!(
            all_groups() | Kind::Dropped.bit(),
            Kind::ALL.iter().fold(0, |mask, kind| mask | kind.bit())
        );
    }
}
