//! A range of memory that ring 3 passes to a system call.
#![forbid(unsafe_code)]

use kernel_abi::errno::Errno;
use kernel_abi::layout::USER_END;

/// A range that lies completely in the user half: it does not wrap, and no byte of it belongs to the kernel.
///
/// The type proves nothing else. The range may be partly or completely unmapped or read-only, and another CPU may
/// change or unmap it at any time. So only the copy function with an exception fixup accesses the range. It reads each
/// byte once, and the kernel then uses the copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserSlice {
    start: u64,
    len: u64,
}

impl UserSlice {
    /// Checks the range of `len` bytes at `ptr`. Both are unchecked values from ring 3.
    ///
    /// # Errors
    /// [`Errno::Fault`] if any byte of the range, or `ptr` itself, is beyond [`USER_END`]. That includes an empty
    /// range at `USER_END`: as in Linux's `access_ok`, the address is checked even if nothing is read.
    #[inline]
    pub const fn new(ptr: u64, len: u64) -> Result<UserSlice, Errno> {
        // The subtraction cannot wrap, because `ptr` is below USER_END.
        if ptr < USER_END && len <= USER_END - ptr {
            Ok(UserSlice { start: ptr, len })
        } else {
            Err(Errno::Fault)
        }
    }

    /// Returns the first address of the range.
    #[inline]
    #[must_use]
    pub const fn start(self) -> u64 {
        self.start
    }

    /// Returns the length of the range in bytes.
    #[inline]
    #[must_use]
    pub const fn len(self) -> u64 {
        self.len
    }

    /// Returns whether the range is empty.
    #[inline]
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Returns the first `n` bytes of the range, or the entire range if it is shorter.
    #[inline]
    #[must_use]
    pub const fn first(self, n: u64) -> UserSlice {
        UserSlice { start: self.start, len: if n < self.len { n } else { self.len } }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_at_the_limits_are_checked() {
        let table = [
            (0, 0, true),
            (0, USER_END, true),
            (0, USER_END + 1, false),
            (1, USER_END, false),
            (USER_END - 1, 1, true),
            (USER_END - 1, 2, false),
            (USER_END, 0, false),
            (USER_END, 1, false),
            (1 << 47, 0, false),
            (0x0000_8000_0000_0000, 8, false),
            (0xffff_8000_0000_0000, 0, false),
            (0xffff_ffff_8000_0000, 16, false),
            (u64::MAX, 0, false),
            (u64::MAX, 1, false),
            (u64::MAX, u64::MAX, false),
            (4096, u64::MAX, false),
            (4096, u64::MAX - 4096, false),
            (4096, u64::MAX - 4095, false),
        ];
        for (ptr, len, good) in table {
            let expected = if good { Ok((ptr, len)) } else { Err(Errno::Fault) };
            assert_eq!(
                UserSlice::new(ptr, len).map(|s| (s.start(), s.len())),
                expected,
                "{ptr:#x}, {len:#x}"
            );
        }
    }

    #[test]
    fn first_returns_at_most_n_bytes() {
        let slice = UserSlice::new(4096, 10).unwrap();
        assert_eq!(slice.first(3), UserSlice::new(4096, 3).unwrap());
        assert_eq!(slice.first(u64::MAX), slice);
        assert!(slice.first(0).is_empty() && !slice.is_empty());
    }

    proptest! {
        #[test]
        fn every_byte_is_in_the_user_half(ptr: u64, len: u64, first: u64) {
            crate::properties::user_slice(ptr, len, first);
        }

        /// Tests pointers and lengths whose sums are near the limits, which random values never hit.
        #[test]
        fn every_byte_is_in_the_user_half_near_the_limits(
            from in prop::sample::select(&[0, USER_END, 1 << 47, u64::MAX - (1 << 47), u64::MAX][..]),
            to in prop::sample::select(&[0, USER_END, 1 << 47, u64::MAX - (1 << 47), u64::MAX][..]),
            below in 0..3_u64, above in 0..3_u64, first: u64,
        ) {
            let pointer = from.wrapping_sub(below);
            crate::properties::user_slice(pointer, to.wrapping_sub(pointer).wrapping_add(above), first);
        }
    }
}
