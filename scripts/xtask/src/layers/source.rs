//! What a source file imports: the paths of its `use` items and those in its code, the macros that it invokes, and the
//! files that it declares as its modules. Items under `#[cfg(test)]` are left out, since layers do not apply to tests.

use super::tokens::{Token, tokens};

/// The references of a file to other files.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// Paths, in the order of the text.
    pub paths: Vec<Path>,
    /// `mod name;`, in the order of the text.
    pub modules: Vec<Declared>,
    /// Macros that `macro_rules!` defines here.
    pub macros: Vec<String>,
    /// Macros that are invoked here, with their lines.
    pub invoked: Vec<(usize, String)>,
}

/// A path that may lead to another file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// Its line, counted from 1.
    pub line: usize,
    /// The inline modules around it.
    pub inside: Vec<String>,
    /// The path. A glob's ends before the star.
    pub segments: Vec<String>,
}

/// A `mod name;`.
#[derive(Debug, PartialEq, Eq)]
pub struct Declared {
    /// The module's name.
    pub name: String,
    /// The file that a `#[path]` names.
    pub file: Option<String>,
}

/// Reads a file's text.
pub fn read(text: &str) -> Source {
    let mut reader =
        Reader { tokens: tokens(text), at: 0, inside: Vec::new(), depth: 0, found: Source::default() };
    let mut file = None;
    while reader.at < reader.tokens.len() {
        if let Some(named) = reader.step(&mut file) {
            file = Some(named);
        }
    }
    reader.found
}

struct Reader {
    tokens: Vec<(usize, Token)>,
    at: usize,
    /// The inline modules that are open, each with the depth of braces around it.
    inside: Vec<(String, usize)>,
    depth: usize,
    found: Source,
}

impl Reader {
    fn mark(&self, at: usize) -> Option<char> {
        match self.tokens.get(at) {
            Some((_, Token::Mark(c))) => Some(*c),
            _ => None,
        }
    }

    fn word(&self, at: usize) -> Option<&str> {
        match self.tokens.get(at) {
            Some((_, Token::Word(word))) => Some(word),
            _ => None,
        }
    }

    fn is_separator(&self, at: usize) -> bool {
        self.mark(at) == Some(':') && self.mark(at + 1) == Some(':')
    }

    /// Reads the next token or item. Returns the file that a `#[path]` names; `file` is that of the preceding
    /// `#[path]`.
    fn step(&mut self, file: &mut Option<String>) -> Option<String> {
        let at = self.at;
        self.at += 1;
        match self.tokens[at].1.clone() {
            Token::Mark('{') => self.depth += 1,
            Token::Mark('}') => {
                self.depth = self.depth.saturating_sub(1);
                if self.inside.last().is_some_and(|(_, depth)| *depth == self.depth) {
                    self.inside.pop();
                }
            }
            Token::Mark('#') if self.mark(at + 1) == Some('[') => return self.attribute(),
            Token::Word(word) if word == "mod" => self.module(file),
            Token::Word(word) if word == "use" => self.use_tree(&[]),
            // `pub(in path)` is not an import.
            Token::Word(word) if word == "in" && at > 0 && self.mark(at - 1) == Some('(') => {
                while self.at < self.tokens.len() && self.mark(self.at) != Some(')') {
                    self.at += 1;
                }
            }
            Token::Word(word) => self.word_in_code(at, word),
            _ => {}
        }
        None
    }

    /// After the `#`. The content of the attribute is read as code, since it may name functions.
    fn attribute(&mut self) -> Option<String> {
        let start = self.at + 1;
        let is_test = self.word(start) == Some("cfg")
            && self.mark(start + 1) == Some('(')
            && (self.word(start + 2) == Some("test") && self.mark(start + 3) == Some(')')
                || self.word(start + 2) == Some("all") && self.word(start + 4) == Some("test"));
        if is_test {
            self.skip_item();
            return None;
        }
        match (self.word(start), self.tokens.get(start + 2)) {
            (Some("path"), Some((_, Token::Text(file)))) => Some(file.clone()),
            _ => None,
        }
    }

    /// Skips from an attribute's bracket to the end of the item that it belongs to.
    fn skip_item(&mut self) {
        let mut depth = 0_usize;
        while let Some(token) = self.tokens.get(self.at).map(|(_, token)| token) {
            match token {
                Token::Mark('{' | '(' | '[') => depth += 1,
                // The item is the last one in its block, which ends here.
                Token::Mark('}' | ')' | ']') if depth == 0 => return,
                Token::Mark(c @ ('}' | ')' | ']')) => {
                    depth -= 1;
                    if *c == '}' && depth == 0 {
                        self.at += 1;
                        return;
                    }
                }
                Token::Mark(';') if depth == 0 => {
                    self.at += 1;
                    return;
                }
                _ => {}
            }
            self.at += 1;
        }
    }

    /// After `mod`.
    fn module(&mut self, file: &mut Option<String>) {
        let Some(name) = self.word(self.at).map(str::to_owned) else { return };
        match self.mark(self.at + 1) {
            Some(';') => self.found.modules.push(Declared { name, file: file.take() }),
            Some('{') => self.inside.push((name, self.depth)),
            _ => return,
        }
        self.at += 1;
    }

    /// Reads one tree after `use` or inside a group; its paths start with `prefix`.
    fn use_tree(&mut self, prefix: &[String]) {
        let mut segments = prefix.to_vec();
        loop {
            let at = self.at;
            self.at += 1;
            match self.tokens.get(at).map(|(_, token)| token.clone()) {
                Some(Token::Mark('{')) => {
                    while self.at < self.tokens.len() && self.mark(self.at) != Some('}') {
                        self.use_tree(&segments);
                    }
                    self.at += 1;
                    return;
                }
                Some(Token::Mark('*')) => return self.push(at, segments),
                Some(Token::Word(word)) if self.is_separator(self.at) => {
                    segments.push(word);
                    self.at += 2;
                }
                Some(Token::Word(word)) => {
                    if word != "self" || segments.is_empty() {
                        segments.push(word);
                    }
                    self.push(at, segments);
                    if self.word(self.at) == Some("as") {
                        self.at += 2;
                    }
                    return;
                }
                // A leading `::` names another crate.
                Some(Token::Mark(':')) => {}
                // A comma, or `use<...>` in a type.
                _ => return,
            }
        }
    }

    /// Reads a word outside of `use`, which may begin a path or name a macro.
    fn word_in_code(&mut self, at: usize, word: String) {
        if word == "macro_rules" && self.mark(at + 1) == Some('!') {
            self.found.macros.extend(self.word(at + 2).map(str::to_owned));
            self.at += 2;
        } else if self.mark(at + 1) == Some('!') && self.mark(at + 2) != Some('=') {
            let line = self.tokens[at].0;
            self.found.invoked.push((line, word));
        } else if self.is_separator(at + 1) {
            let mut segments = vec![word];
            while self.is_separator(self.at) {
                let Some(next) = self.word(self.at + 2).map(str::to_owned) else { break };
                segments.push(next);
                self.at += 3;
            }
            if self.mark(self.at) == Some('!') {
                let line = self.tokens[at].0;
                self.found.invoked.extend(segments.pop().map(|name| (line, name)));
            } else if !(at > 1 && self.is_separator(at - 2) || at > 0 && self.mark(at - 1) == Some('.')) {
                self.push(at, segments);
            }
        }
    }

    fn push(&mut self, at: usize, segments: Vec<String>) {
        let inside = self.inside.iter().map(|(name, _)| name.clone()).collect();
        self.found.paths.push(Path { line: self.tokens[at].0, inside, segments });
    }
}
