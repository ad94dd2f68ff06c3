//! The clocks: the time-stamp counter, measured against the ACPI power-management timer, and the local APIC's
//! timer, measured against the PC's interval timer. Two references, so that the tick rate that a run prints is
//! one clock checked by another.
//!
//! A busy host stops a virtual CPU between any two instructions, while the clocks run on. So a counter and its
//! reference are read as a pair, with the TSC read before and after, and of several tries the fastest counts.

use core::hint::spin_loop;

use spin::Once;
use x86_64::instructions::port::{Port, PortReadOnly};

use crate::arch::cpu::tsc;
use crate::arch::interrupts::apic::LocalApic;
use crate::arch::memory::acpi::PmTimer;
use crate::clock::{self, CalibrationError, PIT_HZ, PM_TIMER_HZ, Rate, SAMPLES_MIN, ToNs};

/// How long one measurement takes, in TSC-independent fractions of a second: 5 ms.
const WINDOWS_PER_SECOND: u64 = 200;
/// The interval timer wraps after 54.9 ms: a window during which the host slept longer than this tells nothing.
const PIT_WINDOW_MAX_NS: u64 = 50_000_000;
/// How often all measurements are made anew if they disagree or are lost.
const ATTEMPTS: usize = 20;

/// Nanoseconds since boot from the TSC.
#[derive(Clone, Copy, Debug)]
pub struct TscClock {
    boot: u64,
    to_ns: ToNs,
}

impl TscClock {
    /// A clock that reads 0 at this reading of the TSC.
    #[must_use]
    pub const fn new(boot: u64, rate: Rate) -> TscClock {
        TscClock { boot, to_ns: rate.to_ns() }
    }

    /// Nanoseconds since boot at this reading of the TSC.
    #[inline]
    #[must_use]
    pub const fn ns(self, tsc: u64) -> u64 {
        self.to_ns.ns(tsc.wrapping_sub(self.boot))
    }
}

/// What the BSP measured, for all CPUs.
#[derive(Clone, Copy, Debug)]
pub struct Timebase {
    /// The clock.
    pub clock: TscClock,
    /// Frequency of the TSC.
    pub tsc: Rate,
    /// Frequency of the local APIC's timer.
    pub apic_timer: Rate,
    /// Steps of that timer from tick to tick.
    pub apic_ticks: u32,
    /// Ticks a second.
    pub tick_hz: u32,
    /// Steps of the TSC from tick to tick.
    pub tick_tsc: u64,
}

static TIMEBASE: Once<Timebase> = Once::new();

/// What was measured.
///
/// # Panics
/// Before [`init`].
#[must_use]
pub fn timebase() -> &'static Timebase {
    TIMEBASE.get().expect("the BSP measures the clocks before anyone uses them")
}

/// Measures both clocks and sets the tick. `boot` is the TSC's reading at the kernel's start.
///
/// # Errors
/// [`CalibrationError`] of the last attempt.
pub fn init(
    boot: u64,
    pm_timer: PmTimer,
    apic: &mut LocalApic,
    tick_hz: u32,
) -> Result<&'static Timebase, CalibrationError> {
    let tsc = repeat(|| measure_tsc(pm_timer))?;
    let to_ns = tsc.to_ns();
    start_pit();
    apic.start_counting();
    let apic_timer = repeat(|| measure_apic_timer(apic, to_ns))?;
    apic.stop_ticking();
    // At least one step, at most what the 32-bit counter holds: a tick of 1 Hz on a timer above 4.29 GHz.
    let apic_ticks = u32::try_from(apic_timer.per_period(tick_hz)).unwrap_or(u32::MAX).max(1);
    Ok(TIMEBASE.call_once(|| Timebase {
        clock: TscClock::new(boot, tsc),
        tsc,
        apic_timer,
        apic_ticks,
        tick_hz,
        tick_tsc: tsc.per_period(tick_hz),
    }))
}

/// Measures as often as it takes for most measurements to agree.
fn repeat(mut measure: impl FnMut() -> Result<Rate, CalibrationError>) -> Result<Rate, CalibrationError> {
    let mut result = Err(CalibrationError::NoReference);
    for _ in 0..ATTEMPTS {
        let mut samples = [Rate::from_hz(clock::RATE_MIN_HZ)?; SAMPLES_MIN];
        result = samples
            .iter_mut()
            .try_for_each(|sample| {
                *sample = measure()?;
                Ok(())
            })
            .and_then(|()| clock::pick(&mut samples));
        if result.is_ok() {
            break;
        }
    }
    result
}

/// Reads `reference` and the TSC at the same moment, as nearly as can be: of some tries, the one that took the
/// shortest time.
fn pair<T>(mut reference: impl FnMut() -> T) -> (T, u64) {
    let mut try_once = || {
        let before = tsc::now();
        let value = reference();
        let gap = tsc::now().wrapping_sub(before);
        (gap, (value, before + gap / 2))
    };
    let mut best = try_once();
    for _ in 0..8 {
        let next = try_once();
        if next.0 < best.0 {
            best = next;
        }
    }
    best.1
}

fn measure_tsc(pm_timer: PmTimer) -> Result<Rate, CalibrationError> {
    let window = PM_TIMER_HZ / WINDOWS_PER_SECOND;
    let mut port = PortReadOnly::<u32>::new(pm_timer.port);
    // SAFETY: the FADT names this port as the timer's; reading it changes nothing.
    let mut read = || unsafe { port.read() };
    let (from, tsc_from) = pair(&mut read);
    let mut elapsed = 0;
    // The counter may be 24 or 32 bits wide; its low 24 bits wrap after 4.7 s either way.
    for _ in 0..10_000_000 {
        elapsed = clock::wrapping_diff24(from, read()).into();
        if elapsed >= window {
            break;
        }
        spin_loop();
    }
    if elapsed == 0 {
        return Err(CalibrationError::NoReference);
    }
    let (to, tsc_to) = pair(&mut read);
    Rate::measured(tsc_to.wrapping_sub(tsc_from), clock::wrapping_diff24(from, to).into(), PM_TIMER_HZ)
}

/// Ports of the interval timer (8254 data sheet) and of the gate of its channel 2.
const PIT_CHANNEL_2: u16 = 0x42;
const PIT_COMMAND: u16 = 0x43;
const PIT_GATE: u16 = 0x61;

/// Lets channel 2 count down from 65536 again and again, its loudspeaker off.
fn start_pit() {
    let (mut gate, mut command, mut channel) =
        (Port::<u8>::new(PIT_GATE), Port::<u8>::new(PIT_COMMAND), Port::<u8>::new(PIT_CHANNEL_2));
    // SAFETY: these ports are the timer's on every PC; nothing else in the kernel uses channel 2.
    unsafe {
        let others = gate.read() & !0b11;
        gate.write(others | 0b01);
        command.write(0xb4); // channel 2, low then high byte, mode 2 (rate generator), binary
        channel.write(0);
        channel.write(0);
    }
}

fn read_pit() -> u16 {
    let (mut command, mut channel) = (Port::<u8>::new(PIT_COMMAND), Port::<u8>::new(PIT_CHANNEL_2));
    // SAFETY: as in `start_pit`. The command latches channel 2's count, which is then read in two bytes.
    unsafe {
        command.write(0x80);
        u16::from_le_bytes([channel.read(), channel.read()])
    }
}

fn measure_apic_timer(apic: &LocalApic, tsc_to_ns: ToNs) -> Result<Rate, CalibrationError> {
    let window = (PIT_HZ / WINDOWS_PER_SECOND) as u16;
    let mut read = || (read_pit(), apic.counted());
    let ((pit_from, counted_from), tsc_from) = pair(&mut read);
    let too_long = |until: u64| tsc_to_ns.ns(until.wrapping_sub(tsc_from)) > PIT_WINDOW_MAX_NS;
    while clock::down_diff16(pit_from, read_pit()) < window && !too_long(tsc::now()) {
        spin_loop();
    }
    let ((pit_to, counted_to), tsc_to) = pair(&mut read);
    if too_long(tsc_to) {
        return Err(CalibrationError::NoReference);
    }
    Rate::measured(
        counted_to.wrapping_sub(counted_from).into(),
        clock::down_diff16(pit_from, pit_to).into(),
        PIT_HZ,
    )
}
