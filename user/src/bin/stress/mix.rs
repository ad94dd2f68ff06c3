//! The kinds of calls and their weights.

use core::fmt;

use user::args;

/// A kind of call in the mix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `SYS_NULL`.
    Null,
    /// `SYS_GET_TICKS`.
    Ticks,
    /// `SYS_CLOCK_NS`.
    Clock,
    /// `SYS_WRITE_SERIAL` of the next piece of this CPU's lines.
    Write,
    /// `SYS_GET_CPU` or `SYS_CPU_COUNT`.
    Cpu,
    /// `SYS_TRACE`.
    Trace,
    /// A call that must fail or have no effect.
    Bad,
}

impl Kind {
    /// Every kind. Frequent kinds come first, because `pick` searches in this order.
    const ALL: [(Kind, &'static str); 7] = [
        (Kind::Null, "null"),
        (Kind::Ticks, "ticks"),
        (Kind::Clock, "clock"),
        (Kind::Write, "write"),
        (Kind::Cpu, "cpu"),
        (Kind::Trace, "trace"),
        (Kind::Bad, "bad"),
    ];
}

/// The weights of the kinds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mix {
    /// Running sums of the weights, in the order of [`Kind::ALL`].
    sums: [u32; Kind::ALL.len()],
}

/// An error in a list of weights.
#[derive(Debug, PartialEq, Eq)]
pub enum MixError<'a> {
    /// The item is not `KIND=WEIGHT`.
    Malformed(&'a [u8]),
    /// The kind is unknown.
    UnknownKind(&'a [u8]),
    /// The kind occurs twice.
    Twice(&'static str),
    /// All weights are 0, or their sum does not fit in 32 bits.
    BadSum,
}

impl fmt::Display for MixError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MixError::Malformed(item) => write!(f, "'{}' is not KIND=WEIGHT", item.escape_ascii()),
            MixError::UnknownKind(kind) => write!(f, "unknown kind '{}'", kind.escape_ascii()),
            MixError::Twice(kind) => write!(f, "{kind} is given twice"),
            MixError::BadSum => f.write_str("the sum of the weights must be in 1 to 4294967295"),
        }
    }
}

impl Mix {
    /// The default mix.
    pub const DEFAULT: Mix = match Mix::from_weights([40, 20, 10, 10, 10, 5, 5]) {
        Some(mix) => mix,
        None => panic!("the sum of the default weights must be valid"),
    };

    const fn from_weights(weights: [u32; Kind::ALL.len()]) -> Option<Mix> {
        let mut sums = weights;
        let mut n = 1;
        while n < sums.len() {
            sums[n] = match sums[n - 1].checked_add(sums[n]) {
                Some(sum) => sum,
                None => return None,
            };
            n += 1;
        }
        if sums[n - 1] == 0 { None } else { Some(Mix { sums }) }
    }

    /// Parses a list such as `null=40,write=10`. A kind that is not listed has weight 0.
    ///
    /// # Errors
    /// [`MixError`] for the first invalid item.
    pub fn parse(text: &[u8]) -> Result<Mix, MixError<'_>> {
        let mut weights = [None; Kind::ALL.len()];
        for item in text.split(|&byte| byte == b',') {
            let malformed = MixError::Malformed(item);
            let Some(equals) = item.iter().position(|&byte| byte == b'=') else { return Err(malformed) };
            let (kind, weight) = (&item[..equals], &item[equals + 1..]);
            let Some(index) = Kind::ALL.iter().position(|(_, name)| name.as_bytes() == kind) else {
                return Err(MixError::UnknownKind(kind));
            };
            let weight = args::number(weight).and_then(|weight| u32::try_from(weight).ok());
            if weights[index].replace(weight.ok_or(malformed)?).is_some() {
                return Err(MixError::Twice(Kind::ALL[index].1));
            }
        }
        Mix::from_weights(weights.map(Option::unwrap_or_default)).ok_or(MixError::BadSum)
    }

    /// Returns the kind that a random number selects.
    #[inline]
    pub fn pick(&self, random: u32) -> Kind {
        let [rest @ .., total] = &self.sums;
        // Scale the number to a value below the total. All values are equally likely to within one part in 2^32.
        let place = ((u64::from(random) * u64::from(*total)) >> 32) as u32;
        let index = rest.iter().position(|&sum| place < sum).unwrap_or(rest.len());
        Kind::ALL[index].0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns how many times each kind is picked for evenly spread random numbers.
    fn spread(mix: &Mix, numbers: u32) -> [u32; Kind::ALL.len()] {
        let mut counts = [0; Kind::ALL.len()];
        for n in 0..numbers {
            // Rounded up, so that this is the first number in the nth of `numbers` equal parts.
            let random = (u64::from(n) << 32).div_ceil(u64::from(numbers));
            let kind = mix.pick(random as u32);
            counts[Kind::ALL.iter().position(|(other, _)| *other == kind).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn kinds_come_in_proportion_to_their_weights() {
        assert_eq!(spread(&Mix::DEFAULT, 100), [40, 20, 10, 10, 10, 5, 5]);
        let mix = Mix::parse(b"bad=3,write=1,ticks=0").unwrap();
        assert_eq!(spread(&mix, 4000), [0, 0, 0, 1000, 0, 0, 3000]);
        let mix = Mix::parse(b"trace=4294967295").unwrap();
        assert_eq!((mix.pick(0), mix.pick(u32::MAX)), (Kind::Trace, Kind::Trace));
    }

    #[test]
    fn the_documented_default_is_the_default() {
        let text = b"null=40,write=10,ticks=20,clock=10,cpu=10,trace=5,bad=5";
        assert_eq!(Mix::parse(text), Ok(Mix::DEFAULT));
    }

    #[test]
    fn invalid_mixes_are_named() {
        for (text, error) in [
            (&b""[..], MixError::Malformed(b"")),
            (b"null", MixError::Malformed(b"null")),
            (b"null=", MixError::Malformed(b"null=")),
            (b"null=1,", MixError::Malformed(b"")),
            (b"null=-1", MixError::Malformed(b"null=-1")),
            (b"null=4294967296", MixError::Malformed(b"null=4294967296")),
            (b"nil=1", MixError::UnknownKind(b"nil")),
            (b"null=1,null=1", MixError::Twice("null")),
            (b"null=0,bad=0", MixError::BadSum),
            (b"null=4294967295,bad=1", MixError::BadSum),
        ] {
            assert_eq!(Mix::parse(text), Err(error), "{}", text.escape_ascii());
        }
    }
}
