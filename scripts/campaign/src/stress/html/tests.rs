//! Tests pages of synthetic boots: each number is in the right place, and external text is never interpreted as markup.

use std::time::Duration;

use kernel_abi::counters::{CLASSES, Counters};
use kernel_abi::syscall::{Call, TABLE_LEN};
use kernel_abi::trace::{Kind, Record};
use machine::verify::Outcome;
use serde_json::Value;
use trace::file::{Cpu, Header, Writer};
use trace::survey::Survey;

use super::*;
use crate::counters::{CounterPages, Snapshot};
use crate::stress::result::tests::boot;
use crate::stress::samples::Samples;

/// Text that would inject markup into an element, an attribute or a script if it were not escaped.
const HOSTILE: &str = "<script>alert(1)</script>\"'&</script \u{1b}[2J";

fn counters(ticks: u64, deviation_class: usize) -> Snapshot {
    let mut counters = Counters { calls: [0; TABLE_LEN + 1], ticks, deviations: [0; CLASSES] };
    counters.deviations[deviation_class] = ticks - 1;
    counters
}

/// Returns the evidence of a synthetic boot with two CPUs.
fn evidence(trace: Result<Survey, String>) -> Evidence {
    let mut samples = Samples::default();
    for (ms, calls) in [(100, [0, 0]), (200, [50, 100]), (300, [950, 1000])] {
        samples.push(Duration::from_millis(ms), calls.to_vec());
    }
    let clock = CounterPages::of(100, 2_000_000_000);
    let counters = vec![counters(50, 12), counters(51, 14)];
    Evidence {
        boot: None,
        qemu: "qemu -append '<b>'".to_owned(),
        samples,
        counters,
        clock: Some(clock),
        trace,
    }
}

/// Returns the survey of a trace file with these events on two CPUs. Each event has a TSC value in ns, a CPU, a kind
/// and the first argument.
fn survey(events: &[(u64, usize, Kind, u64)]) -> Survey {
    let folder = tempfile::tempdir().expect("cannot create a directory");
    let path = folder.path().join("x.rtrace");
    let mut writer = Writer::create(&path, 2).expect("cannot create a writer");
    for &(tsc, lane, kind, a) in events {
        let record = Record { tsc, a, kind: kind as u16, ..Record::default() };
        writer.append(lane, &[record]).expect("cannot append");
    }
    let cpus = (0..2).map(|cpu| Cpu { cpu, apic_id: 10 + cpu, ..Cpu::default() }).collect();
    writer
        .finish(Header { kinds: Header::kind_names(u32::MAX), cpus, ..Header::default() })
        .expect("cannot finish");
    Survey::of(&path, |header| header.cpus.iter_mut().for_each(|cpu| cpu.cpu = 11 - cpu.apic_id))
        .expect("cannot read")
}

/// Returns a trace of two CPUs: 20 system calls on CPU 0, one of them with an unknown number, and a tick on CPU 1.
fn traced() -> Survey {
    let call = |n: u64| {
        let (begin, number) = (1000 + 100 * n, if n == 7 { 99 } else { 4 });
        [(begin, 1, Kind::SyscallEnter, number), (begin + 40, 1, Kind::SyscallExit, number)]
    };
    let events: Vec<_> = (0..20).flat_map(call).chain([(1500, 0, Kind::Tick, 1)]).collect();
    // The second CPU in the file has index 0.
    survey(&events)
}

/// Parses the data element of a page.
fn data(page: &str) -> Value {
    let (_, rest) = page.split_once("id=\"data\">").expect("there must be data");
    let (json, _) = rest.split_once("</script>").expect("no end tag");
    serde_json::from_str(json).expect("invalid JSON")
}

/// Returns the page of one boot.
fn one(trace: Result<Survey, String>, outcome: Outcome) -> String {
    let boot = boot(1, outcome);
    let evidence = BTreeMap::from([(boot.seed, evidence(trace))]);
    page(&Campaign::of(vec![boot], vec![]), &evidence)
}

#[test]
fn page_has_numbers_of_result_and_trace() {
    let page = one(Ok(traced()), Outcome::Pass);
    for part in [
        "pass: 1 of 1 boot passed; 2000 system calls",
        "<tr data-cpu=\"1\"><th scope=\"row\" class=\"n\">1</th><td class=\"n\" data-field=\"syscalls\">1000</td>",
        "data-field=\"calls\">990</td>",
        "data-field=\"lines\">12</td>",
        "data-field=\"ticks\">50</td>",
        "<span data-last-look>950 1000</span>",
        // The latency table: CPU 0's calls, all timed, each 40 ns long.
        "<td class=\"n\">0</td><td>SYS_GET_CPU</td><td class=\"n\">19</td><td class=\"n\">19</td><td class=\"n\">0.040</td>",
        "<td class=\"n\">0</td><td>no such call</td><td class=\"n\">1</td>",
        // The jitter table: class 12 starts at 2048 ticks of a 2 GHz TSC.
        "<td class=\"n\">1.024</td><td class=\"n\">49</td><td class=\"n\">0</td>",
    ] {
        assert!(page.contains(part), "{part}");
    }
    let data = data(&page);
    assert_eq!(data[0]["rate"]["y"], serde_json::json!([[500.0, 9000.0], [1000.0, 9000.0]]));
    assert_eq!(data[0]["latency"][0]["y"], serde_json::json!([[20, 0]]));
    assert_eq!(data[0]["jitter"]["y"], serde_json::json!([[49, 0, 0, 0], [0, 0, 50, 0]]));
    let lanes = data[0]["timeline"]["lanes"].as_array().expect("lanes");
    assert_eq!(lanes[0]["slices"].as_array().map(Vec::len), Some(20));
    assert_eq!(lanes[0]["slices"][7], serde_json::json!([Call::ALL.len(), 1700, 40, 1]), "an unknown number");
    assert_eq!(lanes[1]["marks"][0], serde_json::json!(["tick", 1500, "tick ticks=1 rip=0x0"]));
}

#[test]
fn charts_with_keyboard_control_do_not_have_the_role_of_images() {
    let page = one(Ok(traced()), Outcome::Pass);
    let charts: Vec<_> = page.split("<div class=\"plot\"").skip(1).collect();
    assert_eq!(charts.len(), 4);
    for chart in charts {
        let element = chart.split('>').next().unwrap_or_default();
        assert!(element.contains("tabindex=\"0\" role=\"application\""), "{element}");
        assert!(element.contains("Keys: "), "{element}");
    }
}

#[test]
fn external_text_is_escaped() {
    let mut failed = boot(2, Outcome::Failed);
    failed.problems[0].what = HOSTILE.to_owned();
    failed.replay = HOSTILE.to_owned();
    failed.warnings = vec![HOSTILE.to_owned()];
    failed.log = Some(HOSTILE.into());
    let evidence = BTreeMap::from([(failed.seed, evidence(Err(HOSTILE.to_owned())))]);
    let page = page(&Campaign::of(vec![boot(1, Outcome::Pass), failed], vec![]), &evidence);
    assert!(!page.contains("alert(1)</script>") && !page.contains("<script>alert") && !page.contains("<b>"));
    assert!(!page.contains('\u{1b}'));
    let shown = "&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;&lt;/script \\x1b[2J";
    // Grid, table, problem, replay twice, log twice, warning, and the reason for the missing trace.
    assert_eq!(page.matches(shown).count(), 9, "{}", page.matches("alert(1)").count());
    // The page has two scripts and one data element.
    assert_eq!(page.matches("<script").count(), 3);
}

#[test]
fn json_cannot_end_its_element() {
    let json = markup::script_json(&serde_json::json!({ "a": "</script><!--" }));
    assert!(!json.contains('<'), "{json}");
    assert_eq!(serde_json::from_str::<Value>(&json).expect("invalid JSON")["a"], "</script><!--");
}

#[test]
fn page_is_self_contained() {
    let page = one(Ok(traced()), Outcome::Pass);
    for part in ["src=", "<link", "@import", "url(", "fetch(", "XMLHttpRequest", "WebSocket", "import("] {
        assert!(!page.contains(part), "{part}");
    }
    assert!(page.contains("default-src 'none'"));
}

#[test]
fn grid_has_every_seed_and_failures_have_replay() {
    use Outcome::{Failed, Host, Panic, Pass, Timeout};
    let boots: Vec<_> =
        [Pass, Failed, Panic, Timeout, Host].into_iter().zip(1..).map(|(o, n)| boot(n, o)).collect();
    let page = page(&Campaign::of(boots, vec![Seed(9)]), &BTreeMap::new());
    for (class, seed) in [("pass", 1), ("failed", 2), ("panic", 3), ("timeout", 4), ("host", 5)] {
        assert!(
            page.contains(&format!("<li class=\"{class}\" title=\"0x{seed} {class}, 2000 calls")),
            "{class}"
        );
        let replay = format!("<code>cargo xtask stress --smp 2 --seed 0x{seed}</code>");
        assert_eq!(page.contains(&replay), class != "pass", "{class}");
    }
    assert!(page.contains("<li class=\"none\" title=\"0x9 was not booted\">"));
    assert_eq!(data(&page), serde_json::json!([]));
}

#[test]
fn page_without_trace_has_reason() {
    let page = one(Err("nothing was recorded: --trace off".to_owned()), Outcome::Pass);
    assert!(page.contains("There is no trace of this boot: nothing was recorded: --trace off"));
    let data = data(&page);
    assert!(data[0]["timeline"].is_null() && data[0]["latency"].is_null() && !data[0]["rate"].is_null());
}

#[test]
fn report_is_written_atomically_into_new_directory() {
    let folder = tempfile::tempdir().expect("cannot create a directory");
    let path = folder.path().join("new/report.html");
    write(&path, &Campaign::of(vec![boot(1, Outcome::Pass)], vec![]), &BTreeMap::new())
        .expect("cannot write");
    let files: Vec<_> =
        std::fs::read_dir(path.parent().expect("there must be a directory")).expect("cannot read").collect();
    assert_eq!(files.len(), 1, "no other file may be left");
    assert!(std::fs::read_to_string(&path).expect("cannot read").ends_with("</html>\n"));
}
