//! Cases with programs that must exit with code 0, and with programs that report a failure by their exit code.

use machine::tree::root;

use super::{Case, case, program_path};

/// The maximum number of instructions of a null system call's round trip, including the measuring loop.
const ROUND_TRIP_LIMIT: f64 = 39.05;
/// The maximum number of instructions of a tick from ring 3 and back.
const TICK_LIMIT: u64 = 70;

/// Returns the cases.
pub fn cases() -> Vec<Case> {
    let own = program_path("args");
    let own =
        shlex::try_quote(&own.to_string_lossy()).map_or_else(|_| String::new(), |word| word.into_owned());
    vec![
        (0..4).fold(case("program::hello-on-every-cpu", "--smp 4", "hello").exits_on(4), |case, cpu| {
            case.shows(format!("[cpu{cpu}] hello from ring 3 on cpu {cpu} of 4"))
        }),
        case("program::default-is-selftest", "--smp 2", "").exits_on(2).demand(|finished| {
            super::expect(finished.cpu(0)?["program"].as_str(), Some("selftest"), "program")
        }),
        case("program::embedded-with-arguments", "--smp 1", r#"args one "two words" --three 'fo"ur\' """#)
            .shows("[cpu0] argc=6")
            .shows("[cpu0] argv[0]=<args>")
            .shows("[cpu0] argv[1]=<one>")
            .shows("[cpu0] argv[2]=<two words>")
            .shows("[cpu0] argv[3]=<--three>")
            .shows(r#"[cpu0] argv[4]=<fo\"ur\\>"#)
            .shows("[cpu0] argv[5]=<>"),
        case("program::own-file-with-arguments", "--smp 2", &format!("{own} -x 'a b'"))
            .exits_on(2)
            .shows("[cpu1] argc=3")
            .shows("[cpu1] argv[0]=<args>")
            .shows("[cpu1] argv[1]=<-x>")
            .shows("[cpu1] argv[2]=<a b>"),
        // With `--icount` the TSC counts instructions, so the result is the same on every host.
        case("program::round-trip-in-instructions", "--icount --smp 1", "roundtrip 10000").demand(round_trip),
        case("program::tick-in-instructions", "--icount --smp 1", "roundtrip 1 20").demand(tick),
        (0..4).fold(
            case(
                "program::selftest-under-ipis-and-nmis",
                "--smp 4 --tick-hz 1000 --cmdline 'ipi_storm=1000 nmi_storm=1000'",
                "selftest",
            )
            .exits_on(4),
            |case, cpu| case.shows_line(format!("[cpu{cpu}] ringside: "), " NMI, the latest at RIP "),
        ),
        case("program::serial-port-for-each-cpu", "--smp 6 --serial-dir target/test-logs/serial", "hello")
            .exits_on(6)
            .demand(each_cpu_has_its_file),
        case("program::exit-code", "--smp 2", "fault exit-code 1")
            .status(1)
            .exits_on(1)
            .demand(|finished| super::expect(finished.cpu(1)?["code"].as_i64(), Some(7), "exit code"))
            .complains("CPU 1: fault exited with code 7"),
        case("program::panic", "--smp 2", "fault panic 1")
            .status(1)
            .exits_on(1)
            .demand(|finished| super::expect(finished.cpu(1)?["code"].as_i64(), Some(101), "exit code")),
    ]
}

/// Checks that each CPU's serial log contains only this CPU's output. The CPUs use COM1 to COM4 and the ports of a
/// serial card.
fn each_cpu_has_its_file(_: &super::Finished) -> Result<(), String> {
    (0..6).try_for_each(|cpu| {
        let path = root().join(format!("target/test-logs/serial/cpu{cpu}.log"));
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let program: Vec<_> = text.lines().filter(|line| !line.contains("] ringside: ")).collect();
        super::expect(
            program,
            vec![format!("[cpu{cpu}] hello from ring 3 on cpu {cpu} of 6").as_str()],
            "lines",
        )
    })
}

fn round_trip(finished: &super::Finished) -> Result<(), String> {
    let figure = round_trip_figure(&finished.stdout).ok_or("the program printed no figure")?;
    if figure <= ROUND_TRIP_LIMIT {
        Ok(())
    } else {
        Err(format!("a round trip takes {figure} instructions, the limit is {ROUND_TRIP_LIMIT}"))
    }
}

fn tick(finished: &super::Finished) -> Result<(), String> {
    let figure = finished.stdout.lines().find_map(|line| {
        let (_, figure) = line.split_once(" timer ticks, at least ")?;
        figure.split(' ').next()?.parse::<u64>().ok()
    });
    match figure.ok_or("the program printed no figure")? {
        figure if figure <= TICK_LIMIT => Ok(()),
        figure => Err(format!("a tick takes {figure} instructions, the limit is {TICK_LIMIT}")),
    }
}

/// Parses the result of the program `roundtrip`, including the measuring loop, in ticks of the TSC. With `--icount`
/// these are instructions.
pub fn round_trip_figure(stdout: &str) -> Option<f64> {
    let line = stdout.lines().find(|line| line.ends_with("loop included"))?;
    line.split(", ").nth(1)?.split(' ').next()?.parse().ok()
}
