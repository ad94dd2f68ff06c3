//! CTF metadata: describes the stream files in TSDL.

use std::fmt::Write;

use kernel_abi::syscall::Call;
use kernel_abi::trace::{Kind, Style};

use crate::file::Header;
use crate::places::has_code;
use crate::shape::{Shape, UNKNOWN};

/// The magic number at the start of each packet.
pub const MAGIC: u32 = 0xc1fc_1fc1;
/// The event ID for kinds that this tool does not know.
pub const UNKNOWN_ID: u16 = 0;

/// Returns the contents of the file `metadata`. With `places`, events with an address of code also have its name.
pub fn metadata(header: &Header, places: bool) -> String {
    let mut text = String::from(HEAD);
    // Writing to a `String` cannot fail.
    let _ = write!(
        text,
        "env {{\n    tracer_name = \"ringside\";\n    mode = \"{:?}\";\n    tsc_hz = \"{}\";\n    command = \
         \"{}\";\n}};\n\n",
        header.mode,
        header.tsc_hz,
        escaped(&header.command.join(" "))
    );
    text += STREAM;
    text += &event(UNKNOWN_ID, "unknown", UNKNOWN, true, false);
    for kind in Kind::ALL {
        text += &event(kind as u16, kind.name(), kind.fields(), false, places && has_code(kind));
    }
    text
}

const HEAD: &str = "/* CTF 1.8 */

typealias integer { size = 16; align = 8; signed = false; } := uint16_t;
typealias integer { size = 32; align = 8; signed = false; } := uint32_t;
typealias integer { size = 64; align = 8; signed = false; } := uint64_t;
typealias integer { size = 64; align = 8; signed = false; base = 16; } := hex64_t;
typealias integer { size = 64; align = 8; signed = true; } := int64_t;

trace {
    major = 1;
    minor = 8;
    byte_order = le;
    packet.header := struct {
        uint32_t magic;
        uint32_t stream_id;
    };
};

";

const STREAM: &str = "clock {
    name = boot;
    description = \"nanoseconds since kernel start\";
    freq = 1000000000;
    offset = 0;
};

typealias integer { size = 64; align = 8; signed = false; map = clock.boot.value; } := time_t;

stream {
    id = 0;
    packet.context := struct {
        time_t timestamp_begin;
        time_t timestamp_end;
        uint64_t content_size;
        uint64_t packet_size;
        uint64_t events_discarded;
        uint32_t cpu_id;
    };
    event.header := struct {
        uint16_t id;
        time_t timestamp;
    };
};

";

/// Returns the declaration of one event. Its fields are `a` and `b`, in this order; unused fields are omitted.
fn event(id: u16, name: &str, fields: Shape, with_kind: bool, with_place: bool) -> String {
    let mut text = format!("event {{\n    name = \"{name}\";\n    id = {id};\n    stream_id = 0;\n");
    text += "    fields := struct {\n";
    if with_kind {
        text += "        uint16_t kind;\n";
    }
    for field in fields.into_iter().flatten() {
        let r#type = match field.style {
            Style::Hex | Style::Code => "hex64_t".to_owned(),
            Style::Signed | Style::Result => "int64_t".to_owned(),
            Style::Syscall => format!("enum : uint64_t {{ {} }}", syscalls()),
            Style::Ending => "enum : uint64_t { exited = 0, killed = 1 }".to_owned(),
            _ => "uint64_t".to_owned(),
        };
        // The underscore, which readers remove, prevents a clash with TSDL keywords.
        let _ = writeln!(text, "        {} _{};", r#type, field.name);
    }
    if with_place {
        text += "        string _place;\n";
    }
    text += "    };\n};\n\n";
    text
}

/// Returns the names of the system calls as labels of an enumeration.
fn syscalls() -> String {
    Call::ALL.map(|call| format!("{} = {}", call.name(), call.number())).join(", ")
}

/// Escapes text for a TSDL string.
fn escaped(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).fold(String::new(), |mut escaped, c| {
        if c == '"' || c == '\\' {
            escaped.push('\\');
        }
        escaped.push(c);
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_declared_with_its_fields() {
        let text = metadata(&Header { command: vec!["a \"b\"\n".to_owned()], ..Header::default() }, false);
        assert!(!text.contains("_place"), "no symbols");
        assert!(text.starts_with("/* CTF 1.8 */"), "readers require exactly these characters");
        assert!(text.contains("command = \"a \\\"b\\\"\";"), "{text}");
        for kind in Kind::ALL {
            let declared = format!("name = \"{}\";\n    id = {};", kind.name(), kind as u16);
            assert!(text.contains(&declared), "{declared}");
        }
        assert!(text.contains("SYS_NULL = 0, SYS_WRITE_SERIAL = 1,"));
        assert!(text.contains("int64_t _result;"));
    }
}
