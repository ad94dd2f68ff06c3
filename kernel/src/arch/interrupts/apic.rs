//! The local APIC, accessed with the `x2apic` crate. This module works around four defects of the crate (version
//! 0.5.1):
//!
//! 1. In xAPIC mode the crate does not shift APIC ids: the destination of an IPI belongs in ICR[63:56], and the id
//!    register holds the id in bits 31:24. [`LocalApic::destination`] and [`LocalApic::id`] shift them.
//! 2. `enable` unmasks the timer before it software-enables the APIC, but a disabled APIC keeps its LVT entries masked
//!    (SDM 3A, 11.4.7.2), so on an AP the timer would stay masked. `enable` also starts the timer. This module passes
//!    an initial count of 0, which stops the timer, and unmasks the timer when it starts the timer.
//! 3. `enable` writes 0 to LINT0 and LINT1: unmasked, with vector 0. This module masks LINT0 and sets LINT1 to NMI.
//! 4. `enable` leaves the error LVT masked. This module writes all of its bits.

use core::arch::asm;
use core::arch::x86_64::{__cpuid, __cpuid_count};
use core::fmt;
use core::hint::spin_loop;

use x2apic::lapic::{IpiAllShorthand, LocalApicBuilder, TimerDivide, TimerMode, xapic_base};
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
const ERROR_STATUS: u32 = 0x280;
const ICR: u32 = 0x300;
const ICR_HIGH: u32 = 0x310;
const LVT_LINT0: u32 = 0x350;
const LVT_LINT1: u32 = 0x360;
const LVT_ERROR: u32 = 0x370;
pub(super) const LVT_MASKED: u32 = 1 << 16;
/// Delivery mode NMI in bits 10:8; the vector is ignored.
const LVT_NMI: u32 = 0b100 << 8;

/// Delivery mode NMI in the ICR.
const ICR_NMI: u32 = 0b100 << 8;
/// Level "assert" in the ICR. Every delivery mode except INIT level de-assert requires it (SDM 3A, 11.6.1).
const ICR_ASSERT: u32 = 1 << 14;

/// This CPU's local APIC.
pub struct LocalApic {
    inner: x2apic::lapic::LocalApic,
    x2apic: bool,
}

/// The reason why the local APIC cannot be set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApicError {
    /// The page of the APIC's registers cannot be mapped.
    Map(MapError),
    /// The crate rejected the configuration with this message.
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
}

impl fmt::Display for ApicState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let x2apic = self.base & ApicBaseFlags::X2APIC_ENABLE.bits() != 0;
        write!(f, "IA32_APIC_BASE={:#x} ({})", self.base, if x2apic { "x2APIC mode" } else { "xAPIC mode" })
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

/// Switches this CPU's APIC to x2APIC mode if the CPU supports it, else to xAPIC mode, and returns the APIC id in that
/// mode. The BSP identifies itself by this id; on an AP, the trampoline performs the same steps.
///
/// # Safety
/// Called with interrupts off, after [`map_registers`].
#[must_use]
pub unsafe fn identify(features: Features) -> ApicId {
    if features.x2apic {
        // EN is set already: CPUID reports an APIC only then (SDM 3A, 11.4.3), and `start.S` has checked that.
        let (frame, flags) = ApicBase::read();
        // SAFETY: the registers' address does not change. The write at most sets EXTD, on a CPU that supports it.
        unsafe { ApicBase::write(frame, flags | ApicBaseFlags::X2APIC_ENABLE) };
        // SAFETY: in x2APIC mode this MSR is the id register, and reading it has no effect.
        ApicId(unsafe { Msr::new(0x800 + (ID >> 4)).read() } as u32)
    } else {
        let register = core::ptr::with_exposed_provenance::<u32>((APIC_REGISTERS + u64::from(ID)) as usize);
        // SAFETY: the registers are mapped (guaranteed by the caller), and reading the id register has no effect.
        ApicId(unsafe { register.read_volatile() } >> 24)
    }
}

impl LocalApic {
    /// Enables this CPU's APIC with its timer stopped. Uses x2APIC mode if the CPU supports it.
    ///
    /// # Errors
    /// [`ApicError::Build`].
    ///
    /// # Safety
    /// Interrupts are off, the IDT has gates for the four vectors, and the legacy PICs are masked. [`map_registers`]
    /// has been called. IA32_APIC_BASE.EN is set: the CPU has passed the check for an APIC (`features.rs`).
    pub unsafe fn enable(features: Features) -> Result<LocalApic, ApicError> {
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
        // SAFETY: the caller has turned interrupts off, so the wrong LVT entries that the crate writes have no effect
        // before they are corrected below.
        unsafe {
            inner.enable();
            inner.disable_timer();
        }
        let apic = LocalApic { inner, x2apic: features.x2apic };
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

    /// Reads a register, given by its offset in the xAPIC page.
    pub(super) fn read(&self, offset: u32) -> u32 {
        // SAFETY: every caller in this crate passes a register of this CPU's APIC that can be read without side
        // effects. In xAPIC mode the registers are mapped at APIC_REGISTERS.
        unsafe {
            if self.x2apic {
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
        // SAFETY: reading the id register has no effect.
        let raw = unsafe { self.inner.id() };
        ApicId(if self.x2apic { raw } else { raw >> 24 })
    }

    /// Returns whether the APIC is in x2APIC mode.
    #[must_use]
    pub fn is_x2apic(&self) -> bool {
        self.x2apic
    }

    /// Sends the EOI. Call it once for each interrupt except a spurious one.
    pub fn end_of_interrupt(&mut self) {
        // SAFETY: the write ends the interrupt that this CPU is handling and has no other effect.
        unsafe { self.inner.end_of_interrupt() };
    }

    /// Returns the errors since the last call, as bits of the error status register (SDM 3A, 11.5.3).
    pub fn take_errors(&mut self) -> u8 {
        self.write(ERROR_STATUS, 0);
        // SAFETY: reading the error status register has no effect.
        unsafe { self.inner.error_flags() }.bits()
    }

    /// Starts the timer for calibration: it counts down once from the highest value, without an interrupt.
    pub fn start_counting(&mut self) {
        // SAFETY: the timer is masked, so it raises no interrupt.
        unsafe {
            self.inner.disable_timer();
            self.inner.set_timer_mode(TimerMode::OneShot);
            self.inner.set_timer_divide(TimerDivide::Div1);
            self.inner.set_timer_initial(u32::MAX);
        }
    }

    /// Returns the number of timer counts since [`start_counting`](Self::start_counting).
    #[must_use]
    pub fn counted(&self) -> u32 {
        // SAFETY: reading the current count has no effect.
        u32::MAX - unsafe { self.inner.timer_current() }
    }

    /// Starts the periodic tick, with a period of `count` timer counts.
    pub fn start_ticking(&mut self, count: u32) {
        // SAFETY: the timer's vector has a gate (contract of `enable`).
        unsafe {
            self.inner.set_timer_mode(TimerMode::Periodic);
            self.inner.set_timer_divide(TimerDivide::Div1);
            self.inner.enable_timer();
            self.inner.set_timer_initial(count);
        }
    }

    /// Stops the tick.
    pub fn stop_ticking(&mut self) {
        // SAFETY: masking and stopping this CPU's timer has no other effect.
        unsafe {
            self.inner.disable_timer();
            self.inner.set_timer_initial(0);
        }
    }

    /// Prepares a write to the ICR. In x2APIC mode the ICR is written with a WRMSR that does not wait for earlier stores,
    /// so the receiver could take the interrupt before it sees these stores (SDM 3A, 11.12.3). In xAPIC mode the write
    /// is itself a store, and x86 keeps stores in order, but the write is lost while the APIC is still sending an
    /// earlier IPI (SDM 3A, 11.6.1). All functions below wait after they have sent one, but an NMI may arrive before
    /// they have waited, and its handler sends IPIs too.
    fn prepare_to_send(&self) {
        if self.x2apic {
            // SAFETY: the fences only order memory accesses.
            unsafe { asm!("mfence", "lfence", options(nostack, preserves_flags)) };
        }
        self.wait_until_sent();
    }

    /// Converts an APIC id to the destination field that the crate writes to the ICR.
    fn destination(&self, id: ApicId) -> u32 {
        if self.x2apic { id.0 } else { id.0 << 24 }
    }

    /// Waits until the last IPI has been sent. The wait is bounded, so that an IPI that is never sent does not hang the
    /// sender.
    fn wait_until_sent(&self) {
        // x2APIC mode has no delivery status bit: no wait is needed (SDM 3A, 11.12.9).
        if self.x2apic {
            return;
        }
        for _ in 0..1_000_000 {
            // SAFETY: reading the ICR has no effect.
            if !unsafe { self.inner.get_ipi_delivery_status() } {
                return;
            }
            spin_loop();
        }
    }

    /// Sends INIT to all other CPUs.
    ///
    /// # Safety
    /// No other CPU runs kernel code, because INIT resets every other CPU.
    pub unsafe fn send_init_to_others(&mut self) {
        self.prepare_to_send();
        // SAFETY: the caller guarantees that no other CPU runs kernel code.
        unsafe { self.inner.send_init_ipi_all() };
        self.wait_until_sent();
    }

    /// Sends a start-up IPI to one CPU, which then runs the real-mode code in page `vector`.
    ///
    /// # Safety
    /// The page contains the installed trampoline.
    pub unsafe fn send_sipi(&mut self, vector: u8, to: ApicId) {
        let destination = self.destination(to);
        self.prepare_to_send();
        // SAFETY: the caller guarantees that the page contains the trampoline.
        unsafe { self.inner.send_sipi(vector, destination) };
        self.wait_until_sent();
    }

    /// Sends the wake-up IPI to one CPU.
    pub fn wake(&mut self, to: ApicId) {
        let destination = self.destination(to);
        self.prepare_to_send();
        // SAFETY: the vector has a gate on every CPU that is online, and its handler only sends the EOI.
        unsafe { self.inner.send_ipi(WAKE_VECTOR, destination) };
        self.wait_until_sent();
    }

    /// Sends the wake-up IPI to all other CPUs.
    pub fn wake_others(&mut self) {
        self.prepare_to_send();
        // SAFETY: the vector has a gate on every CPU that is online, and its handler only sends the EOI. A CPU that did
        // not come online has its APIC or interrupts disabled.
        unsafe { self.inner.send_ipi_all(WAKE_VECTOR, IpiAllShorthand::AllExcludingSelf) };
        self.wait_until_sent();
    }

    /// Sends an interrupt to this CPU.
    pub(in crate::arch) fn send_to_self(&mut self, vector: u8) {
        let destination = self.destination(self.id());
        self.prepare_to_send();
        // SAFETY: every vector has a gate.
        unsafe { self.inner.send_ipi(vector, destination) };
        self.wait_until_sent();
    }

    /// Sends an NMI to this CPU. Takes a shared reference because the NMI may arrive before this function returns, and
    /// the NMI handler may call this function as well.
    pub fn send_nmi_to_self(&self) {
        // Use this CPU's id as the destination: the shorthand "self" is invalid with delivery mode NMI (SDM 3A, table
        // 11-3).
        let command = ICR_NMI | ICR_ASSERT;
        self.prepare_to_send();
        if self.x2apic {
            // SAFETY: in x2APIC mode this MSR is the ICR of this CPU's APIC. The NMI has a gate with an IST stack.
            unsafe { Msr::new(0x800 + (ICR >> 4)).write(u64::from(self.id().0) << 32 | u64::from(command)) };
        } else {
            self.write(ICR_HIGH, self.destination(self.id()));
            self.write(ICR, command);
        }
    }

    /// Sends an NMI to one CPU. That CPU must be online: under some emulators, an NMI makes a CPU that waits for its
    /// start-up IPI run at its reset vector.
    pub fn send_nmi(&mut self, to: ApicId) {
        let destination = self.destination(to);
        self.prepare_to_send();
        // SAFETY: every CPU that is online has an NMI gate with an IST stack.
        unsafe { self.inner.send_nmi(destination) };
        self.wait_until_sent();
    }
}
