//! Combines events into spans: determines which events start a slice of time on a CPU, and which ones end it.
//!
//! ```text
//!   program  |===========================================|
//!   syscall     |====|  |======|        |=====           |   the last one is SYS_EXIT, which never returns
//!   idle                                                    |=====|
//! ```
//!
//! Spans nest. If the end event of a span is missing (dropped, overwritten or never written), the span is cut: it ends
//! at the next event that implies its end. A cut span may be drawn, but its length is meaningless.

use kernel_abi::trace::{Kind, Record};

/// A slice of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// The lifetime of a program: ring 3 and its system calls.
    Program,
    /// Idle time, from IDLE_IN to IDLE_OUT.
    Idle,
    /// A system call with this number.
    Syscall(u64),
}

/// Returns whether events of this kind start or end a span. All other events are instants.
pub const fn is_edge(kind: Kind) -> bool {
    use Kind::*;
    matches!(kind, SyscallEnter | SyscallExit | ProgramStart | ProgramEnd | IdleIn | IdleOut)
}

/// The effect of an event on the spans of its CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A span starts.
    Open(Span),
    /// The innermost open span ends.
    Close {
        /// The span.
        span: Span,
        /// When it started, in nanoseconds.
        start: u64,
        /// Whether this event is its end event. If not, the span is cut.
        complete: bool,
    },
}

/// The open spans of one CPU; the innermost is last.
#[derive(Clone, Debug, Default)]
pub struct Spans {
    open: Vec<(Span, u64)>,
}

impl Spans {
    /// Processes the next event of the CPU. Calls `step` for each resulting step, in order.
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
                // SYS_EXIT does not return, even if the start of the program is not in the trace.
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

    /// Ends the events of the CPU: cuts all open spans, the innermost first.
    pub fn end(&mut self, mut step: impl FnMut(Step)) {
        self.cut(|_| true, &mut step);
    }

    fn open(&mut self, span: Span, ns: u64, step: &mut impl FnMut(Step)) {
        self.open.push((span, ns));
        step(Step::Open(span));
    }

    /// Cuts the innermost spans while `matches` returns true for them.
    fn cut(&mut self, matches: impl Fn(&Span) -> bool, step: &mut impl FnMut(Step)) {
        while let Some((span, start)) = self.open.pop_if(|(span, _)| matches(span)) {
            step(Step::Close { span, start, complete: false });
        }
    }

    /// Closes a span and cuts all spans still open inside it. An end without a start is ignored.
    fn close(&mut self, span: Span, step: &mut impl FnMut(Step)) {
        if !self.open.iter().any(|(open, _)| *open == span) {
            return;
        }
        self.cut(|open| *open != span, step);
        if let Some((span, start)) = self.open.pop() {
            step(Step::Close { span, start, complete: true });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Formats steps: `+` opens a span, `-` closes it, `~` cuts it.
    fn steps(events: &[(Kind, u64)]) -> String {
        let mut spans = Spans::default();
        let mut text = String::new();
        for (ns, (kind, a)) in events.iter().enumerate() {
            let record = Record { a: *a, ..Record::default() };
            spans.take(ns as u64, *kind, &record, |step| {
                let (sign, span) = match step {
                    Step::Open(span) => ('+', span),
                    Step::Close { span, complete: true, .. } => ('-', span),
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
                // Cutting a span does not make this kind its end event.
                spans.take(2, kind, &Record::default(), |step| {
                    found |= matches!(step, Step::Open(_) | Step::Close { complete: true, .. });
                });
                found
            });
            assert_eq!(is_edge(kind), opens_or_closes, "is_edge and Spans::take differ on {}", kind.name());
        }
    }

    #[test]
    fn calls_nest_in_programs_and_exit_does_not_return() {
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
    fn missing_events_cut_spans() {
        use Kind::*;
        assert_eq!(steps(&[(SyscallExit, 1), (IdleOut, 0), (ProgramEnd, 0)]), "", "ends without starts");
        assert_eq!(steps(&[(SyscallEnter, 3), (ProgramEnd, 0)]), "+3 ~3");
        assert_eq!(steps(&[(SyscallEnter, 1), (Dropped, 9), (SyscallExit, 1)]), "+1 ~1");
        assert_eq!(steps(&[(SyscallEnter, 1), (SyscallEnter, 2), (SyscallExit, 2)]), "+1 ~1 +2 -2");
        assert_eq!(steps(&[(SyscallEnter, 1), (SyscallExit, 2)]), "+1", "end of another call");
        assert_eq!(steps(&[(ProgramStart, 0), (IdleIn, 0), (ProgramStart, 0)]), "+P +I ~I ~P +P");
    }
}
