//! Decides which ranges of the firmware's memory map the kernel may use.
#![forbid(unsafe_code)]

use core::ops::Range;

use kernel_abi::boot::{FIRMWARE, MemoryRange, RUNTIME_CODE, RUNTIME_DATA, RUNTIME_DEVICE, USABLE};
use uefi::mem::memory_map::{MemoryAttribute, MemoryDescriptor, MemoryType};

/// Returns the kernel's view of a range of the firmware's memory map after the boot services have ended; `None` if the
/// kernel must neither use nor read it. The kernel does not access the memory of the runtime services, and maps it only
/// while it calls them (UEFI 2.10, 2.3.4 and 7.2.3).
#[must_use]
pub fn range(descriptor: &MemoryDescriptor) -> Option<MemoryRange> {
    let kind = match descriptor.ty {
        MemoryType::CONVENTIONAL
        | MemoryType::LOADER_CODE
        | MemoryType::LOADER_DATA
        | MemoryType::BOOT_SERVICES_CODE
        | MemoryType::BOOT_SERVICES_DATA => USABLE,
        MemoryType::ACPI_RECLAIM | MemoryType::ACPI_NON_VOLATILE => FIRMWARE,
        MemoryType::RUNTIME_SERVICES_CODE => RUNTIME_CODE,
        MemoryType::RUNTIME_SERVICES_DATA => RUNTIME_DATA,
        _ if !descriptor.att.contains(MemoryAttribute::RUNTIME) => return None,
        MemoryType::MMIO => RUNTIME_DEVICE,
        // Reserved memory, for example.
        _ if descriptor.att.contains(MemoryAttribute::WRITE_BACK) => RUNTIME_DATA,
        _ => RUNTIME_DEVICE,
    };
    let len = descriptor.page_count.saturating_mul(4096);
    Some(MemoryRange { start: descriptor.phys_start, len, kind })
}

/// Returns whether all of a range will be usable. The map need not be sorted.
#[must_use]
pub fn is_usable<'a>(range: Range<u64>, map: impl Iterator<Item = &'a MemoryDescriptor> + Clone) -> bool {
    let usable = map.filter_map(self::range).filter(|range| range.kind == USABLE);
    let mut at = range.start;
    while at < range.end {
        let holds = |range: &MemoryRange| range.start <= at && at - range.start < range.len;
        match usable.clone().find(holds) {
            Some(found) => at = found.start.saturating_add(found.len),
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(ty: MemoryType, phys_start: u64, page_count: u64) -> MemoryDescriptor {
        MemoryDescriptor { ty, phys_start, page_count, ..MemoryDescriptor::default() }
    }

    #[test]
    fn memory_of_the_boot_services_is_free_and_that_of_the_runtime_services_is_not() {
        let kind = |ty| range(&descriptor(ty, 0x1000, 2)).map(|range| (range.start, range.len, range.kind));
        let usable = Some((0x1000, 0x2000, USABLE));
        assert_eq!(kind(MemoryType::CONVENTIONAL), usable);
        assert_eq!(kind(MemoryType::BOOT_SERVICES_CODE), usable);
        assert_eq!(kind(MemoryType::BOOT_SERVICES_DATA), usable);
        assert_eq!(kind(MemoryType::LOADER_CODE), usable);
        assert_eq!(kind(MemoryType::LOADER_DATA), usable);
        assert_eq!(kind(MemoryType::ACPI_RECLAIM), Some((0x1000, 0x2000, FIRMWARE)));
        assert_eq!(kind(MemoryType::ACPI_NON_VOLATILE), Some((0x1000, 0x2000, FIRMWARE)));
        assert_eq!(kind(MemoryType::RUNTIME_SERVICES_CODE), Some((0x1000, 0x2000, RUNTIME_CODE)));
        assert_eq!(kind(MemoryType::RUNTIME_SERVICES_DATA), Some((0x1000, 0x2000, RUNTIME_DATA)));
        for ty in [
            MemoryType::RESERVED,
            MemoryType::UNUSABLE,
            MemoryType::MMIO,
            MemoryType::PERSISTENT_MEMORY,
            MemoryType::custom(0x8000_0000),
        ] {
            assert_eq!(kind(ty), None, "{ty:?}");
        }
    }

    #[test]
    fn other_memory_of_the_runtime_services_is_known_by_its_attribute() {
        let kind =
            |ty, att| range(&MemoryDescriptor { att, ..descriptor(ty, 0x1000, 2) }).map(|range| range.kind);
        let cached = MemoryAttribute::RUNTIME | MemoryAttribute::WRITE_BACK;
        assert_eq!(kind(MemoryType::MMIO, MemoryAttribute::RUNTIME), Some(RUNTIME_DEVICE));
        assert_eq!(kind(MemoryType::MMIO, MemoryAttribute::UNCACHEABLE), None);
        assert_eq!(kind(MemoryType::RESERVED, cached), Some(RUNTIME_DATA));
        assert_eq!(kind(MemoryType::RESERVED, MemoryAttribute::RUNTIME), Some(RUNTIME_DEVICE));
    }

    #[test]
    fn range_may_span_several_entries_but_no_gap() {
        let map = [
            descriptor(MemoryType::BOOT_SERVICES_DATA, 0x20_4000, 4),
            descriptor(MemoryType::CONVENTIONAL, 0x20_0000, 4),
            descriptor(MemoryType::RUNTIME_SERVICES_DATA, 0x20_8000, 1),
            descriptor(MemoryType::CONVENTIONAL, 0x20_9000, 1),
        ];
        assert!(is_usable(0x20_0000..0x20_8000, map.iter()));
        assert!(is_usable(0x20_3000..0x20_5000, map.iter()));
        assert!(!is_usable(0x20_0000..0x20_9000, map.iter()));
        assert!(!is_usable(0x1f_f000..0x20_1000, map.iter()));
        assert!(!is_usable(0x20_9000..0x20_b000, map.iter()));
    }
}
