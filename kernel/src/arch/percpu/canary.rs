//! Canaries: the lowest word of each of a CPU's stacks, written when the area is made and compared by the self-checks.

use crate::cpu::CpuId;
use crate::layout::{self, IstStack};

/// What the lowest word of each stack holds: it differs from stack to stack, so that a stack of another CPU's is
/// noticed too.
#[must_use]
pub const fn at(address: u64) -> u64 {
    address ^ 0x5ca1_ab1e_0dd5_ba11
}

/// The lowest words of the stacks of an area.
pub fn places(area: CpuId) -> impl Iterator<Item = u64> {
    let ist = IstStack::ALL.map(|which| layout::ist_stack(area, which));
    ist.into_iter().chain([layout::syscall_stack(area)]).map(|stack| stack.start)
}
