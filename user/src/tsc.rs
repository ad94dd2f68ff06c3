//! Measurements with the time-stamp counter (TSC). With `--icount` it counts instructions.

use core::arch::asm;

/// Reads the TSC in a loop, at most `rounds` times, until a round takes `limit` TSC ticks or more. Returns the length of
/// the last round. The first round is shorter than the others.
#[must_use]
pub fn last_round(rounds: u64, limit: u64) -> u64 {
    let length;
    // SAFETY: changes only the registers listed. Every x86-64 CPU has the counter, and Ringside permits it to ring 3
    // (CR4.TSD clear).
    unsafe {
        asm!(
            "rdtsc",
            "shl rdx, 32",
            "or rax, rdx",
            "mov {now}, rax",
            "2:",
            "mov {length}, {now}",
            "rdtsc",
            "shl rdx, 32",
            "or rax, rdx",
            "mov {now}, rax",
            "sub {length}, rax",
            "neg {length}",
            "dec {rounds}",
            "jz 3f",
            "cmp {length}, {limit}",
            "jb 2b",
            "3:",
            now = out(reg) _,
            length = out(reg) length,
            rounds = inout(reg) rounds => _,
            limit = in(reg) limit,
            out("rax") _,
            out("rdx") _,
            options(nomem, nostack),
        );
    }
    length
}
