//! Error numbers, with the same values as on Linux. A system call returns them negated in rax.

/// The error of a system call. [`Errno::to_rax`] converts it to the value in rax.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i64)]
pub enum Errno {
    /// Memory at a pointer could not be read or written (EFAULT, 14).
    Fault = 14,
    /// An argument is invalid (EINVAL, 22).
    Invalid = 22,
    /// There is no such system call (ENOSYS, 38).
    NoSys = 38,
}

impl Errno {
    /// Returns the value for rax: the negated error number, in two's complement.
    #[must_use]
    pub const fn to_rax(self) -> u64 {
        (self as i64).wrapping_neg().cast_unsigned()
    }

    /// Returns the error that a value in rax encodes; `None` if the value is a success or an unknown error number.
    #[must_use]
    pub const fn from_rax(rax: u64) -> Option<Errno> {
        match rax.cast_signed() {
            -14 => Some(Errno::Fault),
            -22 => Some(Errno::Invalid),
            -38 => Some(Errno::NoSys),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_negated_linux_errnos() {
        for (errno, rax) in [(Errno::Fault, -14i64), (Errno::Invalid, -22), (Errno::NoSys, -38)] {
            assert_eq!(errno.to_rax(), rax as u64);
            assert_eq!(Errno::from_rax(errno.to_rax()), Some(errno));
        }
        assert_eq!(Errno::from_rax(0), None);
        assert_eq!(Errno::from_rax(14), None);
    }
}
