use std::string::{String, ToString};
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

fn args(line: &str) -> Vec<String> {
    let options = Options::parse(line.as_bytes()).unwrap();
    options.program_args().map(|arg| arg.to_string()).collect()
}

fn message(line: &[u8]) -> String {
    Options::parse(line).unwrap_err().to_string()
}

#[test]
fn an_empty_line_asks_for_the_defaults() {
    for line in ["", "  \t\n", "--", " -- "] {
        let options = Options::parse(line.as_bytes()).unwrap();
        assert_eq!(options.program, *"selftest");
        assert_eq!(options.tick_hz, 100);
        assert_eq!((options.panic_cpu, options.lose_ap, options.delay_ap), (None, None, None));
        assert_eq!(options.repeat, Repeat { rounds: 1, deaths_go_on: false, limit_ticks: 0 });
        assert_eq!(options.program_args().count(), 0);
    }
}

#[test]
fn every_key_and_arguments() {
    let line =
        br#"program="my \"prog\"" tick_hz=10000 panic_cpu=0 lose_ap=1 "delay_ap=4294967295" -- -x a=b"#;
    let options = Options::parse(line).unwrap();
    assert_eq!(options.program, *"my \"prog\"");
    assert_eq!((options.program.len(), options.tick_hz), (9, 10_000));
    assert_eq!((options.panic_cpu, options.lose_ap, options.delay_ap), (Some(0), Some(1), Some(u32::MAX)));
    assert!(options.program_args().map(|arg| arg.to_string()).eq(["-x", "a=b"]));

    let options = Options::parse(b"repeat=10000 deaths=go-on limit_ticks=4").unwrap();
    assert_eq!(options.repeat, Repeat { rounds: 10_000, deaths_go_on: true, limit_ticks: 4 });
    assert!(!Options::parse(b"deaths=end").unwrap().repeat.deaths_go_on);
}

#[test]
fn quotes_and_backslashes() {
    let cases: [(&str, &[&str]); 8] = [
        ("-- a  b\tc", &["a", "b", "c"]),
        (r#"-- "a b" c"#, &["a b", "c"]),
        (r#"-- a" "b"" "" """#, &["a b", "", ""]),
        (r"-- a\ b \\ \n", &["a b", r"\", "n"]),
        (r#"-- "a\" b" \""#, &["a\" b", "\""]),
        ("-- -- program=x", &["--", "program=x"]),
        (r#"tick_hz=7 "--" é\é"#, &["éé"]),
        (r"-- \", &[]),
    ];
    for (line, expected) in &cases[..7] {
        assert_eq!(args(line), *expected, "{line}");
    }
    assert_eq!(Options::parse(cases[7].0.as_bytes()), Err(CmdlineError::TrailingBackslash));
}

#[test]
fn errors_name_what_is_wrong_and_what_is_right() {
    let unknown = "unknown option 'tickhz=5'; known are program=, tick_hz=, panic_cpu=, \
                   overflow_cpu=, breach=, lose_ap=, delay_ap=, ipi_storm=, nmi_storm=, serial=, repeat=, deaths=, limit_ticks=, trace=, trace_records=, \
                   trace_mode=, trace_via=, trace_alternate=; \
                   the program's arguments go behind '--'";
    assert_eq!(message(b"tickhz=5"), unknown);
    for line in ["hello", "=", "=5", "program_=x", "\"\"", "progra", "TICK_HZ=5"] {
        assert!(message(line.as_bytes()).starts_with("unknown option '"), "{line}");
    }
    for value in ["0", "10001", "", "x", "+5", "-1", "5 5x", "99999999999", "0x10"] {
        let line = std::format!("tick_hz=\"{value}\"");
        let expected = std::format!("tick_hz= takes a number from 1 to 10000, not '{value}'");
        assert_eq!(message(line.as_bytes()), expected);
    }
    for line in [
        "lose_ap=0",
        "delay_ap=0",
        "panic_cpu=4294967296",
        "panic_cpu",
        "trace=",
        "trace=users",
        "trace=user,",
        "trace_records=8",
        "trace_mode=",
        "trace_via=usb",
        "trace_alternate=60001",
        "breach=",
        "breach=read",
        "repeat=0",
        "deaths=",
        "deaths=go_on",
        "limit_ticks=4294967296",
    ] {
        assert!(matches!(Options::parse(line.as_bytes()), Err(CmdlineError::BadValue(..))), "{line}");
    }
    assert_eq!(message(b"tick_hz=5 tick_hz=5"), "option tick_hz= is given twice");
    assert_eq!(message(b"program="), "program= takes a program's name, not nothing");
    assert!(message(b"-- \"a").contains("not closed"));
    assert!(message(b"program=\"a").contains("not closed"));
    assert_eq!(message(b"-- \xff"), "the command line is not UTF-8");
}

#[test]
fn a_token_fits_its_buffer_or_not() {
    let options = Options::parse(br"program=\a\bc").unwrap();
    let mut buffer = [0; 4];
    assert_eq!(options.program.copy_to(&mut buffer), Some("abc"));
    assert_eq!(options.program.copy_to(&mut buffer[..2]), None);
}

/// What the host tool does with an argument.
fn quote(arg: &str) -> String {
    std::format!("\"{}\"", arg.replace('\\', "\\\\").replace('"', "\\\""))
}

proptest! {
    #[test]
    fn quoted_arguments_come_back(given in prop::collection::vec("\\PC*", 0..6)) {
        let mut line = String::from("tick_hz=5 --");
        for arg in &given {
            line.push(' ');
            line.push_str(&quote(arg));
        }
        prop_assert_eq!(args(&line), given);
    }

    #[test]
    fn never_panics(line: Vec<u8>) {
        let _ = Options::parse(&line).map_err(|e| e.to_string());
    }

    #[test]
    fn never_panics_near_the_grammar(line in "([a-z_]{0,9}=?[\"\\\\ 0-9é-]{0,4}){0,6}") {
        match Options::parse(line.as_bytes()) {
            Ok(options) => for arg in options.program_args() {
                prop_assert_eq!(arg.bytes().count(), arg.len());
            },
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }
}
