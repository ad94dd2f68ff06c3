use super::*;

fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<StressOptions, clap::Error> {
    machine::options::parse(words)
}

/// Parses the options of the replay command.
fn replayed(options: &StressOptions, seed: Seed) -> StressOptions {
    let words = shlex::split(&options.load.replay(seed)).expect("the words must be valid in a shell");
    assert_eq!(words[..3], ["cargo", "xtask", "stress"]);
    parse(words[3..].iter().map(String::as_str)).expect("the options must be valid")
}

#[test]
fn replay_command_has_the_same_options() {
    for text in [
        "",
        "--smp 8 --calls 77 --seed 5 --keep-going --jobs 2 --json x",
        "--seconds 3 --timeout 9 --mix null=1,bad=2",
        "--calls 5 --seconds 3 --runs 4 --timeout 0",
        "--smp 2,maxcpus=8 --cpu max,-x2apic --machine pc --memory 1G --accel tcg,thread=single",
        "--machine q35 --memory 128M --accel tcg --qemu qemu-system-x86_64",
        "--icount --tick-hz 10000 --ipi-storm 1000 --nmi-storm 999 --jitter",
        "--one-insn --qemu '/a b/it'\\''s qemu' --qemu-arg=-d --qemu-arg 'int,cpu reset'",
        "--serial-dir='-d r' --smp 6",
        "--trace tick,user --report x.html --keep-traces",
        "--trace off --no-report",
        "--cmdline '-x \"y z\" $HOME' --feature checking --mutant sfmask-if",
    ] {
        let words = shlex::split(text).expect("cannot split into words");
        let options = parse(words.iter().map(String::as_str)).expect(text);
        let again = replayed(&options, Seed(0xabc));
        assert_eq!(again.campaign.seeds(), Ok(vec![Seed(0xabc)]), "{text}");
        // One difference is expected: the replay command contains the number of calls even if it is the default.
        let mut explicit = options.load.clone();
        explicit.calls = explicit.calls();
        assert_eq!(format!("{:?}", again.load), format!("{explicit:?}"), "{text}");
        assert_eq!(again.load.replay(Seed(1)), options.load.replay(Seed(1)), "{text}");
    }
}

#[test]
fn boot_ends_after_20000_calls_by_default() {
    assert_eq!(parse([]).expect("cannot parse").load.calls(), Some(20_000));
    assert_eq!(parse(["--seconds", "1"]).expect("cannot parse").load.calls(), None);
    assert_eq!(parse(["--seconds", "1", "--calls", "2"]).expect("cannot parse").load.calls(), Some(2));
}

#[test]
fn invalid_options_are_rejected() {
    for words in [
        ["--calls", "0"],
        ["--mix", "null"],
        ["--mix", "nil=1"],
        ["--mix", "null=1,null=2"],
        ["--mix", "null=0"],
        ["--mix", "null=+1"],
        ["--mix", "null=4294967295,bad=1"],
        ["--seed", "ten"],
        ["--seeds", "5..5"],
        ["--runs", "0"],
        ["--jobs", "0"],
        ["--tick-hz", "10001"],
        ["--ipi-storm", "100001"],
        ["--feature", "../up"],
        ["--trace", "sycall"],
        ["--trace", "all,tick"],
        ["--trace", ""],
        ["--one-insn", "--icount"],
    ] {
        assert!(parse(words).is_err(), "{words:?}");
    }
    assert!(parse(["--seeds", "1..3", "--seed", "4"]).is_err());
    assert!(parse(["--seeds", "1..3", "--runs", "4"]).is_err());
}

#[test]
fn seeds_are_a_range_or_derived() {
    let seeds = |words: &[&str]| {
        parse(words.iter().copied()).expect("cannot parse").campaign.seeds().expect("too many seeds")
    };
    assert_eq!(seeds(&["--seeds", "3..5"]), [Seed(3), Seed(4)]);
    assert_eq!(seeds(&["--seed", "9"]), [Seed(9)]);
    assert_eq!(seeds(&["--seed", "9", "--runs", "3"])[0], Seed(9));
    assert_eq!(seeds(&["--runs", "3"]).len(), 3);
    assert_ne!(seeds(&[]), seeds(&[]));
}
