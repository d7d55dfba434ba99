//! What a world plans: events, packets under way, and what stops it.

use dunlin_core::Instant;

use crate::{
    id::{DeviceId, PacketId},
    packet::Packet,
};

/// What is planned.
#[derive(Clone, Copy)]
pub(super) enum Event {
    /// The packet in this place takes its next step.
    Packet(u32),
    /// A host, or a box's gateway, may want to be woken.
    Wake(u32),
    /// A box's timer may be due.
    Box(u32),
    /// An action of the timetable.
    Act(u32),
}

/// A packet under way.
#[derive(Clone)]
pub(super) struct Flight {
    pub(super) packet: Packet,
    pub(super) id: PacketId,
    /// Digest of its payload.
    pub(super) digest: u64,
    pub(super) stage: Stage,
    /// When its next step is planned.
    pub(super) due: Instant,
    /// When its last bit was put on the line it is on, in nanoseconds; 0 where no rate is set.
    pub(super) sent: u64,
    /// A bit of it was changed.
    pub(super) corrupt: bool,
}

/// What is next for a packet.
#[derive(Clone, Copy)]
pub(super) enum Stage {
    /// It arrives at a device.
    Arrive(u32, Via),
    /// It is put on the link of this device, upwards or downwards.
    Enter(u32, bool),
}

/// Whence a packet comes to a device.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Via {
    Parent,
    Child(u32),
    /// From the device itself, to be handled as if from one of its children.
    Within,
    /// From the device itself, to be handled as if from its parent.
    Without,
}

/// Why a world cannot go on: something happens again and again and no time passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stuck {
    /// This host always wants to be woken at once.
    Wakes(DeviceId, Instant),
    /// Packets go round and round over links without delay; this device made one of them.
    Packets(DeviceId, Instant),
}
