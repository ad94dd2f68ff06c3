//! Interrupts for their own sake: CPUs send each other IPIs and NMIs at a rate that the command line names, so that
//! they strike wherever they can.

use core::cell::Cell;

use kernel_abi::trace::{IPI_NMI, Kind};

use super::percpu::{self, PerCpuData};

/// What one CPU sends.
#[derive(Default)]
pub struct Storm {
    ipis: Shower,
    nmis: Shower,
    /// NMIs are expected until the whole run is over: other CPUs send them longer than this one.
    expected: Cell<bool>,
}

/// One kind of interrupt, sent to the other CPUs in turn.
#[derive(Default)]
struct Shower {
    /// How many a second; 0 is none.
    per_second: Cell<u32>,
    /// What is due, in parts of one interrupt, of which there are as many as ticks in a second.
    due: Cell<u32>,
    /// How many were sent.
    sent: Cell<u32>,
}

impl Shower {
    /// Sends what has become due with this tick.
    fn tick(&self, tick_hz: u32, send: impl Fn(u32)) {
        let mut due = self.due.get() + self.per_second.get();
        while due >= tick_hz {
            due -= tick_hz;
            let sent = self.sent.get();
            send(sent);
            self.sent.set(sent.wrapping_add(1));
        }
        self.due.set(due);
    }
}

impl Storm {
    /// Sets both rates, in interrupts a second.
    pub fn set(&self, ipis: u32, nmis: u32) {
        self.ipis.per_second.set(ipis);
        self.nmis.per_second.set(nmis);
        self.expected.set(nmis != 0);
    }

    /// Stops sending; the others may go on.
    pub fn stop(&self) {
        self.ipis.per_second.set(0);
        self.nmis.per_second.set(0);
    }

    /// All CPUs have stopped.
    pub fn is_over(&self) {
        self.expected.set(false);
    }

    /// Are NMIs part of the storm? Then one more is no news.
    #[must_use]
    pub fn explains_nmis(&self) -> bool {
        self.expected.get()
    }

    /// Called at each tick, with interrupts off.
    pub fn tick(&self, cpu: &PerCpuData, tick_hz: u32) {
        // On a machine of one CPU it is that one's own turn every time.
        let cpus = percpu::online();
        let target = |sent: u32| {
            let others = (cpus.len() as u32).checked_sub(1)?;
            let step = if others == 0 { 0 } else { 1 + sent % others };
            cpus.get(((cpu.id().0 + step) % cpus.len() as u32) as usize)
        };
        self.ipis.tick(tick_hz, |sent| {
            if let Some(target) = target(sent) {
                cpu.wake(target.apic_id);
            }
        });
        self.nmis.tick(tick_hz, |sent| {
            if let Some(target) = target(sent) {
                cpu.trace(Kind::IpiSent, IPI_NMI, target.apic_id.0.into());
                cpu.with_apic(|apic| apic.send_nmi(target.apic_id));
            }
        });
    }
}
