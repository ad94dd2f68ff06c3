//! The program's arguments, environment and auxiliary vector, read from the initial stack (drawn in [`crate::start`]).

use core::ffi::{CStr, c_char};

use crate::start;

/// The arguments; the first is the program's name.
#[must_use]
pub fn args() -> Args {
    let stack = start::initial_stack();
    if stack.is_null() {
        return Args { next: stack, left: 0 };
    }
    // SAFETY: not null, so it is the stack on which the kernel entered this program.
    unsafe { Args::from_stack(stack) }
}

/// The environment's strings, `name=value` each.
#[must_use]
pub fn environment() -> Environment {
    let args = args();
    if args.next.is_null() {
        return Environment { next: args.next };
    }
    // SAFETY: the initial stack is laid out as crate::start draws it: argv ends with a null word, behind which envp
    // begins. All of it stays mapped and is not written.
    Environment { next: unsafe { args.next.add(args.left + 1) } }
}

/// The auxiliary vector: pairs of an `AT_` type and a value, without the `AT_NULL` that ends it.
#[must_use]
pub fn auxiliary_vector() -> AuxiliaryVector {
    let mut environment = environment();
    environment.by_ref().for_each(drop);
    // Behind the null word that ends the environment; null if nobody entered this program.
    let past = if environment.next.is_null() { 0 } else { 1 };
    AuxiliaryVector { next: environment.next.wrapping_add(past) }
}

/// Iterator over the program's arguments, as the bytes before their NUL.
#[derive(Clone, Debug)]
pub struct Args {
    next: *const u64,
    left: usize,
}

impl Args {
    /// # Safety
    /// `stack` points to an initial stack laid out as [`crate::start`] draws it, which nothing writes and
    /// which lives as long as the program.
    unsafe fn from_stack(stack: *const u64) -> Args {
        // SAFETY: the caller's promise: argc lies there, argv behind it.
        unsafe { Args { next: stack.add(1), left: stack.read() as usize } }
    }
}

impl Iterator for Args {
    type Item = &'static [u8];

    fn next(&mut self) -> Option<&'static [u8]> {
        self.left = self.left.checked_sub(1)?;
        // SAFETY: by from_stack's contract argc words of argv lie there, of which `left` + 1 have not been read
        // yet, each the address of a NUL-terminated string.
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

/// Iterator over the environment, as the bytes before each string's NUL.
#[derive(Clone, Debug)]
pub struct Environment {
    next: *const u64,
}

impl Iterator for Environment {
    type Item = &'static [u8];

    fn next(&mut self) -> Option<&'static [u8]> {
        if self.next.is_null() {
            return None;
        }
        // SAFETY: `next` was made by `environment` and does not go past the null word that ends the list; every other
        // word is the address of a NUL-terminated string.
        unsafe {
            let string = self.next.read();
            if string == 0 {
                return None;
            }
            self.next = self.next.add(1);
            Some(CStr::from_ptr(string as *const c_char).to_bytes())
        }
    }
}

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
        // SAFETY: `next` was made by `auxiliary_vector` and goes on in whole pairs, not past AT_NULL.
        let (kind, value) = unsafe { (self.next.read(), self.next.add(1).read()) };
        if kind == 0 {
            return None;
        }
        self.next = self.next.wrapping_add(2);
        Some((kind, value))
    }
}

/// Reads an argument as a decimal number. `None` if it is none or does not fit.
#[must_use]
pub fn number(argument: &[u8]) -> Option<u64> {
    // `parse` would also take a plus sign.
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
        // SAFETY: built above as `crate::start` draws it, and leaked.
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
    fn the_environment_ends_with_its_null_word() {
        let strings = [c"round=0".as_ptr() as u64, c"".as_ptr() as u64, 0, 6, 4096];
        let environment = Environment { next: strings.as_ptr() };
        assert!(environment.eq([&b"round=0"[..], b""]));
    }

    #[test]
    fn a_program_that_nobody_entered_has_no_arguments() {
        assert_eq!(args().count(), 0);
        assert_eq!(environment().count(), 0);
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
