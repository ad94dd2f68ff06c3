//! Reads each CPU's counters from the memory of a running or exited guest; see [`kernel_abi::counters`].

use bytemuck::cast_slice_mut;
use kernel_abi::counters::{Counters, WORDS};
use machine::directory::CpuDirectory;
use trace::capture::GuestRam;

/// The values of one CPU's counters at one time.
pub type Snapshot = Counters<u64>;

/// Location of the counters in the guest's memory, and the clock frequencies needed to interpret them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterPages {
    /// Timer ticks per second.
    pub tick_hz: u32,
    /// Frequency of the TSC in hertz.
    pub tsc_hz: u64,
    /// Physical address of each CPU's counters, by dense index.
    addresses: Vec<u64>,
}

impl CounterPages {
    /// Searches the guest's entire memory for the directory of the counters. Returns `None` if the kernel has not
    /// written it yet.
    ///
    /// # Errors
    /// If the memory cannot be read.
    pub fn find(ram: &GuestRam) -> std::io::Result<Option<CounterPages>> {
        let pages = |found: CpuDirectory| CounterPages {
            tick_hz: found.start.tick_hz,
            tsc_hz: found.start.tsc_hz,
            addresses: found.counters,
        };
        Ok(CpuDirectory::find(ram)?.map(pages))
    }

    /// Reads the counters of each CPU, by dense index.
    ///
    /// # Errors
    /// If the memory cannot be read.
    pub fn read(&self, ram: &GuestRam) -> std::io::Result<Vec<Snapshot>> {
        let one = |address: &u64| {
            let mut words = [0; WORDS];
            ram.read(*address, cast_slice_mut(&mut words))?;
            Ok(Snapshot::from_words(&words))
        };
        self.addresses.iter().map(one).collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::mem::offset_of;

    use kernel_abi::counters::MAGIC;
    use kernel_abi::syscall::TABLE_LEN;

    use super::*;
    use trace::capture::Chipset;

    /// Returns memory with the counters of two CPUs. CPU 0 made 1000 calls with number 0, and 7 with numbers beyond the
    /// table.
    pub fn guest() -> GuestRam {
        let file = tempfile::tempfile().expect("cannot create a file");
        file.set_len(1 << 20).expect("cannot set the size");
        let ram = GuestRam::new(file, Chipset::Q35).expect("cannot access the memory");
        let [low, high] = [&MAGIC[..8], &MAGIC[8..]]
            .map(|half| u64::from_le_bytes(half.try_into().expect("each half must have 8 bytes")));
        // An invalid directory at a lower address. Its counters would lie beyond the end of memory.
        put(&ram, 0x3000, &[low, high, 1 | 100 << 32, 0, 0, 1 << 40]);
        put(&ram, 0x5000, &[low, high, 2 | 100 << 32, 2_000_000_000, 0, 0x8100, 0x9200]);
        put(&ram, 0x8100, &[1000]);
        put(&ram, 0x8100 + 8 * TABLE_LEN as u64, &[7, 55, 1, 2]);
        put(&ram, 0x9200 + offset_of!(Snapshot, ticks) as u64, &[56]);
        ram
    }

    impl CounterPages {
        /// Creates counter pages with a clock and no addresses, for tests without a guest.
        pub fn of(tick_hz: u32, tsc_hz: u64) -> CounterPages {
            CounterPages { tick_hz, tsc_hz, addresses: Vec::new() }
        }
    }

    /// Writes consecutive 64-bit words.
    pub fn put(ram: &GuestRam, at: u64, words: &[u64]) {
        for (n, word) in words.iter().enumerate() {
            ram.write_u64(at + 8 * n as u64, *word).expect("cannot write");
        }
    }

    #[test]
    fn search_skips_invalid_directory() {
        let ram = guest();
        let pages = CounterPages::find(&ram).expect("cannot read").expect("there must be a directory");
        assert_eq!((pages.tick_hz, pages.tsc_hz), (100, 2_000_000_000));
        let counters = pages.read(&ram).expect("cannot read");
        assert_eq!(counters.len(), 2);
        assert_eq!((counters[0].calls[0], counters[0].calls[TABLE_LEN], counters[0].ticks), (1000, 7, 55));
        assert_eq!(counters[0].deviations[..3], [1, 2, 0]);
        assert_eq!((counters[1].calls.iter().sum::<u64>(), counters[1].ticks), (0, 56));
    }

    #[test]
    fn search_finds_nothing_in_empty_memory() {
        let file = tempfile::tempfile().expect("cannot create a file");
        file.set_len(1 << 20).expect("cannot set the size");
        let ram = GuestRam::new(file, Chipset::Q35).expect("cannot access the memory");
        assert_eq!(CounterPages::find(&ram).expect("cannot read"), None);
    }
}
