//! The load on one CPU, from the rendezvous with the copies of this program on the other CPUs to the final
//! line.

use core::hint::spin_loop;
use core::sync::atomic::Ordering;

use kernel_abi::syscall::{
    SYS_CLOCK_NS, SYS_CPU_COUNT, SYS_GET_CPU, SYS_GET_TICKS, SYS_NULL, SYS_TRACE, SYS_WRITE_SERIAL,
};
use rand_xoshiro::Xoroshiro128PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use user::shared_page;

use crate::bad::bad_call;
use crate::caller::{Caller, Stop};
use crate::lines::{Lines, splitmix64};
use crate::mix::Kind;
use crate::model::{Call, ExpectedResult};
use crate::options::Options;
use crate::report;

/// The shared page's word that counts the copies that have arrived.
const ARRIVED: usize = 0;
/// How long a copy waits for the others to arrive, in nanoseconds.
const RENDEZVOUS_NS: u64 = 30_000_000_000;
/// Number of reads of the shared page per read of the clock.
const POLLS_PER_CLOCK_READ: u32 = 100_000;
/// Number of calls per read of the clock, if there is a time limit.
const CLOCK_EVERY: u64 = 256;
/// Nanoseconds in a second.
const SECOND_NS: u64 = 1_000_000_000;

/// The state of this CPU's copy.
pub struct Load {
    cpu: u64,
    cpus: u64,
    random: Xoroshiro128PlusPlus,
    caller: Caller,
    lines: Lines,
    /// Number of calls from the mix made so far.
    calls: u64,
    /// System-call number of the latest call.
    last: u64,
}

impl Load {
    /// Prepares the load. `cpu` is the result of `SYS_GET_CPU`, the only call made so far.
    pub fn new(options: &Options, cpu: u64) -> Load {
        // Neighbouring CPUs and neighbouring seeds must have unrelated random streams.
        let mut random = Xoroshiro128PlusPlus::seed_from_u64(splitmix64(options.seed) ^ cpu);
        let caller = Caller::new(&mut random);
        Load {
            cpu,
            cpus: 0,
            random,
            caller,
            lines: Lines::new(options.seed, cpu),
            calls: 0,
            last: SYS_GET_CPU,
        }
    }

    /// Waits for the other copies, makes the calls from the mix, and completes a partially written line.
    ///
    /// # Errors
    /// [`Stop`]: a violation was found, or the other copies did not arrive.
    pub fn run(&mut self, options: &Options) -> Result<(), Stop> {
        self.rendezvous()?;
        self.mix(options)?;
        self.end_line()?;
        self.caller.finish(self.last)
    }

    /// Returns whether there was a violation, including one in the very last call.
    pub fn found_violation(&self) -> bool {
        self.caller.violation().is_some()
    }

    /// Prints the violation, if any, and the final line, which also counts the calls that print it.
    pub fn report(&mut self, seed: u64) {
        let (cpu, violation) = (self.cpu, self.caller.violation());
        let random = &mut self.random;
        if let Some(violation) = violation {
            let incomplete = !self.lines.rest_of_line().is_empty();
            report::violation(cpu, incomplete, &violation, |bytes| self.caller.write_at_last(random, bytes));
        }
        let last =
            report::Last { seed, calls: self.calls, lines: self.lines.done(), counts: self.caller.counts() };
        last.with_itself().print(|bytes| self.caller.write_at_last(random, bytes));
        if let (None, Some(violation)) = (violation, self.caller.violation()) {
            // The violation occurred in the very last call, when the final line had already been printed.
            report::violation(cpu, false, &violation, |bytes| self.caller.write_at_last(random, bytes));
        }
    }

    /// Makes a call that is not part of the mix.
    #[inline(never)]
    fn call(&mut self, random: u64, call: &Call) -> Result<u64, Stop> {
        self.call_inline(random, call)
    }

    /// Makes a call. If the call writes part of a line, records how many bytes the kernel accepted.
    ///
    /// Inlined, so that the mix keeps the fields of a call in registers, which saves a fifth of its instructions.
    #[inline(always)]
    fn call_inline(&mut self, random: u64, call: &Call) -> Result<u64, Stop> {
        self.last = call.number;
        let rax = self.caller.call(random, call)?;
        if let ExpectedResult::Written(_) = call.expected {
            self.lines.accepted(rax as usize);
        }
        Ok(rax)
    }

    /// Returns a call that takes no arguments. The argument registers hold random values.
    #[inline]
    fn plain(&self, random: u64, number: u64, expected: ExpectedResult) -> Call {
        let values = self.caller.registers(random);
        Call { number, first: values.rdi, second: values.rsi, expected }
    }

    fn clock(&mut self) -> Result<u64, Stop> {
        let random = self.random.next_u64();
        self.call(random, &self.plain(random, SYS_CLOCK_NS, ExpectedResult::Clock))
    }

    /// Counts this copy in the shared page and waits until all copies are counted, so that all of them make calls at
    /// the same time.
    fn rendezvous(&mut self) -> Result<(), Stop> {
        let random = self.random.next_u64();
        let cpu_count = self.plain(random, SYS_CPU_COUNT, ExpectedResult::AtLeast(self.cpu + 1));
        self.cpus = self.call(random, &cpu_count)?;
        let arrived = shared_page().word(ARRIVED);
        arrived.fetch_add(1, Ordering::AcqRel);
        let deadline = self.clock()?.saturating_add(RENDEZVOUS_NS);
        loop {
            for _ in 0..POLLS_PER_CLOCK_READ {
                if arrived.load(Ordering::Acquire) >= self.cpus {
                    return Ok(());
                }
                spin_loop();
            }
            if self.clock()? > deadline {
                return Err(Stop::RendezvousTimeout);
            }
        }
    }

    fn mix(&mut self, options: &Options) -> Result<(), Stop> {
        let calls = options.calls.unwrap_or(u64::MAX);
        let deadline = match options.seconds {
            Some(seconds) => Some(self.clock()?.saturating_add(seconds.saturating_mul(SECOND_NS))),
            None => None,
        };
        while self.calls < calls {
            if let Some(deadline) = deadline
                && self.calls.is_multiple_of(CLOCK_EVERY)
                && self.clock()? >= deadline
            {
                break;
            }
            let random = self.random.next_u64();
            // The upper half selects the kind. The lower half independently selects registers and flags.
            let kind = options.mix.pick((random >> 32) as u32);
            self.calls = self.calls.wrapping_add(1);
            let call = self.next(kind, random);
            self.call_inline(random, &call)?;
        }
        Ok(())
    }

    /// Returns the next call of the given kind.
    #[inline(always)]
    fn next(&mut self, kind: Kind, random: u64) -> Call {
        match kind {
            Kind::Null => self.plain(random, SYS_NULL, ExpectedResult::Exactly(0)),
            Kind::Ticks => self.plain(random, SYS_GET_TICKS, ExpectedResult::Ticks),
            Kind::Clock => self.plain(random, SYS_CLOCK_NS, ExpectedResult::Clock),
            Kind::Cpu if random & (1 << 31) == 0 => {
                self.plain(random, SYS_GET_CPU, ExpectedResult::Exactly(self.cpu))
            }
            Kind::Cpu => self.plain(random, SYS_CPU_COUNT, ExpectedResult::Exactly(self.cpus)),
            Kind::Trace => Call {
                number: SYS_TRACE,
                first: self.random.next_u64(),
                second: self.random.next_u64(),
                expected: ExpectedResult::Exactly(0),
            },
            Kind::Write => write_call(self.lines.piece(self.random.next_u64())),
            Kind::Bad => {
                let readable = &raw const self.calls as u64;
                bad_call(self.random.next_u64(), self.random.next_u64(), readable)
            }
        }
    }

    fn end_line(&mut self) -> Result<(), Stop> {
        loop {
            let rest = self.lines.rest_of_line();
            if rest.is_empty() {
                return Ok(());
            }
            let call = write_call(rest);
            let random = self.random.next_u64();
            self.call(random, &call)?;
        }
    }
}

/// Returns the call that writes a piece of this CPU's lines.
fn write_call(piece: &[u8]) -> Call {
    Call {
        number: SYS_WRITE_SERIAL,
        first: piece.as_ptr() as u64,
        second: piece.len() as u64,
        expected: ExpectedResult::Written(piece.len()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use kernel_abi::syscall::{Call as SystemCall, Returns};

    use super::*;
    use crate::mix::Mix;
    use crate::patterns::Vectors;
    use crate::vectors;

    #[test]
    fn mix_makes_every_call_that_returns() {
        let options = Options { mix: Mix::DEFAULT, calls: Some(1), seconds: None, seed: 1 };
        let mut load = Load::new(&options, 0);
        // SAFETY: exceptions are masked. This restores MXCSR, which `Load::new` changed.
        unsafe { vectors::load(&Vectors([[0; 2]; 16]), &vectors::MXCSR_RESET) };
        let made: BTreeSet<_> = (0..100_000)
            .map(|n| {
                let random = splitmix64(n);
                load.next(options.mix.pick((random >> 32) as u32), random).number
            })
            .collect();
        for call in SystemCall::ALL {
            let returns = !matches!(call.returns(), Returns::Never);
            assert_eq!(made.contains(&call.number()), returns, "whether Load::next makes {}", call.name());
        }
    }
}
