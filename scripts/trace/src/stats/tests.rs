//! Tests of the statistics of small hand-written traces.

use kernel_abi::trace::{Record, all_groups};

use super::*;

fn event(lane: usize, ns: u64, kind: Kind, a: u64) -> Event {
    let record = Record { a, kind: kind as u16, ..Record::default() };
    Event { ns, lane, kind: Some(kind), record }
}

fn stats(kinds: u32, events: &[Event]) -> Report {
    let cpu = |cpu| Cpu { cpu, apic_id: 2 * cpu, dropped: 7, ..Cpu::default() };
    let kinds = Header::kind_names(kinds);
    let header = Header { kinds, cpus: vec![cpu(0), cpu(1)], ..Header::default() };
    let mut stats = Stats::new(&header, u32::MAX).expect("cannot begin");
    events.iter().for_each(|event| stats.event(event).expect("cannot record"));
    stats.report().expect("cannot report")
}

#[test]
fn calls_are_timed_per_cpu_and_in_total() {
    let mut events = Vec::new();
    for n in 0..100 {
        let start = n * 1000;
        events.push(event(0, start, Kind::SyscallEnter, 0));
        // One call in a hundred takes longer.
        events.push(event(0, start + if n == 50 { 900 } else { 40 }, Kind::SyscallExit, 0));
    }
    events.push(event(1, 100_000, Kind::SyscallEnter, 0));
    events.push(event(1, 100_010, Kind::SyscallExit, 0));
    events.push(event(1, 100_020, Kind::SyscallEnter, 12345));
    events.push(event(1, 100_025, Kind::SyscallExit, 12345));
    events.push(event(1, 100_030, Kind::SyscallEnter, 3));
    let report = stats(all_groups(), &events);
    let shown: Vec<_> = report
        .syscalls
        .iter()
        .map(|call| {
            let ns = call.ns.as_ref().map(|ns| (ns.min, ns.median, ns.p99, ns.p999, ns.max));
            (call.cpu, call.name, call.entered, call.timed, ns)
        })
        .collect();
    assert_eq!(
        shown,
        [
            (Some(0), "SYS_NULL", 100, 100, Some((40, 40, 40, 900, 900))),
            (Some(1), "SYS_NULL", 1, 1, Some((10, 10, 10, 10, 10))),
            (Some(1), "SYS_EXIT", 1, 0, None),
            (Some(1), NO_SYSCALL, 1, 1, Some((5, 5, 5, 5, 5))),
            (None, "SYS_NULL", 101, 101, Some((10, 40, 40, 900, 900))),
            (None, "SYS_EXIT", 1, 0, None),
            (None, NO_SYSCALL, 1, 1, Some((5, 5, 5, 5, 5))),
        ]
    );
}

#[test]
fn tick_intervals_exclude_gaps() {
    let mut events: Vec<_> = (0..10).map(|n| event(0, n * 1000, Kind::Tick, n)).collect();
    events.push(event(0, 10_100, Kind::Tick, 10));
    events.push(event(0, 90_000, Kind::Dropped, 5));
    events.push(event(0, 95_000, Kind::Tick, 90));
    let report = stats(all_groups(), &events);
    let cpu = &report.cpus[0];
    assert_eq!((cpu.ticks, cpu.tick_interval_ns), (12, Some(1000)));
    assert_eq!((cpu.tick_jitter_p99_ns, cpu.tick_jitter_max_ns), (Some(100), Some(100)));
    assert_eq!(report.cpus[1].tick_interval_ns, None);
}

#[test]
fn unknown_shares_are_omitted() {
    let events = [
        event(0, 0, Kind::SyscallExit, 0),
        event(0, 75, Kind::SyscallEnter, 0),
        event(0, 100, Kind::Tick, 1),
    ];
    let calls = Kind::SyscallEnter.bit() | Kind::SyscallExit.bit();
    let shares = |report: Report| (report.cpus[0].ring3, report.cpus[0].ring0, report.cpus[0].idle);
    assert_eq!(shares(stats(calls, &events)), (Some(0.75), None, None));
    assert_eq!(shares(stats(all_groups(), &events)), (Some(0.75), Some(0.25), Some(0.0)));
    assert_eq!(shares(stats(Kind::Tick.bit(), &events[2..])), (None, None, None));
}

#[test]
fn tables_are_aligned() {
    let report =
        stats(all_groups(), &[event(0, 1000, Kind::SyscallEnter, 1), event(0, 2000, Kind::SyscallExit, 1)]);
    let text = report.tables();
    assert!(text.starts_with("2 events in 0.000001 s\n\nCPU  APIC  EVENTS  DROPPED"), "{text}");
    assert!(text.contains("\n  0     0       2        7"), "{text}");
    assert!(
        text.contains(
            "\n  0  SYS_WRITE_SERIAL        1      1    1000       1000    1000      1000    1000\n"
        ),
        "{text}"
    );
    let json = serde_json::to_value(&report).expect("invalid JSON");
    assert_eq!(json["syscalls"][0]["ns"]["median"], 1000);
    assert_eq!(json["cpus"][1]["tick_interval_ns"], serde_json::Value::Null);
}

#[test]
fn all_statistics_of_a_single_sample_equal_the_sample() {
    let events = [
        event(0, 0, Kind::SyscallEnter, 0),
        event(0, 92_700, Kind::SyscallExit, 0),
        event(0, 100_000, Kind::Tick, 0),
        event(0, 10_100_001, Kind::Tick, 1),
    ];
    let report = stats(all_groups(), &events);
    for call in &report.syscalls {
        let ns = call.ns.as_ref().expect("there must be a time");
        assert_eq!([ns.min, ns.median, ns.p99, ns.p999, ns.max], [92_700; 5], "{:?}", call.cpu);
    }
    let cpu = &report.cpus[0];
    let jitter = (cpu.tick_interval_ns, cpu.tick_jitter_p99_ns, cpu.tick_jitter_max_ns);
    assert_eq!(jitter, (Some(10_000_001), Some(0), Some(0)));
}
