//! Stack canaries. The canary is the lowest word of each stack; it is written when the CPU's area is created and
//! compared by the self-checks.

use crate::cpu::CpuId;
use crate::layout::{self, IstStack};

/// Returns the canary for the word at an address. It depends on the address, so that the checks also detect a stack of
/// another CPU.
#[must_use]
pub const fn at(address: u64) -> u64 {
    address ^ 0x5ca1_ab1e_0dd5_ba11
}

/// Iterates over the addresses of the lowest words of an area's stacks.
pub fn addresses(area: CpuId) -> impl Iterator<Item = u64> {
    let ist = IstStack::ALL.map(|which| layout::ist_stack(area, which));
    ist.into_iter().chain([layout::syscall_stack(area)]).map(|stack| stack.start)
}
