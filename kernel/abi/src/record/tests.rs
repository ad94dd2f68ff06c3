use std::string::{String, ToString};

use super::*;

const CPU: CpuRecord<'static> = CpuRecord {
    cpu: 3,
    apic_id: 260,
    program: "my program",
    outcome: Outcome::Killed,
    code: -1,
    starts: 10_000,
    killed: 9_999,
    syscalls: 12,
    ticks: 34,
    tick_millihertz: 100_003,
    reason: "page fault (#PF), error code 0x4",
};

fn records() -> [Record<'static>; 12] {
    [
        Record::Boot(BootRecord {
            cpus_found: 4,
            cpus_online: 3,
            x2apic: true,
            tick_hz: 100,
            tsc_hz: 2_450_000_000,
            apic_timer_hz: 1_000_000_000,
            clock: ClockSource::PmTimer,
            memory_kib: 130_000,
            per_cpu_kib: 160,
            bring_up_ns: 12_345_678,
        }),
        Record::Cpu(CPU),
        Record::Panic { cpu: Some(2), message: "told to" },
        Record::Panic { cpu: None, message: "" },
        Record::Frame { ip: 0xffff_ffff_8000_1234 },
        Record::Dropped { cpu: Some(7), bytes: 640 },
        Record::Dropped { cpu: None, bytes: u64::MAX },
        Record::Calls(CallsRecord { cpu: 2, counts: core::array::from_fn(|n| n as u64 * 3) }),
        Record::Shares(SharesRecord { cpu: 1, off: (2, 3), on: (4, u64::MAX) }),
        Record::Cycles(CyclesRecord { asked: 1000, done: 999 }),
        Record::State(StateRecord {
            cpu: 1,
            apic_id: 258,
            registers: core::array::from_fn(|n| u64::MAX >> n),
        }),
        Record::Verdict(VerdictRecord { verdict: Verdict::ProgramFailed, records: 4, warnings: 1 }),
    ]
}

#[test]
fn every_record_round_trips() {
    for record in records() {
        assert_eq!(parse(&record.to_string()), Some(Ok(record)));
    }
}

#[test]
fn truncated_line_is_malformed_or_shorter_than_the_mark() {
    let state = StateRecord { cpu: 1, apic_id: 2, registers: [u64::MAX; cpu_state::COUNT] };
    for whole in [Record::Cpu(CPU).to_string(), state.to_string()] {
        // The kernel truncates lines to 640 bytes.
        assert!(whole.len() < 640);
        for end in MARK.len()..whole.len() {
            assert_eq!(parse(&whole[..end]), Some(Err(Malformed)), "cut at {end}");
        }
    }
    assert_eq!(parse("[cpu0] @ringside verdict outcome=pass records=0 warnings=0"), None);
}

#[test]
fn values_cannot_break_out_of_their_quotes() {
    let record = CpuRecord { reason: "a\" b=\"c\n\\", program: "é", ..CPU };
    let line = record.to_string();
    let Some(Ok(Record::Cpu(read))) = parse(&line) else { panic!("{line}") };
    assert_eq!((read.reason, read.program), ("a? b=?c??", "?"));
}

#[test]
fn long_values_are_truncated() {
    let long: String = core::iter::repeat_n('x', 1000).collect();
    let line = Record::Panic { cpu: None, message: &long }.to_string();
    assert!(matches!(parse(&line), Some(Ok(Record::Panic { message, .. })) if message.len() == Clean::MAX));
}
