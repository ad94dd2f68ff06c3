//! Decodes the written packets with the same message types. A test case with the official Python package checks that
//! these types match Perfetto's own (see `docs/tracing.md`).

use kernel_abi::trace::Record;

use super::*;

/// Converts these events of CPU 1 of 2 CPUs. Returns the packets that describe tracks and names, and the packets with
/// events.
fn packets(events: &[(u64, Kind, u64, u64)]) -> (Vec<TracePacket>, Vec<TracePacket>) {
    let cpu = |cpu, apic_id| Cpu { cpu, apic_id, ..Cpu::default() };
    let header = Header { cpus: vec![cpu(0, 0), cpu(1, 16)], ..Header::default() };
    let mut bytes = Vec::new();
    let places = Places::new(Some(Box::new(|address| (address == 0x10).then(|| "f (a.c:3)".to_owned()))));
    let mut perfetto =
        Perfetto::new(&mut bytes, String::new(), &header, Rc::new(places)).expect("cannot begin");
    for (ns, kind, a, b) in events {
        let record = Record { a: *a, b: *b, kind: *kind as u16, ..Record::default() };
        perfetto
            .event(&Event { ns: *ns, lane: 1, kind: Some(*kind), record })
            .expect("cannot write the event");
    }
    perfetto.finish().expect("cannot finish");
    let mut packets = Vec::new();
    let mut rest = bytes.as_slice();
    while let [tag, after @ ..] = rest {
        assert_eq!(*tag, proto::PACKET_TAG);
        rest = after;
        packets.push(TracePacket::decode_length_delimited(&mut rest).expect("there must be a packet"));
    }
    packets.into_iter().partition(|packet| packet.track_event.is_none())
}

/// Formats an event packet: time, type, name and arguments.
fn shown(packet: &TracePacket, head: &[TracePacket]) -> String {
    let names = head[0].interned_data.as_ref().expect("there must be names");
    let name = |list: &[proto::InternedName], iid: Option<u64>| {
        let entry = list.iter().find(|entry| entry.iid == iid);
        entry.and_then(|entry| entry.name.clone()).unwrap_or_default()
    };
    let event = packet.track_event.as_ref().expect("there must be an event");
    let types = [Type::SliceBegin, Type::SliceEnd, Type::Instant, Type::Counter];
    let mut text = format!(
        "{} {:?} {}",
        packet.timestamp.expect("there must be a time"),
        types.iter().find(|r#type| Some(**r#type as i32) == event.r#type).expect("there must be a type"),
        name(&names.event_names, event.name_iid)
    );
    for argument in &event.debug_annotations {
        let value = [
            argument.uint_value.map(|value| value.to_string()),
            argument.int_value.map(|value| value.to_string()),
            argument.pointer_value.map(|value| format!("{value:#x}")),
            argument.bool_value.map(|value| value.to_string()),
            argument.string_value.clone(),
        ];
        let value: Vec<_> = value.into_iter().flatten().collect();
        assert_eq!(value.len(), 1, "one value per argument");
        text += &format!(" {}={}", name(&names.debug_annotation_names, argument.name_iid), value[0]);
    }
    text
}

#[test]
fn tracks_have_names_parents_and_an_order() {
    let (head, events) = packets(&[]);
    assert!(events.is_empty());
    let tracks: Vec<_> = head.iter().filter_map(|packet| packet.track_descriptor.clone()).collect();
    let names: Vec<_> = tracks.iter().filter_map(|track| track.name.as_deref()).collect();
    let expected =
        ["Ringside", "CPU 0 (APIC id 0)", "CPU 0 system calls", "CPU 1 (APIC id 16)", "CPU 1 system calls"];
    assert_eq!(names, expected);
    assert_eq!(tracks[3].parent_uuid, tracks[0].uuid);
    assert_eq!(tracks[3].sibling_order_rank, Some(1));
    assert_eq!(tracks[4].parent_uuid, tracks[3].uuid);
    assert_eq!(head[0].sequence_flags, Some(proto::INCREMENTAL_STATE_CLEARED));
}

#[test]
fn events_are_slices_instants_and_counters_on_their_cpus_track() {
    let fault = (-14i64).cast_unsigned();
    let (head, events) = packets(&[
        (5, Kind::ProgramStart, 0x1000, 0x2000),
        (10, Kind::SyscallEnter, 1, 0xabc),
        (11, Kind::Nmi, 1, 0x10),
        (12, Kind::SyscallExit, 1, fault),
        (20, Kind::SyscallEnter, 3, 7),
        (30, Kind::ProgramEnd, 0, 7),
        (40, Kind::IdleIn, 0, 0),
    ]);
    let on_cpu_1 =
        |packet: &&TracePacket| packet.track_event.as_ref().is_some_and(|e| e.track_uuid == Some(4));
    let texts: Vec<_> = events.iter().filter(on_cpu_1).map(|packet| shown(packet, &head)).collect();
    assert_eq!(
        texts,
        [
            "5 SliceBegin program entry=0x1000 stack=0x2000",
            "10 SliceBegin SYS_WRITE_SERIAL number=1 arg=0xabc",
            "11 Instant nmi nmis=1 rip=0x10 place=f (a.c:3)",
            "12 SliceEnd  result=-14 error=-EFAULT",
            "20 SliceBegin SYS_EXIT number=3 arg=0x7",
            "30 SliceEnd  cut=true",
            "30 SliceEnd  how=exited code=7",
            "40 SliceBegin idle",
        ]
    );
    let counters: Vec<_> = events
        .iter()
        .filter(|packet| packet.trusted_packet_sequence_id == Some(COUNTERS))
        .map(|packet| (packet.timestamp, packet.track_event.as_ref().and_then(|event| event.counter_value)))
        .collect();
    assert_eq!(counters, [(Some(0), Some(200)), (Some(10_000_000), Some(0))]);
    // Packets that use interned names have the corresponding flag.
    let flags = |packet: &&TracePacket| packet.sequence_flags == Some(proto::NEEDS_INCREMENTAL_STATE);
    assert!(events.iter().filter(on_cpu_1).all(|packet| flags(&packet)));
}
