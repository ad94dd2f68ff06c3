//! Numbers with nouns in messages.

use core::fmt;

/// A number with a noun, which is in the plural unless the number is 1. The noun must form its plural with an s.
#[derive(Clone, Copy, Debug)]
pub struct Count<'a>(pub u64, pub &'a str);

impl fmt::Display for Count<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Count(number, noun) = self;
        write!(f, "{number} {noun}{}", if *number == 1 { "" } else { "s" })
    }
}

/// Returns the form of a verb that follows a number: `one` for the number 1, `many` for every other number.
#[must_use]
pub fn verb(number: u64, one: &'static str, many: &'static str) -> &'static str {
    if number == 1 { one } else { many }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noun_and_verb_are_singular_after_one() {
        let text = |n| format!("{} {}", Count(n, "byte"), verb(n, "was", "were"));
        assert_eq!([0, 1, 2].map(text), ["0 bytes were", "1 byte was", "2 bytes were"]);
    }
}
