//! Colours, labels, shapes and scales of a timeline picture.

use kernel_abi::trace::Kind;

use crate::shape::{NO_SYSCALL, syscall_name};
use crate::spans::Span;

/// Returns the CSS class that gives a slice its colour.
pub fn class(span: Span) -> String {
    match span {
        Span::Syscall(number) if syscall_name(number).is_some() => format!("call{number}"),
        Span::Syscall(_) => "other".to_owned(),
        Span::Program | Span::Idle => "idle".to_owned(),
    }
}

/// Returns the label of a slice.
pub fn label(span: Span) -> &'static str {
    match span {
        Span::Syscall(number) => syscall_name(number).unwrap_or(NO_SYSCALL),
        Span::Program => "program",
        Span::Idle => "idle",
    }
}

/// Returns the outline of a mark, which is 10 pixels high. The common kinds have distinct shapes.
pub fn shape_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Tick => "M-4 1h8l-4 9z",
        Kind::IpiSent => "M-4 10h8l-4-9z",
        Kind::IpiReceived | Kind::Interrupt => "M-4 1h8v9h-8z",
        Kind::Nmi => "M0 0l4 5-4 5-4-5z",
        Kind::Fault => "M-4 2l2-2 2 3 2-3 2 2-2 3 2 3-2 2-2-3-2 3-2-2 2-3z",
        Kind::User => "M-2 1h4v9h-4z",
        _ => "M-1 0h2v10h-2z",
    }
}

/// Returns a step size for an axis of this length. It is 1, 2 or 5 times a power of ten and divides the axis into about
/// eight steps.
pub fn step(length: f64) -> f64 {
    let rough = (length / 8.0).max(1.0);
    let power = 10_f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= rough).unwrap_or(10.0);
    factor * power
}

/// Formats a time with its unit.
pub fn time(ns: f64) -> String {
    let (value, unit) = match ns {
        ns if ns >= 1e9 => (ns / 1e9, "s"),
        ns if ns >= 1e6 => (ns / 1e6, "ms"),
        ns if ns >= 1e3 => (ns / 1e3, "µs"),
        ns => (ns, "ns"),
    };
    let digits = if value >= 100.0 || value.fract() < 0.05 { 0 } else { 1 };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axis_steps_are_round_and_times_have_units() {
        assert_eq!([1.0, 10.0, 900.0, 5000.0, 123_456.0].map(step), [1.0, 2.0, 200.0, 1000.0, 20_000.0]);
        assert_eq!([5.0, 1500.0, 2e6, 3.25e9].map(time), ["5 ns", "1.5 µs", "2 ms", "3.2 s"]);
    }
}
