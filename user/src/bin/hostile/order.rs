//! The order of the probes: each pass through the table takes its rows in a new random order.

use rand_xoshiro::Xoroshiro128PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// Returns a random stream for a seed, a CPU, a purpose and a number, independent of all others.
pub fn stream(seed: u64, cpu: u64, purpose: u64, number: u64) -> Xoroshiro128PlusPlus {
    let mixed = [cpu, purpose, number].into_iter().fold(seed, |state, word| {
        Xoroshiro128PlusPlus::seed_from_u64(state ^ word.wrapping_mul(0x9e37_79b9_7f4a_7c15)).next_u64()
    });
    Xoroshiro128PlusPlus::seed_from_u64(mixed)
}

/// Returns the table index of probe `number`, counted across all copies, in a table of `len` rows. Each pass of `len`
/// consecutive probes takes each row exactly once.
pub fn place(seed: u64, cpu: u64, purpose: u64, number: u64, len: u64) -> u64 {
    let (turn, step) = (number / len, number % len);
    let mut random = stream(seed, cpu, purpose, turn);
    let start = random.next_u64() % len;
    // A stride that is coprime to the length reaches every row.
    let mut stride = random.next_u64() % len;
    while common_divisor(stride, len) != 1 {
        stride = (stride + 1) % len;
    }
    ((u128::from(step) * u128::from(stride) + u128::from(start)) % u128::from(len)) as u64
}

fn common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::vec::Vec;

    use super::*;

    #[test]
    fn every_pass_takes_each_row_once() {
        for len in [1, 2, 6, 97, 1000] {
            for turn in 0..3 {
                let rows: BTreeSet<_> =
                    (turn * len..(turn + 1) * len).map(|n| place(7, 1, 0, n, len)).collect();
                assert!(rows.into_iter().eq(0..len), "{len} rows, turn {turn}");
            }
        }
    }

    #[test]
    fn seeds_cpus_and_passes_have_different_orders() {
        let order = |seed, cpu, turn: u64| -> Vec<_> {
            (turn * 100..turn * 100 + 100).map(|number| place(seed, cpu, 0, number, 100)).collect()
        };
        let orders = [order(1, 0, 0), order(2, 0, 0), order(1, 1, 0), order(1, 0, 1)];
        for (index, one) in orders.iter().enumerate() {
            assert!(orders[..index].iter().all(|other| other != one));
            assert_eq!(*one, [order(1, 0, 0), order(2, 0, 0), order(1, 1, 0), order(1, 0, 1)][index]);
        }
    }
}
