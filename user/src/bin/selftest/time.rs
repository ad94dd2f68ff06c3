//! Ticks, the clock and the time-stamp counter.

use core::arch::x86_64::_rdtsc;
use core::hint::spin_loop;

use user::sys;

use crate::{Verdict, expect};

/// A deadline 20 s ahead by the kernel's clock, far more than any awaited event takes even on a busy host.
pub struct Deadline(u64);

impl Deadline {
    pub fn start() -> Deadline {
        Deadline(sys::clock_ns() + 20_000_000_000)
    }

    pub fn has_passed(&self) -> bool {
        sys::clock_ns() > self.0
    }
}

/// Checks that this CPU's tick count increases three times and never decreases.
pub fn ticks_grow() -> Verdict {
    let deadline = Deadline::start();
    let mut last = sys::ticks();
    let mut grown = 0;
    while grown < 3 && !deadline.has_passed() {
        let now = sys::ticks();
        expect(format_args!("ticks {now} after ticks {last}: not fewer"), &true, &(now >= last))?;
        grown += u32::from(now > last);
        last = now;
        spin_loop();
    }
    expect(format_args!("tick increases before the deadline"), &3, &grown)
}

/// Checks that the clock advances and never goes back.
pub fn clock_is_monotonic() -> Verdict {
    let first = sys::clock_ns();
    let mut last = first;
    for _ in 0..10_000 {
        let now = sys::clock_ns();
        expect(format_args!("clock {now} ns after clock {last} ns: not less"), &true, &(now >= last))?;
        last = now;
    }
    expect(format_args!("clock after 10000 readings: more than before"), &true, &(last > first))
}

/// Checks that ring 3 may read the time-stamp counter, and that it advances.
pub fn tsc_is_readable() -> Verdict {
    // SAFETY: every x86-64 CPU has the counter. If CR4.TSD denied it to ring 3, the kernel would kill this copy, which
    // is the intended failure.
    let first = unsafe { _rdtsc() };
    sys::null();
    // SAFETY: every x86-64 CPU has the counter, and the read above did not fault.
    let second = unsafe { _rdtsc() };
    expect(format_args!("TSC {second} after TSC {first}: more"), &true, &(second > first))
}
