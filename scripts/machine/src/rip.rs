//! Finds addresses of code in the messages of the kernel and of programs.

/// The text before a code address in messages of the kernel and of programs.
const MARKS: [&str; 2] = ["RIP 0x", "rip 0x"];

/// Inserts a function and source line (`place`) after the first RIP of a message.
pub fn insert_place(message: &str, place: Option<&str>) -> String {
    match (rip(message), place) {
        (Some((end, _)), Some(place)) => format!("{} in {place}{}", &message[..end], &message[end..]),
        _ => message.to_owned(),
    }
}

/// Returns the end of the first RIP in a message, and the RIP.
pub fn rip(message: &str) -> Option<(usize, u64)> {
    let start = MARKS.iter().filter_map(|mark| Some(message.find(mark)? + mark.len())).min()?;
    let digits = message[start..].find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(message.len() - start);
    let end = start + digits;
    Some((end, u64::from_str_radix(&message[start..end], 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_follows_the_rip() {
        let text = "program killed: invalid opcode (#UD), error code 0x0, RIP 0x100000abc, RSP 0x7";
        assert_eq!(
            insert_place(text, Some("f (a.c:3)")),
            "program killed: invalid opcode (#UD), error code 0x0, RIP 0x100000abc in f (a.c:3), RSP 0x7"
        );
        assert_eq!(rip("the latest at RIP 0x10"), Some((22, 0x10)));
        assert_eq!(insert_place("no address", Some("f")), "no address");
        assert_eq!(rip("RIP 0x"), None);
        assert_eq!(rip("RIP 0x11112222333344445"), None);
    }
}
