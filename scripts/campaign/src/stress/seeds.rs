//! Parses seeds, and selects the seeds of a campaign.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::error::StressError;
use super::lines::splitmix64;

/// Maximum number of seeds of one campaign. It is limited because all results are kept in memory.
pub const SEEDS_MAX: u64 = 1_000_000;

/// The seed of all random choices of a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Seed(pub u64);

impl Seed {
    /// Returns a random seed.
    pub fn random() -> Seed {
        // The standard library's hash maps take their keys from the system's random number generator.
        Seed(RandomState::new().hash_one("seed"))
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

// In JSON a seed is a string, because many JSON parsers keep only 53 bits of a number.
impl From<Seed> for String {
    fn from(seed: Seed) -> String {
        seed.to_string()
    }
}

impl TryFrom<String> for Seed {
    type Error = SeedError;

    fn try_from(text: String) -> Result<Seed, SeedError> {
        text.parse()
    }
}

/// An error in a seed or in a range of seeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeedError {
    /// Not a decimal or hexadecimal number of at most 64 bits.
    Number,
    /// A range without `..`.
    NoRange,
    /// An empty range.
    Empty,
}

impl fmt::Display for SeedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SeedError::Number => {
                "a seed is a decimal number, or a hexadecimal number with 0x, of at most 64 bits"
            }
            SeedError::NoRange => "a range is A..B, which excludes B, or A..=B, which includes B",
            SeedError::Empty => "the range is empty: A must be less than B, or equal in A..=B",
        })
    }
}

impl std::error::Error for SeedError {}

impl FromStr for Seed {
    type Err = SeedError;

    fn from_str(text: &str) -> Result<Seed, SeedError> {
        let (digits, radix) = match text.strip_prefix("0x") {
            Some(digits) => (digits, 16),
            None => (text, 10),
        };
        // `from_str_radix` would accept a sign.
        if !digits.starts_with(|c: char| c.is_digit(radix)) {
            return Err(SeedError::Number);
        }
        u64::from_str_radix(digits, radix).map(Seed).map_err(|_| SeedError::Number)
    }
}

/// `A..B` or `A..=B`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeedRange {
    first: u64,
    last: u64,
}

impl FromStr for SeedRange {
    type Err = SeedError;

    fn from_str(text: &str) -> Result<SeedRange, SeedError> {
        let (first, last) = text.split_once("..").ok_or(SeedError::NoRange)?;
        let Seed(first) = first.parse()?;
        let last = match last.strip_prefix('=') {
            Some(last) => last.parse::<Seed>()?.0,
            None => last.parse::<Seed>()?.0.checked_sub(1).ok_or(SeedError::Empty)?,
        };
        if first <= last { Ok(SeedRange { first, last }) } else { Err(SeedError::Empty) }
    }
}

impl SeedRange {
    /// Returns all seeds in the range.
    pub fn seeds(self) -> Result<Vec<Seed>, StressError> {
        if self.last - self.first >= SEEDS_MAX {
            return Err(StressError::TooManySeeds(SEEDS_MAX));
        }
        Ok((self.first..=self.last).map(Seed).collect())
    }
}

/// Returns `count` different seeds: `first`, and seeds derived from it.
pub fn derived(first: Seed, count: u64) -> Result<Vec<Seed>, StressError> {
    if count > SEEDS_MAX {
        return Err(StressError::TooManySeeds(SEEDS_MAX));
    }
    // splitmix64 is a bijection, so only `first` itself could occur twice.
    let rest = (0..).map(|n: u64| Seed(splitmix64(first.0.wrapping_add(n)))).filter(|seed| *seed != first);
    // At most a million, which fits in a `usize`.
    Ok(std::iter::once(first).chain(rest).take(count as usize).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn range(text: &str) -> Result<Vec<u64>, SeedError> {
        let seeds = text.parse::<SeedRange>()?.seeds().expect("too many seeds");
        Ok(seeds.into_iter().map(|seed| seed.0).collect())
    }

    #[test]
    fn seeds_are_decimal_or_hexadecimal_and_round_trip() {
        assert_eq!("17".parse(), Ok(Seed(17)));
        assert_eq!("0xffffffffffffffff".parse(), Ok(Seed(u64::MAX)));
        for text in ["", "0x", "-1", "+1", "0x+1", "1 ", "18446744073709551616", "ff"] {
            assert_eq!(text.parse::<Seed>(), Err(SeedError::Number), "{text:?}");
        }
        for seed in [Seed(0), Seed(1), Seed(u64::MAX), Seed::random()] {
            assert_eq!(seed.to_string().parse(), Ok(seed));
            let json = serde_json::to_string(&seed).expect("cannot write");
            assert_eq!(serde_json::from_str::<Seed>(&json).expect("cannot read"), seed);
        }
    }

    #[test]
    fn range_includes_its_end_only_with_equals_sign() {
        assert_eq!(range("3..6"), Ok(vec![3, 4, 5]));
        assert_eq!(range("3..=6"), Ok(vec![3, 4, 5, 6]));
        assert_eq!(range("0xe..0x10"), Ok(vec![14, 15]));
        assert_eq!(range("0xfffffffffffffffe..=0xffffffffffffffff"), Ok(vec![u64::MAX - 1, u64::MAX]));
        assert_eq!(range("5..5"), Err(SeedError::Empty));
        assert_eq!(range("0..0"), Err(SeedError::Empty));
        assert_eq!(range("6..=5"), Err(SeedError::Empty));
        assert_eq!(range("5"), Err(SeedError::NoRange));
        assert_eq!(range("..5"), Err(SeedError::Number));
        assert_eq!(range("1...5"), Err(SeedError::Number));
    }

    #[test]
    fn too_large_range_is_rejected() {
        let whole: SeedRange = "0..=0xffffffffffffffff".parse().expect("there must be a range");
        assert_eq!(whole.seeds(), Err(StressError::TooManySeeds(SEEDS_MAX)));
        assert_eq!(derived(Seed(1), SEEDS_MAX + 1), Err(StressError::TooManySeeds(SEEDS_MAX)));
    }

    #[test]
    fn derived_seeds_start_with_first_and_differ() {
        let seeds = derived(Seed(7), 1000).expect("too many seeds");
        assert_eq!(seeds[0], Seed(7));
        assert_eq!(seeds.iter().collect::<HashSet<_>>().len(), 1000);
        assert_eq!(seeds, derived(Seed(7), 1000).expect("too many seeds"));
        assert_eq!(derived(Seed(7), 1).expect("too many seeds"), [Seed(7)]);
    }

    #[test]
    fn random_seeds_differ() {
        assert_ne!(Seed::random(), Seed::random());
    }
}
