//! Tests which parameters `install` accepts and rejects.

use super::parameters;
use crate::{InstallError, Parameters, install};

/// Asserts that `install` rejects parameters modified by `change`, leaves the page unchanged, and names the value in
/// its message.
fn assert_rejected(change: impl Fn(&mut Parameters), expected: InstallError, value: u64) {
    let mut changed = parameters(0x8000);
    change(&mut changed);
    let mut bytes = [0x5a; 4096];
    assert_eq!(install(&mut bytes, &changed), Err(expected));
    assert!(bytes.iter().all(|&byte| byte == 0x5a), "the page must be unchanged after an error");
    let message = expected.to_string();
    assert!(message.contains(&format!("{value:#x}")), "{message}");
}

#[test]
fn vector_is_the_page_number() {
    let usable = (0x01..=0x9f).chain(0xc0..=0xff);
    for vector in usable {
        let installed = install(&mut [0; 4096], &parameters(u32::from(vector) << 12)).unwrap();
        assert_eq!(installed.get(), vector);
    }
}

#[test]
fn unusable_pages_are_rejected() {
    for page in [0x1001, 0x9f800, u32::MAX] {
        assert_rejected(|p| p.page = page, InstallError::PageUnaligned(page), page.into());
    }
    for page in [0, 0x10_0000, 0x8000_0000, 0xffff_f000] {
        assert_rejected(|p| p.page = page, InstallError::PageOutOfReach(page), page.into());
    }
    for vector in 0xa0..=0xbf_u32 {
        let page = vector << 12;
        assert_rejected(|p| p.page = page, InstallError::PageReserved(page), page.into());
    }
}

#[test]
fn unusable_control_registers_are_rejected() {
    let good = parameters(0x8000);
    assert_rejected(|p| p.cr3 = 0x123_4008, InstallError::Cr3Unaligned(0x123_4008), 0x123_4008);

    // CR0 without PE, WP, PG; with NW, CD.
    for bit in [0, 16, 31, 29, 30] {
        let cr0 = good.cr0 ^ 1 << bit;
        assert_rejected(|p| p.cr0 = cr0, InstallError::Cr0(cr0), cr0.into());
    }
    // CR4 without PAE; with LA57, PCIDE, CET.
    for bit in [5, 12, 17, 23] {
        let cr4 = good.cr4 ^ 1 << bit;
        assert_rejected(|p| p.cr4 = cr4, InstallError::Cr4(cr4), cr4.into());
    }
    // EFER without LME; with LMA.
    for bit in [8, 10] {
        let efer = good.efer ^ 1 << bit;
        assert_rejected(|p| p.efer = efer, InstallError::Efer(efer), efer.into());
    }
}

#[test]
fn addresses_outside_the_kernel_half_are_rejected() {
    for slots in [0, 0x7fff_ffff_ffc0, 0xffff_7fff_ffff_ffc0, 0xffff_8000_0000_0020, 0xffff_ffff_ffff_fc80] {
        assert_rejected(|p| p.slots = slots, InstallError::Slots(slots), slots);
    }
    for entry in [0, 0x10_0000, 0xffff_7fff_ffff_ffff] {
        assert_rejected(|p| p.entry = entry, InstallError::Entry(entry), entry);
    }
    for address in [0, 0xfee0_0000, 0xffff_7fff_ffff_f000, 0xffff_e000_0000_0020] {
        assert_rejected(|p| p.apic_registers = address, InstallError::ApicRegisters(address), address);
    }
}

#[test]
fn report_address_that_is_not_a_page_is_rejected() {
    for report in [0, 0x10_0800, 0xffff_ffff] {
        assert_rejected(|p| p.report = report, InstallError::Report(report), report.into());
    }
}
