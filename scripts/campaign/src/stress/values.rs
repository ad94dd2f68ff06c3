//! Validates the values of `--mix` and `--trace` before anything is booted.

use kernel_abi::trace::GROUPS;

/// Value of `--trace` that records everything.
pub const ALL: &str = "all";
/// Value of `--trace` that records nothing.
pub const OFF: &str = "off";

/// The kinds of calls that the program's `--mix` accepts.
const KINDS: [&str; 7] = ["null", "ticks", "clock", "write", "cpu", "trace", "bad"];

/// Validates `--mix`. The program rejects invalid values too, but only after a boot.
pub fn mix(text: &str) -> Result<String, String> {
    let mut sum = 0_u64;
    let mut seen = Vec::new();
    for item in text.split(',') {
        let (kind, weight) = item.split_once('=').ok_or(format!("{item:?} is not KIND=WEIGHT"))?;
        if !KINDS.contains(&kind) {
            return Err(format!("unknown kind {kind:?}; the kinds are {}", KINDS.join(", ")));
        }
        if seen.contains(&kind) {
            return Err(format!("{kind} is given twice"));
        }
        seen.push(kind);
        let number = weight.bytes().all(|byte| byte.is_ascii_digit()).then(|| weight.parse::<u32>().ok());
        sum +=
            u64::from(number.flatten().ok_or(format!("{weight:?} is not a weight from 0 to {}", u32::MAX))?);
    }
    if (1..=u64::from(u32::MAX)).contains(&sum) {
        Ok(text.to_owned())
    } else {
        Err(format!("the sum of the weights is {sum}, and must be from 1 to {}", u32::MAX))
    }
}

/// Validates `--trace`. The kernel rejects invalid values too, but only after a boot.
pub fn kinds(text: &str) -> Result<String, String> {
    let known = |word: &str| GROUPS.iter().any(|(name, _)| *name == word);
    match text.split(',').find(|word| !known(word)) {
        Some(_) if text == ALL || text == OFF => Ok(text.to_owned()),
        Some(word) => {
            let names: Vec<_> = GROUPS.iter().map(|(name, _)| *name).collect();
            Err(format!("unknown value {word:?}; the values are {ALL}, {OFF}, {}", names.join(", ")))
        }
        None => Ok(text.to_owned()),
    }
}
