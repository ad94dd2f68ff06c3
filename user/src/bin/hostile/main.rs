//! Attempts everything that ring 3 could do to harm the kernel: [--seed X] [--probes N].
//!
//! It runs on every CPU; see docs/hostile.md.
//!
//! A probe is one attempt with a predicted outcome. A copy of the program checks its initial state and how the previous
//! copy ended, and makes the probes that return. Every copy but the last then makes one deadly probe, which ends it.
//! The first outcome that differs from its prediction is printed and ends the copy with exit code 3.
#![cfg_attr(target_os = "none", no_std, no_main)]

mod back;
mod class;
mod console;
mod deadly;
mod features;
mod maker;
mod options;
mod order;
mod probe;
mod start;
mod state;
mod survived;
mod table;
mod tally;
mod tame;

use core::fmt;

use user::args::env;
use user::{ExitCode, args, println, sys};

use crate::class::Class;
use crate::console::Console;
use crate::deadly::random;
use crate::features::Features;
use crate::maker::Maker;
use crate::options::{Last, Options, USAGE};
use crate::probe::{Expect, Probe};
use crate::tally::{CPUS_MAX, Tally};

user::program!(run);

/// Exit code after an unexpected outcome.
const UNEXPECTED: ExitCode = ExitCode(3);

/// Number of rounds per progress line. The host tool checks that each CPU prints these lines.
const ROUNDS_PER_LINE: u64 = 32;

/// The purposes of random streams. Streams of different purposes are independent.
mod purpose {
    pub const SURVIVED: u64 = 1;
    pub const DEADLY: u64 = 2;
    pub const SURVIVED_ORDER: u64 = 3;
    pub const DEADLY_ORDER: u64 = 4;
}

/// An unexpected outcome, already printed.
struct Found;

fn run() -> ExitCode {
    // This must come first, because later code changes the registers that are checked.
    let found = start::first_difference();
    let options = match Options::parse(args().skip(1), env()) {
        Ok(options) => options,
        Err(error) => {
            println!("hostile: {error}\n{USAGE}");
            return ExitCode::USAGE;
        }
    };
    let (cpu, cpus) = (sys::get_cpu(), sys::cpu_count());
    if cpus > CPUS_MAX {
        println!("hostile: too many CPUs: {cpus}; there are counters for {CPUS_MAX}");
        return ExitCode::USAGE;
    }
    let random = order::stream(options.seed, cpu, 0, options.round);
    let maker = Maker { cpu, cpus, features: Features::of_this_cpu(), console: Console::new(), random };
    let mut copy = Copy { options, tally: Tally::of(cpu), maker };
    if let Some(difference) = found {
        let what = format_args!("start: {}", difference.register);
        copy.unexpected(
            what,
            format_args!("{:#x}", difference.expected),
            format_args!("{:#x}", difference.got),
        );
        return UNEXPECTED;
    }
    copy.run().unwrap_or(UNEXPECTED)
}

/// A copy of the program.
struct Copy {
    options: Options,
    tally: Tally,
    maker: Maker,
}

impl Copy {
    fn run(&mut self) -> Result<ExitCode, Found> {
        self.check_previous_copy()?;
        self.check_tally()?;
        if self.options.round.is_multiple_of(ROUNDS_PER_LINE) {
            println!("hostile: round {}", self.options.round);
        }
        self.tally.count(Class::Start);
        let probes = self.options.probes;
        let first = self.options.round.wrapping_mul(probes);
        for number in first..first.wrapping_add(probes) {
            let probe = self.survived(number);
            self.survive(&probe)?;
        }
        if self.options.is_last() {
            self.maker.console.end_line();
            self.report();
            return Ok(ExitCode::SUCCESS);
        }
        let probe = self.deadly(self.options.round);
        self.tally.count(probe.class);
        // SAFETY: the code either jumps to `back`, having changed only memory that holds no Rust values, or ends this
        // copy.
        let after = unsafe { state::run(&probe.state) };
        match probe.expect {
            Expect::Back(back) => match back.difference(&probe.state, &after) {
                None => Ok(ExitCode::SUCCESS),
                Some(it) => Err(self.unexpected(
                    format_args!("{probe}: {}", it.register),
                    format_args!("{:#x}", it.expected),
                    format_args!("{:#x}", it.got),
                )),
            },
            Expect::Anyhow | Expect::DiesOrNot(_) => Ok(ExitCode::SUCCESS),
            expected => Err(self.unexpected(
                format_args!("{probe}"),
                format_args!("{expected}"),
                format_args!("the probe returned"),
            )),
        }
    }

    /// Makes a probe that must return.
    fn survive(&self, probe: &Probe) -> Result<(), Found> {
        self.tally.count(probe.class);
        // SAFETY: none of these probes writes memory, and all of them return.
        let after = unsafe { state::run(&probe.state) };
        let Expect::Back(back) = probe.expect else { return Ok(()) };
        match back.difference(&probe.state, &after) {
            None => Ok(()),
            Some(it) => Err(self.unexpected(
                format_args!("{probe}: {}", it.register),
                format_args!("{:#x}", it.expected),
                format_args!("{:#x}", it.got),
            )),
        }
    }

    /// Returns the probe with this number, counted across all copies.
    fn survived(&mut self, number: u64) -> Probe {
        let (seed, cpu) = (self.options.seed, self.maker.cpu);
        let rows = const { table::rows(survived::GROUPS) };
        let place = order::place(seed, cpu, purpose::SURVIVED_ORDER, number, rows);
        self.maker.random = order::stream(seed, cpu, purpose::SURVIVED, number);
        table::make(survived::GROUPS, &mut self.maker, place)
    }

    /// Returns the probe that ends the copy of a round. Every second one executes random bytes.
    fn deadly(&mut self, round: u64) -> Probe {
        let (seed, cpu) = (self.options.seed, self.maker.cpu);
        self.maker.random = order::stream(seed, cpu, purpose::DEADLY, round);
        if round % 2 == 1 {
            return (random::PROGRAM.make)(&mut self.maker, 0);
        }
        let rows = const { table::rows(deadly::GROUPS) };
        let place = order::place(seed, cpu, purpose::DEADLY_ORDER, round / 2, rows);
        table::make(deadly::GROUPS, &mut self.maker, place)
    }

    /// Checks how the previous copy ended.
    fn check_previous_copy(&mut self) -> Result<(), Found> {
        let last = self.options.last;
        let Some(before) = self.options.round.checked_sub(1) else {
            return match last {
                Last::None => Ok(()),
                _ => Err(self.unexpected(
                    format_args!("start of the first copy"),
                    format_args!("{}", Last::None),
                    format_args!("{last}"),
                )),
            };
        };
        let probe = self.deadly(before);
        let expect = match probe.expect {
            // The probe returned, and the copy then exited with code 0.
            Expect::Back(_) => Expect::Exits(0),
            expect => expect,
        };
        if expect.allows(&last) {
            return Ok(());
        }
        // The message names the round of this copy, so the text also names the previous round.
        Err(self.unexpected(
            format_args!("end of round {before}: {probe}"),
            format_args!("{expect}"),
            format_args!("{last}"),
        ))
    }

    /// Checks that the previous copies made all of their probes.
    fn check_tally(&self) -> Result<(), Found> {
        // Each copy counts its start, its returning probes, and its deadly probe.
        let expected = self.options.round.wrapping_mul(self.options.probes.wrapping_add(2));
        let got = self.tally.sum();
        if got == expected {
            return Ok(());
        }
        Err(self.unexpected(
            format_args!("number of probes of all previous copies"),
            format_args!("{expected}"),
            format_args!("{got}"),
        ))
    }

    /// Prints an unexpected outcome on one line.
    fn unexpected(
        &self,
        what: fmt::Arguments<'_>,
        expected: fmt::Arguments<'_>,
        got: fmt::Arguments<'_>,
    ) -> Found {
        self.maker.console.end_line();
        let (seed, round, cpu) = (self.options.seed, self.options.round, self.maker.cpu);
        println!(
            "hostile: UNEXPECTED cpu={cpu} seed={seed:#x} round={round} probe={what}; expected {expected}; got {got}"
        );
        Found
    }

    /// Prints the final line of the last copy: the number of probes in each class.
    fn report(&self) {
        const ROWS: (u64, u64) = (table::rows(survived::GROUPS), table::rows(deadly::GROUPS));
        let (seed, (survived, deadly)) = (self.options.seed, ROWS);
        user::print!(
            "hostile: done cpu={} seed={seed:#x} survived_rows={survived} deadly_rows={deadly}",
            self.maker.cpu
        );
        for (class, name) in Class::ALL {
            user::print!(" {name}={}", self.tally.get(class));
        }
        println!();
    }
}
