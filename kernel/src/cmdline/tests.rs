use std::string::{String, ToString};
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::properties;

fn args(line: &str) -> Vec<String> {
    let options = Options::parse(line.as_bytes()).unwrap();
    options.program_args().map(|arg| arg.to_string()).collect()
}

fn message(line: &[u8]) -> String {
    Options::parse(line).unwrap_err().to_string()
}

#[test]
fn empty_line_gives_the_defaults() {
    for line in ["", "  \t\n", "--", " -- "] {
        let options = Options::parse(line.as_bytes()).unwrap();
        assert_eq!(options.program, *"selftest");
        assert_eq!(options.tick_hz, 100);
        assert_eq!((options.lose_ap, options.delay_ap), (None, None));
        assert!((0..9).all(|cpu| options.failures.of(cpu).is_none()));
        assert_eq!(options.failures.place, Place::Start);
        assert_eq!(options.repeat, Repeat { rounds: 1, continue_after_kill: false, limit_ticks: 0 });
        assert_eq!(options.program_args().count(), 0);
    }
}

#[test]
fn every_key_and_the_arguments_are_parsed() {
    let line =
        br#"program="my \"prog\"" tick_hz=10000 panic_cpu=0 lose_ap=1 stale_ap=2 "delay_ap=4294967295" -- -x a=b"#;
    let options = Options::parse(line).unwrap();
    assert_eq!(options.program, *"my \"prog\"");
    assert_eq!((options.program.len(), options.tick_hz), (9, 10_000));
    assert_eq!((options.lose_ap, options.delay_ap), (Some(1), Some(u32::MAX)));
    assert_eq!(options.stale_ap, Some(2));
    assert_eq!((options.cycle, Options::parse(b"cycle=7").unwrap().cycle), (None, Some(7)));
    let faults = Options::parse(b"die_ap=1 die_in=set-up resend_ap=2 cycle=1 early_ap=3").unwrap();
    assert_eq!((faults.die_ap, faults.die_in), (Some(1), ApStop::SetUp));
    assert_eq!((faults.resend_ap, faults.early_ap), (Some(2), Some(3)));
    assert_eq!(message(b"die_in=kernel"), "die_in= needs die_ap=");
    assert_eq!(message(b"early_ap=1"), "early_ap= needs cycle=");
    assert!(Options::parse(b"cycle=7 nmi_storm=0 ipi_storm=9").is_ok());
    assert!(message(b"cycle=7 nmi_storm=1").starts_with("cycle= and nmi_storm= cannot be combined"));
    assert_eq!(options.failures.of(0), Some(FailureKind::Panic));
    assert!(options.program_args().map(|arg| arg.to_string()).eq(["-x", "a=b"]));

    let options = Options::parse(b"repeat=10000 deaths=go-on limit_ticks=4").unwrap();
    assert_eq!(options.repeat, Repeat { rounds: 10_000, continue_after_kill: true, limit_ticks: 4 });
    assert!(!Options::parse(b"deaths=end").unwrap().repeat.continue_after_kill);
}

#[test]
fn quotes_group_and_backslashes_escape() {
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
fn errors_name_the_value_and_the_valid_values() {
    let unknown = "unknown option 'tickhz=5'; the known options are program=, tick_hz=, panic_cpu=, \
                   overflow_cpu=, double_fault_cpu=, fail_in=, nest_nmi=, stray_interrupts=, dump_cpus=, breach=, without=, floor=, uart_fault=, firmware_fault=, verdict=, lose_ap=, delay_ap=, stale_ap=, die_ap=, die_in=, resend_ap=, early_ap=, cycle=, ipi_storm=, nmi_storm=, serial=, repeat=, deaths=, limit_ticks=, trace=, trace_records=, \
                   trace_mode=, trace_via=, trace_alternate=; \
                   the program's arguments go after '--'";
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
        "stale_ap=0",
        "cycle=0",
        "die_ap=0",
        "die_ap=1 die_in=nowhere",
        "resend_ap=0",
        "early_ap=0",
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
        "firmware_fault=",
        "firmware_fault=madt",
        "breach=read",
        "without=",
        "without=smap,",
        "without=SMAP",
        "without=tsc_aux",
        "panic_cpu=1 fail_in=",
        "panic_cpu=1 fail_in=Tick",
        "nest_nmi=1",
        "stray_interrupts=1",
        "dump_cpus=",
        "repeat=0",
        "deaths=",
        "deaths=go_on",
        "limit_ticks=4294967296",
    ] {
        assert!(matches!(Options::parse(line.as_bytes()), Err(CmdlineError::BadValue(..))), "{line}");
    }
    assert_eq!(message(b"tick_hz=5 tick_hz=5"), "option tick_hz= is given twice");
    assert_eq!(message(b"program="), "program= needs a program's name");
    assert!(message(b"-- \"a").contains("not closed"));
    assert!(message(b"program=\"a").contains("not closed"));
    assert_eq!(message(b"-- \xff"), "the command line is not UTF-8");
}

#[test]
fn failing_cpu_kind_and_place_are_parsed() {
    let parse = |line: &'static str| Options::parse(line.as_bytes()).map(|options| options.failures);
    let failures = parse("overflow_cpu=2 double_fault_cpu=5 fail_in=tick").unwrap();
    let kinds = [0, 2, 5].map(|cpu| failures.of(cpu));
    assert_eq!(kinds, [None, Some(FailureKind::Overflow), Some(FailureKind::DoubleFault)]);
    let holders = |line| {
        let failures = parse(line).unwrap();
        (0..6).filter(|&cpu| failures.holds_console(cpu, 6)).collect::<Vec<_>>()
    };
    assert_eq!(holders("overflow_cpu=2 fail_in=console-held"), [3], "the next CPU");
    assert_eq!(holders("double_fault_cpu=5 fail_in=console-held"), [0], "wraps around to CPU 0");
    assert!((0..6).all(|cpu| !parse("panic_cpu=2 fail_in=console").unwrap().holds_console(cpu, 6)));
    let failures = parse("panic_cpu=1 fail_in=second-panic").unwrap();
    let roles: Vec<_> = (0..4).map(|cpu| failures.second_panic_role(cpu, 4)).collect();
    let [first, holder, second] =
        [SecondPanicRole::First, SecondPanicRole::Holder, SecondPanicRole::Second].map(Some);
    assert_eq!(roles, [None, first, holder, second]);
    assert_eq!(failures.second_panic_role(0, 3), second, "wraps around to CPU 0");
    assert_eq!(parse("panic_cpu=1").unwrap().second_panic_role(1, 4), None);
    for (word, place) in Place::ALL {
        assert_eq!(place.name(), word);
        let line = std::format!("panic_cpu=1 cycle=1 fail_in={word}");
        assert_eq!(Options::parse(line.as_bytes()).unwrap().failures.place, place);
    }
    assert_eq!(parse("fail_in=tick"), Err(CmdlineError::NoFailingCpu));
    assert_eq!(
        parse("fail_in=console-held panic_cpu=0 overflow_cpu=1"),
        Err(CmdlineError::SeveralFailingCpus(Place::ConsoleHeld))
    );
    assert!(parse("fail_in=tick panic_cpu=0 overflow_cpu=1").is_ok());
    assert_eq!(parse("fail_in=come-back panic_cpu=1"), Err(CmdlineError::WithoutEffect(Key::Cycle)));
    assert_eq!(
        parse("fail_in=come-back cycle=1 overflow_cpu=0"),
        Err(CmdlineError::OnlyAps(Place::ComeBack))
    );
}

#[test]
fn floor_is_refused_for_other_programs() {
    assert_eq!(Options::parse(b"floor=2 program=lengths").unwrap().floor, Some(2));
    assert_eq!(Options::parse(b"").unwrap().floor, None);
    assert_eq!(
        message(b"program=hello floor=1"),
        "floor= is for measurements and needs program=lengths, not 'hello': system calls do nothing"
    );
    assert_eq!(message(b"floor=3 program=lengths"), "floor= takes a number from 1 to 2, not '3'");
}

#[test]
fn token_is_copied_only_if_it_fits() {
    let options = Options::parse(br"program=\a\bc").unwrap();
    let mut buffer = [0; 4];
    assert_eq!(options.program.copy_to(&mut buffer), Some("abc"));
    assert_eq!(options.program.copy_to(&mut buffer[..2]), None);
}

/// Quotes an argument as the host tool does.
fn quote(arg: &str) -> String {
    std::format!("\"{}\"", arg.replace('\\', "\\\\").replace('"', "\\\""))
}

proptest! {
    #[test]
    fn quoted_arguments_are_parsed_unchanged(given in prop::collection::vec("\\PC*", 0..6)) {
        let mut line = String::from("tick_hz=5 --");
        for arg in &given {
            line.push(' ');
            line.push_str(&quote(arg));
        }
        prop_assert_eq!(args(&line), given);
    }

    #[test]
    fn any_bytes_satisfy_the_properties(line: Vec<u8>) {
        properties::command_line(&line);
    }

    #[test]
    fn lines_near_the_grammar_satisfy_the_properties(line in "([a-z_]{0,9}=?[\"\\\\ 0-9é-]{0,4}){0,6}") {
        properties::command_line(line.as_bytes());
    }

    #[test]
    fn keys_and_values_satisfy_the_properties(
        words in prop::collection::vec((0..Key::ALL.len(), "[0-9]{1,5}|[a-z-]{0,8}"), 0..6),
        rest in "( --( [a-z\"\\\\]{0,3}){0,4})?",
    ) {
        let words = words.iter().map(|(key, value)| std::format!("{}={value} ", Key::ALL[*key].name()));
        properties::command_line((words.collect::<String>() + &rest).as_bytes());
    }
}

#[test]
fn finish_is_found_on_an_invalid_line() {
    for (line, expected) in [
        ("", None),
        ("verdict=stay", Some(Finish::Stay)),
        ("x=1 tick_hz=0 verdict=poweroff verdict=exit", Some(Finish::PowerOff)),
        ("verdict=reboot \"", Some(Finish::Reboot)),
        ("verdict=no", None),
        ("-- verdict=exit", None),
    ] {
        assert_eq!(Options::requested_finish(line.as_bytes()), expected, "{line}");
    }
    assert_eq!(Options::parse(b"verdict=reboot").unwrap().finish, Some(Finish::Reboot));
    assert_eq!(message(b"verdict=off"), "verdict= takes one of exit stay reboot poweroff, not 'off'");
}

#[test]
fn unused_features_are_parsed_and_required_ones_refused() {
    let unused = Features { smap: true, x2apic: true, ..Features::NONE };
    assert_eq!(Options::parse(b"without=x2apic,smap").unwrap().without, unused);
    assert_eq!(Options::parse(b"").unwrap().without, Features::NONE);
    let words = "without= takes words from smep smap umip x2apic separated by commas, not";
    assert_eq!(message(b"without=smap,avx"), std::format!("{words} 'smap,avx'"));
    for value in ["sse2", "smap,SYSCALL", "64-bit mode"] {
        let line = std::format!("\"without={value}\"");
        let word = value.rsplit(',').next().unwrap();
        let expected =
            std::format!("without={word}: the kernel cannot do without this feature; {words} '{value}'");
        assert_eq!(message(line.as_bytes()), expected);
    }
    // A value that is longer than any list of the words.
    let long = std::format!("without={}", "smap,".repeat(40));
    assert!(message(long.as_bytes()).starts_with(words));
}

#[test]
fn unused_features_are_found_on_an_invalid_line() {
    let smap = Features { smap: true, ..Features::NONE };
    for (line, expected) in [
        ("", Features::NONE),
        ("without=smap", smap),
        ("x=1 tick_hz=0 without=smap without=umip", smap),
        ("without=smap,sse2", Features::NONE),
        ("-- without=smap", Features::NONE),
    ] {
        assert_eq!(Options::requested_without(line.as_bytes()), expected, "{line}");
    }
}
