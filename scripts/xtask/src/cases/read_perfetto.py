"""Compares a Perfetto trace with the text of the same trace, using Perfetto's own message definitions.

    ./scripts/setup.sh --dev                                # puts Perfetto's Python package into target/python
    cargo xtask trace x.rtrace --pftrace x.pftrace --text x.txt
    target/python/bin/python3 scripts/xtask/src/cases/read_perfetto.py x.pftrace x.txt

Each system-call entry must begin a slice at that time on the track of its CPU, and each return must end that slice.
Each tick, interrupt, fault or similar event must be an instant. Times and names must be equal.
"""

import collections
import re
import sys

from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as perfetto

LINE = re.compile(r"\[ *(\d+)\.(\d{9})\] cpu(\d+) *(\S+)(?: number=(\S+))?")
SPANS = {"syscall_enter", "syscall_exit", "program_start", "program_end", "idle_in", "idle_out"}
Type = perfetto.TrackEvent.Type


def events_in_text(path):
    """Returns the starts of slices, and the instants, both as (time, CPU, name)."""
    begins, instants = collections.Counter(), collections.Counter()
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            seconds, ns, cpu, kind, number = LINE.match(line).groups()
            time = int(seconds) * 10**9 + int(ns)
            if kind == "syscall_enter":
                begins[time, int(cpu), number if number.startswith("SYS_") else "no such call"] += 1
            elif kind in ("program_start", "idle_in"):
                begins[time, int(cpu), kind.split("_")[0]] += 1
            elif kind not in SPANS:
                instants[time, int(cpu), kind] += 1
    return begins, instants


def events_in_trace(path):
    """Returns the same for the trace, the number of ended and of open slices, and the calls that each counter shows."""
    trace = perfetto.Trace()
    with open(path, "rb") as file:
        trace.ParseFromString(file.read())
    begins, instants, ends = collections.Counter(), collections.Counter(), collections.Counter()
    calls = collections.Counter()
    cpus, counters, names, arguments, open_slices = {}, {}, {}, {}, collections.defaultdict(list)
    for packet in trace.packet:
        assert not packet.ListFields() == [], "an empty packet"
        for entry in packet.interned_data.event_names:
            names[entry.iid] = entry.name
        for entry in packet.interned_data.debug_annotation_names:
            arguments[entry.iid] = entry.name
        if packet.HasField("track_descriptor"):
            track = packet.track_descriptor
            name = re.fullmatch(r"CPU (\d+) \(APIC id \d+\)", track.name)
            if name:
                cpus[track.uuid] = int(name[1])
            if track.HasField("counter"):
                counters[track.uuid] = cpus[track.parent_uuid]
        if not packet.HasField("track_event"):
            continue
        event = packet.track_event
        if event.type == Type.TYPE_COUNTER:
            # Values are calls per second in bins of 10 ms.
            calls[counters[event.track_uuid]] += event.counter_value // 100
            continue
        where = (packet.timestamp, cpus[event.track_uuid], names.get(event.name_iid))
        assert all(annotation.name_iid in arguments for annotation in event.debug_annotations)
        if event.type == Type.TYPE_SLICE_BEGIN:
            begins[where] += 1
            open_slices[event.track_uuid].append(packet.timestamp)
        elif event.type == Type.TYPE_SLICE_END:
            assert open_slices[event.track_uuid].pop() <= packet.timestamp, "a slice ends before it begins"
            ends["ends"] += 1
        else:
            assert event.type == Type.TYPE_INSTANT
            instants[where] += 1
    ends["open"] = sum(map(len, open_slices.values()))
    return begins, instants, ends, calls


def main(trace, text):
    begins, instants, ends, calls = events_in_trace(trace)
    expected_begins, expected_instants = events_in_text(text)
    assert begins == expected_begins, "slices differ"
    assert instants == expected_instants, "instants differ"
    assert sum(begins.values()) == ends["ends"] + ends["open"], "slices without an end"
    entered = collections.Counter()
    for (_, cpu, name), count in begins.items():
        entered[cpu] += count if name.startswith(("SYS_", "no such")) else 0
    assert +calls == +entered, "the counters do not add up to the calls"
    print(f"{sum(begins.values())} slices ({ends['open']} open at the end), {sum(instants.values())} instants, "
          f"{sum(calls.values())} calls in counters: the same in both")


main(*sys.argv[1:])
