//! The initial stack of a program (psABI for x86-64, 3.4.1).
//!
//! ```text
//!   top     strings of argv, then of the environment, each NUL-terminated
//!           unused, less than 16 bytes
//!           auxv: pairs of (type, value), the last AT_NULL
//!           0                  end of the environment
//!           env[0..]           addresses of the strings
//!           0                  end of argv
//!           argv[0..argc]      addresses of the strings
//!   rsp     argc               rsp is a multiple of 16
//! ```
#![forbid(unsafe_code)]

use core::fmt;
use core::iter;

use kernel_abi::layout::PAGE_SIZE;

use crate::program::Image;

/// Types of auxv entries (psABI, table 3.11).
const AT_NULL: u64 = 0;
const AT_IGNORE: u64 = 1;
const AT_PHDR: u64 = 3;
const AT_PHENT: u64 = 4;
const AT_PHNUM: u64 = 5;
const AT_PAGESZ: u64 = 6;
const AT_ENTRY: u64 = 9;

/// Length of a program header in ELF64, in bytes.
const PROGRAM_HEADER_LEN: u64 = 56;

/// The error if the arguments do not fit in the part of the stack reserved for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArgumentsTooLong {
    /// The number of bytes needed, pointers and auxv included.
    pub needed: usize,
    /// The number of bytes available.
    pub room: usize,
}

impl fmt::Display for ArgumentsTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the program's arguments need {} bytes of its stack; the limit is {}",
            self.needed, self.room
        )
    }
}

impl core::error::Error for ArgumentsTooLong {}

/// Writes argc, argv, the environment and auxv to the upper end of `stack`, and returns the initial stack pointer,
/// which is a user address.
///
/// `stack` is the top part of the stack and must be zeroed. `top` is the user address of its end and must be a multiple
/// of 16. The first element of `argv` is the program's name. The program sees an argument that contains a NUL only up
/// to the NUL.
///
/// # Errors
/// [`ArgumentsTooLong`] if `stack` is too short. The contents of `stack` are then undefined.
pub fn write<A>(
    stack: &mut [u8],
    top: u64,
    argv: A,
    env: &[&str],
    image: &Image<'_>,
) -> Result<u64, ArgumentsTooLong>
where
    A: Iterator<Item: Iterator<Item = u8>> + Clone,
{
    let auxv = auxv(image);
    let argc = argv.clone().count();
    let env_bytes = || env.iter().flat_map(|string| with_nul(string.bytes()));
    let string_bytes = argv.clone().flat_map(with_nul).count() + env_bytes().count();
    // argc, the addresses, the two null words, and auxv.
    let words = argc.saturating_add(3 + env.len() + 2 * auxv.len());
    let needed = words.saturating_mul(8).saturating_add(string_bytes).saturating_add(15) & !15;
    let room = stack.len();
    let start = room.checked_sub(needed).ok_or(ArgumentsTooLong { needed, room })?;
    let strings = room - string_bytes;

    let mut next = top - string_bytes as u64;
    let lengths = argv.clone().map(|arg| Some(with_nul(arg).count())).chain([None]);
    let lengths = lengths.chain(env.iter().map(|string| Some(string.len() + 1))).chain([None]);
    // A `None` is the null word that ends argv or the environment.
    let addresses = lengths.map(|length| {
        length.map_or(0, |length| {
            let this = next;
            next += length as u64;
            this
        })
    });
    let vector = iter::once(argc as u64).chain(addresses).chain(auxv.into_iter().flatten());
    for (slot, word) in stack[start..].chunks_exact_mut(8).zip(vector) {
        slot.copy_from_slice(&word.to_le_bytes());
    }
    let bytes = argv.flat_map(with_nul).chain(env_bytes());
    stack[strings..].iter_mut().zip(bytes).for_each(|(slot, byte)| *slot = byte);
    Ok(top - needed as u64)
}

fn with_nul(arg: impl Iterator<Item = u8>) -> impl Iterator<Item = u8> {
    arg.chain([0])
}

/// Returns the entries of the auxiliary vector, including the terminator.
fn auxv(image: &Image<'_>) -> [[u64; 2]; 6] {
    let (count, vaddr) = image.program_headers();
    [
        [AT_PAGESZ, PAGE_SIZE],
        [AT_ENTRY, image.entry()],
        // A linker script may exclude the headers from the loaded segments.
        vaddr.map_or([AT_IGNORE, 0], |vaddr| [AT_PHDR, vaddr]),
        [AT_PHENT, PROGRAM_HEADER_LEN],
        [AT_PHNUM, count],
        [AT_NULL, 0],
    ]
}

#[cfg(test)]
mod tests {
    use std::string::String;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    const TOP: u64 = 0x7fff_ff00_0000;

    fn bytes<'a>(argv: &'a [&str]) -> impl Iterator<Item: Iterator<Item = u8>> + Clone + use<'a> {
        argv.iter().map(|arg| arg.bytes())
    }

    const ENV: [&str; 2] = ["round=0", ""];

    /// Parses argv and auxv from a stack as a program's startup code does, and checks that the environment is [`ENV`].
    fn read(stack: &[u8], rsp: u64) -> (Vec<String>, Vec<[u64; 2]>) {
        let offset = |addr: u64| stack.len() - usize::try_from(TOP - addr).unwrap();
        let mut words =
            stack[offset(rsp)..].chunks_exact(8).map(|w| u64::from_le_bytes(w.try_into().unwrap()));
        let argc = words.next().unwrap() as usize;
        let string = |addr: u64| {
            let bytes = &stack[offset(addr)..];
            let len = bytes.iter().position(|&byte| byte == 0).unwrap();
            String::from_utf8(bytes[..len].to_vec()).unwrap()
        };
        let argv = words.by_ref().take(argc).map(string).collect();
        assert_eq!(words.next(), Some(0), "a null word must end argv");
        assert!(words.by_ref().take_while(|&word| word != 0).map(string).eq(ENV), "environment");
        let auxv =
            std::iter::from_fn(|| Some([words.next()?, words.next()?])).take_while(|pair| pair[0] != AT_NULL);
        (argv, auxv.collect())
    }

    #[test]
    fn program_finds_its_arguments_and_auxv() {
        let file = crate::program::tests::elf_with(|_, _| {});
        let image = Image::parse(&file).unwrap();
        let mut stack = [0; 4096];
        let rsp = write(&mut stack, TOP, bytes(&["hello", "", "a b"]), &ENV, &image).unwrap();
        let (argv, auxv) = read(&stack, rsp);
        assert_eq!(argv, ["hello", "", "a b"]);
        let base = image.entry() - 0x1010;
        assert_eq!(
            auxv,
            [
                [AT_PAGESZ, 4096],
                [AT_ENTRY, image.entry()],
                [AT_PHDR, base + 64],
                [AT_PHENT, 56],
                [AT_PHNUM, 3]
            ]
        );
    }

    #[test]
    fn arguments_up_to_the_limit_fit() {
        let file = crate::program::tests::elf_with(|_, _| {});
        let image = Image::parse(&file).unwrap();
        let argv = ["x", "0123456789"];
        let needed = write(&mut [], TOP, bytes(&argv), &ENV, &image).unwrap_err().needed;
        let mut stack = std::vec![0; needed];
        assert_eq!(write(&mut stack, TOP, bytes(&argv), &ENV, &image), Ok(TOP - needed as u64));
        let error = write(&mut stack[1..], TOP, bytes(&argv), &ENV, &image).unwrap_err();
        assert_eq!(error, ArgumentsTooLong { needed, room: needed - 1 });
    }

    proptest! {
        #[test]
        fn any_arguments_are_found_unchanged(argv in prop::collection::vec("[^\0]{0,40}", 0..20), room in 0..4096_usize) {
            let file = crate::program::tests::elf_with(|_, _| {});
            let image = Image::parse(&file).unwrap();
            let argv: Vec<_> = argv.iter().map(String::as_str).collect();
            let mut stack = std::vec![0; room];
            if let Ok(rsp) = write(&mut stack, TOP, bytes(&argv), &ENV, &image) {
                prop_assert!(rsp.is_multiple_of(16));
                let (read_argv, auxv) = read(&stack, rsp);
                prop_assert_eq!(read_argv, argv);
                prop_assert_eq!(auxv.len(), 5);
            }
        }
    }
}
