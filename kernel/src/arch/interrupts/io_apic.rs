//! The I/O APICs. The kernel uses no device interrupt, so it masks every line: firmware may have left one unmasked.

use core::ptr;

use kernel_abi::layout::PAGE_SIZE;

use crate::arch::boot::BootInfo;
use crate::arch::memory::paging::{self, MapError};
use crate::layout::{IO_APIC_MAX, IO_APIC_REGISTERS};

/// The offset of the data window. The register at offset 0 selects the register that the window accesses (82093AA data
/// sheet, 3.1).
const WINDOW: usize = 0x10;
/// The number of the version register, whose bits 23:16 hold the number of the last line.
const VERSION: u32 = 1;
/// The number of the first redirection entry's lower half. The halves of line n have the numbers 16 + 2n and 17 + 2n.
const FIRST_ENTRY: u32 = 0x10;

const MASKED: u32 = 1 << 16;
/// Delivery mode SMI in bits 10:8. Such a line belongs to the firmware.
const DELIVERY_MODE: u32 = 0b111 << 8;
const SMI: u32 = 0b010 << 8;

/// Returns the value to write to the lower half of a redirection entry, or `None` if the entry must not change. The
/// value also makes the line edge-triggered, which clears the Remote IRR bit of a level-triggered line whose interrupt
/// was never acknowledged.
const fn masked(entry: u32) -> Option<u32> {
    if entry & DELIVERY_MODE == SMI { None } else { Some(MASKED) }
}

/// The reason why the lines of an I/O APIC cannot be masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoApicError {
    /// The firmware lists more I/O APICs than the kernel has addresses for.
    TooMany,
    /// The address belongs to memory, whose contents a write would change, or the registers cross a page boundary.
    NotADevice,
    /// No device responds at the address.
    Absent,
    /// The registers cannot be mapped.
    Map(MapError),
}

impl core::fmt::Display for IoApicError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            IoApicError::TooMany => write!(f, "there are more than {IO_APIC_MAX}"),
            IoApicError::NotADevice => f.write_str("there is no device at this address"),
            IoApicError::Absent => f.write_str("no device responds at this address"),
            IoApicError::Map(error) => write!(f, "cannot map its registers: {error}"),
        }
    }
}

impl core::error::Error for IoApicError {}

/// An I/O APIC with mapped registers.
pub struct IoApic {
    registers: *mut u32,
}

impl IoApic {
    /// Maps the registers of the I/O APIC at this physical address, which has index `index` in the firmware's list.
    ///
    /// # Errors
    /// [`IoApicError`].
    ///
    /// # Safety
    /// Called once for each index, on the BSP, before the first program exists. The firmware lists the address.
    pub unsafe fn map(index: usize, address: u64, info: &BootInfo) -> Result<IoApic, IoApicError> {
        if index as u64 >= IO_APIC_MAX {
            return Err(IoApicError::TooMany);
        }
        let (page, offset) = (address & !(PAGE_SIZE - 1), address % PAGE_SIZE);
        if info.has_memory_in(page) || offset % 16 != 0 || offset + 2 * WINDOW as u64 > PAGE_SIZE {
            return Err(IoApicError::NotADevice);
        }
        let at = IO_APIC_REGISTERS + index as u64 * PAGE_SIZE;
        // SAFETY: the page holds device registers, is mapped with `DEVICE`, and no program exists (guaranteed by the
        // caller).
        unsafe { paging::map_kernel_page(at, page, paging::DEVICE) }.map_err(IoApicError::Map)?;
        let io_apic = IoApic { registers: ptr::with_exposed_provenance_mut((at + offset) as usize) };
        // If no device responds, all bits of the version are set.
        if io_apic.read(VERSION) == u32::MAX { Err(IoApicError::Absent) } else { Ok(io_apic) }
    }

    /// Masks all lines, except those that raise an SMI.
    pub fn mask_all(&self) {
        for line in 0..=(self.read(VERSION) >> 16 & 0xff) {
            let number = FIRST_ENTRY + 2 * line;
            if let Some(entry) = masked(self.read(number)) {
                self.write(number, entry);
            }
        }
    }

    /// Unmasks a line for edge-triggered interrupts with this vector to the CPU with APIC id 0, as firmware may.
    pub(in crate::arch) fn unmask(&self, line: u8, vector: u8) {
        let number = FIRST_ENTRY + 2 * u32::from(line);
        self.write(number + 1, 0);
        self.write(number, vector.into());
    }

    fn read(&self, number: u32) -> u32 {
        // SAFETY: the registers are mapped (contract of `map`). Selecting and reading a register has no other effect.
        unsafe {
            self.registers.write_volatile(number);
            self.registers.byte_add(WINDOW).read_volatile()
        }
    }

    fn write(&self, number: u32, value: u32) {
        // SAFETY: the registers are mapped (contract of `map`), and the callers write redirection entries that exist.
        unsafe {
            self.registers.write_volatile(number);
            self.registers.byte_add(WINDOW).write_volatile(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_except_smi_lines_is_masked() {
        for entry in [0x51, 0xe951, 0x0400, 0x0700, 0x1_0000] {
            assert_eq!(masked(entry), Some(MASKED), "{entry:#x}");
        }
        assert_eq!(masked(0x0200), None);
    }
}
