//! Carries an application processor from real mode to 64-bit kernel code.
//!
//! The kernel picks a free page below 1 MiB, lets [`install`] fill it, maps it at its own address
//! (readable and executable, not writable) in a page table that also has the kernel's half, offers an
//! [`ApSlot`] to each CPU, and sends INIT and SIPI. Each CPU then finds its slot by its APIC id, claims
//! it, and enters the kernel on the stack in that slot. `docs/ap-start.md` has a drawing of all steps.
#![cfg_attr(not(test), no_std)]

use core::arch::global_asm;
use core::mem::{offset_of, size_of};

mod config;
mod parameters;
mod report;
mod slot;
#[cfg(test)]
mod tests;

use config::{CONFIG_OFFSET, CONFIG_SIZE, Config};
pub use parameters::{InstallError, Parameters, SipiVector};
pub use report::{Missing, Report};
pub use slot::{ApSlot, slot_state};

/// EFER's number among the model-specific registers.
const EFER_MSR: u32 = 0xc000_0080;
/// CPUID leaf whose EAX is the highest leaf of its range.
const CPUID_EXTENDED_MAX: u32 = 0x8000_0000;
/// CPUID leaf with the feature bits that came with long mode.
const CPUID_EXTENDED: u32 = 0x8000_0001;
/// CPUID leaf with the feature bits.
const CPUID_FEATURES: u32 = 0x1;
/// Its bit of ECX: the local APIC has an x2APIC mode.
const CPUID_X2APIC: u32 = 1 << 21;
/// IA32_APIC_BASE's number.
const APIC_BASE_MSR: u32 = 0x1b;
/// Its bit EXTD: x2APIC mode (Intel SDM vol. 3A, 11.12.1).
const APIC_BASE_EXTD: u32 = 1 << 10;
/// The MSR with the 32-bit id, in x2APIC mode.
const X2APIC_ID_MSR: u32 = 0x802;
/// The register with the 8-bit id, in xAPIC mode: its offset in the registers' page.
const APIC_ID_REGISTER: u32 = 0x20;

/// The fill of the rest of the page: INT3, which stops a CPU that leaves the code.
const FILL: u8 = 0xcc;

global_asm!(
    // Read-only data in both object formats; only their flags differ.
    #[cfg(not(target_os = "uefi"))]
    ".pushsection .rodata.ap_trampoline, \"a\", @progbits",
    #[cfg(target_os = "uefi")]
    ".pushsection .rdata$ap_trampoline, \"dr\"",
    include_str!("trampoline.S"),
    ".popsection",
    config_offset = const CONFIG_OFFSET,
    config_gdtr = const config::GDTR,
    config_idtr = const config::IDTR,
    config_far32 = const config::FAR32,
    config_far64 = const config::FAR64,
    config_cr0 = const CONFIG_OFFSET + offset_of!(Config, cr0),
    config_cr3 = const CONFIG_OFFSET + offset_of!(Config, cr3),
    config_cr4 = const CONFIG_OFFSET + offset_of!(Config, cr4),
    config_efer = const CONFIG_OFFSET + offset_of!(Config, efer),
    config_slots = const CONFIG_OFFSET + offset_of!(Config, slots),
    config_slot_count = const CONFIG_OFFSET + offset_of!(Config, slot_count),
    config_entry = const CONFIG_OFFSET + offset_of!(Config, entry),
    config_x2apic = const CONFIG_OFFSET + offset_of!(Config, x2apic),
    config_apic_registers = const CONFIG_OFFSET + offset_of!(Config, apic_registers),
    config_basic = const CONFIG_OFFSET + offset_of!(Config, basic_features),
    config_extended = const CONFIG_OFFSET + offset_of!(Config, extended_features),
    config_report = const CONFIG_OFFSET + offset_of!(Config, report),
    report_basic = const offset_of!(Missing, basic),
    report_extended = const offset_of!(Missing, extended),
    report_row = const size_of::<Missing>(),
    data_selector = const config::DATA_SELECTOR,
    cr0_pe = const parameters::CR0_PE,
    efer_msr = const EFER_MSR,
    cpuid_extended_max = const CPUID_EXTENDED_MAX,
    cpuid_extended = const CPUID_EXTENDED,
    cpuid_features = const CPUID_FEATURES,
    cpuid_x2apic = const CPUID_X2APIC,
    apic_base_msr = const APIC_BASE_MSR,
    apic_base_extd = const APIC_BASE_EXTD,
    x2apic_id_msr = const X2APIC_ID_MSR,
    apic_id_register = const APIC_ID_REGISTER,
    slot_size = const size_of::<ApSlot>(),
    slot_state = const offset_of!(ApSlot, state),
    slot_apic_id = const offset_of!(ApSlot, apic_id),
    slot_stack_top = const offset_of!(ApSlot, stack_top),
    slot_argument = const offset_of!(ApSlot, argument),
    slot_offered = const slot_state::OFFERED,
    slot_claimed = const slot_state::CLAIMED,
    options(att_syntax),
);

// Defined in `trampoline.S`. `_start` is followed by `CONFIG_OFFSET` bytes: code, then padding.
unsafe extern "sysv64" {
    static ap_trampoline_start: [u8; CONFIG_OFFSET];
    static ap_trampoline_code32: u8;
    static ap_trampoline_code64: u8;
    static ap_trampoline_end: u8;
}

/// Offsets of the code's parts from the page's start.
struct CodeLayout {
    code32: usize,
    code64: usize,
    end: usize,
}

impl CodeLayout {
    fn of_blob() -> Self {
        let start = (&raw const ap_trampoline_start).addr();
        Self {
            code32: (&raw const ap_trampoline_code32).addr() - start,
            code64: (&raw const ap_trampoline_code64).addr() - start,
            end: (&raw const ap_trampoline_end).addr() - start,
        }
    }
}

/// Fills the trampoline's page, through any writable mapping of it.
///
/// `page_bytes` is the page whose physical address is `parameters.page`. Nothing writes to it later, so
/// it may be installed once for any number of SIPIs. The caller ensures that these writes are visible
/// before it sends the first SIPI (in x2APIC mode, WRMSR to the ICR does not order them by itself: Intel
/// SDM vol. 3A, 12.12.3).
///
/// # Errors
///
/// [`InstallError`], for the first invalid parameter. The page is unchanged then.
pub fn install(page_bytes: &mut [u8; 4096], parameters: &Parameters) -> Result<SipiVector, InstallError> {
    let vector = parameters.check()?;
    let layout = CodeLayout::of_blob();
    // SAFETY: `trampoline.S` puts `CONFIG_OFFSET` bytes at this symbol, in a section that is never
    // written; the assembler's `.org` fails to build otherwise.
    let blob = unsafe { &ap_trampoline_start };
    let config = Config::new(parameters, layout.code32 as u32, layout.code64 as u32);

    page_bytes.fill(FILL);
    page_bytes[..layout.end].copy_from_slice(&blob[..layout.end]);
    page_bytes[CONFIG_OFFSET..CONFIG_OFFSET + CONFIG_SIZE].copy_from_slice(&config.into_bytes());
    Ok(vector)
}
