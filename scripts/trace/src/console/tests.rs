//! Tests with trace lines that are intact, damaged, missing, truncated, or from two boots.

use bytemuck::{bytes_of, cast_slice};
use kernel_abi::trace::Kind;
use kernel_abi::trace::serial::{Line, RECORDS_MAX};

use super::*;
use crate::reader::Reader;

/// For CPU 1, the number of records before those that are sent, and the number of records sent.
const FIRST: u64 = 100;
const SENT: u64 = 50;

fn record(place: u64) -> Record {
    Record {
        tsc: 1000 + place,
        a: place,
        sequence: place as u32 + 1,
        kind: Kind::User as u16,
        ..Record::default()
    }
}

/// Returns the lines of a trace of two CPUs. The first CPU has written no records.
fn lines() -> Vec<String> {
    let directory = Directory {
        magic: MAGIC,
        cpus: 2,
        capacity: 64,
        first_ring: 0x1000,
        ring_stride: 0x1000,
        tsc_hz: 1_000_000_000,
        boot_tsc: 500,
        kinds: Kind::User.bit(),
        mode: 0,
    };
    let mut header = RingHeader::default();
    (header.head, header.apic_id, header.cpu) = (FIRST + SENT, 8, 1);
    let mut parts = vec![
        (Part::Start, 0, 0, bytes_of(&directory).to_vec()),
        (Part::Ring, 0, 0, bytes_of(&RingHeader::default()).to_vec()),
        (Part::Ring, 1, FIRST, bytes_of(&header).to_vec()),
    ];
    let records: Vec<_> = (FIRST..FIRST + SENT).map(record).collect();
    for (n, some) in records.chunks(RECORDS_MAX).enumerate() {
        parts.push((Part::Records, 1, FIRST + (n * RECORDS_MAX) as u64, cast_slice(some).to_vec()));
    }
    parts.push((Part::End, 0, 0, bytes_of(&directory).to_vec()));
    let line = |(line, (part, cpu, at, data)): (u32, &(Part, u32, u64, Vec<u8>))| {
        Line { place: Place { line, part: *part, cpu: *cpu, at: *at }, data }.to_string()
    };
    (0..).zip(&parts).map(line).collect()
}

fn taken<T: AsRef<[u8]>>(lines: &[T]) -> Console {
    let mut console = Console::default();
    lines.iter().for_each(|line| assert!(console.take(line.as_ref())));
    console
}

/// Returns CPU 1's entry in the written trace file, and the positions of its records.
fn written(console: &Console) -> (Cpu, Vec<u64>) {
    let folder = tempfile::tempdir().expect("cannot create a directory");
    let path = folder.path().join("x.rtrace");
    console.write(&path, &["run".to_owned()]).expect("cannot write");
    let reader = Reader::open(&path).expect("cannot open");
    let mut records = reader.records(1);
    let places = std::iter::from_fn(|| records.next().expect("cannot read")).map(|record| record.a).collect();
    (reader.header().cpus[1].clone(), places)
}

#[test]
fn intact_trace_is_restored() {
    let console = taken(&lines());
    assert_eq!(console.flaws(), Vec::<String>::new());
    let (cpu, places) = written(&console);
    assert_eq!(places, (FIRST..FIRST + SENT).collect::<Vec<_>>());
    let expected = Cpu { cpu: 1, apic_id: 8, records: SENT, overwritten: FIRST, ..Cpu::default() };
    assert_eq!(cpu, expected);
}

#[test]
fn other_console_lines_are_ignored() {
    let mut console = Console::default();
    for line in ["[cpu0] hello", "@ringside verdict outcome=pass records=0 warnings=0", "", "\u{7f}"] {
        assert!(!console.take(line.as_bytes()));
    }
    assert!(console.is_empty() && console.flaws().is_empty());
    let error = console
        .write(Path::new("/nonexistent"), &[])
        .expect_err("it must fail, because nothing was received");
    assert!(matches!(error, Error::NoLines));
}

#[test]
fn truncation_after_any_line_is_detected_and_the_rest_is_kept() {
    let lines = lines();
    for end in 1..lines.len() {
        let console = taken(&lines[..end]);
        assert_eq!(
            console.flaws(),
            ["the trace is truncated: its last line is missing"],
            "after {end} lines"
        );
        if end > 2 {
            let (cpu, places) = written(&console);
            assert_eq!(places.len() as u64 + cpu.lost, SENT, "after {end} lines");
        }
    }
}

#[test]
fn truncated_line_is_damaged() {
    let mut lines = lines();
    lines.pop();
    let last = lines.last_mut().expect("there must be lines");
    last.truncate(last.len() - 1);
    let flaws = taken(&lines).flaws();
    assert_eq!(flaws, ["1 line of the trace is damaged", "the trace is truncated: its last line is missing"]);
}

#[test]
fn each_missing_or_damaged_line_is_detected_and_the_others_are_used() {
    let intact = lines();
    for hit in 0..intact.len() - 1 {
        let mut lost = intact.clone();
        lost.remove(hit);
        assert_eq!(taken(&lost).flaws(), ["1 line of the trace is missing"], "line {hit}");
        let mut damaged: Vec<_> = intact.iter().map(|line| line.clone().into_bytes()).collect();
        damaged[hit][40] ^= 1;
        assert_eq!(taken(&damaged).flaws().len(), 2, "line {hit}: damaged, and its number is missing");
        let (cpu, places) = written(&taken(&lost));
        let records = if intact[hit].contains("part=records") { SENT - places.len() as u64 } else { 0 };
        assert_eq!(
            (places.len() as u64 + records, records > 0),
            (SENT, intact[hit].contains("part=records"))
        );
        assert_eq!(cpu.lost, records, "line {hit}");
    }
}

#[test]
fn repeated_line_is_used_once() {
    let lines: Vec<_> = lines().into_iter().flat_map(|line| [line.clone(), line]).collect();
    let console = taken(&lines);
    assert_eq!(console.flaws(), Vec::<String>::new());
    assert_eq!(written(&console).1.len() as u64, SENT);
}

#[test]
fn later_of_two_boots_in_one_log_is_kept() {
    // The earlier trace is truncated. In the second log, the first line of the later trace is missing.
    let intact = lines();
    let twice: Vec<_> = intact[..5].iter().chain(&intact).cloned().collect();
    assert_eq!(taken(&twice).flaws(), Vec::<String>::new());
    let twice: Vec<_> = intact[..5].iter().chain(&intact[1..]).cloned().collect();
    let console = taken(&twice);
    assert_eq!(console.flaws(), ["1 line of the trace is missing"]);
    assert_eq!(written(&console).1.len() as u64, SENT);
}

#[test]
fn torn_and_overwritten_records_are_counted() {
    let data = [record(7), record(1000), record(2)];
    let place = Place { line: 0, part: Part::Records, cpu: 1, at: 7 };
    let line = Line { place, data: cast_slice(&data) }.to_string();
    let (cpu, places) = written(&taken(&[line]));
    // Without a header, the first record received counts as the first one sent.
    assert_eq!((places, cpu.overwritten, cpu.torn), (vec![7], 7 + 1, 1));
}

#[test]
fn log_is_converted_to_a_trace_file_in_its_directory() {
    let folder = tempfile::tempdir().expect("cannot create a directory");
    let log = folder.path().join("console.log");
    let text = format!("booting ...\r\n{}\r\n[cpu0] done\r\n", lines().join("\r\n"));
    std::fs::write(&log, &text).expect("cannot write");
    let (path, flaw) = trace_file(&log).expect("cannot convert");
    assert_eq!(path, folder.path().join("console.rtrace"));
    assert!(flaw.is_none());
    assert_eq!(trace_file(&path).expect("it must be a trace file").0, path);
    std::fs::write(&log, &text[..text.len() / 2]).expect("cannot write");
    let flaw = trace_file(&log).expect("cannot convert").1.expect("it must be truncated");
    assert!(flaw.to_string().contains("truncated"), "{flaw}");
    std::fs::write(&log, "[cpu0] hello\n").expect("cannot write");
    assert!(matches!(trace_file(&log), Err(Error::NotATrace(_))));
}

#[test]
fn impossible_numbers_are_rejected_or_saturate() {
    let mut header = RingHeader::default();
    (header.head, header.dropped) = (u64::MAX, u64::MAX);
    let two = [record(0), record(1)];
    let parts = [
        (Part::Ring, u64::MAX - 1, bytes_of(&header)),
        // Only one of them has a position.
        (Part::Records, u64::MAX - 1, cast_slice(&two)),
        (Part::Records, u64::MAX - 1, cast_slice(&two[..1])),
        (Part::Records, u64::MAX, cast_slice(&two[..1])),
    ];
    let mut console = Console::default();
    for (line, (part, at, data)) in (u32::MAX - 3..=u32::MAX).zip(parts) {
        console.take(Line { place: Place { line, part, cpu: 1, at }, data }.to_string().as_bytes());
    }
    let (cpu, places) = written(&console);
    assert_eq!((cpu.overwritten, cpu.dropped), (u64::MAX, u64::MAX));
    assert!(places.is_empty(), "no record has the sequence number of its position");
    assert!(!console.flaws().is_empty());
    let directory = Directory {
        magic: MAGIC,
        cpus: u32::MAX,
        capacity: u32::MAX,
        first_ring: u64::MAX,
        ring_stride: u64::MAX,
        tsc_hz: u64::MAX,
        boot_tsc: u64::MAX,
        kinds: u32::MAX,
        mode: u32::MAX,
    };
    let place = Place { line: u32::MAX, part: Part::End, cpu: CPUS_MAX - 1, at: u64::MAX };
    console.take(Line { place, data: bytes_of(&directory) }.to_string().as_bytes());
    written(&console);
}
