//! The kernel's command line, from the load options or from a file.
#![forbid(unsafe_code)]

use alloc::string::String;
use alloc::vec::Vec;

/// Returns the command line in an image's load options. Load options are UTF-16 text only by convention, and some
/// firmware passes binary data to every boot option. Returns `None` if the options are empty or are not text.
///
/// The UEFI Shell passes the complete line that was typed, whose first word is the loader's name.
#[must_use]
pub fn from_load_options(options: &[u8]) -> Option<String> {
    let (units, []) = options.as_chunks::<2>() else { return None };
    let units = units.iter().map(|&unit| u16::from_le_bytes(unit)).take_while(|&unit| unit != 0);
    let text: String = char::decode_utf16(units).collect::<Result<_, _>>().ok()?;
    if text.contains(|c: char| c.is_control() && c != '\t') {
        return None;
    }
    let text = text.trim();
    let (first, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
    let is_name = first.len() >= 4 && first.as_bytes()[first.len() - 4..].eq_ignore_ascii_case(b".efi");
    let text = if is_name { rest.trim_start() } else { text };
    (!text.is_empty()).then(|| String::from(text))
}

/// Returns the command line in a text file. The line breaks of any system count as blanks, and a byte order mark, which
/// some editors write, is skipped. Returns `None` if the file is not UTF-8.
#[must_use]
pub fn from_file(bytes: Vec<u8>) -> Option<String> {
    let text = String::from_utf8(bytes).ok()?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    Some(text.replace(['\r', '\n'], " ").trim().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<String> {
        from_load_options(&text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>())
    }

    #[test]
    fn load_options_end_at_their_nul() {
        assert_eq!(parsed("program=hello -- a\0").as_deref(), Some("program=hello -- a"));
        assert_eq!(parsed(" tick_hz=5 \0rest").as_deref(), Some("tick_hz=5"));
        assert_eq!(parsed("no=nul").as_deref(), Some("no=nul"));
        assert_eq!(parsed("program=\u{e9}\u{1f600}\0").as_deref(), Some("program=\u{e9}\u{1f600}"));
    }

    #[test]
    fn name_that_the_shell_passes_is_skipped() {
        assert_eq!(parsed("BOOTX64.EFI program=hello\0").as_deref(), Some("program=hello"));
        assert_eq!(parsed("fs0:\\efi\\boot\\bootx64.efi\tx=1\0").as_deref(), Some("x=1"));
        assert_eq!(parsed("BOOTX64.EFI\0"), None);
        assert_eq!(parsed("program=x.bin").as_deref(), Some("program=x.bin"));
    }

    #[test]
    fn options_that_are_not_text_are_no_command_line() {
        assert_eq!(parsed(""), None);
        assert_eq!(parsed("\0program=x"), None);
        assert_eq!(from_load_options(&[0x41]), None, "half a character");
        assert_eq!(from_load_options(&[0x00, 0xd8, 0x41, 0x00]), None, "half a surrogate pair");
        assert_eq!(parsed("R\u{1}C"), None);
    }

    #[test]
    fn file_may_have_any_line_breaks() {
        let file = |text: &str| from_file(text.as_bytes().to_vec());
        assert_eq!(file("program=hello\r\ntick_hz=50\r\n").as_deref(), Some("program=hello  tick_hz=50"));
        assert_eq!(file("\u{feff}program=hello\n").as_deref(), Some("program=hello"));
        assert_eq!(file("").as_deref(), Some(""));
        assert_eq!(from_file(std::vec![0xff]), None);
    }
}
