//! Command-line tokens: separated by blanks, unescaped when they are read, never copied.

use core::fmt;

use super::CmdlineError;

/// A token, or the value part of a token. It is displayed and compared unescaped and without quotes.
#[derive(Clone, Copy)]
pub struct Token<'a> {
    raw: &'a str,
    /// Whether `raw` starts inside quotes.
    quoted: bool,
}

impl<'a> Token<'a> {
    /// Creates a token from text without quotes and backslashes.
    pub(super) const fn plain(raw: &'a str) -> Token<'a> {
        Token { raw, quoted: false }
    }

    /// Returns the token's unescaped characters.
    #[must_use]
    pub const fn chars(&self) -> Unescape<'a> {
        Unescape { raw: self.raw, quoted: self.quoted }
    }

    /// Returns the token's unescaped characters as UTF-8 bytes.
    pub fn bytes(&self) -> impl Iterator<Item = u8> + Clone + use<'a> {
        self.chars().flat_map(|c| {
            let mut buffer = [0; 4];
            let len = c.encode_utf8(&mut buffer).len();
            buffer.into_iter().take(len)
        })
    }

    /// Returns the token's unescaped length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.chars().map(char::len_utf8).sum()
    }

    /// Returns whether the token is empty when unescaped, as `""` is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chars().next().is_none()
    }

    /// Copies the unescaped token to the start of a buffer and returns it as a string; `None` if the buffer is too
    /// short.
    pub fn copy_to<'b>(&self, buffer: &'b mut [u8]) -> Option<&'b str> {
        let buffer = buffer.get_mut(..self.len())?;
        buffer.iter_mut().zip(self.bytes()).for_each(|(to, from)| *to = from);
        core::str::from_utf8(buffer).ok()
    }
}

impl PartialEq<str> for Token<'_> {
    fn eq(&self, other: &str) -> bool {
        self.chars().eq(other.chars())
    }
}

impl PartialEq for Token<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.chars().eq(other.chars())
    }
}

impl Eq for Token<'_> {}

impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        self.chars().try_for_each(|c| f.write_char(c))
    }
}

impl fmt::Debug for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({self})")
    }
}

/// The unescaped characters of a token.
#[derive(Clone, Debug)]
pub struct Unescape<'a> {
    raw: &'a str,
    quoted: bool,
}

impl<'a> Unescape<'a> {
    pub(super) const fn token(self) -> Token<'a> {
        Token { raw: self.raw, quoted: self.quoted }
    }
}

impl Iterator for Unescape<'_> {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        let mut chars = self.raw.chars();
        let next = loop {
            match chars.next() {
                Some('"') => self.quoted = !self.quoted,
                Some('\\') => break chars.next(),
                other => break other,
            }
        };
        self.raw = chars.as_str();
        next
    }
}

/// The tokens of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tokens<'a>(pub(super) &'a str);

impl<'a> Iterator for Tokens<'a> {
    type Item = Result<Token<'a>, CmdlineError<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let line = self.0.trim_ascii_start();
        // After an invalid token the start of the next one is unknown.
        self.0 = "";
        let (mut quoted, mut escaped) = (false, false);
        let end = line.bytes().position(|byte| match byte {
            _ if escaped => {
                escaped = false;
                false
            }
            b'\\' => {
                escaped = true;
                false
            }
            b'"' => {
                quoted = !quoted;
                false
            }
            blank => blank.is_ascii_whitespace() && !quoted,
        });
        if escaped {
            return Some(Err(CmdlineError::TrailingBackslash));
        }
        if quoted {
            return Some(Err(CmdlineError::UnterminatedQuote));
        }
        let (raw, rest) = line.split_at(end.unwrap_or(line.len()));
        self.0 = rest;
        (!raw.is_empty()).then_some(Ok(Token { raw, quoted: false }))
    }
}
