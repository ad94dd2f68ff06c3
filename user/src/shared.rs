//! The page that all copies of a program share: the only memory that copies on different CPUs have in common.

use core::sync::atomic::{AtomicU64, Ordering};

use kernel_abi::layout::{PAGE_SIZE, SHARED_PAGE};

/// Number of 64-bit words in the page.
const WORDS: usize = PAGE_SIZE as usize / size_of::<AtomicU64>();

/// The shared page. It is all zero at the start of a run; the program defines its contents.
#[repr(C, align(4096))]
pub struct SharedPage {
    words: [AtomicU64; WORDS],
}

const _: () = assert!(
    size_of::<SharedPage>() as u64 == PAGE_SIZE,
    "the struct must fill exactly the one page that the kernel maps"
);
const _: () = assert!(
    SHARED_PAGE.is_multiple_of(align_of::<SharedPage>() as u64),
    "the page must be aligned to its size"
);

/// Returns the shared page of this run.
#[must_use]
pub fn shared_page() -> &'static SharedPage {
    let page = core::ptr::with_exposed_provenance::<SharedPage>(SHARED_PAGE as usize);
    // SAFETY: the kernel maps a readable and writable page at SHARED_PAGE into every program before the program starts,
    // and never unmaps it (kernel_abi::layout). Every bit pattern is a valid atomic, and every copy of a program
    // accesses the page only through atomics. On the host no program body runs.
    unsafe { &*page }
}

impl SharedPage {
    /// Returns the word at this index.
    ///
    /// # Panics
    /// If the index is outside the page.
    #[must_use]
    pub fn word(&self, index: usize) -> &AtomicU64 {
        &self.words[index]
    }

    /// Claims slot `slot` in a set of flags that starts at word `first_word` and has 64 flags per word. Returns true
    /// only for the first copy that claims the slot.
    ///
    /// # Panics
    /// If the slot is outside the page.
    #[must_use]
    pub fn claim(&self, first_word: usize, slot: usize) -> bool {
        let bit = 1 << (slot % 64);
        self.words[first_word + slot / 64].fetch_or(bit, Ordering::AcqRel) & bit == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_claimed_once() {
        let page = SharedPage { words: [const { AtomicU64::new(0) }; WORDS] };
        for slot in [0, 63, 64, 300] {
            assert!(page.claim(2, slot), "first claim of {slot}");
            assert!(!page.claim(2, slot), "second claim of {slot}");
        }
        assert_eq!(page.word(2).load(Ordering::Relaxed), 1 | 1 << 63);
        assert_eq!(page.word(3).load(Ordering::Relaxed), 1);
        assert_eq!(page.word(0).load(Ordering::Relaxed), 0);
    }
}
