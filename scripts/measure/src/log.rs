//! QEMU's execution log (`-d exec,nochain`): one line for each executed translation block, here for each instruction.

use std::collections::HashMap;

/// Returns the addresses of the executed instructions, in order.
pub fn addresses(text: &str) -> Vec<u64> {
    let mut found = Vec::new();
    for line in text.lines() {
        if let Some(address) = address(line) {
            found.push(address);
        } else if line.starts_with("Stopped execution") {
            // QEMU has left the block before its first instruction, for example because an interrupt is pending.
            found.pop();
        }
    }
    found
}

/// Returns the address in a line such as `Trace 0: 0x7f2d [00000000/ffffffff80201e58/0000c290/ff022201] name`. The second
/// number in brackets is the address.
fn address(line: &str) -> Option<u64> {
    let (_, rest) = line.strip_prefix("Trace ")?.split_once('[')?;
    u64::from_str_radix(rest.split('/').nth(1)?, 16).ok()
}

/// Splits the instructions after each one that returns to the interrupted code, and returns the sequence that occurs most
/// often among those that `is_wanted` accepts, with the number of its occurrences.
pub fn most_frequent(
    addresses: &[u64],
    is_return: impl Fn(u64) -> bool,
    is_wanted: impl Fn(&[u64]) -> bool,
) -> Option<(&[u64], usize)> {
    let mut counts: HashMap<&[u64], usize> = HashMap::new();
    for trip in addresses.split_inclusive(|address| is_return(*address)).filter(|trip| is_wanted(trip)) {
        *counts.entry(trip).or_default() += 1;
    }
    // Of two that occur equally often, take the shorter one, so that the result does not depend on the map's order.
    counts.into_iter().max_by_key(|(trip, count)| (*count, std::cmp::Reverse(trip.len()), *trip))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_both_formats_are_parsed() {
        let text = "Trace 0: 0x7f2dd43054c0 [00000000/ffffffff802104a0/0000c290/ff022201] _ZN6kernel\n\
                    Trace 0: 0x7f00 [0000000000000000/0000000100001332/0x40c2b3/0xff00] \n\
                    IN: \n\
                    Trace 1: 0x1 [0/ffffffff80000001/0/0]\n\
                    Stopped execution of TB chain before 0x7f00 [ffffffff80000001]\n";
        assert_eq!(addresses(text), [0xffff_ffff_8021_04a0, 0x1_0000_1332]);
    }

    #[test]
    fn most_frequent_round_trip_is_found() {
        let log = [7, 1, 2, 9, 1, 3, 9, 1, 2, 9, 1, 2, 9, 5, 9, 5, 9, 5, 9];
        let found = most_frequent(&log, |address| address == 9, |trip| trip[0] == 1);
        assert_eq!(found, Some((&[1, 2, 9][..], 2)), "the first sequence begins with 7");
        assert_eq!(most_frequent(&log, |address| address == 9, |trip| trip[0] == 4), None);
    }
}
