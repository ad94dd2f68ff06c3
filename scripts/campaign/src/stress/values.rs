//! Values of options that have a form of their own, looked at before anything is booted.

use kernel_abi::trace::GROUPS;

/// `--trace` that records everything.
pub const ALL: &str = "all";
/// `--trace` that records nothing.
pub const OFF: &str = "off";

/// What the program can mix, as its `--mix` names it.
const KINDS: [&str; 7] = ["null", "ticks", "clock", "write", "cpu", "trace", "bad"];

/// The program would refuse it too, but only after a boot.
pub fn mix(text: &str) -> Result<String, String> {
    let mut sum = 0_u64;
    let mut seen = Vec::new();
    for item in text.split(',') {
        let (kind, weight) = item.split_once('=').ok_or(format!("{item:?} is not KIND=WEIGHT"))?;
        if !KINDS.contains(&kind) {
            return Err(format!("there is no kind {kind:?}, but {}", KINDS.join(", ")));
        }
        if seen.contains(&kind) {
            return Err(format!("{kind} is given twice"));
        }
        seen.push(kind);
        let number = weight.bytes().all(|byte| byte.is_ascii_digit()).then(|| weight.parse::<u32>().ok());
        sum += u64::from(number.flatten().ok_or(format!("{weight:?} is no weight from 0 to {}", u32::MAX))?);
    }
    if (1..=u64::from(u32::MAX)).contains(&sum) {
        Ok(text.to_owned())
    } else {
        Err(format!("the weights' sum is {sum}, not from 1 to {}", u32::MAX))
    }
}

/// The kernel would refuse it too, but only after a boot.
pub fn kinds(text: &str) -> Result<String, String> {
    let known = |word: &str| GROUPS.iter().any(|(name, _)| *name == word);
    match text.split(',').find(|word| !known(word)) {
        Some(_) if text == ALL || text == OFF => Ok(text.to_owned()),
        Some(word) => {
            let names: Vec<_> = GROUPS.iter().map(|(name, _)| *name).collect();
            Err(format!("there is no {word:?}, but {ALL}, {OFF}, {}", names.join(", ")))
        }
        None => Ok(text.to_owned()),
    }
}
