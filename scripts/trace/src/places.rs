//! Names the code at the addresses in a trace: the function and the source line.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use kernel_abi::trace::{Field, Kind, Style};

use super::merge::Event;

/// Finds the function and source line at an address. `None` if no symbol names it.
pub type Find = Box<dyn Fn(u64) -> Option<String>>;

/// The information from which the symbols for a trace are found.
pub struct Origin<'a> {
    /// The trace file.
    pub trace: &'a Path,
    /// The command line of the run; empty if it is unknown.
    pub command: &'a [String],
    /// The ELF files that the user named. If there are any, only these are used.
    pub symbols: &'a [PathBuf],
}

/// The names of the code in a trace. Each address is looked up once.
#[derive(Default)]
pub struct Places {
    find: Option<Find>,
    known: RefCell<HashMap<u64, Option<Rc<str>>>>,
}

impl Places {
    /// Uses this function to find names; without one, no address has a name.
    pub fn new(find: Option<Find>) -> Places {
        Places { find, known: RefCell::default() }
    }

    /// Returns whether addresses may have names.
    pub fn are_known(&self) -> bool {
        self.find.is_some()
    }

    /// Returns the name of the code at an event's address, if it has one.
    pub fn of(&self, event: &Event) -> Option<Rc<str>> {
        let find = self.find.as_ref()?;
        let address = address(event)?;
        self.known.borrow_mut().entry(address).or_insert_with(|| find(address).map(Rc::from)).clone()
    }
}

/// Returns the address of the instruction that an event names.
fn address(event: &Event) -> Option<u64> {
    let fields = event.kind?.fields().into_iter().zip([event.record.a, event.record.b]);
    let address = fields.filter(|(field, _)| is_code(*field)).map(|(_, value)| value).next()?;
    // #BP and #OF are reported after their instruction, so that RIP is the address of the next one.
    let is_trap = event.kind == Some(Kind::Fault) && matches!(event.record.a, 3 | 4);
    Some(address.wrapping_sub(u64::from(is_trap)))
}

/// Returns whether events of this kind have the address of an instruction.
pub fn has_code(kind: Kind) -> bool {
    kind.fields().into_iter().any(is_code)
}

fn is_code(field: Option<Field>) -> bool {
    field.is_some_and(|field| field.style == Style::Code)
}

#[cfg(test)]
mod tests {
    use kernel_abi::trace::Record;

    use super::*;

    #[test]
    fn address_is_the_reported_instruction() {
        let event = |kind: Kind, a, b| {
            let record = Record { a, b, kind: kind as u16, ..Record::default() };
            Event { ns: 0, lane: 0, kind: Some(kind), record }
        };
        let find: Find = Box::new(|address| (address >= 0x100).then(|| format!("f+{address:#x}")));
        let places = Places::new(Some(find));
        assert_eq!(places.of(&event(Kind::Tick, 0x500, 0x123)).as_deref(), Some("f+0x123"));
        assert_eq!(places.of(&event(Kind::ProgramStart, 0x200, 0x300)).as_deref(), Some("f+0x200"));
        assert_eq!(places.of(&event(Kind::Fault, 14, 0x200)).as_deref(), Some("f+0x200"));
        assert_eq!(places.of(&event(Kind::Fault, 3, 0x200)).as_deref(), Some("f+0x1ff"), "after `int3`");
        assert_eq!(places.of(&event(Kind::Tick, 0, 5)), None);
        assert_eq!(places.of(&event(Kind::SyscallEnter, 0x200, 0x200)), None, "this is not a code address");
        assert_eq!(Places::default().of(&event(Kind::Tick, 0, 0x123)), None);
    }
}
