//! Finds the references of a source file to other files: paths in `use` items and in code, invoked macros, and declared
//! modules. Items under `#[cfg(test)]` are ignored, because layers do not apply to tests.

use super::tokens::{Token, tokens};

/// The references of a file to other files.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// Paths, in source order.
    pub paths: Vec<Path>,
    /// Declarations `mod name;`, in source order.
    pub modules: Vec<Declared>,
    /// Macros that this file defines with `macro_rules!`.
    pub macros: Vec<String>,
    /// Macros that this file invokes, each with its line.
    pub invoked: Vec<(usize, String)>,
}

/// A path that may refer to another file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// The path's line, counted from 1.
    pub line: usize,
    /// The inline modules that enclose the path.
    pub inside: Vec<String>,
    /// The segments of the path, without the star of a glob import.
    pub segments: Vec<String>,
}

/// A declaration `mod name;`.
#[derive(Debug, PartialEq, Eq)]
pub struct Declared {
    /// The module's name.
    pub name: String,
    /// The file named by a `#[path]` attribute.
    pub file: Option<String>,
}

/// Finds the references in a file's text.
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
    /// The enclosing inline modules, each with the brace depth outside it.
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

    /// Reads the next token or item. If it is a `#[path]` attribute, returns the file that it names. `file` is the file
    /// of a preceding `#[path]`.
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

    /// Reads an attribute, after its `#`. Its content is read as code, because it may name functions.
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

    /// Skips from an attribute's closing bracket to the end of the annotated item.
    fn skip_item(&mut self) {
        let mut depth = 0_usize;
        while let Some(token) = self.tokens.get(self.at).map(|(_, token)| token) {
            match token {
                Token::Mark('{' | '(' | '[') => depth += 1,
                // The item ends together with the enclosing block.
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
    /// Reads a module, after `mod`.
    fn module(&mut self, file: &mut Option<String>) {
        let Some(name) = self.word(self.at).map(str::to_owned) else { return };
        match self.mark(self.at + 1) {
            Some(';') => self.found.modules.push(Declared { name, file: file.take() }),
            Some('{') => self.inside.push((name, self.depth)),
            _ => return,
        }
        self.at += 1;
    }

    /// Reads one `use` tree, after `use` or inside a group. Its paths start with `prefix`.
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
                // Either a comma or `use<...>` in a type.
                _ => return,
            }
        }
    }

    /// Reads a word outside `use`. It may begin a path or name a macro.
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
