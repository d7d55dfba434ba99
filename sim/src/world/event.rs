//! The events that a world plans, the packets under way, and the conditions that stop it.

use dunlin_core::Instant;

use crate::{
    id::{DeviceId, PacketId},
    packet::Packet,
};

/// A planned event. Hosts, boxes and packets are named by their index.
#[derive(Clone, Copy)]
pub(super) enum Event {
    /// The packet in this slot takes its next step.
    Packet(u32),
    /// A host, or the gateway of a box, may want to be woken.
    Wake(u32),
    /// A box's timer may be due.
    Box(u32),
    /// An action of the timetable is due.
    Act(u32),
    /// The line of a device upwards (`true`) or downwards may be idle, and packets may wait for it.
    Line(u32, bool),
}

/// A packet under way.
#[derive(Clone)]
pub(super) struct Flight {
    pub(super) packet: Packet,
    pub(super) id: PacketId,
    /// The digest of its payload.
    pub(super) digest: u64,
    pub(super) stage: Stage,
    /// When its next step is planned.
    pub(super) due: Instant,
    /// When its last bit is put on the current line, in nanoseconds; 0 when no rate is set.
    pub(super) sent: u64,
    /// One of its bits was changed.
    pub(super) corrupt: bool,
}

/// The next step of a packet.
#[derive(Clone, Copy)]
pub(super) enum Stage {
    /// It arrives at a device.
    Arrive(u32, Via),
    /// It is put on the link of this device, upwards (`true`) or downwards.
    Enter(u32, bool),
}

/// Where a packet at a device comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Via {
    Parent,
    Child(u32),
    /// The device itself; to be handled as if one of its children had sent it.
    Within,
    /// The device itself; to be handled as if its parent had sent it.
    Without,
}

/// Why a world cannot go on: the same happens again and again without time passing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stuck {
    /// This host always wants to be woken at once.
    Wakes(DeviceId, Instant),
    /// Packets travel in circles over links without delay; this device made one of them.
    Packets(DeviceId, Instant),
}
