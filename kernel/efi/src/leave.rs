//! Leaves the firmware's 64-bit mode and enters the kernel in 32-bit mode.
//!
//! The kernel's start (`start.S`) expects 32-bit mode without paging. Turning paging off is also the only way to clear
//! CR4.LA57. The image may then be copied over the firmware's memory, because no page tables are in use.
#![allow(unsafe_code, reason = "runs assembly")]

use core::mem::offset_of;
use core::ptr::NonNull;
use core::slice;

/// Selectors of the GDT in [`Crossing`].
const CODE_SELECTOR: u16 = 0x08;
const DATA_SELECTOR: u16 = 0x10;

/// Flat 4 GiB segments of ring 0 (SDM 3A, 3.4.5): 4 KiB granularity, 32 bits, present. The Accessed bits are set,
/// because the page may be read-only.
const CODE32: u64 = 0x00cf_9b00_0000_ffff;
const DATA32: u64 = 0x00cf_9300_0000_ffff;

/// CR0 without paging: PE, MP, ET and NE, as in the kernel's own value. The caches are on: CD and NW are clear.
const CR0: u32 = 0x33;
/// The bits of CR4 that cannot change while paging is on: PAE and LA57 (SDM 3A, 2.5).
const CR4_FIXED: u32 = 1 << 5 | 1 << 12;
const IA32_EFER: u32 = 0xc000_0080;

/// The operand of LGDT and LIDT in 64-bit mode.
#[repr(C, packed)]
struct TablePointer {
    /// The offset of the table's last byte.
    limit: u16,
    base: u64,
}

/// The operand of a far jump through memory with 32-bit operand size.
#[repr(C, packed)]
struct FarPointer {
    offset: u32,
    selector: u16,
}

/// The data of the assembly, at the start of its page.
#[repr(C)]
struct Crossing {
    segments: [u64; 3],
    gdt: TablePointer,
    idt: TablePointer,
    far_pointer: FarPointer,
    source: u32,
    destination: u32,
    length: u32,
    entry: u32,
    handover: u32,
}

/// The offset of the code in the page.
const CODE_OFFSET: usize = size_of::<Crossing>().next_multiple_of(16);
/// Size of the page.
pub const PAGE: usize = 4096;

core::arch::global_asm!(
    include_str!("leave.S"),
    idt = const offset_of!(Crossing, idt),
    gdt = const offset_of!(Crossing, gdt),
    far_pointer = const offset_of!(Crossing, far_pointer),
    source = const offset_of!(Crossing, source),
    destination = const offset_of!(Crossing, destination),
    length = const offset_of!(Crossing, length),
    entry = const offset_of!(Crossing, entry),
    handover = const offset_of!(Crossing, handover),
    data_selector = const DATA_SELECTOR,
    cr4_fixed = const CR4_FIXED,
    cr0 = const CR0,
    ia32_efer = const IA32_EFER,
);

unsafe extern "sysv64" {
    fn ringside_leave_start();
    fn ringside_leave_32();
    fn ringside_leave_end();
}

/// The parameters of the crossing: what to copy and where to jump. All addresses are physical.
#[derive(Clone, Copy, Debug)]
pub struct Destination {
    /// The image, as it must be in memory.
    pub source: u32,
    /// The address to which the image is copied. Does not overlap the source or the page.
    pub destination: u32,
    /// The image's size in bytes.
    pub length: u32,
    /// The kernel's 32-bit entry point.
    pub entry: u32,
    /// The [`Handover`](kernel_abi::boot::Handover) for the kernel.
    pub handover: u32,
}

/// Writes the code and its data to a page below 4 GiB.
///
/// # Safety
/// The page is writable, has [`PAGE`] bytes, and belongs to the caller.
pub unsafe fn install(page: NonNull<u8>, to: Destination) {
    let start = ringside_leave_start as *const () as usize;
    let len = ringside_leave_end as *const () as usize - start;
    let address = page.addr().get() as u32;
    let code = address + CODE_OFFSET as u32;
    let crossing = Crossing {
        segments: [0, CODE32, DATA32],
        gdt: TablePointer {
            limit: size_of::<[u64; 3]>() as u16 - 1,
            base: u64::from(address) + offset_of!(Crossing, segments) as u64,
        },
        // With a limit of 0 there is no gate, so any exception causes a shutdown.
        idt: TablePointer { limit: 0, base: 0 },
        far_pointer: FarPointer {
            offset: code + (ringside_leave_32 as *const () as usize - start) as u32,
            selector: CODE_SELECTOR,
        },
        source: to.source,
        destination: to.destination,
        length: to.length,
        entry: to.entry,
        handover: to.handover,
    };
    assert!(CODE_OFFSET + len <= PAGE, "the code does not fit in its page");
    // SAFETY: the page is the caller's, and both parts fit in it. The assembly's code is between its two symbols.
    unsafe {
        page.cast::<Crossing>().write(crossing);
        let bytes = slice::from_raw_parts(start as *const u8, len);
        page.add(CODE_OFFSET).copy_from_nonoverlapping(NonNull::from(bytes).cast(), len);
    }
}

/// Crosses into the kernel.
///
/// # Safety
/// [`install`] has written this page, which is executable and mapped at its physical address. The boot services have
/// ended. All memory of the destination is usable.
pub unsafe fn cross(page: NonNull<u8>) -> ! {
    // SAFETY: `install` has written the code to this address. The code has this calling convention and never returns.
    unsafe {
        let code = core::mem::transmute::<*mut u8, unsafe extern "sysv64" fn(*mut u8) -> !>(
            page.add(CODE_OFFSET).as_ptr(),
        );
        code(page.as_ptr())
    }
}
