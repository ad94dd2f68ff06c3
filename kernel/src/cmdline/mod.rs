//! The command line: `key=value` options, then `--` and the program's arguments.
//!
//! Blanks separate tokens. Double quotes group characters including blanks. A backslash escapes the next character,
//! inside and outside quotes. Nothing is copied: a [`Token`] is a slice of the line that is unescaped when it is read.
#![forbid(unsafe_code)]

mod ap_stop;
mod breach;
mod error;
mod failure;
mod finish;
mod firmware_fault;
mod key;
mod token;
mod uart_fault;
mod without;

use kernel_abi::trace::{self, GROUPS};

pub use kernel_abi::DEFAULT_PROGRAM;

pub use self::ap_stop::ApStop;
pub use self::breach::Violation;
pub use self::error::CmdlineError;
pub use self::failure::{FailureKind, Failures, Place, SecondPanicRole};
pub use self::finish::Finish;
pub use self::firmware_fault::FirmwareFault;
pub use self::key::Key;
use self::key::RawValues;
use self::token::Tokens;
pub use self::token::{Token, Unescape};
pub use self::uart_fault::UartFault;
use crate::features::Features;
use crate::repeat::Repeat;

/// The default rate of the timer tick, in hertz.
pub const DEFAULT_TICK_HZ: u32 = 100;
/// The default number of records in each CPU's trace ring, which then takes 128 KiB.
pub const DEFAULT_TRACE_RECORDS: u32 = 4096;

/// The only program that can run with `floor=`.
const MEASURING_PROGRAM: &str = "lengths";

/// The parsed command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options<'a> {
    /// `program=NAME`: the program that every CPU runs.
    pub program: Token<'a>,
    /// `tick_hz=N`: the rate of the timer tick in hertz, 1 to 10000.
    pub tick_hz: u32,
    /// `panic_cpu=K`, `overflow_cpu=K`, `double_fault_cpu=K`, `fail_in=PLACE`: injected CPU failures.
    pub failures: Failures,
    /// `nest_nmi=yes`: each CPU sends itself an NMI from its NMI handler before it starts its program.
    pub nest_nmi: bool,
    /// `stray_interrupts=yes`: before the I/O APIC is set up, one of its lines is unmasked, as firmware may leave it.
    /// Before each CPU starts its program, it sends itself an interrupt with each vector that the kernel does not use.
    pub stray_interrupts: bool,
    /// `dump_cpus=yes`: each CPU prints its tables, stacks and control registers before it starts its program.
    pub dump_cpus: bool,
    /// `breach=KIND`: each CPU violates a memory protection before it starts its program.
    pub breach: Option<Violation>,
    /// `without=FEATURE,...`: optional CPU features that the kernel does not use.
    pub without: Features,
    /// `floor=N`: for a measurement, system calls do nothing during the program's first ticks: `syscall` enters the
    /// shortest code that can return (1), or code that also switches the stack and saves registers (2).
    pub floor: Option<u32>,
    /// `uart_fault=KIND`: all UARTs fail from the program's start on.
    pub uart_fault: Option<UartFault>,
    /// `firmware_fault=KIND`: the firmware's tables are broken.
    pub firmware_fault: Option<FirmwareFault>,
    /// `verdict=FINISH`: what the machine does after the verdict; `None` for the default, which depends on the loader.
    pub finish: Option<Finish>,
    /// `lose_ap=K`: CPU K never gets a start-up IPI.
    pub lose_ap: Option<u32>,
    /// `delay_ap=K`: CPU K gets its start-up IPI only after the BSP's timeout.
    pub delay_ap: Option<u32>,
    /// `stale_ap=K`: CPU K starts with its registers as firmware may leave them.
    pub stale_ap: Option<u32>,
    /// `die_ap=K`: CPU K halts permanently during its bring-up, or with `cycle=` when it comes back for the first time.
    pub die_ap: Option<u32>,
    /// `die_in=STAGE`: where CPU K halts.
    pub die_in: ApStop,
    /// `resend_ap=K`: CPU K gets every start-up IPI twice.
    pub resend_ap: Option<u32>,
    /// `early_ap=K`: CPU K gets a start-up IPI while its area is being reused.
    pub early_ap: Option<u32>,
    /// `cycle=N`: APs are taken down and brought back N times in total.
    pub cycle: Option<u32>,
    /// `ipi_storm=R`: each CPU sends R IPIs per second to the other CPUs, in turn.
    pub ipi_storm: u32,
    /// `nmi_storm=R`: each CPU sends R NMIs per second to the other CPUs, in turn.
    pub nmi_storm: u32,
    /// `serial=percpu`: each CPU writes to its own serial port. With `shared`, the default, all CPUs write to the
    /// console.
    pub own_uarts: bool,
    /// `repeat=N`, `deaths=`, `limit_ticks=N`: repeated starts of the program, and its time limit.
    pub repeat: Repeat,
    /// `trace=GROUP,...` and the `trace_` keys: the events to record and how the trace is sent.
    pub trace: TraceOptions,
    args: Tokens<'a>,
}

impl<'a> Options<'a> {
    /// Parses a complete line, including the program's arguments.
    ///
    /// # Errors
    /// The first [`CmdlineError`] in the line.
    pub fn parse(line: &'a [u8]) -> Result<Options<'a>, CmdlineError<'a>> {
        let mut tokens = Tokens(core::str::from_utf8(line).map_err(|_| CmdlineError::NotUtf8)?);
        let mut raw = [None; Key::ALL.len()];
        while let Some(token) = tokens.next().transpose()? {
            if token == *"--" {
                break;
            }
            let (key, value) = Key::split(token)?;
            if raw[key as usize].replace(value).is_some() {
                return Err(CmdlineError::Duplicate(key));
            }
        }
        let options = Options {
            program: raw[Key::Program as usize].unwrap_or(Token::plain(DEFAULT_PROGRAM)),
            tick_hz: Key::TickHz.number(&raw)?.unwrap_or(DEFAULT_TICK_HZ),
            failures: Failures::from(&raw)?,
            nest_nmi: Key::NestNmi.one_of(&raw, ["no", "yes"])?,
            stray_interrupts: Key::StrayInterrupts.one_of(&raw, ["no", "yes"])?,
            dump_cpus: Key::DumpCpus.one_of(&raw, ["no", "yes"])?,
            breach: raw[Key::Breach as usize].map(Violation::named).transpose()?,
            without: raw[Key::Without as usize].map_or(Ok(Features::NONE), without::features)?,
            floor: Key::Floor.number(&raw)?,
            uart_fault: raw[Key::UartFault as usize].map(UartFault::named).transpose()?,
            firmware_fault: raw[Key::FirmwareFault as usize].map(FirmwareFault::named).transpose()?,
            finish: raw[Key::Verdict as usize].map(Finish::named).transpose()?,
            lose_ap: Key::LoseAp.number(&raw)?,
            delay_ap: Key::DelayAp.number(&raw)?,
            stale_ap: Key::StaleAp.number(&raw)?,
            die_ap: Key::DieAp.number(&raw)?,
            die_in: raw[Key::DieIn as usize].map_or(Ok(ApStop::RealMode), ApStop::named)?,
            resend_ap: Key::ResendAp.number(&raw)?,
            early_ap: Key::EarlyAp.number(&raw)?,
            cycle: Key::Cycle.number(&raw)?,
            ipi_storm: Key::IpiStorm.number(&raw)?.unwrap_or(0),
            nmi_storm: Key::NmiStorm.number(&raw)?.unwrap_or(0),
            own_uarts: Key::Serial.one_of(&raw, ["shared", "percpu"])?,
            repeat: Repeat {
                rounds: Key::Repeat.number(&raw)?.unwrap_or(1),
                continue_after_kill: Key::Deaths.one_of(&raw, ["end", "go-on"])?,
                limit_ticks: Key::LimitTicks.number(&raw)?.unwrap_or(0),
            },
            trace: TraceOptions::from(&raw)?,
            args: tokens,
        };
        for (needed, missing) in [
            (Key::DieAp, options.die_ap.is_none() && raw[Key::DieIn as usize].is_some()),
            (Key::Cycle, options.cycle.is_none() && options.early_ap.is_some()),
            (Key::Cycle, options.cycle.is_none() && options.failures.place == Place::ComeBack),
        ] {
            if missing {
                return Err(CmdlineError::WithoutEffect(needed));
            }
        }
        if options.cycle.is_some() && options.nmi_storm != 0 {
            return Err(CmdlineError::NmisWhileCpusLeave);
        }
        if options.floor.is_some() && options.program != *MEASURING_PROGRAM {
            return Err(CmdlineError::FloorForProgram(options.program));
        }
        if options.program.is_empty() {
            return Err(CmdlineError::BadValue(Key::Program, options.program));
        }
        options.args.clone().try_for_each(|token| token.map(drop))?;
        Ok(options)
    }

    /// Returns the value of `verdict=` on a command line whose other options may be invalid, so that the verdict on such
    /// a line is also delivered as requested.
    #[must_use]
    pub fn requested_finish(line: &[u8]) -> Option<Finish> {
        first_value(line, Key::Verdict).and_then(|value| Finish::named(value).ok())
    }

    /// Returns the value of `without=` on a command line that is not parsed yet, because the kernel uses some features
    /// before it can refuse an option. An invalid value is ignored here; [`parse`](Self::parse) refuses it later.
    #[must_use]
    pub fn requested_without(line: &[u8]) -> Features {
        first_value(line, Key::Without)
            .and_then(|value| without::features(value).ok())
            .unwrap_or(Features::NONE)
    }

    /// Returns the program's arguments, which follow `--`, in order.
    pub fn program_args(&self) -> impl Iterator<Item = Token<'a>> + Clone + use<'a> {
        // `parse` has parsed all arguments, so none is an error.
        self.args.clone().map_while(Result::ok)
    }
}

/// Returns a key's first value on a command line whose other options may be invalid.
fn first_value(line: &[u8], wanted: Key) -> Option<Token<'_>> {
    let tokens = Tokens(core::str::from_utf8(line).ok()?);
    let options = tokens.map_while(Result::ok).take_while(|token| *token != *"--");
    options.filter_map(|token| Key::split(token).ok()).find(|(key, _)| *key == wanted).map(|(_, value)| value)
}

/// The trace options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceOptions {
    /// `trace=GROUP,...`: mask of [`kernel_abi::trace::Kind`] bits. The default is 0: nothing is traced.
    pub kinds: u32,
    /// `trace_records=N`: the number of records in each CPU's ring, 16 to 1048576, rounded up to a power of two.
    pub records: u32,
    /// `trace_mode=stream`: a full ring drops new records. With `flight`, the default, new records overwrite the
    /// oldest.
    pub stream: bool,
    /// `trace_alternate=MS`: recording is turned off and on with this period in milliseconds; 0 means never.
    pub alternate_ms: u32,
    /// `trace_via=serial`: the kernel sends the rings over the console at the end. With `ram`, the default, the host
    /// reads them from the guest's memory.
    pub serial: bool,
}

impl TraceOptions {
    fn from<'a>(raw: &RawValues<'a>) -> Result<TraceOptions, CmdlineError<'a>> {
        Ok(TraceOptions {
            kinds: raw[Key::Trace as usize].map_or(Ok(0), trace_kinds)?,
            records: Key::TraceRecords.number(raw)?.unwrap_or(DEFAULT_TRACE_RECORDS).next_power_of_two(),
            stream: Key::TraceMode.one_of(raw, ["flight", "stream"])?,
            alternate_ms: Key::TraceAlternate.number(raw)?.unwrap_or(0),
            serial: Key::TraceVia.one_of(raw, ["ram", "serial"])?,
        })
    }
}

/// Returns the mask for a comma-separated list of groups.
fn trace_kinds(value: Token<'_>) -> Result<u32, CmdlineError<'_>> {
    let bad = CmdlineError::BadValue(Key::Trace, value);
    if value == *"all" {
        return Ok(trace::all_groups());
    }
    let mut buffer = [0; 128];
    let words = value.copy_to(&mut buffer).ok_or(bad.clone())?;
    words.split(',').try_fold(0, |mask, word| {
        GROUPS.iter().find(|(name, _)| *name == word).map(|(_, group)| mask | group).ok_or(bad.clone())
    })
}

#[cfg(test)]
mod tests;
