//! The counters of each CPU, read out of the memory of a guest, running or gone; see [`kernel_abi::counters`].

use std::mem::{offset_of, size_of};

use kernel_abi::counters::{CLASSES, Counters, Directory, MAGIC};
use kernel_abi::syscall::TABLE_LEN;

use crate::trace::capture::GuestRam;

/// More CPUs than any machine has that QEMU makes.
const CPUS_MAX: u32 = 8192;
/// Bytes of one CPU's counters.
const LENGTH: usize = size_of::<Counters<u64>>();
/// Bytes of the directory without its addresses.
const HEAD: usize = size_of::<Directory>();

/// What a CPU counted up to now.
pub type Snapshot = Counters<u64>;

/// Where the counters are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterPages {
    /// Ticks a second.
    pub tick_hz: u32,
    /// Frequency of the TSC in hertz.
    pub tsc_hz: u64,
    /// Physical addresses, by dense index.
    addresses: Vec<u64>,
}

impl CounterPages {
    /// Looks for the directory in all of a guest's memory. `None`: there is none yet.
    ///
    /// # Errors
    /// If the memory cannot be read.
    pub fn find(ram: &GuestRam) -> std::io::Result<Option<CounterPages>> {
        for page in ram.pages_with(&MAGIC)? {
            // A page that only happens to begin so leads nowhere.
            if let Some(pages) = CounterPages::at(ram, page)? {
                return Ok(Some(pages));
            }
        }
        Ok(None)
    }

    /// The directory in a page, if it can be one. Read behind the search for its magic, which is written last.
    fn at(ram: &GuestRam, page: u64) -> std::io::Result<Option<CounterPages>> {
        let mut head = [0; HEAD];
        ram.read(page, &mut head)?;
        let half = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let cpus = half(offset_of!(Directory, cpus));
        let length = 8 * u64::from(cpus);
        if !(1..=CPUS_MAX).contains(&cpus) || ram.offset(page + HEAD as u64, length).is_none() {
            return Ok(None);
        }
        let mut bytes = vec![0; length as usize];
        ram.read(page + HEAD as u64, &mut bytes)?;
        let addresses: Vec<_> = words(&bytes).collect();
        let there =
            |address: &u64| address.is_multiple_of(8) && ram.offset(*address, LENGTH as u64).is_some();
        let tsc_hz = words(&head[offset_of!(Directory, tsc_hz)..]).next().unwrap_or(0);
        let tick_hz = half(offset_of!(Directory, tick_hz));
        Ok(addresses.iter().all(there).then_some(CounterPages { tick_hz, tsc_hz, addresses }))
    }

    /// What each CPU has counted, by dense index.
    ///
    /// # Errors
    /// If the memory cannot be read.
    pub fn read(&self, ram: &GuestRam) -> std::io::Result<Vec<Snapshot>> {
        let one = |address: &u64| {
            let mut bytes = [0; LENGTH];
            ram.read(*address, &mut bytes)?;
            Ok(snapshot(&bytes))
        };
        self.addresses.iter().map(one).collect()
    }
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word))
}

/// The structure is nothing but words, in the order of its fields.
fn snapshot(bytes: &[u8; LENGTH]) -> Snapshot {
    let array = |at: usize, to: &mut [u64]| {
        to.iter_mut().zip(words(&bytes[at..])).for_each(|(to, word)| *to = word);
    };
    let mut counters = Counters { calls: [0; TABLE_LEN + 1], ticks: 0, deviations: [0; CLASSES] };
    array(offset_of!(Snapshot, calls), &mut counters.calls);
    array(offset_of!(Snapshot, ticks), std::slice::from_mut(&mut counters.ticks));
    array(offset_of!(Snapshot, deviations), &mut counters.deviations);
    counters
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::trace::capture::Chipset;

    /// Memory in which two CPUs have counted: CPU 0 made 1000 calls of number 0 and 7 of the last class.
    pub fn guest() -> GuestRam {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(1 << 20).expect("a size");
        let ram = GuestRam::new(file, Chipset::Q35).expect("memory");
        let [low, high] =
            [&MAGIC[..8], &MAGIC[8..]].map(|half| u64::from_le_bytes(half.try_into().expect("8")));
        // In front of it, what only looks like it: the counters would be beyond memory.
        put(&ram, 0x3000, &[low, high, 1 | 100 << 32, 0, 1 << 40]);
        put(&ram, 0x5000, &[low, high, 2 | 100 << 32, 2_000_000_000, 0x8100, 0x9200]);
        put(&ram, 0x8100, &[1000]);
        put(&ram, 0x8100 + 8 * TABLE_LEN as u64, &[7, 55, 1, 2]);
        put(&ram, 0x9200 + offset_of!(Snapshot, ticks) as u64, &[56]);
        ram
    }

    impl CounterPages {
        /// A clock, for who has no guest.
        pub fn of(tick_hz: u32, tsc_hz: u64) -> CounterPages {
            CounterPages { tick_hz, tsc_hz, addresses: Vec::new() }
        }
    }

    /// Writes words.
    pub fn put(ram: &GuestRam, at: u64, words: &[u64]) {
        for (n, word) in words.iter().enumerate() {
            ram.write_u64(at + 8 * n as u64, *word).expect("writes");
        }
    }

    #[test]
    fn counters_are_found_behind_a_page_that_only_looks_like_theirs() {
        let ram = guest();
        let pages = CounterPages::find(&ram).expect("reads").expect("a directory");
        assert_eq!((pages.tick_hz, pages.tsc_hz), (100, 2_000_000_000));
        let counters = pages.read(&ram).expect("reads");
        assert_eq!(counters.len(), 2);
        assert_eq!((counters[0].calls[0], counters[0].calls[TABLE_LEN], counters[0].ticks), (1000, 7, 55));
        assert_eq!(counters[0].deviations[..3], [1, 2, 0]);
        assert_eq!((counters[1].calls.iter().sum::<u64>(), counters[1].ticks), (0, 56));
    }

    #[test]
    fn memory_without_counters_has_none() {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(1 << 20).expect("a size");
        let ram = GuestRam::new(file, Chipset::Q35).expect("memory");
        assert_eq!(CounterPages::find(&ram).expect("reads"), None);
    }
}
