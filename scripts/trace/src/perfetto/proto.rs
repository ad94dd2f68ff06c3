//! The messages of Perfetto's trace format that this tool writes, with the official field numbers
//! (`protos/perfetto/trace/` in Perfetto's source: trace_packet.proto, track_event/track_event.proto,
//! track_event/track_descriptor.proto, track_event/counter_descriptor.proto, track_event/debug_annotation.proto,
//! interned_data/interned_data.proto). Fields that this tool does not use are omitted. A `oneof` is represented by
//! optional fields.

use prost::DecodeError;
use prost::Message;
use prost::bytes::{Buf, BufMut};
use prost::encoding::{self, DecodeContext, WireType};

/// Implements a message from the numbers of its fields, in ascending order, and their kinds. prost has a derive macro
/// for this, but its packages would increase the cold build time of the host tool by 5 %.
macro_rules! message {
    ($name:ident: $($number:literal => $shape:ident $kind:ident $field:ident,)+) => {
        impl Message for $name {
            fn encode_raw(&self, out: &mut impl BufMut) {
                $(message!(@encode $shape $kind, $number, &self.$field, out);)+
            }

            fn encoded_len(&self) -> usize {
                0 $(+ message!(@len $shape $kind, $number, &self.$field))+
            }

            fn merge_field(
                &mut self,
                number: u32,
                wire_type: WireType,
                bytes: &mut impl Buf,
                context: DecodeContext,
            ) -> Result<(), DecodeError> {
                match number {
                    $($number => message!(@merge $shape $kind, wire_type, self.$field, bytes, context),)+
                    _ => encoding::skip_field(wire_type, number, bytes, context),
                }
            }

            fn clear(&mut self) {
                *self = Self::default();
            }
        }
    };
    (@encode optional $kind:ident, $number:literal, $field:expr, $out:ident) => {
        if let Some(value) = $field {
            encoding::$kind::encode($number, value, $out);
        }
    };
    (@encode repeated $kind:ident, $number:literal, $field:expr, $out:ident) => {
        encoding::$kind::encode_repeated($number, $field, $out)
    };
    (@merge optional $kind:ident, $wire:ident, $field:expr, $bytes:ident, $context:ident) => {
        encoding::$kind::merge($wire, $field.get_or_insert_default(), $bytes, $context)
    };
    (@merge repeated $kind:ident, $wire:ident, $field:expr, $bytes:ident, $context:ident) => {
        encoding::$kind::merge_repeated($wire, &mut $field, $bytes, $context)
    };
    (@len optional $kind:ident, $number:literal, $field:expr) => {
        $field.as_ref().map_or(0, |value| encoding::$kind::encoded_len($number, value))
    };
    (@len repeated $kind:ident, $number:literal, $field:expr) => {
        encoding::$kind::encoded_len_repeated($number, $field)
    };
}

/// `TracePacket`. A trace is a sequence of packets, each encoded as field 1 of `Trace`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TracePacket {
    /// Time in nanoseconds of the trace's clock.
    pub timestamp: Option<u64>,
    /// The number of the packet's sequence. Packets of the same sequence share interned data.
    pub trusted_packet_sequence_id: Option<u32>,
    /// An event on a track.
    pub track_event: Option<TrackEvent>,
    /// Names that later packets refer to.
    pub interned_data: Option<InternedData>,
    /// [`INCREMENTAL_STATE_CLEARED`] and [`NEEDS_INCREMENTAL_STATE`].
    pub sequence_flags: Option<u32>,
    /// The definition of a track.
    pub track_descriptor: Option<TrackDescriptor>,
}

/// The packet starts new interned data for its sequence.
pub const INCREMENTAL_STATE_CLEARED: u32 = 1;
/// The packet uses interned data.
pub const NEEDS_INCREMENTAL_STATE: u32 = 2;
/// The tag of `Trace.packet` (field 1, a message). It precedes the length of each packet.
pub const PACKET_TAG: u8 = 1 << 3 | 2;

/// `TrackEvent`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrackEvent {
    /// The type of the event, a [`Type`].
    pub r#type: Option<i32>,
    /// The ID of the event's interned name.
    pub name_iid: Option<u64>,
    /// The ID of the event's track.
    pub track_uuid: Option<u64>,
    /// The value of a counter.
    pub counter_value: Option<i64>,
    /// The arguments of the event.
    pub debug_annotations: Vec<DebugAnnotation>,
}

/// `TrackEvent.Type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Type {
    /// A slice begins.
    SliceBegin = 1,
    /// The innermost open slice ends.
    SliceEnd = 2,
    /// An instant.
    Instant = 3,
    /// A counter changes its value.
    Counter = 4,
}

/// `DebugAnnotation`: one argument.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DebugAnnotation {
    /// The ID of the argument's interned name.
    pub name_iid: Option<u64>,
    /// A boolean value.
    pub bool_value: Option<bool>,
    /// An unsigned number.
    pub uint_value: Option<u64>,
    /// A signed number.
    pub int_value: Option<i64>,
    /// A text value.
    pub string_value: Option<String>,
    /// A number to be displayed in hexadecimal.
    pub pointer_value: Option<u64>,
}

/// `InternedData`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InternedData {
    /// Names of events.
    pub event_names: Vec<InternedName>,
    /// Names of arguments.
    pub debug_annotation_names: Vec<InternedName>,
}

/// `EventName` and `DebugAnnotationName`, which have the same fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InternedName {
    /// The ID of the name, which is not 0.
    pub iid: Option<u64>,
    /// The name.
    pub name: Option<String>,
}

/// `TrackDescriptor`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrackDescriptor {
    /// The ID of the track.
    pub uuid: Option<u64>,
    /// The name of the track.
    pub name: Option<String>,
    /// The ID of the parent track.
    pub parent_uuid: Option<u64>,
    /// Present only if the track is a counter track.
    pub counter: Option<CounterDescriptor>,
    /// How the child tracks are ordered: [`ORDER_EXPLICIT`].
    pub child_ordering: Option<i32>,
    /// The rank of the track among its siblings.
    pub sibling_order_rank: Option<i32>,
}

/// The value of `TrackDescriptor.ChildTracksOrdering` that orders children by `sibling_order_rank`.
pub const ORDER_EXPLICIT: i32 = 3;

/// `CounterDescriptor`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CounterDescriptor {
    /// The unit of the counter.
    pub unit_name: Option<String>,
}

message! { TracePacket:
    8 => optional uint64 timestamp,
    10 => optional uint32 trusted_packet_sequence_id,
    11 => optional message track_event,
    12 => optional message interned_data,
    13 => optional uint32 sequence_flags,
    60 => optional message track_descriptor,
}

message! { TrackEvent:
    4 => repeated message debug_annotations,
    9 => optional int32 r#type,
    10 => optional uint64 name_iid,
    11 => optional uint64 track_uuid,
    30 => optional int64 counter_value,
}

message! { DebugAnnotation:
    1 => optional uint64 name_iid,
    2 => optional bool bool_value,
    3 => optional uint64 uint_value,
    4 => optional int64 int_value,
    6 => optional string string_value,
    7 => optional uint64 pointer_value,
}

message! { InternedData:
    2 => repeated message event_names,
    3 => repeated message debug_annotation_names,
}

message! { InternedName:
    1 => optional uint64 iid,
    2 => optional string name,
}

message! { TrackDescriptor:
    1 => optional uint64 uuid,
    2 => optional string name,
    5 => optional uint64 parent_uuid,
    8 => optional message counter,
    11 => optional int32 child_ordering,
    12 => optional int32 sibling_order_rank,
}

message! { CounterDescriptor:
    6 => optional string unit_name,
}
