//! Writes Perfetto's trace format, `.pftrace`, for ui.perfetto.dev and `trace_processor`.
//!
//! All tracks are in one group. Each CPU has a track with its slices (program, system calls, idle) and instants (ticks,
//! interrupts, faults, ...), and below it a counter track of its system calls per second.

mod names;
mod proto;
mod rate;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::rc::Rc;

use kernel_abi::errno::Errno;
use kernel_abi::trace::{Kind, Style};
use prost::Message;

use self::names::Names;
use self::proto::{CounterDescriptor, DebugAnnotation, TracePacket, TrackDescriptor, TrackEvent, Type};
use self::rate::Rate;
use super::error::Error;
use super::file::{Cpu, Header};
use super::merge::Event;
use super::places::Places;
use super::shape::{Shape, Shown, UNKNOWN};
use super::sink::Sink;
use super::spans::{Span, Spans, Step, is_edge};

/// The track that contains all other tracks.
const ROOT: u64 = 1;
/// The packet sequence with slices and instants, which uses interned names.
const EVENTS: u32 = 1;
/// The packet sequence with counters. Its timestamps lag slightly, because a rate is known only afterwards.
const COUNTERS: u32 = 2;

/// Returns the track of a CPU.
const fn track(lane: usize) -> u64 {
    ROOT + 1 + 2 * lane as u64
}

/// Returns the counter track of a CPU.
const fn counter(lane: usize) -> u64 {
    track(lane) + 1
}

/// Writes events as Perfetto packets.
pub struct Perfetto<W> {
    to: W,
    name: String,
    names: Names,
    places: Rc<Places>,
    lanes: Vec<(Spans, Rate)>,
    buffer: Vec<u8>,
    /// The arguments of the current packet. The vector is reused to avoid allocations.
    arguments: Vec<DebugAnnotation>,
}

impl<W: Write> Perfetto<W> {
    /// Creates a writer to `to`. Error messages call the output `name`.
    pub fn new(to: W, name: String, header: &Header, places: Rc<Places>) -> Result<Perfetto<W>, Error> {
        let lanes = vec![<(Spans, Rate)>::default(); header.cpus.len()];
        let (names, buffer, arguments) = (Names::new(), Vec::new(), Vec::new());
        let mut perfetto = Perfetto { to, name, names, places, lanes, buffer, arguments };
        let failed = |perfetto: &Self, error| Error::Io(format!("cannot write {}", perfetto.name), error);
        perfetto.begin(header).map_err(|error| failed(&perfetto, error))?;
        Ok(perfetto)
    }

    /// Writes the names and tracks.
    fn begin(&mut self, header: &Header) -> io::Result<()> {
        self.packet(&TracePacket {
            trusted_packet_sequence_id: Some(EVENTS),
            sequence_flags: Some(proto::INCREMENTAL_STATE_CLEARED),
            interned_data: Some(self.names.interned()),
            ..TracePacket::default()
        })?;
        self.track(TrackDescriptor {
            uuid: Some(ROOT),
            name: Some("Ringside".to_owned()),
            child_ordering: Some(proto::ORDER_EXPLICIT),
            ..TrackDescriptor::default()
        })?;
        for (lane, Cpu { cpu, apic_id, .. }) in header.cpus.iter().enumerate() {
            self.track(TrackDescriptor {
                uuid: Some(track(lane)),
                name: Some(format!("CPU {cpu} (APIC id {apic_id})")),
                parent_uuid: Some(ROOT),
                sibling_order_rank: i32::try_from(lane).ok(),
                ..TrackDescriptor::default()
            })?;
            self.track(TrackDescriptor {
                uuid: Some(counter(lane)),
                name: Some(format!("CPU {cpu} system calls")),
                parent_uuid: Some(track(lane)),
                counter: Some(CounterDescriptor { unit_name: Some("calls/s".to_owned()) }),
                ..TrackDescriptor::default()
            })?;
        }
        Ok(())
    }

    fn track(&mut self, descriptor: TrackDescriptor) -> io::Result<()> {
        self.packet(&TracePacket {
            trusted_packet_sequence_id: Some(EVENTS),
            track_descriptor: Some(descriptor),
            ..TracePacket::default()
        })
    }

    fn packet(&mut self, packet: &TracePacket) -> io::Result<()> {
        self.buffer.clear();
        self.buffer.push(proto::PACKET_TAG);
        packet.encode_length_delimited(&mut self.buffer)?;
        self.to.write_all(&self.buffer)
    }

    /// Writes the beginning or end of a slice, or an instant, with the collected arguments.
    fn slice(&mut self, event: &Event, r#type: Type, name_iid: Option<u64>) -> io::Result<()> {
        let mut packet = TracePacket {
            timestamp: Some(event.ns),
            trusted_packet_sequence_id: Some(EVENTS),
            sequence_flags: Some(proto::NEEDS_INCREMENTAL_STATE),
            track_event: Some(TrackEvent {
                r#type: Some(r#type as i32),
                name_iid,
                track_uuid: Some(track(event.lane)),
                counter_value: None,
                debug_annotations: std::mem::take(&mut self.arguments),
            }),
            ..TracePacket::default()
        };
        self.packet(&packet)?;
        self.arguments = packet.track_event.take().map(|event| event.debug_annotations).unwrap_or_default();
        self.arguments.clear();
        Ok(())
    }

    fn step(&mut self, event: &Event, step: Step) -> io::Result<()> {
        match step {
            Step::Open(span) => {
                self.collect(event);
                self.slice(event, Type::SliceBegin, Some(self.names.span(span)))
            }
            Step::Close { span, complete, .. } => {
                if complete {
                    self.collect_end(event, span);
                } else {
                    let name_iid = Some(names::CUT_IID);
                    let cut = DebugAnnotation { name_iid, bool_value: Some(true), ..Default::default() };
                    self.arguments.push(cut);
                }
                self.slice(event, Type::SliceEnd, None)
            }
        }
    }

    /// Collects the numbers of an event as arguments.
    fn collect(&mut self, event: &Event) {
        self.arguments_of(event, event.kind.map_or(UNKNOWN, Kind::fields));
    }

    /// Collects the arguments for the end of a slice.
    fn collect_end(&mut self, event: &Event, span: Span) {
        let [a, b] = event.kind.map_or(UNKNOWN, Kind::fields);
        if !matches!(span, Span::Syscall(_)) {
            return self.arguments_of(event, [a, b]);
        }
        // The system-call number is already an argument of the beginning of the slice.
        self.arguments_of(event, [None, b]);
        if Errno::from_rax(event.record.b).is_some() {
            let name_iid = Some(names::ERROR_IID);
            let text = Shown(Style::Result, event.record.b).to_string();
            self.arguments.push(DebugAnnotation { name_iid, string_value: Some(text), ..Default::default() });
        }
    }

    fn arguments_of(&mut self, event: &Event, fields: Shape) {
        let names = self.names.fields(event.kind);
        for ((field, value), name) in fields.into_iter().zip([event.record.a, event.record.b]).zip(names) {
            let Some(field) = field else { continue };
            let name_iid = Some(name);
            let mut argument = DebugAnnotation { name_iid, ..DebugAnnotation::default() };
            match field.style {
                Style::Decimal | Style::Syscall => argument.uint_value = Some(value),
                Style::Signed | Style::Result => argument.int_value = Some(value.cast_signed()),
                Style::Hex | Style::Code => argument.pointer_value = Some(value),
                _ => argument.string_value = Some(Shown(field.style, value).to_string()),
            }
            self.arguments.push(argument);
        }
        if let Some(place) = self.places.of(event) {
            let name_iid = Some(names::PLACE_IID);
            let string_value = Some(place.to_string());
            self.arguments.push(DebugAnnotation { name_iid, string_value, ..DebugAnnotation::default() });
        }
    }

    fn counter(&mut self, lane: usize, (ns, value): (u64, u64)) -> io::Result<()> {
        self.packet(&TracePacket {
            timestamp: Some(ns),
            trusted_packet_sequence_id: Some(COUNTERS),
            track_event: Some(TrackEvent {
                r#type: Some(Type::Counter as i32),
                track_uuid: Some(counter(lane)),
                counter_value: i64::try_from(value).ok(),
                ..TrackEvent::default()
            }),
            ..TracePacket::default()
        })
    }

    fn take(&mut self, event: &Event) -> io::Result<()> {
        let Some(kind) = event.kind else {
            self.collect(event);
            return self.slice(event, Type::Instant, Some(self.names.instant(None)));
        };
        // One event can cause several steps: the end of a program also ends the system-call or idle span within it.
        let mut spans = std::mem::take(&mut self.lanes[event.lane].0);
        let mut result = Ok(());
        spans.take(event.ns, kind, &event.record, |step| {
            if result.is_ok() {
                result = self.step(event, step);
            }
        });
        self.lanes[event.lane].0 = spans;
        result?;
        if kind == Kind::SyscallEnter {
            for value in self.lanes[event.lane].1.call(event.ns).into_iter().flatten() {
                self.counter(event.lane, value)?;
            }
        }
        if !is_edge(kind) {
            self.collect(event);
            self.slice(event, Type::Instant, Some(self.names.instant(Some(kind))))?;
        }
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        for lane in 0..self.lanes.len() {
            for value in self.lanes[lane].1.finish().into_iter().flatten() {
                self.counter(lane, value)?;
            }
        }
        self.to.flush()
    }
}

impl<W: Write> Sink for Perfetto<W> {
    fn event(&mut self, event: &Event) -> Result<(), Error> {
        self.take(event).map_err(|error| Error::Io(format!("cannot write {}", self.name), error))
    }

    fn finish(&mut self) -> Result<(), Error> {
        self.end().map_err(|error| Error::Io(format!("cannot write {}", self.name), error))
    }
}
