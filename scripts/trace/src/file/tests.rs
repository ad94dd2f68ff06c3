//! Tests of trace files that are written and read back: complete, truncated and damaged ones.

use std::fs::OpenOptions;

use kernel_abi::trace::{Kind, Record};

use super::{Cpu, Header, Writer};
use crate::error::Error;
use crate::layout::RECORD;
use crate::reader::{HEADER_MAX, Reader};

fn record(n: u64) -> Record {
    Record { tsc: 1000 + n, a: n, b: !n, sequence: n as u32 + 1, kind: Kind::User as u16, reserved: 0 }
}

/// Writes a file with `first` records of CPU 0 and `second` records of CPU 1.
fn file(folder: &tempfile::TempDir, first: u64, second: u64) -> std::path::PathBuf {
    let path = folder.path().join("x.rtrace");
    let mut writer = Writer::create(&path, 2).expect("cannot create a writer");
    for n in 0..first.max(second) {
        for (lane, count) in [first, second].into_iter().enumerate() {
            if n < count {
                writer.append(lane, &[record(n)]).expect("cannot append");
            }
        }
    }
    let cpu = |cpu, apic_id| Cpu { cpu, apic_id, ..Cpu::default() };
    let header = Header { tsc_hz: 5, cpus: vec![cpu(0, 0), cpu(1, 8)], ..Header::default() };
    let header = writer.finish(header).expect("cannot finish");
    assert_eq!(header.cpus[1].records, second);
    path
}

fn count(reader: &Reader, lane: usize) -> u64 {
    let mut records = reader.records(lane);
    let mut n = 0;
    while let Some(next) = records.next().expect("cannot read") {
        assert_eq!(next, record(n));
        n += 1;
    }
    n
}

fn truncate(path: &std::path::Path, bytes: u64) {
    let file = OpenOptions::new().write(true).open(path).expect("cannot open");
    let size = file.metadata().expect("cannot read the metadata").len();
    file.set_len(size - bytes).expect("cannot truncate");
}

#[test]
fn records_are_restored_per_cpu_after_interleaved_writes() {
    let folder = tempfile::tempdir().expect("cannot create a directory");
    // More than one chunk, and not a multiple of the chunk size.
    let reader = Reader::open(&file(&folder, 10_001, 3)).expect("cannot open");
    assert_eq!((count(&reader, 0), count(&reader, 1)), (10_001, 3));
    assert_eq!(reader.header().cpus[1].apic_id, 8);
    reader.complete().expect("it must be complete");
    assert_eq!(
        std::fs::read_dir(folder.path()).expect("cannot list").count(),
        1,
        "a spill file is left over"
    );
}

#[test]
fn truncated_file_gives_its_complete_records_and_an_error() {
    let folder = tempfile::tempdir().expect("cannot create a directory");
    let path = file(&folder, 100, 50);
    truncate(&path, 10 * RECORD as u64 + 1);
    let reader = Reader::open(&path).expect("cannot open");
    assert_eq!((count(&reader, 0), count(&reader, 1)), (100, 39));
    let error = reader.complete().expect_err("it must be truncated");
    assert!(error.to_string().contains("139 of 150 records"), "{error}");
    // Truncate within the records of the first CPU.
    truncate(&path, 60 * RECORD as u64);
    let reader = Reader::open(&path).expect("cannot open");
    assert_eq!((count(&reader, 0), count(&reader, 1)), (79, 0));
}

#[test]
fn invalid_file_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().expect("cannot create a directory");
    let path = file(&folder, 1, 1);
    let valid = std::fs::read(&path).expect("cannot read");
    let with = |at: usize, byte: u8| {
        let mut bytes = valid.clone();
        bytes[at] = byte;
        std::fs::write(&path, bytes).expect("cannot write");
        Reader::open(&path).err().expect("it must be rejected")
    };
    assert!(matches!(with(0, b'x'), Error::NotATrace(_)));
    assert!(matches!(with(16, 99), Error::Version(_, 99)));
    assert!(matches!(with(23, 1), Error::Header(..)), "a header longer than the file");
    assert!(matches!(with(24, b'x'), Error::Header(..)), "not JSON");
    std::fs::write(&path, &valid[..10]).expect("cannot write");
    assert!(matches!(Reader::open(&path).err(), Some(Error::NotATrace(_))));
}

/// The header is read into memory, so its length is limited before it is compared with the file's size.
#[test]
fn header_over_the_limit_is_refused() {
    let folder = tempfile::tempdir().expect("cannot create a directory");
    let path = file(&folder, 1, 1);
    let valid = std::fs::read(&path).expect("cannot read");
    let reason = |length: u32| {
        let mut bytes = valid.clone();
        bytes[20..24].copy_from_slice(&length.to_le_bytes());
        std::fs::write(&path, bytes).expect("cannot write");
        Reader::open(&path).err().expect("it must be rejected").to_string()
    };
    assert!(reason(HEADER_MAX).contains("the file ends inside the header"), "{}", reason(HEADER_MAX));
    for length in [HEADER_MAX + 1, u32::MAX] {
        let limit = format!("a length of {length} bytes, over the limit of 256 MiB");
        assert!(reason(length).contains(&limit), "{}", reason(length));
    }
}
