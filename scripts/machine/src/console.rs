//! Console lines of the firmware and of the UEFI loader.

use std::borrow::Cow;

/// The character that begins an escape sequence.
const ESCAPE: u8 = 0x1b;

/// Removes terminal escape sequences (ECMA-48, 5.4: `ESC [`, parameters, a final byte), with which UEFI firmware clears
/// the screen.
pub fn without_escapes(line: &[u8]) -> Cow<'_, [u8]> {
    if !line.contains(&ESCAPE) {
        return Cow::Borrowed(line);
    }
    let (mut kept, mut rest) = (Vec::new(), line);
    while let Some(at) = rest.iter().position(|&byte| byte == ESCAPE) {
        kept.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(sequence) = rest.strip_prefix(b"[") {
            let end = sequence.iter().position(|byte| (0x40..=0x7e).contains(byte));
            rest = end.map_or(&[], |end| &sequence[end + 1..]);
        }
    }
    kept.extend_from_slice(rest);
    Cow::Owned(kept)
}

/// Returns whether UEFI firmware or the loader printed the line before the kernel started. No line of the kernel is
/// empty or begins with an escape sequence or with one of these words.
pub fn precedes_the_kernel(line: &[u8]) -> bool {
    line.is_empty()
        || [&[ESCAPE][..], b"[loader] ", b"BdsDxe: "].into_iter().any(|start| line.starts_with(start))
}

/// Returns why the kernel will not start, if a console line gives the reason: a message of the loader, or the message
/// with which the firmware (EDK2) stops and waits for a key.
pub fn boot_failure(line: &[u8]) -> Option<String> {
    let line = without_escapes(line);
    if let Some(reason) = line.strip_prefix(b"[loader] ringside: cannot start: ") {
        return Some(String::from_utf8_lossy(reason).into_owned());
    }
    let gives_up = line.starts_with(b"BdsDxe: No bootable option or device was found");
    gives_up.then(|| {
        "the firmware found nothing that it can start; the machine may have too little memory".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_are_removed() {
        let without =
            |line: &[u8]| String::from_utf8(without_escapes(line).into_owned()).expect("invalid UTF-8");
        assert_eq!(without(b"\x1b[2J\x1b[01;01H\x1b[=3hBdsDxe: x\x1b[0m."), "BdsDxe: x.");
        assert_eq!(without(b"no escape"), "no escape");
        assert_eq!(without(b"a\x1bb\x1b[1;2"), "ab");
        assert_eq!(without(b"a\x1b"), "a");
    }

    #[test]
    fn failure_of_loader_and_firmware_is_recognised() {
        let reason =
            boot_failure(b"\x1b[2J[loader] ringside: cannot start: why").expect("there must be a failure");
        assert_eq!(reason, "why");
        assert!(boot_failure(b"\x1b[1HBdsDxe: No bootable option or device was found.").is_some());
        assert_eq!(boot_failure(b"[loader] ringside: starting the kernel at 0x200000"), None);
        assert_eq!(boot_failure(b"[cpu0] [loader] ringside: cannot start: a program's text"), None);
    }
}
