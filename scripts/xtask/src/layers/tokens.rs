//! Splits Rust source text into words, strings and punctuation, each with its line. This is enough to find paths.
//! Comments are omitted.

use std::iter::Peekable;
use std::str::Chars;

/// A piece of source text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// An identifier, a keyword or a number.
    Word(String),
    /// The content of a string literal.
    Text(String),
    /// One punctuation character. `::` is two of these.
    Mark(char),
}

/// Returns all tokens of a file, each with the line in which it starts. Lines are counted from 1.
pub fn tokens(text: &str) -> Vec<(usize, Token)> {
    let mut reader = Reader { rest: text.chars().peekable(), line: 1 };
    let mut found = Vec::new();
    loop {
        let line = reader.line;
        match reader.token() {
            Some(Some(token)) => found.push((line, token)),
            Some(None) => {}
            None => return found,
        }
    }
}

struct Reader<'a> {
    rest: Peekable<Chars<'a>>,
    line: usize,
}

impl Reader<'_> {
    fn bump(&mut self) -> Option<char> {
        let c = self.rest.next()?;
        self.line += usize::from(c == '\n');
        Some(c)
    }

    fn peek(&mut self) -> Option<char> {
        self.rest.peek().copied()
    }

    /// Reads the next token. Returns `Some(None)` for a comment, white space, a character literal or a lifetime, and
    /// `None` at the end of the text.
    fn token(&mut self) -> Option<Option<Token>> {
        let first = self.bump()?;
        Some(match (first, self.peek()) {
            ('/', Some('/')) => {
                while self.peek().is_some_and(|c| c != '\n') {
                    self.bump();
                }
                None
            }
            ('/', Some('*')) => {
                self.block_comment();
                None
            }
            ('"', _) => Some(Token::Text(self.string())),
            ('\'', _) => {
                self.character_or_lifetime();
                None
            }
            (c, _) if c.is_alphanumeric() || c == '_' => Some(self.word(c)),
            (c, _) if c.is_whitespace() => None,
            (c, _) => Some(Token::Mark(c)),
        })
    }

    /// Skips a block comment, after its first slash. Block comments nest.
    fn block_comment(&mut self) {
        let (mut depth, mut previous) = (0, '/');
        while let Some(c) = self.bump() {
            match (previous, c) {
                ('/', '*') => depth += 1,
                ('*', '/') => depth -= 1,
                _ => {
                    previous = c;
                    continue;
                }
            }
            if depth == 0 {
                return;
            }
            // A character belongs to only one `/*` or `*/`.
            previous = ' ';
        }
    }

    /// Reads a string, after the opening quote.
    fn string(&mut self) -> String {
        let mut content = String::new();
        while let Some(c) = self.bump() {
            match c {
                '"' => break,
                '\\' => {
                    self.bump();
                }
                c => content.push(c),
            }
        }
        content
    }

    /// Reads a word, or a literal that begins with a prefix: `b"..."`, `r#"..."#`. The raw identifier `r#word` is read
    /// as `word`.
    fn word(&mut self, first: char) -> Token {
        let mut word = String::from(first);
        while let Some(c) = self.peek().filter(|&c| c.is_alphanumeric() || c == '_') {
            word.push(c);
            self.bump();
        }
        let raw = matches!(word.as_str(), "r" | "br" | "cr");
        match self.peek() {
            Some('"') if raw => self.raw_string(),
            Some('#') if raw => self.raw_string(),
            Some('"') if matches!(word.as_str(), "b" | "c") => {
                self.bump();
                Token::Text(self.string())
            }
            _ => Token::Word(word),
        }
    }

    /// Reads a raw string, after the prefix. It begins with hashes and a quote, and ends with a quote and the same
    /// number of hashes.
    fn raw_string(&mut self) -> Token {
        let mut hashes = 0;
        while self.peek() == Some('#') {
            self.bump();
            hashes += 1;
        }
        if self.peek() != Some('"') {
            return self.bump().map_or(Token::Mark('#'), |c| self.word(c));
        }
        self.bump();
        let (mut content, end) = (String::new(), format!("\"{}", "#".repeat(hashes)));
        while let Some(c) = self.bump() {
            content.push(c);
            if content.ends_with(&end) {
                content.truncate(content.len() - end.len());
                break;
            }
        }
        Token::Text(content)
    }

    /// Skips a character literal (`'a'`, `'\''`, `'\u{1f}'`) or a lifetime (`'a`), after its first quote.
    fn character_or_lifetime(&mut self) {
        if self.peek() == Some('\\') {
            self.bump();
            self.bump();
            while self.bump().is_some_and(|c| c != '\'') {}
            return;
        }
        let first = self.bump();
        if self.peek() == Some('\'') {
            self.bump();
        } else if first.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            while self.peek().is_some_and(|c| c.is_alphanumeric() || c == '_') {
                self.bump();
            }
        }
    }
}
