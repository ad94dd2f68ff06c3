//! Interned names: each name is written once, and packets refer to it by its ID.

use kernel_abi::syscall::Call;
use kernel_abi::trace::Kind;

use super::proto::{InternedData, InternedName};
use crate::shape::{NO_SYSCALL, UNKNOWN};
use crate::spans::Span;

/// The name of the argument that marks a slice whose end event is missing.
const CUT: &str = "cut";
/// The ID of [`CUT`].
pub const CUT_IID: u64 = 1;
/// The name of the argument that contains a system call's error.
const ERROR: &str = "error";
/// The ID of [`ERROR`].
pub const ERROR_IID: u64 = 2;

/// The name of the argument that contains the function and source line at an address.
const PLACE: &str = "place";
/// The ID of [`PLACE`].
pub const PLACE_IID: u64 = 3;

/// All interned names and their IDs.
pub struct Names {
    events: Vec<&'static str>,
    arguments: Vec<&'static str>,
    kinds: [u64; KINDS],
    /// For each kind of event, the IDs of its arguments' names; 0 for no argument.
    fields: [[u64; 2]; KINDS],
}

/// Number of kinds of events, numbered from 1. Index 0 is for kinds that this tool does not know.
const KINDS: usize = Kind::ALL.len() + 1;

/// Number of system calls. Their names come first, ordered by system-call number.
const SYSCALLS: u64 = Call::ALL.len() as u64;

impl Names {
    /// Interns all names of events and arguments.
    pub fn new() -> Names {
        let mut events: Vec<_> = Call::ALL.into_iter().map(Call::name).collect();
        events.extend([NO_SYSCALL, "program", "idle", "unknown"]);
        let mut kinds = [events.len() as u64; KINDS];
        for kind in Kind::ALL {
            events.push(kind.name());
            kinds[kind as usize] = events.len() as u64;
        }
        let mut arguments = vec![CUT, ERROR, PLACE];
        let mut argument = |name| match arguments.iter().position(|known| *known == name) {
            Some(at) => at as u64 + 1,
            None => {
                arguments.push(name);
                arguments.len() as u64
            }
        };
        let mut fields = [[0; 2]; KINDS];
        let shapes = std::iter::once(UNKNOWN).chain(Kind::ALL.map(Kind::fields));
        for (numbers, shape) in fields.iter_mut().zip(shapes) {
            *numbers = shape.map(|field| field.map_or(0, |field| argument(field.name)));
        }
        Names { events, arguments, kinds, fields }
    }

    /// Returns the ID of a span's name.
    pub fn span(&self, span: Span) -> u64 {
        match span {
            // IDs start at 1.
            Span::Syscall(number) => 1 + number.min(SYSCALLS),
            Span::Program => SYSCALLS + 2,
            Span::Idle => SYSCALLS + 3,
        }
    }

    /// Returns the ID of an instant's name.
    pub fn instant(&self, kind: Option<Kind>) -> u64 {
        self.kinds[place(kind)]
    }

    /// Returns the IDs of the names of a kind's arguments.
    pub fn fields(&self, kind: Option<Kind>) -> [u64; 2] {
        self.fields[place(kind)]
    }

    /// Returns the names, for the first packet.
    pub fn interned(&self) -> InternedData {
        let numbered = |names: &[&str]| {
            let name =
                |(n, name): (u64, &&str)| InternedName { iid: Some(n), name: Some((*name).to_owned()) };
            (1..).zip(names).map(name).collect()
        };
        InternedData {
            event_names: numbered(&self.events),
            debug_annotation_names: numbered(&self.arguments),
        }
    }
}

fn place(kind: Option<Kind>) -> usize {
    kind.map_or(0, |kind| kind as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_refer_to_the_right_names() {
        let names = Names::new();
        let event = |iid: u64| names.events[iid as usize - 1];
        for call in Call::ALL {
            assert_eq!(event(names.span(Span::Syscall(call.number()))), call.name());
        }
        assert_eq!(event(names.span(Span::Syscall(SYSCALLS))), NO_SYSCALL);
        assert_eq!(event(names.span(Span::Syscall(u64::MAX))), NO_SYSCALL);
        assert_eq!(event(names.span(Span::Program)), "program");
        assert_eq!(event(names.span(Span::Idle)), "idle");
        assert_eq!(event(names.instant(None)), "unknown");
        for kind in Kind::ALL {
            assert_eq!(event(names.instant(Some(kind))), kind.name());
        }
        let argument = |iid: u64| names.arguments[iid as usize - 1];
        assert_eq!(names.fields(Some(Kind::Tick)).map(argument), ["ticks", "rip"]);
        assert_eq!(names.fields(Some(Kind::Fault)).map(argument), ["vector", "rip"]);
        assert_eq!(names.fields(Some(Kind::Dropped))[1], 0);
        assert_eq!(names.fields(None).map(argument), ["a", "b"]);
        assert_eq!([CUT_IID, ERROR_IID, PLACE_IID].map(argument), [CUT, ERROR, PLACE]);
    }
}
