//! The kernel's command line: tokens separated by blanks. Parts of a token may be in double quotes. A backslash escapes
//! the next character, inside and outside quotes. The program's arguments follow ` -- `.

use std::fmt::Write;

/// Quotes `text` as one token, which the kernel parses back to exactly `text`.
pub fn quote(text: &str) -> String {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '"' && c != '\\';
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted
}

/// Composes the command line. `raw` is the user's own text. It is neither checked nor quoted, so that tests can also
/// pass invalid input.
pub fn compose(
    program: Option<&str>,
    tick_hz: Option<u32>,
    raw: Option<&str>,
    arguments: &[String],
) -> String {
    let mut line = String::new();
    let mut push = |token: &str| {
        let blank = if line.is_empty() { "" } else { " " };
        // Writing to a `String` cannot fail.
        let _ = write!(line, "{blank}{token}");
    };
    if let Some(program) = program {
        push(&quote(&format!("program={program}")));
    }
    if let Some(tick_hz) = tick_hz {
        push(&format!("tick_hz={tick_hz}"));
    }
    if let Some(raw) = raw {
        push(raw);
    }
    if !arguments.is_empty() {
        push("--");
        arguments.iter().for_each(|argument| push(&quote(argument)));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_words_are_not_quoted() {
        assert_eq!(quote("program=hello"), "program=hello");
        assert_eq!(quote("-x=1,2"), "-x=1,2");
    }

    #[test]
    fn blanks_quotes_and_backslashes_are_quoted() {
        assert_eq!(quote("a b"), r#""a b""#);
        assert_eq!(quote(r#"say "hi""#), r#""say \"hi\"""#);
        assert_eq!(quote(r"a\b"), r#""a\\b""#);
        assert_eq!(quote(""), r#""""#);
    }

    #[test]
    fn tool_keys_precede_user_keys_and_arguments() {
        let arguments = ["a".to_owned(), "b c".to_owned()];
        assert_eq!(
            compose(Some("my prog"), Some(250), Some("panic_cpu=2"), &arguments),
            r#""program=my prog" tick_hz=250 panic_cpu=2 -- a "b c""#
        );
        assert_eq!(compose(None, None, None, &[]), "");
    }
}
