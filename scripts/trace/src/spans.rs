//! From points to spans: which event opens a slice of time on its CPU, and which one closes it.
//!
//! ```text
//!   program  |===========================================|
//!   syscall     |====|  |======|        |=====           |   the last one: SYS_EXIT, which never returns
//!   idle                                                    |=====|
//! ```
//!
//! Spans nest. One that is cut (its end was dropped, overwritten, or never came) is closed by what shows that it
//! is over, and is not whole: it may be drawn, but its length says nothing.

use kernel_abi::trace::{Kind, Record};

/// A slice of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// A program's life, ring 3 and its system calls.
    Program,
    /// From IDLE_IN to IDLE_OUT.
    Idle,
    /// A system call, by its number.
    Syscall(u64),
}

/// Does an event of this kind begin or end a span? All others are points in time.
pub const fn is_edge(kind: Kind) -> bool {
    use Kind::*;
    matches!(kind, SyscallEnter | SyscallExit | ProgramStart | ProgramEnd | IdleIn | IdleOut)
}

/// What an event does to its CPU's spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A span begins.
    Open(Span),
    /// The span opened last ends.
    Close {
        /// Which it is.
        span: Span,
        /// When it began, in nanoseconds.
        begun: u64,
        /// Whether this event is its own end.
        whole: bool,
    },
}

/// The open spans of one CPU, the innermost last.
#[derive(Clone, Debug, Default)]
pub struct Spans {
    open: Vec<(Span, u64)>,
}

impl Spans {
    /// Takes the CPU's next event and tells each step that it makes, in order.
    pub fn take(&mut self, ns: u64, kind: Kind, record: &Record, mut step: impl FnMut(Step)) {
        let is_program = |span: &Span| *span == Span::Program;
        match kind {
            Kind::SyscallEnter => {
                self.cut(|span| !is_program(span), &mut step);
                self.open(Span::Syscall(record.a), ns, &mut step);
            }
            Kind::SyscallExit => self.close(Span::Syscall(record.a), &mut step),
            Kind::ProgramStart => {
                self.cut(|_| true, &mut step);
                self.open(Span::Program, ns, &mut step);
            }
            Kind::ProgramEnd => {
                // SYS_EXIT does not return, even if the program's start is not in the trace.
                self.cut(|span| !is_program(span), &mut step);
                self.close(Span::Program, &mut step);
            }
            Kind::IdleIn => {
                self.cut(|span| *span == Span::Idle, &mut step);
                self.open(Span::Idle, ns, &mut step);
            }
            Kind::IdleOut => self.close(Span::Idle, &mut step),
            Kind::Dropped => self.cut(|span| !is_program(span), &mut step),
            _ => {}
        }
    }

    /// The CPU's events are over: tells what is still open, the innermost first.
    pub fn end(&mut self, mut step: impl FnMut(Step)) {
        self.cut(|_| true, &mut step);
    }

    fn open(&mut self, span: Span, ns: u64, step: &mut impl FnMut(Step)) {
        self.open.push((span, ns));
        step(Step::Open(span));
    }

    /// Closes the innermost spans for as long as they are such.
    fn cut(&mut self, such: impl Fn(&Span) -> bool, step: &mut impl FnMut(Step)) {
        while let Some((span, begun)) = self.open.pop_if(|(span, _)| such(span)) {
            step(Step::Close { span, begun, whole: false });
        }
    }

    /// Closes a span and what is still open inside it. An end without a beginning changes nothing.
    fn close(&mut self, span: Span, step: &mut impl FnMut(Step)) {
        if !self.open.iter().any(|(open, _)| *open == span) {
            return;
        }
        self.cut(|open| *open != span, step);
        if let Some((span, begun)) = self.open.pop() {
            step(Step::Close { span, begun, whole: true });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The steps as text: `+` opens, `-` closes, `~` cuts.
    fn steps(events: &[(Kind, u64)]) -> String {
        let mut spans = Spans::default();
        let mut text = String::new();
        for (ns, (kind, a)) in events.iter().enumerate() {
            let record = Record { a: *a, ..Record::default() };
            spans.take(ns as u64, *kind, &record, |step| {
                let (sign, span) = match step {
                    Step::Open(span) => ('+', span),
                    Step::Close { span, whole: true, .. } => ('-', span),
                    Step::Close { span, .. } => ('~', span),
                };
                let name = match span {
                    Span::Program => "P".to_owned(),
                    Span::Idle => "I".to_owned(),
                    Span::Syscall(number) => number.to_string(),
                };
                text += &format!("{sign}{name} ");
            });
        }
        text.trim_end().to_owned()
    }

    #[test]
    fn edges_are_the_kinds_that_open_or_close_spans() {
        for kind in Kind::ALL {
            let opens_or_closes = Kind::ALL.into_iter().any(|before| {
                let (mut spans, mut found) = (Spans::default(), false);
                spans.take(1, before, &Record::default(), |_| ());
                // A span that is cut has another end: the record that is missing.
                spans.take(2, kind, &Record::default(), |step| {
                    found |= matches!(step, Step::Open(_) | Step::Close { whole: true, .. });
                });
                found
            });
            assert_eq!(is_edge(kind), opens_or_closes, "is_edge and Spans::take differ on {}", kind.name());
        }
    }

    #[test]
    fn calls_nest_in_programs_and_exit_never_returns() {
        use Kind::*;
        let events = [
            (ProgramStart, 0),
            (SyscallEnter, 0),
            (Nmi, 0),
            (SyscallExit, 0),
            (Tick, 0),
            (SyscallEnter, 3),
            (ProgramEnd, 0),
            (IdleIn, 0),
            (Tick, 0),
            (IdleOut, 0),
        ];
        assert_eq!(steps(&events), "+P +0 -0 +3 ~3 -P +I -I");
    }

    #[test]
    fn what_was_lost_cuts_spans_and_ends_nothing() {
        use Kind::*;
        assert_eq!(steps(&[(SyscallExit, 1), (IdleOut, 0), (ProgramEnd, 0)]), "", "ends without beginnings");
        assert_eq!(steps(&[(SyscallEnter, 3), (ProgramEnd, 0)]), "+3 ~3");
        assert_eq!(steps(&[(SyscallEnter, 1), (Dropped, 9), (SyscallExit, 1)]), "+1 ~1");
        assert_eq!(steps(&[(SyscallEnter, 1), (SyscallEnter, 2), (SyscallExit, 2)]), "+1 ~1 +2 -2");
        assert_eq!(steps(&[(SyscallEnter, 1), (SyscallExit, 2)]), "+1", "another call's end");
        assert_eq!(steps(&[(ProgramStart, 0), (IdleIn, 0), (ProgramStart, 0)]), "+P +I ~I ~P +P");
    }
}
