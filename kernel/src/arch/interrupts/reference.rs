//! The clocks against which the TSC is measured: HPET, power-management timer and interval timer (8254). Each may be
//! absent, or present and stopped.

use core::arch::x86_64::{__cpuid, __cpuid_count};
use core::ptr;

use kernel_abi::layout::PAGE_SIZE;
use x86_64::instructions::port::{Port, PortReadOnly};

use crate::acpi_tables::Hpet;
use crate::arch::boot::BootInfo;
use crate::arch::memory::acpi::PmTimer;
use crate::arch::memory::paging;
use crate::clock::{self, PIT_HZ, PM_TIMER_HZ};
use crate::clock_source::{ClockSource, CpuidClocks};
use crate::layout::HPET_REGISTERS;

/// The number of reads after which a clock whose count stays the same is taken to be absent or stopped. The slowest
/// clock, the interval timer, changes its count about every microsecond, and no machine can read a clock this often in
/// a microsecond.
const READS_MAX: u32 = 20_000;

/// A clock that is counting.
#[derive(Clone, Copy, Debug)]
pub enum Counter {
    /// The HPET: the main counter, and its frequency in hertz.
    Hpet(*const u32, u64),
    /// The power-management timer's port.
    PmTimer(u16),
    /// Channel 2 of the interval timer.
    Pit,
}

impl Counter {
    /// Returns the clock.
    #[must_use]
    pub fn source(self) -> ClockSource {
        match self {
            Counter::Hpet(..) => ClockSource::Hpet,
            Counter::PmTimer(_) => ClockSource::PmTimer,
            Counter::Pit => ClockSource::Pit,
        }
    }

    /// Returns the frequency in hertz.
    #[must_use]
    pub fn hz(self) -> u64 {
        match self {
            Counter::Hpet(_, hz) => hz,
            Counter::PmTimer(_) => PM_TIMER_HZ,
            Counter::Pit => PIT_HZ,
        }
    }

    /// Prepares a measurement.
    pub fn restart(self) {
        if let Counter::Pit = self {
            start_pit();
        }
    }

    /// Reads the count.
    #[must_use]
    pub fn read(self) -> u32 {
        match self {
            // SAFETY: the register is mapped (by `map_hpet`), and reading it has no effect.
            Counter::Hpet(count, _) => unsafe { count.read_volatile() },
            // SAFETY: the FADT reports this port as that of the power-management timer, and reading it has no effect.
            Counter::PmTimer(port) => unsafe { PortReadOnly::new(port).read() },
            Counter::Pit => read_pit().into(),
        }
    }

    /// Returns how far the clock has advanced between two reads, or `None` if it may have wrapped around more than
    /// once.
    #[must_use]
    pub fn elapsed(self, from: u32, to: u32) -> Option<u64> {
        match self {
            // The low 32 bits wrap after 42 s or later: the period is at least 10 ns.
            Counter::Hpet(..) => Some(clock::wrapping_diff32(from, to).into()),
            // The counter is 24 or 32 bits wide. In both cases its low 24 bits wrap after 4.7 s.
            Counter::PmTimer(_) => Some(clock::wrapping_diff24(from, to).into()),
            Counter::Pit if pit_has_wrapped() => None,
            Counter::Pit => Some(clock::down_diff16(from as u16, to as u16).into()),
        }
    }

    /// Returns whether the clock is counting.
    fn counts(self) -> bool {
        self.restart();
        let first = self.read();
        (0..READS_MAX).any(|_| self.read() != first)
    }
}

/// Returns at most two of the clocks that are counting, in order of preference. The interval timer is used only if one
/// of the others is missing.
///
/// # Safety
/// Called once, on the BSP, before the first program exists. The firmware's tables list the HPET.
pub unsafe fn counters(
    hpet: Option<Hpet>,
    pm_timer: Option<PmTimer>,
    info: &BootInfo,
) -> [Option<Counter>; 2] {
    // SAFETY: guaranteed by the caller.
    let hpet = hpet.and_then(|hpet| unsafe { map_hpet(hpet, info) });
    let pm_timer = pm_timer.map(|timer| Counter::PmTimer(timer.port));
    let mut found =
        [hpet, pm_timer, Some(Counter::Pit)].into_iter().flatten().filter(|counter| counter.counts());
    [found.next(), found.next()]
}

/// Reads the clock frequencies that CPUID reports.
#[must_use]
pub fn cpuid() -> CpuidClocks {
    const HYPERVISOR: u32 = 1 << 31;
    let highest = __cpuid(0).eax;
    let leaf = |number| (highest >= number).then(|| __cpuid_count(number, 0));
    CpuidClocks {
        crystal: leaf(0x15).map_or([0; 3], |leaf| [leaf.eax, leaf.ebx, leaf.ecx]),
        nominal_mhz: leaf(0x16).map_or(0, |leaf| leaf.eax & 0xffff),
        hypervisor: __cpuid(1).ecx & HYPERVISOR != 0,
    }
}

// The HPET's registers (IA-PC HPET specification 1.0a, 2.3).
const HPET_PERIOD: usize = 0x4;
const HPET_CONFIGURATION: usize = 0x10;
const HPET_COUNT: usize = 0xf0;
/// Bit of the configuration: the main counter is enabled.
const HPET_ENABLE: u32 = 1;

/// Maps the HPET's registers and starts its counter. Returns `None` if there is no device at the address.
///
/// # Safety
/// As for [`counters`].
unsafe fn map_hpet(hpet: Hpet, info: &BootInfo) -> Option<Counter> {
    let (page, offset) = (hpet.address & !(PAGE_SIZE - 1), hpet.address % PAGE_SIZE);
    if info.has_memory_in(page) {
        return None;
    }
    // SAFETY: the page holds device registers, is mapped with `DEVICE`, and no program exists (guaranteed by the
    // caller).
    unsafe { paging::map_kernel_page(HPET_REGISTERS, page, paging::DEVICE) }.ok()?;
    let registers = ptr::with_exposed_provenance_mut::<u8>((HPET_REGISTERS + offset) as usize);
    // SAFETY: the registers are mapped, and the address is aligned to 1024 bytes. Starting the counter affects no
    // interrupt: the timers that compare with it keep their configuration, and a timer that the firmware has left
    // enabled was enabled before as well.
    unsafe {
        let hz = clock::hpet_hz(registers.add(HPET_PERIOD).cast::<u32>().read_volatile())?;
        let configuration = registers.add(HPET_CONFIGURATION).cast::<u32>();
        let value = configuration.read_volatile();
        if value & HPET_ENABLE == 0 {
            configuration.write_volatile(value | HPET_ENABLE);
        }
        Some(Counter::Hpet(registers.add(HPET_COUNT).cast::<u32>(), hz))
    }
}

/// The interval timer's port for channel 2 (8254 data sheet).
const PIT_CHANNEL_2: u16 = 0x42;
/// The interval timer's command port.
const PIT_COMMAND: u16 = 0x43;
/// The port with the gate of channel 2 (bit 0) and the loudspeaker (bit 1).
const PIT_GATE: u16 = 0x61;
/// Bit of a channel's status: the level of its output.
const PIT_OUTPUT: u8 = 1 << 7;

/// Starts channel 2: it counts down from 65535, with the loudspeaker off. Its output is low until the count has reached
/// 0, and then stays high while it continues to count.
fn start_pit() {
    let (mut gate, mut command, mut channel) =
        (Port::<u8>::new(PIT_GATE), Port::<u8>::new(PIT_COMMAND), Port::<u8>::new(PIT_CHANNEL_2));
    // SAFETY: these are the interval timer's ports on every PC, and nothing else in the kernel uses channel 2.
    unsafe {
        let others = gate.read() & !0b11;
        gate.write(others | 0b01);
        command.write(0xb0); // channel 2, low then high byte, mode 0 (output on terminal count), binary
        channel.write(0xff);
        channel.write(0xff);
    }
}

/// Reads channel 2's count.
fn read_pit() -> u16 {
    let (mut command, mut channel) = (Port::<u8>::new(PIT_COMMAND), Port::<u8>::new(PIT_CHANNEL_2));
    // SAFETY: these are the interval timer's ports on every PC, and nothing else in the kernel uses channel 2. The
    // command latches the count of channel 2, which the two reads return.
    unsafe {
        command.write(0x80);
        u16::from_le_bytes([channel.read(), channel.read()])
    }
}

/// Returns whether channel 2 has reached 0, which it does 54.9 ms after its start. Reads the channel's status, because
/// some machines have no port that reports the channel's output.
fn pit_has_wrapped() -> bool {
    let (mut command, mut channel) = (Port::<u8>::new(PIT_COMMAND), Port::<u8>::new(PIT_CHANNEL_2));
    // SAFETY: these are the interval timer's ports on every PC, and nothing else in the kernel uses channel 2. The
    // command latches the status of channel 2, which the next read returns.
    let status = unsafe {
        command.write(0xe8);
        channel.read()
    };
    status & PIT_OUTPUT != 0
}
