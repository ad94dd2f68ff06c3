//! Control registers, EFER, PAT, DR7 and DEBUGCTL. One function sets them on every CPU, and a boot step compares the
//! values of all CPUs (invariant: SAME-CONTROL).

use core::arch::asm;
use core::arch::x86_64::{__cpuid, __cpuid_count};
use core::fmt;

use x86_64::instructions::tlb;
use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags, Efer, EferFlags};
use x86_64::registers::debug::Dr7;
use x86_64::registers::model_specific::Msr;

use crate::arch::cpu::msr::{IA32_DEBUGCTL, IA32_PAT};
use crate::features::{FeatureSet, Features};

/// CR0 from the first 64-bit instruction on. WP: ring 0 may not write read-only pages. NE: x87 errors raise #MF, not
/// an external interrupt. EM and TS are clear: ring 3 owns the FPU, whose registers the kernel never uses. AM is
/// clear: RFLAGS.AC has no effect in ring 3, so a program cannot turn its own accesses into #AC.
pub const BOOT_CR0: Cr0Flags = Cr0Flags::PROTECTED_MODE_ENABLE
    .union(Cr0Flags::MONITOR_COPROCESSOR)
    .union(Cr0Flags::EXTENSION_TYPE)
    .union(Cr0Flags::NUMERIC_ERROR)
    .union(Cr0Flags::WRITE_PROTECT)
    .union(Cr0Flags::PAGING);

/// CR4 until [`init`] sets it according to the features that CPUID reports.
pub const BOOT_CR4: Cr4Flags = Cr4Flags::PHYSICAL_ADDRESS_EXTENSION;

/// EFER for the entry into long mode. NXE: the page tables use bit 63 (NX).
pub const BOOT_EFER: EferFlags = EferFlags::LONG_MODE_ENABLE.union(EferFlags::NO_EXECUTE_ENABLE);

/// The memory types of a page-table entry's bits PAT, PCD and PWT, which are bits 2 to 0 of the index (SDM 3A, tables
/// 12-10 to 12-12). Entry 1 (PWT alone) is write-combining, for frame buffers. All other entries have their reset
/// values: 0 is write-back, 2 (PCD) UC-, 3 (PCD and PWT) uncacheable; entries 4 to 7 are not used. Firmware may have
/// changed PAT on the BSP only.
const PAT: [u8; 8] = [
    memory_type::WRITE_BACK,
    memory_type::WRITE_COMBINING,
    memory_type::UNCACHED,
    memory_type::UNCACHEABLE,
    memory_type::WRITE_BACK,
    memory_type::WRITE_THROUGH,
    memory_type::UNCACHED,
    memory_type::UNCACHEABLE,
];

/// The encodings of memory types in PAT (SDM 3A, table 12-10).
mod memory_type {
    pub const UNCACHEABLE: u8 = 0;
    pub const WRITE_COMBINING: u8 = 1;
    pub const WRITE_THROUGH: u8 = 4;
    pub const WRITE_BACK: u8 = 6;
    /// UC-, which an MTRR may change to write-combining.
    pub const UNCACHED: u8 = 7;
}

/// DR7's value at reset (SDM 3A, table 10-1): no breakpoint. The handler of #DB relies on this: a #DB in ring 0 can
/// only be a single step.
const DR7_RESET: u64 = 0x400;

/// DEBUGCTL's value at reset: no branch records, and TF traps after each instruction, not only after each branch.
const DEBUGCTL_RESET: u64 = 0;

impl Features {
    /// Reads this CPU's features (SDM 2A, CPUID, leaves 1, 7 and 0x8000_0001; every x86-64 CPU has the last).
    #[must_use]
    pub fn detect() -> Features {
        let leaf7 = if __cpuid(0).eax >= 7 { Some(__cpuid_count(7, 0)) } else { None };
        let bit = |register: u32, bit: u32| register >> bit & 1 != 0;
        Features {
            smep: leaf7.is_some_and(|leaf| bit(leaf.ebx, 7)),
            smap: leaf7.is_some_and(|leaf| bit(leaf.ebx, 20)),
            umip: leaf7.is_some_and(|leaf| bit(leaf.ecx, 2)),
            x2apic: bit(__cpuid(1).ecx, 21),
            tsc_aux: bit(__cpuid(0x8000_0001).edx, 27) || leaf7.is_some_and(|leaf| bit(leaf.ecx, 22)),
        }
    }

    /// Returns CR4 for a CPU on which the kernel uses these features. OSFXSR and OSXMMEXCPT allow SSE in ring 3; MCE
    /// makes a machine check an exception instead of a shutdown. Deliberately clear: FSGSBASE (ring 3 could set the GS
    /// base), TSD (`rdtsc` is allowed in ring 3), PCE (`rdpmc` is not), OSXSAVE (no state beyond SSE), PCIDE and PGE
    /// (not used).
    fn cr4(self) -> Cr4Flags {
        let always = Cr4Flags::OSFXSR | Cr4Flags::OSXMMEXCPT_ENABLE | Cr4Flags::MACHINE_CHECK_EXCEPTION;
        let mut cr4 = BOOT_CR4 | always;
        cr4.set(Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION, self.smep);
        cr4.set(Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION, self.smap);
        cr4.set(Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION, self.umip);
        cr4
    }
}

/// The error for a CPU that lacks features that the kernel needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lacking(pub FeatureSet);

impl fmt::Display for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this CPU lacks {}: choose -cpu qemu64 or -cpu max", self.0)
    }
}

impl core::error::Error for Lacking {}

/// Checks the required features that a CPU reports only in 64-bit mode. All others were checked before this CPU entered
/// that mode.
///
/// # Errors
/// [`Lacking`].
pub fn check_features() -> Result<(), Lacking> {
    let (basic, extended) = (__cpuid(1).edx, __cpuid(0x8000_0001).edx);
    FeatureSet::IN_64_BIT_MODE.missing_from(basic, extended).map_or(Ok(()), |missing| Err(Lacking(missing)))
}

/// Sets all bits of CR0, CR4, EFER, PAT, DR7 and DEBUGCTL of this CPU, so that no firmware setting remains. Returns the
/// values that the registers must have from now on.
///
/// # Safety
/// All code that runs after this call must work with these settings: it must not write read-only pages, and must not
/// access user pages without STAC.
pub unsafe fn init(features: Features) -> ControlState {
    let efer = BOOT_EFER | EferFlags::LONG_MODE_ACTIVE | EferFlags::SYSTEM_CALL_EXTENSIONS;
    let state = ControlState {
        cr0: BOOT_CR0.bits(),
        cr4: features.cr4().bits(),
        efer: efer.bits(),
        pat: u64::from_le_bytes(PAT),
        dr7: DR7_RESET,
        debugctl: DEBUGCTL_RESET,
    };
    // This comes first, so that no breakpoint that the firmware left is hit from here on.
    Dr7::write_raw(state.dr7);
    // SAFETY: paging, long mode and NX are on already and stay on. WP, SMEP and SMAP restrict accesses by ring 0, and
    // the caller guarantees that all code complies; UMIP restricts ring 3. DEBUGCTL only affects debugging. PAT keeps
    // the memory types of all mappings: they use only the entries 0 and 3, except the mapping of the frame buffer.
    unsafe {
        Cr0::write_raw(state.cr0);
        Cr4::write_raw(state.cr4);
        Efer::write_raw(state.efer);
        if Msr::new(IA32_PAT).read() != state.pat {
            write_pat(state.cr0, state.pat);
        }
        Msr::new(IA32_DEBUGCTL).write(state.debugctl);
    }
    state
}

/// Writes PAT in the order that SDM 3A, 12.12.4, requires (the steps are those for MTRRs in 12.11.8): no cache line and
/// no TLB entry with an old memory type remains. The other CPUs need not stop during this sequence: only the mapping of
/// the frame buffer uses an entry that changes, and no CPU reads it, so no cache holds a line of it.
///
/// # Safety
/// Interrupts are off. `cr0` is the current value of CR0, with the caches on. CR4.PGE is clear, so that a write to CR3
/// flushes the whole TLB.
unsafe fn write_pat(cr0: u64, pat: u64) {
    let no_fill = (cr0 | Cr0Flags::CACHE_DISABLE.bits()) & !Cr0Flags::NOT_WRITE_THROUGH.bits();
    // SAFETY: the caches stay coherent: WBINVD writes back what they hold before and after the change. The memory types
    // of the mappings in use do not change.
    unsafe {
        Cr0::write_raw(no_fill);
        asm!("wbinvd", options(nostack, preserves_flags));
        tlb::flush_all();
        Msr::new(IA32_PAT).write(pat);
        asm!("wbinvd", options(nostack, preserves_flags));
        tlb::flush_all();
        Cr0::write_raw(cr0);
    }
}

/// The registers that must be equal on all CPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ControlState {
    cr0: u64,
    cr4: u64,
    efer: u64,
    pat: u64,
    dr7: u64,
    debugctl: u64,
}

impl ControlState {
    /// Reads this CPU's registers.
    #[must_use]
    pub fn read() -> ControlState {
        // SAFETY: every x86-64 CPU has these MSRs, and reading them has no effect.
        let (pat, debugctl) = unsafe { (Msr::new(IA32_PAT).read(), Msr::new(IA32_DEBUGCTL).read()) };
        ControlState {
            cr0: Cr0::read_raw(),
            cr4: Cr4::read_raw(),
            efer: Efer::read_raw(),
            pat,
            dr7: Dr7::read_raw(),
            debugctl,
        }
    }

    /// Returns the value of CR4.
    #[must_use]
    pub fn cr4(&self) -> u64 {
        self.cr4
    }

    /// Returns the features that are on according to CR4.
    #[must_use]
    pub fn features(&self) -> Features {
        let is_set = |flag: Cr4Flags| self.cr4 & flag.bits() != 0;
        Features {
            smep: is_set(Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION),
            smap: is_set(Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION),
            umip: is_set(Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION),
            ..Features::NONE
        }
    }

    /// Returns the values of CR0, CR4, EFER, PAT, DR7 and DEBUGCTL, in this order.
    #[must_use]
    pub fn values(&self) -> [u64; 6] {
        [self.cr0, self.cr4, self.efer, self.pat, self.dr7, self.debugctl]
    }
}

impl fmt::Display for ControlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [cr0, cr4, efer, pat, dr7, debugctl] = self.values();
        write!(f, "CR0={cr0:#x} CR4={cr4:#x} EFER={efer:#x} PAT={pat:#x} DR7={dr7:#x} DEBUGCTL={debugctl:#x}")
    }
}
