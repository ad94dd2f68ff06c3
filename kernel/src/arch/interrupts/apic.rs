//! The local APIC, through the `x2apic` crate, whose four defects (version 0.5.1) are mended here:
//!
//! 1. In xAPIC mode an IPI's destination goes into ICR[63:56], which the crate leaves to the caller; so does the
//!    id, which it returns unshifted. [`LocalApic::destination`] and [`LocalApic::id`] shift.
//! 2. `enable` unmasks the timer before it software-enables the APIC, and a disabled APIC keeps its LVT masked
//!    (SDM 3A, 11.4.7.2): on an AP the timer stays dead. It also starts the timer. Here it is given an initial
//!    count of 0, which stops it, and is unmasked when it is started.
//! 3. `enable` writes 0 to LINT0 and LINT1: unmasked, with vector 0. Here LINT0 is masked and LINT1 is NMI.
//! 4. The error LVT keeps its mask. Here it is written whole.

use core::arch::asm;
use core::arch::x86_64::{__cpuid, __cpuid_count};
use core::fmt;
use core::hint::spin_loop;

use x2apic::lapic::{IpiAllShorthand, LocalApicBuilder, TimerDivide, TimerMode, xapic_base};
use x86_64::registers::model_specific::{ApicBase, ApicBaseFlags, Msr};

use crate::arch::cpu::control::Features;
use crate::arch::memory::paging::{self, MapError};
use crate::cpu::ApicId;
use crate::layout::APIC_REGISTERS;

/// The timer tick. Above the exceptions and above what the masked legacy PICs could send.
pub const TIMER_VECTOR: u8 = 0x20;
/// Wakes a halted CPU so that it looks at its condition again.
pub const WAKE_VECTOR: u8 = 0xfd;
/// The local APIC reports an error of its own.
pub const ERROR_VECTOR: u8 = 0xfe;
/// An interrupt that was withdrawn: no EOI (SDM 3A, 11.9).
pub const SPURIOUS_VECTOR: u8 = 0xff;

// Register offsets in the xAPIC page (SDM 3A, table 11-1); the x2APIC MSR is 0x800 + offset / 16.
const ERROR_STATUS: u32 = 0x280;
const ICR: u32 = 0x300;
const ICR_HIGH: u32 = 0x310;
const LVT_LINT0: u32 = 0x350;
const LVT_LINT1: u32 = 0x360;
const LVT_ERROR: u32 = 0x370;
const LVT_MASKED: u32 = 1 << 16;
/// Delivery mode NMI in bits 10:8; the vector is ignored.
const LVT_NMI: u32 = 0b100 << 8;

/// The ICR's delivery mode NMI, and its level "assert", which real hardware wants for all but one mode.
const ICR_NMI: u32 = 0b100 << 8;
const ICR_ASSERT: u32 = 1 << 14;

/// This CPU's local APIC.
pub struct LocalApic {
    inner: x2apic::lapic::LocalApic,
    x2apic: bool,
}

/// The local APIC cannot be set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApicError {
    /// The page with the registers cannot be mapped.
    Map(MapError),
    /// The crate refuses, with its own words.
    Build(&'static str),
}

impl fmt::Display for ApicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ApicError::Map(error) => write!(f, "cannot map the local APIC's registers: {error}"),
            ApicError::Build(message) => write!(f, "cannot set up the local APIC: {message}"),
        }
    }
}

impl core::error::Error for ApicError {}

/// This CPU's APIC id as CPUID tells it, which needs no APIC: leaf 0xB where it is filled in, else leaf 1 (SDM 2A,
/// CPUID). The same rule as the trampoline's.
#[must_use]
pub fn initial_id() -> ApicId {
    if __cpuid(0).eax >= 0xb {
        let leaf = __cpuid_count(0xb, 0);
        if leaf.ebx != 0 {
            return ApicId(leaf.edx);
        }
    }
    ApicId(__cpuid(1).ebx >> 24)
}

/// Maps the registers for xAPIC mode. Once, on the BSP; not needed with x2APIC.
///
/// # Errors
/// [`ApicError::Map`].
pub fn map_registers() -> Result<(), ApicError> {
    // SAFETY: reading this MSR changes nothing.
    let base = unsafe { xapic_base() };
    // SAFETY: the page holds the local APIC's registers and is mapped as a device's, before any program exists.
    unsafe { paging::map_kernel_page(APIC_REGISTERS, base, paging::DEVICE) }.map_err(ApicError::Map)
}

impl LocalApic {
    /// Enables this CPU's APIC, in x2APIC mode where there is one, with its timer stopped.
    ///
    /// # Errors
    /// [`ApicError::Build`].
    ///
    /// # Safety
    /// Interrupts are off, the IDT has gates for the four vectors, and the legacy PICs are masked. In xAPIC mode
    /// [`map_registers`] was called.
    pub unsafe fn enable(features: Features) -> Result<LocalApic, ApicError> {
        // Firmware has turned the APIC on, in one mode or the other. Turning it off and on again would lose its
        // state, and clearing EN is the one thing that some CPUs cannot undo: only a missing EN is set.
        let (frame, flags) = ApicBase::read();
        if !flags.contains(ApicBaseFlags::LAPIC_ENABLE) {
            // SAFETY: the address stays, EN alone is added.
            unsafe { ApicBase::write(frame, flags | ApicBaseFlags::LAPIC_ENABLE) };
        }
        let mut inner = LocalApicBuilder::new()
            .timer_vector(TIMER_VECTOR.into())
            .error_vector(ERROR_VECTOR.into())
            .spurious_vector(SPURIOUS_VECTOR.into())
            .timer_mode(TimerMode::OneShot)
            .timer_divide(TimerDivide::Div1)
            .timer_initial(0)
            .set_xapic_base(APIC_REGISTERS)
            .build()
            .map_err(ApicError::Build)?;
        // SAFETY: this CPU's APIC, with interrupts off until what the crate leaves wrong is mended below.
        unsafe {
            inner.enable();
            inner.disable_timer();
        }
        let apic = LocalApic { inner, x2apic: features.x2apic };
        apic.write(LVT_LINT0, LVT_MASKED);
        apic.write(LVT_LINT1, LVT_NMI);
        // A write latches the errors so far and clears them: what firmware caused is not ours to report.
        apic.write(ERROR_STATUS, 0);
        apic.write(LVT_ERROR, ERROR_VECTOR.into());
        Ok(apic)
    }

    fn write(&self, offset: u32, value: u32) {
        // SAFETY: the offsets are registers of this CPU's own APIC, mapped at APIC_REGISTERS or reached by MSR, and the
        // values are valid for them.
        unsafe {
            if self.x2apic {
                Msr::new(0x800 + (offset >> 4)).write(value.into());
            } else {
                let register = core::ptr::with_exposed_provenance_mut::<u32>(
                    (APIC_REGISTERS + u64::from(offset)) as usize,
                );
                register.write_volatile(value);
            }
        }
    }

    /// This CPU's APIC id.
    #[must_use]
    pub fn id(&self) -> ApicId {
        // SAFETY: reading the id changes nothing.
        let raw = unsafe { self.inner.id() };
        ApicId(if self.x2apic { raw } else { raw >> 24 })
    }

    /// Is it in x2APIC mode?
    #[must_use]
    pub fn is_x2apic(&self) -> bool {
        self.x2apic
    }

    /// Signals the end of an interrupt: once for each, and not for a spurious one.
    pub fn end_of_interrupt(&mut self) {
        // SAFETY: this CPU's APIC.
        unsafe { self.inner.end_of_interrupt() };
    }

    /// The errors since the last call, as the error status register's bits (SDM 3A, 11.5.3).
    pub fn take_errors(&mut self) -> u8 {
        self.write(ERROR_STATUS, 0);
        // SAFETY: reading changes nothing.
        unsafe { self.inner.error_flags() }.bits()
    }

    /// Lets the timer count down once from the highest value, without an interrupt: for calibration.
    pub fn start_counting(&mut self) {
        // SAFETY: this CPU's APIC; the timer is masked.
        unsafe {
            self.inner.disable_timer();
            self.inner.set_timer_mode(TimerMode::OneShot);
            self.inner.set_timer_divide(TimerDivide::Div1);
            self.inner.set_timer_initial(u32::MAX);
        }
    }

    /// How far it has counted since [`start_counting`](Self::start_counting).
    #[must_use]
    pub fn counted(&self) -> u32 {
        // SAFETY: reading changes nothing.
        u32::MAX - unsafe { self.inner.timer_current() }
    }

    /// Starts the periodic tick, one every `count` steps of the timer.
    pub fn start_ticking(&mut self, count: u32) {
        // SAFETY: this CPU's APIC; the timer's vector has a gate.
        unsafe {
            self.inner.set_timer_mode(TimerMode::Periodic);
            self.inner.set_timer_divide(TimerDivide::Div1);
            self.inner.enable_timer();
            self.inner.set_timer_initial(count);
        }
    }

    /// Stops the tick.
    pub fn stop_ticking(&mut self) {
        // SAFETY: this CPU's APIC.
        unsafe {
            self.inner.disable_timer();
            self.inner.set_timer_initial(0);
        }
    }

    /// In x2APIC mode the write to the ICR is a WRMSR that does not wait for earlier stores: what the receiver is to
    /// see would come after the interrupt (SDM 3A, 11.12.3). In xAPIC mode it is a store like any other.
    fn order_stores(&self) {
        if self.x2apic {
            // SAFETY: they only wait.
            unsafe { asm!("mfence", "lfence", options(nostack, preserves_flags)) };
        }
    }

    /// An id as the crate wants it in the ICR.
    fn destination(&self, id: ApicId) -> u32 {
        if self.x2apic { id.0 } else { id.0 << 24 }
    }

    /// Waits until the last IPI has left; bounded, for a lost one must not stop the sender.
    fn wait_until_sent(&self) {
        // x2APIC mode has no delivery status: the write itself waits (SDM 3A, 11.12.9).
        if self.x2apic {
            return;
        }
        for _ in 0..1_000_000 {
            // SAFETY: reading changes nothing.
            if !unsafe { self.inner.get_ipi_delivery_status() } {
                return;
            }
            spin_loop();
        }
    }

    /// INIT to every other CPU.
    ///
    /// # Safety
    /// No other CPU runs anything that matters.
    pub unsafe fn send_init_to_others(&mut self) {
        self.order_stores();
        // SAFETY: the caller's promise.
        unsafe { self.inner.send_init_ipi_all() };
        self.wait_until_sent();
    }

    /// A start-up IPI to one CPU, which then runs real-mode code at page `vector`.
    ///
    /// # Safety
    /// That page has the trampoline.
    pub unsafe fn send_sipi(&mut self, vector: u8, to: ApicId) {
        let destination = self.destination(to);
        self.order_stores();
        // SAFETY: the caller's promise.
        unsafe { self.inner.send_sipi(vector, destination) };
        self.wait_until_sent();
    }

    /// Wakes one CPU from its halt.
    pub fn wake(&mut self, to: ApicId) {
        let destination = self.destination(to);
        self.order_stores();
        // SAFETY: the vector has a gate whose handler does nothing but the EOI.
        unsafe { self.inner.send_ipi(WAKE_VECTOR, destination) };
        self.wait_until_sent();
    }

    /// Wakes every other CPU.
    pub fn wake_others(&mut self) {
        self.order_stores();
        // SAFETY: as in `wake`. A CPU that never came online has its APIC or its interrupts disabled.
        unsafe { self.inner.send_ipi_all(WAKE_VECTOR, IpiAllShorthand::AllExcludingSelf) };
        self.wait_until_sent();
    }

    /// A non-maskable interrupt to this CPU. Through a shared reference: it strikes before this returns, and its handler
    /// may call this in turn.
    pub fn send_nmi_to_self(&self) {
        // By its id: the shorthand for "self" does not go with this delivery mode (SDM 3A, table 11-3).
        let command = ICR_NMI | ICR_ASSERT;
        if self.x2apic {
            // SAFETY: the ICR of this CPU's own APIC, one MSR in this mode; the NMI has a gate with a stack of its own.
            unsafe { Msr::new(0x800 + (ICR >> 4)).write(u64::from(self.id().0) << 32 | u64::from(command)) };
        } else {
            self.write(ICR_HIGH, self.destination(self.id()));
            self.write(ICR, command);
        }
    }

    /// A non-maskable interrupt to one CPU, which must be online: one that waits for its start-up IPI would
    /// begin to run whatever lies at its reset vector under some emulators.
    pub fn send_nmi(&mut self, to: ApicId) {
        let destination = self.destination(to);
        self.order_stores();
        // SAFETY: every CPU that is online has an NMI gate with a stack of its own.
        unsafe { self.inner.send_nmi(destination) };
        self.wait_until_sent();
    }
}
