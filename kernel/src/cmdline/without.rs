//! The option `without=`: optional CPU features that the kernel does not use although CPUID reports them. It serves to
//! find out which feature causes a failure on a machine.
#![forbid(unsafe_code)]

use super::{CmdlineError, Key, Token};
use crate::features::{Features, WITHOUT_MAX};

/// Returns the features in a comma-separated list.
pub(super) fn features(value: Token<'_>) -> Result<Features, CmdlineError<'_>> {
    let bad = CmdlineError::BadValue(Key::Without, value);
    let mut buffer = [0; WITHOUT_MAX];
    let words = value.copy_to(&mut buffer).ok_or(bad.clone())?;
    words.split(',').try_fold(Features::NONE, |set, word| {
        Features::named(word).map(|feature| set.and(feature)).ok_or(bad.clone())
    })
}
