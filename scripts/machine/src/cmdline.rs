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

/// Returns the value of a key on a command line.
pub fn value(line: &str, key: &str) -> Option<String> {
    let tokens = tokens(line);
    let mut pairs =
        tokens.iter().take_while(|token| *token != "--").filter_map(|token| token.split_once('='));
    pairs.find(|(name, _)| *name == key).map(|(_, value)| value.to_owned())
}

/// Splits a command line into its unquoted tokens.
pub(crate) fn tokens(line: &str) -> Vec<String> {
    let (mut tokens, mut token, mut quoted) = (Vec::new(), None::<String>, false);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' if !quoted => tokens.extend(token.take()),
            '"' => {
                token.get_or_insert_default();
                quoted = !quoted;
            }
            '\\' => token.get_or_insert_default().extend(chars.next()),
            c => token.get_or_insert_default().push(c),
        }
    }
    tokens.extend(token);
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_is_read_back() {
        for name in ["hello", "my prog", r#"a"b\c"#] {
            let line = compose(Some(name), Some(250), None, &["program=x".to_owned()]);
            assert_eq!(value(&line, "program").as_deref(), Some(name));
        }
        assert_eq!(value("tick_hz=1", "program"), None);
    }

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
