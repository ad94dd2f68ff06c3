//! The program's arguments, environment and auxiliary vector, read from the initial stack (drawn in [`crate::start`]).

use core::ffi::{CStr, c_char};

use crate::start;

/// Returns the arguments; the first is the program's name.
#[must_use]
pub fn args() -> Args {
    let stack = start::initial_stack();
    if stack.is_null() {
        return Args { next: stack, left: 0 };
    }
    // SAFETY: the pointer is not null, so it is the initial stack on which the kernel entered this program, laid out as
    // drawn in crate::start.
    unsafe { Args::from_stack(stack) }
}

/// Returns the auxiliary vector: pairs of an `AT_` type and a value, without the final `AT_NULL`.
#[must_use]
pub fn auxiliary_vector() -> AuxiliaryVector {
    let env = env();
    if env.next.is_null() {
        return AuxiliaryVector { next: env.next };
    }
    // SAFETY: the initial stack has the layout drawn in crate::start: the auxiliary vector follows envp and its null
    // word. The stack stays mapped, and nothing writes this part of it.
    AuxiliaryVector { next: unsafe { env.next.add(env.left + 1) } }
}

/// Returns the strings of the environment, each `NAME=VALUE`.
#[must_use]
pub fn env() -> Args {
    let args = args();
    if args.next.is_null() {
        return args;
    }
    // SAFETY: envp follows argv and its null word, and itself ends with a null word.
    unsafe {
        let first = args.next.add(args.left + 1);
        let mut left = 0;
        while first.add(left).read() != 0 {
            left += 1;
        }
        Args { next: first, left }
    }
}

/// Returns the value of an environment variable.
#[must_use]
pub fn environment(name: &str) -> Option<&'static [u8]> {
    env().find_map(|string| string.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

/// Iterator over the program's arguments or its environment, as the bytes before their NUL.
#[derive(Clone, Debug)]
pub struct Args {
    next: *const u64,
    left: usize,
}

impl Args {
    /// # Safety
    /// `stack` points to an initial stack with the layout drawn in [`crate::start`]. Nothing writes it, and it lives as
    /// long as the program.
    unsafe fn from_stack(stack: *const u64) -> Args {
        // SAFETY: by this function's contract `stack` points to argc, and argv follows it.
        unsafe { Args { next: stack.add(1), left: stack.read() as usize } }
    }
}

impl Iterator for Args {
    type Item = &'static [u8];

    fn next(&mut self) -> Option<&'static [u8]> {
        self.left = self.left.checked_sub(1)?;
        // SAFETY: by from_stack's contract `next` points into argv or envp. Each non-null word is the address of a
        // NUL-terminated string. This string, `left` more and the null word are still unread.
        unsafe {
            let string = self.next.read() as *const c_char;
            self.next = self.next.add(1);
            Some(CStr::from_ptr(string).to_bytes())
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Args {}

/// Iterator over the auxiliary vector.
#[derive(Clone, Debug)]
pub struct AuxiliaryVector {
    next: *const u64,
}

impl Iterator for AuxiliaryVector {
    type Item = (u64, u64);

    fn next(&mut self) -> Option<(u64, u64)> {
        if self.next.is_null() {
            return None;
        }
        // SAFETY: `next` comes from `auxiliary_vector` and advances in whole pairs, never past AT_NULL.
        let (kind, value) = unsafe { (self.next.read(), self.next.add(1).read()) };
        if kind == 0 {
            return None;
        }
        self.next = self.next.wrapping_add(2);
        Some((kind, value))
    }
}

/// Parses an argument as a decimal number. Returns `None` if it is not a number or does not fit in 64 bits.
#[must_use]
pub fn number(argument: &[u8]) -> Option<u64> {
    // `parse` would also accept a plus sign.
    if !argument.first()?.is_ascii_digit() {
        return None;
    }
    str::from_utf8(argument).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::boxed::Box;
    use std::vec;
    use std::vec::Vec;

    use super::*;

    fn parse(arguments: &[&'static CStr]) -> Vec<&'static [u8]> {
        let mut stack = vec![arguments.len() as u64];
        stack.extend(arguments.iter().map(|argument| argument.as_ptr() as u64));
        stack.extend([0, 0, 0, 0]);
        let stack = Box::leak(stack.into_boxed_slice());
        // SAFETY: the stack above has the layout drawn in `crate::start`, and it is leaked.
        let args = unsafe { Args::from_stack(stack.as_ptr()) };
        assert_eq!(args.len(), arguments.len());
        args.collect()
    }

    #[test]
    fn arguments_are_the_bytes_before_the_nul() {
        assert!(parse(&[]).is_empty());
        assert_eq!(parse(&[c"fault", c"", c"a b"]), [&b"fault"[..], b"", b"a b"]);
    }

    #[test]
    fn no_arguments_without_an_initial_stack() {
        assert_eq!(args().count(), 0);
        assert_eq!(env().count(), 0);
        assert_eq!(auxiliary_vector().count(), 0);
    }

    #[test]
    fn numbers_are_decimal_and_fit() {
        assert_eq!(number(b"0"), Some(0));
        assert_eq!(number(b"18446744073709551615"), Some(u64::MAX));
        for bad in [&b""[..], b"18446744073709551616", b"-1", b"+1", b" 1", b"1 ", b"0x1", b"\xff"] {
            assert_eq!(number(bad), None, "{}", bad.escape_ascii());
        }
    }
}
