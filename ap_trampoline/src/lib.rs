//! Brings an application processor from real mode to 64-bit kernel code.
//!
//! The kernel chooses a free page below 1 MiB and calls [`install`] to fill it. It maps the page at its physical
//! address (readable and executable, not writable) in page tables that also contain the kernel's half, offers an
//! [`ApSlot`] to each CPU, and sends INIT and SIPI. Each CPU then finds its slot by its APIC id, claims the slot, and
//! enters the kernel on the stack given in the slot. `docs/ap-start.md` has a diagram of all steps.
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
pub use report::{Reached, Report, Row};
pub use slot::{ApSlot, slot_state};

/// The MSR number of EFER.
const EFER_MSR: u32 = 0xc000_0080;
/// CPUID leaf that returns in EAX the highest extended leaf.
const CPUID_EXTENDED_MAX: u32 = 0x8000_0000;
/// CPUID leaf with the extended feature bits, such as long mode.
const CPUID_EXTENDED: u32 = 0x8000_0001;
/// CPUID leaf with the feature bits.
const CPUID_FEATURES: u32 = 0x1;
/// The bit in ECX of that leaf that reports x2APIC mode.
const CPUID_X2APIC: u32 = 1 << 21;
/// The MSR number of IA32_APIC_BASE.
const APIC_BASE_MSR: u32 = 0x1b;
/// The bit EXTD of IA32_APIC_BASE, which enables x2APIC mode (Intel SDM vol. 3A, 11.12.1).
const APIC_BASE_EXTD: u32 = 1 << 10;
/// The MSR that holds the 32-bit APIC id in x2APIC mode.
const X2APIC_ID_MSR: u32 = 0x802;
/// The offset in the register page of the register that holds the 8-bit APIC id in xAPIC mode.
const APIC_ID_REGISTER: u32 = 0x20;

/// The fill byte of the rest of the page: INT3, which stops a CPU that runs past the code.
const FILL: u8 = 0xcc;

global_asm!(
    // Place the code in read-only data. The section flags differ between the object formats.
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
    report_basic = const offset_of!(Row, basic),
    report_extended = const offset_of!(Row, extended),
    report_reached = const offset_of!(Row, reached),
    report_row_shift = const size_of::<Row>().trailing_zeros(),
    reached_protected_mode = const Reached::ProtectedMode as u32,
    reached_paging = const Reached::Paging as u32,
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

// Symbols defined in `trampoline.S`. `CONFIG_OFFSET` bytes follow `_start`: code, then padding.
unsafe extern "sysv64" {
    static ap_trampoline_start: [u8; CONFIG_OFFSET];
    static ap_trampoline_code32: u8;
    static ap_trampoline_checked: u8;
    static ap_trampoline_code64: u8;
    static ap_trampoline_claimed: u8;
    static ap_trampoline_end: u8;
}

/// Offsets of the parts of the code from the start of the page.
struct CodeLayout {
    code32: usize,
    checked: usize,
    code64: usize,
    claimed: usize,
    end: usize,
}

impl CodeLayout {
    fn of_blob() -> Self {
        let start = (&raw const ap_trampoline_start).addr();
        Self {
            code32: (&raw const ap_trampoline_code32).addr() - start,
            checked: (&raw const ap_trampoline_checked).addr() - start,
            code64: (&raw const ap_trampoline_code64).addr() - start,
            claimed: (&raw const ap_trampoline_claimed).addr() - start,
            end: (&raw const ap_trampoline_end).addr() - start,
        }
    }
}

/// Fills the trampoline's page through any writable mapping of that page.
///
/// `page_bytes` is the page whose physical address is `parameters.page`. Nothing writes to the page later, so
/// installing it once is enough for any number of SIPIs. The caller must ensure that these writes are visible before it
/// sends the first SIPI (in x2APIC mode, the WRMSR to the ICR does not order earlier writes: Intel SDM vol. 3A,
/// 12.12.3).
///
/// # Errors
///
/// [`InstallError`] for the first invalid parameter. The page is then unchanged.
pub fn install(page_bytes: &mut [u8; 4096], parameters: &Parameters) -> Result<SipiVector, InstallError> {
    let vector = parameters.check()?;
    let layout = CodeLayout::of_blob();
    // SAFETY: `trampoline.S` places `CONFIG_OFFSET` bytes at this symbol, in a section that is never written. Otherwise
    // its `.org` directive would not assemble.
    let blob = unsafe { &ap_trampoline_start };
    let config = Config::new(parameters, layout.code32 as u32, layout.code64 as u32);

    page_bytes.fill(FILL);
    page_bytes[..layout.end].copy_from_slice(&blob[..layout.end]);
    page_bytes[CONFIG_OFFSET..CONFIG_OFFSET + CONFIG_SIZE].copy_from_slice(&config.into_bytes());
    Ok(vector)
}

/// A place in the trampoline at which a test stops a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopAt {
    /// The first instruction, in real mode.
    RealMode,
    /// In 32-bit protected mode, after the CPU has reported that it has reached it.
    ProtectedMode,
    /// The first instruction in 64-bit mode.
    LongMode,
    /// After the CPU has claimed its slot.
    Claimed,
}

/// Makes each CPU that runs the trampoline in an installed page halt permanently at this place. Tests of lost CPUs call
/// this function.
pub fn stop_at(page_bytes: &mut [u8; 4096], place: StopAt) {
    /// `cli`, `hlt`, and a jump back to the `cli`, which have the same encoding in all modes.
    const HALT: [u8; 4] = [0xfa, 0xf4, 0xeb, 0xfc];
    let layout = CodeLayout::of_blob();
    let at = match place {
        StopAt::RealMode => 0,
        StopAt::ProtectedMode => layout.checked,
        StopAt::LongMode => layout.code64,
        StopAt::Claimed => layout.claimed,
    };
    page_bytes[at..at + HALT.len()].copy_from_slice(&HALT);
}
