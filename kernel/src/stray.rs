//! Stray interrupts: interrupts with a vector that the kernel does not use, such as those of a device or a local vector
//! table that the firmware left armed.
#![forbid(unsafe_code)]

use core::fmt;

/// The first vector that a local APIC accepts. It reports an error for a lower one (SDM 3A, 11.5.2).
const FIRST_OF_APIC: u8 = 16;
/// The first vector that is not reserved for exceptions.
const FIRST_OF_INTERRUPTS: u8 = 32;

/// Classifies a trap for which the kernel has no other handler: a stray interrupt, or an exception (`None`). From
/// vector 32 on it is an interrupt. The vectors 16 to 31 belong to exceptions, but an APIC delivers interrupts with
/// them as well, and only such an interrupt is in service.
#[must_use]
pub fn classify(vector: u64, in_service: impl FnOnce(u8) -> bool) -> Option<Stray> {
    let vector = u8::try_from(vector).ok().filter(|&vector| vector >= FIRST_OF_APIC)?;
    let in_service = in_service(vector);
    (in_service || vector >= FIRST_OF_INTERRUPTS).then_some(Stray { vector, in_service })
}

/// A stray interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stray {
    /// The vector.
    pub vector: u8,
    /// Whether the local APIC has the vector in service, and so waits for its EOI. An EOI when the vector is not in
    /// service would end another interrupt.
    pub in_service: bool,
}

/// A set of vectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vectors([u64; 4]);

impl Vectors {
    /// Adds a vector.
    pub fn insert(&mut self, vector: u8) {
        self.0[usize::from(vector / 64)] |= 1 << (vector % 64);
    }

    /// Returns whether the set contains a vector.
    #[must_use]
    pub fn contains(&self, vector: u8) -> bool {
        self.0[usize::from(vector / 64)] >> (vector % 64) & 1 != 0
    }
}

/// The vectors in ascending order, with consecutive vectors as ranges: `0x21-0x23, 0x40`.
impl fmt::Display for Vectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        let mut rest = (0..=u8::MAX).filter(|&vector| self.contains(vector)).peekable();
        while let Some(first) = rest.next() {
            let mut last = first;
            while let Some(next) = rest.next_if(|&next| next == last + 1) {
                last = next;
            }
            write!(f, "{separator}{first:#04x}")?;
            if last != first {
                write!(f, "-{last:#04x}")?;
            }
            separator = ", ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn interrupt_is_distinguished_from_an_exception_by_vector_or_apic() {
        let of = |vector, in_service| {
            classify(vector, |_| in_service).map(|stray| (stray.vector, stray.in_service))
        };
        for exception in [0, 2, 14, 15] {
            assert_eq!(classify(exception, |_| panic!("an APIC has no vector {exception} in service")), None);
        }
        assert_eq!([of(16, false), of(31, false)], [None, None]);
        assert_eq!([of(16, true), of(31, true)], [Some((16, true)), Some((31, true))]);
        assert_eq!([of(32, false), of(255, true)], [Some((32, false)), Some((255, true))]);
        assert_eq!(of(256, true), None);
    }

    #[test]
    fn consecutive_vectors_are_shown_as_ranges() {
        let mut set = Vectors::default();
        assert_eq!(set.to_string(), "");
        for vector in [0xff, 0x10, 0x41, 0x40, 0x42, 0xfe, 0x7f] {
            set.insert(vector);
        }
        assert_eq!(set.to_string(), "0x10, 0x40-0x42, 0x7f, 0xfe-0xff");
        assert!((0..=u8::MAX).filter(|&vector| set.contains(vector)).count() == 7);
    }
}
