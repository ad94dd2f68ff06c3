//! The local APIC. In x2APIC mode it is accessed with the `x2apic` crate, in xAPIC mode directly: the crate chooses the
//! mode by CPUID, but a CPU that supports x2APIC mode may have to stay in xAPIC mode (`without=x2apic`). This module works
//! around three defects of the crate (version 0.5.1):
//!
//! 1. `enable` unmasks the timer before it software-enables the APIC, but a disabled APIC keeps its LVT entries masked
//!    (SDM 3A, 11.4.7.2), so on an AP the timer would stay masked. `enable` also starts the timer. This module passes
//!    an initial count of 0, which stops the timer, and unmasks the timer when it starts the timer.
//! 2. `enable` writes 0 to LINT0 and LINT1: unmasked, with vector 0. This module masks LINT0 and sets LINT1 to NMI.
//! 3. `enable` leaves the error LVT masked. This module writes all of its bits.

use core::arch::x86_64::{__cpuid, __cpuid_count};
use core::fmt;

use x2apic::lapic::{LocalApicBuilder, TimerDivide, TimerMode, xapic_base};
use x86_64::registers::model_specific::{ApicBase, ApicBaseFlags, Msr};

use crate::arch::memory::paging::{self, MapError};
use crate::cpu::ApicId;
use crate::features::Features;
use crate::layout::APIC_REGISTERS;

/// The vector of the timer tick, the first after the exceptions. The legacy PICs are remapped to the same vectors, but
/// are masked.
pub const TIMER_VECTOR: u8 = 0x20;
/// The vector of the IPI that wakes a halted CPU, so that the CPU checks its wait condition again.
pub const WAKE_VECTOR: u8 = 0xfd;
/// The vector with which the local APIC reports an error.
pub const ERROR_VECTOR: u8 = 0xfe;
/// The vector of a spurious interrupt, which gets no EOI (SDM 3A, 11.9).
pub const SPURIOUS_VECTOR: u8 = 0xff;

// Register offsets in the xAPIC page (SDM 3A, table 11-1); the x2APIC MSR is 0x800 + offset / 16.
const ID: u32 = 0x20;
pub(super) const END_OF_INTERRUPT: u32 = 0xb0;
const SPURIOUS: u32 = 0xf0;
const ERROR_STATUS: u32 = 0x280;
const LVT_TIMER: u32 = 0x320;
const LVT_LINT0: u32 = 0x350;
const LVT_LINT1: u32 = 0x360;
const LVT_ERROR: u32 = 0x370;
const INITIAL_COUNT: u32 = 0x380;
const CURRENT_COUNT: u32 = 0x390;
const DIVIDE: u32 = 0x3e0;

/// The bit in the spurious-interrupt register that software-enables the APIC.
const SOFTWARE_ENABLE: u32 = 1 << 8;
pub(super) const LVT_MASKED: u32 = 1 << 16;
/// The timer is reloaded when it reaches 0.
const LVT_PERIODIC: u32 = 1 << 17;
/// Delivery mode NMI in bits 10:8; the vector is ignored.
const LVT_NMI: u32 = 0b100 << 8;
/// The timer counts each cycle of its clock (SDM 3A, figure 11-10).
const DIVIDE_BY_1: u32 = 0b1011;

/// This CPU's local APIC.
pub struct LocalApic {
    /// The crate's APIC, in x2APIC mode; `None` in xAPIC mode.
    pub(super) x2apic: Option<x2apic::lapic::LocalApic>,
}

/// The reason why the local APIC cannot be set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApicError {
    /// The page of the APIC's registers cannot be mapped.
    Map(MapError),
    /// The crate rejected the configuration with this message.
    Build(&'static str),
    /// The APIC must be used in xAPIC mode, but the firmware left it in x2APIC mode. Only by disabling it could it leave
    /// that mode (SDM 3A, 11.12.5), and some CPUs do not allow even that.
    InX2ApicMode,
}

impl fmt::Display for ApicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ApicError::Map(error) => write!(f, "cannot map the local APIC's registers: {error}"),
            ApicError::Build(message) => write!(f, "cannot set up the local APIC: {message}"),
            ApicError::InX2ApicMode => f.write_str(
                "without=x2apic: the firmware left the local APIC in x2APIC mode, which the kernel cannot undo: \
                 choose xAPIC mode in the firmware's settings, or leave x2apic out",
            ),
        }
    }
}

impl core::error::Error for ApicError {}

/// The state of a CPU's local APIC, and the APIC id from CPUID. Used to compare all CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApicState {
    /// IA32_APIC_BASE without the BSP flag: the address of the registers and the mode. Must be equal on all CPUs
    /// (invariant: SAME-CONTROL).
    pub base: u64,
    /// The CPU's APIC id as reported by CPUID. The kernel only compares it with the APIC's id.
    pub cpuid_id: ApicId,
}

impl ApicState {
    /// Reads this CPU's state.
    #[must_use]
    pub fn read() -> ApicState {
        let (_, base) = ApicBase::read_raw();
        ApicState { base: base & !ApicBaseFlags::BSP.bits(), cpuid_id: cpuid_id() }
    }

    /// Returns whether the APIC is in x2APIC mode.
    #[must_use]
    pub fn is_x2apic(&self) -> bool {
        self.base & ApicBaseFlags::X2APIC_ENABLE.bits() != 0
    }
}

impl fmt::Display for ApicState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "IA32_APIC_BASE={:#x} ({})",
            self.base,
            if self.is_x2apic() { "x2APIC mode" } else { "xAPIC mode" }
        )
    }
}

/// Returns this CPU's APIC id as reported by CPUID: from leaf 0xB if that leaf reports a topology, else the 8 bits of
/// leaf 1 (SDM 2A, CPUID). It may differ from the id in the APIC: without leaf 0xB the upper bits are missing, and a
/// hypervisor or firmware may have changed one of the two ids.
fn cpuid_id() -> ApicId {
    if __cpuid(0).eax >= 0xb {
        let leaf = __cpuid_count(0xb, 0);
        if leaf.ebx != 0 {
            return ApicId(leaf.edx);
        }
    }
    ApicId(__cpuid(1).ebx >> 24)
}

/// Maps the registers for xAPIC mode. Called once, on the BSP; x2APIC mode does not need it.
///
/// # Errors
/// [`ApicError::Map`].
pub fn map_registers() -> Result<(), ApicError> {
    // SAFETY: every x86-64 CPU has IA32_APIC_BASE, and reading it has no effect.
    let base = unsafe { xapic_base() };
    // SAFETY: the page holds the local APIC's registers and is mapped with `DEVICE`, before any program exists
    // (invariant: KERNEL-HALF-FIXED).
    unsafe { paging::map_kernel_page(APIC_REGISTERS, base, paging::DEVICE) }.map_err(ApicError::Map)
}

/// Switches this CPU's APIC to the mode that `features` implies: x2APIC mode, or xAPIC mode. Returns the APIC id in that
/// mode. The BSP identifies itself by this id; on an AP, the trampoline performs the same steps.
///
/// # Errors
/// [`ApicError::InX2ApicMode`].
///
/// # Safety
/// Called with interrupts off, after [`map_registers`]. If `features` has x2APIC, so has the CPU.
pub unsafe fn identify(features: Features) -> Result<ApicId, ApicError> {
    let (frame, flags) = ApicBase::read();
    if features.x2apic {
        // EN is set already: CPUID reports an APIC only then (SDM 3A, 11.4.3), and `start.S` has checked that.
        // SAFETY: the registers' address does not change. The write at most sets EXTD, on a CPU that supports it.
        unsafe { ApicBase::write(frame, flags | ApicBaseFlags::X2APIC_ENABLE) };
        // SAFETY: in x2APIC mode this MSR is the id register, and reading it has no effect.
        Ok(ApicId(unsafe { Msr::new(0x800 + (ID >> 4)).read() } as u32))
    } else if flags.contains(ApicBaseFlags::X2APIC_ENABLE) {
        Err(ApicError::InX2ApicMode)
    } else {
        let register = core::ptr::with_exposed_provenance::<u32>((APIC_REGISTERS + u64::from(ID)) as usize);
        // SAFETY: the registers are mapped (guaranteed by the caller), and reading the id register has no effect.
        Ok(ApicId(unsafe { register.read_volatile() } >> 24))
    }
}

/// Returns the crate's APIC, for use in x2APIC mode.
fn of_crate() -> Result<x2apic::lapic::LocalApic, ApicError> {
    LocalApicBuilder::new()
        .timer_vector(TIMER_VECTOR.into())
        .error_vector(ERROR_VECTOR.into())
        .spurious_vector(SPURIOUS_VECTOR.into())
        .timer_mode(TimerMode::OneShot)
        .timer_divide(TimerDivide::Div1)
        .timer_initial(0)
        .build()
        .map_err(ApicError::Build)
}

impl LocalApic {
    /// Returns this CPU's APIC in the mode in which it is, only to send IPIs: a software-disabled APIC still sends them
    /// (SDM 3A, 11.4.7.2). For a CPU that fails before it has enabled its APIC. `None` if the APIC is globally disabled.
    ///
    /// # Safety
    /// [`map_registers`] has been called.
    pub unsafe fn for_sending() -> Option<LocalApic> {
        let (_, flags) = ApicBase::read();
        let x2apic = if flags.contains(ApicBaseFlags::X2APIC_ENABLE) { Some(of_crate().ok()?) } else { None };
        flags.contains(ApicBaseFlags::LAPIC_ENABLE).then_some(LocalApic { x2apic })
    }

    /// Enables this CPU's APIC with its timer stopped, in the mode that `features` implies.
    ///
    /// # Errors
    /// [`ApicError::Build`].
    ///
    /// # Safety
    /// Interrupts are off, the IDT has gates for the four vectors, and the legacy PICs are masked. [`map_registers`]
    /// has been called. The APIC is in the mode that `features` implies, and IA32_APIC_BASE.EN is set: the CPU has passed
    /// the check for an APIC (`features.rs`).
    pub unsafe fn enable(features: Features) -> Result<LocalApic, ApicError> {
        let apic = if features.x2apic {
            let mut crates = of_crate()?;
            // SAFETY: the caller has turned interrupts off, so the wrong LVT entries that the crate writes have no
            // effect before they are corrected below. The CPU is in x2APIC mode, so CPUID reports that mode, and the
            // crate uses it.
            unsafe {
                crates.enable();
                crates.disable_timer();
            }
            LocalApic { x2apic: Some(crates) }
        } else {
            let mut apic = LocalApic { x2apic: None };
            // This comes first: a disabled APIC keeps its LVT entries masked (SDM 3A, 11.4.7.2).
            apic.write(SPURIOUS, SOFTWARE_ENABLE | u32::from(SPURIOUS_VECTOR));
            apic.set_timer(TimerMode::OneShot, LVT_MASKED, 0);
            apic
        };
        apic.mask_unused_entries();
        apic.write(LVT_LINT0, LVT_MASKED);
        apic.write(LVT_LINT1, LVT_NMI);
        // Clear pending errors, so that errors caused by the firmware are not reported: a write latches the errors so
        // far into the register and clears them internally.
        apic.write(ERROR_STATUS, 0);
        apic.write(LVT_ERROR, ERROR_VECTOR.into());
        Ok(apic)
    }

    /// Writes a register, given by its offset in the xAPIC page.
    pub(super) fn write(&self, offset: u32, value: u32) {
        // SAFETY: every caller in this crate passes a register of this CPU's APIC and a valid value for it. In xAPIC
        // mode the registers are mapped at APIC_REGISTERS.
        unsafe {
            if self.is_x2apic() {
                Msr::new(0x800 + (offset >> 4)).write(value.into());
            } else {
                let register = core::ptr::with_exposed_provenance_mut::<u32>(
                    (APIC_REGISTERS + u64::from(offset)) as usize,
                );
                register.write_volatile(value);
            }
        }
    }

    /// Reads a register, given by its offset in the xAPIC page.
    pub(super) fn read(&self, offset: u32) -> u32 {
        // SAFETY: every caller in this crate passes a register of this CPU's APIC that can be read without side
        // effects. In xAPIC mode the registers are mapped at APIC_REGISTERS.
        unsafe {
            if self.is_x2apic() {
                Msr::new(0x800 + (offset >> 4)).read() as u32
            } else {
                let register =
                    core::ptr::with_exposed_provenance::<u32>((APIC_REGISTERS + u64::from(offset)) as usize);
                register.read_volatile()
            }
        }
    }

    /// Returns this CPU's APIC id.
    #[must_use]
    pub fn id(&self) -> ApicId {
        let raw = self.read(ID);
        ApicId(if self.is_x2apic() { raw } else { raw >> 24 })
    }

    /// Returns whether the APIC is in x2APIC mode.
    #[must_use]
    pub fn is_x2apic(&self) -> bool {
        self.x2apic.is_some()
    }

    /// Returns the errors since the last call, as bits of the error status register (SDM 3A, 11.5.3).
    pub fn take_errors(&mut self) -> u8 {
        self.write(ERROR_STATUS, 0);
        self.read(ERROR_STATUS) as u8
    }

    /// Programs the timer. `mask` is [`LVT_MASKED`] or 0. An initial count of 0 stops the timer.
    fn set_timer(&mut self, mode: TimerMode, mask: u32, initial: u32) {
        if let Some(crates) = &mut self.x2apic {
            // SAFETY: the timer's vector has a gate (contract of `enable`).
            unsafe {
                crates.disable_timer();
                crates.set_timer_mode(mode);
                crates.set_timer_divide(TimerDivide::Div1);
                if mask == 0 {
                    crates.enable_timer();
                }
                crates.set_timer_initial(initial);
            }
        } else {
            let periodic = if matches!(mode, TimerMode::Periodic) { LVT_PERIODIC } else { 0 };
            self.write(LVT_TIMER, u32::from(TIMER_VECTOR) | periodic | mask);
            self.write(DIVIDE, DIVIDE_BY_1);
            self.write(INITIAL_COUNT, initial);
        }
    }

    /// Starts the timer for calibration: it counts down once from the highest value, without an interrupt.
    pub fn start_counting(&mut self) {
        self.set_timer(TimerMode::OneShot, LVT_MASKED, u32::MAX);
    }

    /// Returns the number of timer counts since [`start_counting`](Self::start_counting).
    #[must_use]
    pub fn counted(&self) -> u32 {
        u32::MAX - self.read(CURRENT_COUNT)
    }

    /// Starts the periodic tick, with a period of `count` timer counts.
    pub fn start_ticking(&mut self, count: u32) {
        self.set_timer(TimerMode::Periodic, 0, count);
    }

    /// Stops the tick.
    pub fn stop_ticking(&mut self) {
        self.set_timer(TimerMode::OneShot, LVT_MASKED, 0);
    }

    /// Masks the pin that delivers external NMIs. `enable` unmasks it.
    pub fn mask_external_nmi(&mut self) {
        self.write(LVT_LINT1, LVT_NMI | LVT_MASKED);
    }
}
