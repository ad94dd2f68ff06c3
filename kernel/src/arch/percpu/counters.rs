//! The directory of the physical addresses of each CPU's counters, which the host tool reads; see
//! [`kernel_abi::counters`].

use core::cell::RefCell;
use core::fmt;
use core::mem::{offset_of, size_of};
use core::ptr;

use kernel_abi::counters::{Counters, Directory, LINE_MAX, MAGIC};
use kernel_abi::layout::PAGE_SIZE;
use x86_64::VirtAddr;
use x86_64::structures::paging::Translate;

use super::block::PerCpuData;
use crate::arch::memory::{paging, physmem};
use crate::line::LineBuffer;
use crate::physmap::phys_to_virt;

const _: () = {
    let first = offset_of!(PerCpuData, counters) as u64;
    let last = first + size_of::<Counters<u64>>() as u64 - 1;
    assert!(
        first / PAGE_SIZE == last / PAGE_SIZE,
        "a CPU's counters must lie in one page, so that one physical address is enough"
    );
    let line = offset_of!(PerCpuData, line) as u64;
    let last = line + size_of::<RefCell<LineBuffer<LINE_MAX>>>() as u64 - 1;
    assert!(
        first / PAGE_SIZE == line / PAGE_SIZE && first / PAGE_SIZE == last / PAGE_SIZE,
        "the incomplete line must lie in the same page as the counters, so that its distance from them is the same in \
         physical memory"
    );
};

/// The reason why the counters cannot be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishError {
    /// There is not enough contiguous memory for the directory.
    NoRoom,
    /// A CPU's data is not mapped.
    NotMapped,
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PublishError::NoRoom => "no memory for the directory of the CPUs' counters",
            PublishError::NotMapped => "a CPU's counters are not mapped",
        })
    }
}

impl core::error::Error for PublishError {}

/// Builds the directory of the counters of these CPUs, which must be in the order of their indices.
///
/// # Errors
/// [`PublishError`].
pub fn publish(cpus: &[&PerCpuData], tick_hz: u32, tsc_hz: u64) -> Result<(), PublishError> {
    let bytes = (size_of::<Directory>() + size_of_val(cpus)) as u64;
    let pages = bytes.div_ceil(PAGE_SIZE);
    let start = physmem::alloc_contiguous(pages).ok_or(PublishError::NoRoom)?.start();
    let directory = phys_to_virt(start).cast::<Directory>();
    // SAFETY: the frames are never freed, and nothing else refers to them (invariant: OWN-FRAMES); the physical map
    // contains them.
    unsafe {
        directory.cast::<u8>().write_bytes(0, (pages * PAGE_SIZE) as usize);
        directory.write(Directory {
            magic: [0; 16],
            cpus: cpus.len() as u32,
            tick_hz,
            tsc_hz,
            line: line(cpus),
        });
    }
    for (index, cpu) in cpus.iter().enumerate() {
        let address = physical(cpu).ok_or(PublishError::NotMapped)?;
        // SAFETY: the addresses follow the directory, and the frames have room for one address per CPU.
        unsafe { directory.add(1).cast::<u64>().add(index).write(address) };
    }
    // SAFETY: the directory lies in the frames allocated above. The magic is written last: if the host finds the magic,
    // the directory is complete.
    unsafe { (&raw mut (*directory).magic).write_volatile(MAGIC) };
    Ok(())
}

/// Returns the offset from a CPU's counters to the incomplete line of its program. It is the same on all CPUs.
fn line(cpus: &[&PerCpuData]) -> u64 {
    cpus.first().map_or(0, |cpu| (cpu.line.as_ptr() as u64).wrapping_sub(ptr::from_ref(&cpu.counters) as u64))
}

/// Returns the physical address of a CPU's counters.
fn physical(cpu: &PerCpuData) -> Option<u64> {
    let address = VirtAddr::new(ptr::from_ref(&cpu.counters) as u64);
    // SAFETY: bring-up is over and no program has started, so nothing changes the kernel's page tables.
    let tables = unsafe { paging::mapper(paging::kernel_pml4()) };
    tables.translate_addr(address).map(|address| address.as_u64())
}
