//! The paths of packets, for `explain`.

use std::{collections::VecDeque, net::SocketAddr};

use dunlin_core::Instant;

use crate::{
    id::{DeviceId, PacketId},
    packet::{Flow, Packet, Proto, verdict::Rule},
};

/// The endpoints of the sender and the receiver.
pub type Ports = (SocketAddr, SocketAddr);

/// One event on the path of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The time of the event.
    pub at: Instant,
    /// Where it happened. An event on a link is assigned to the lower end.
    pub device: DeviceId,
    /// The rule that decided, which [`Rule::explain`] describes.
    pub rule: Rule,
    /// The endpoints before the event.
    pub before: Ports,
    /// The endpoints after the event.
    pub after: Ports,
}

/// The path of one packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journey {
    /// The number of the packet.
    pub packet: PacketId,
    /// The protocol.
    pub proto: Proto,
    /// The length in bytes.
    pub len: u32,
    /// The events in order of time. The first ones are missing if they were discarded for newer
    /// ones.
    pub hops: Vec<Hop>,
}

/// Selects packets. All conditions that are set must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The packet has this number.
    pub packet: Option<PacketId>,
    /// The packet is of this protocol.
    pub proto: Option<Proto>,
    /// The packet was from or to each of these endpoints, before or after a translation. Port 0
    /// matches any port.
    pub endpoints: Vec<SocketAddr>,
    /// The packet passed this device, or was made by it.
    pub device: Option<DeviceId>,
    /// This rule decided about the packet.
    pub rule: Option<Rule>,
}

impl Filter {
    fn wants(&self, journey: &Journey) -> bool {
        let meets = |wanted: &SocketAddr, hop: &Hop| {
            let ends = [hop.before.0, hop.before.1, hop.after.0, hop.after.1];
            ends.iter().any(|end| {
                end.ip() == wanted.ip() && (wanted.port() == 0 || end.port() == wanted.port())
            })
        };
        let any = |test: &dyn Fn(&Hop) -> bool| journey.hops.iter().any(test);
        self.packet.is_none_or(|p| p == journey.packet)
            && self.proto.is_none_or(|p| p == journey.proto)
            && self.endpoints.iter().all(|e| any(&|h| meets(e, h)))
            && self
                .device
                .is_none_or(|n| n == journey.packet.origin || any(&|h| h.device == n))
            && self.rule.is_none_or(|r| any(&|h| h.rule == r))
    }
}

struct Record {
    packet: PacketId,
    proto: Proto,
    len: u32,
    hop: Hop,
}

/// The newest events of all packets.
pub(crate) struct Journeys {
    records: VecDeque<Record>,
    limit: usize,
}

impl Journeys {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            records: VecDeque::new(),
            limit: limit.max(1),
        }
    }

    pub(crate) fn note(
        &mut self,
        (at, device, rule): (Instant, DeviceId, Rule),
        id: PacketId,
        packet: &Packet,
        before: Ports,
    ) {
        if self.records.len() >= self.limit {
            self.records.pop_front();
        }
        let Flow {
            proto, src, dst, ..
        } = *packet.flow();
        self.records.push_back(Record {
            packet: id,
            proto,
            len: packet.bytes().len() as u32,
            hop: Hop {
                at,
                device,
                rule,
                before,
                after: (src, dst),
            },
        });
    }

    /// The first `most` journeys that match `filter`, in the order in which they began.
    pub(crate) fn find(&self, filter: &Filter, most: usize) -> Vec<Journey> {
        let mut order: Vec<usize> = (0..self.records.len()).collect();
        // The sort is stable, so the events of one packet stay in order.
        order.sort_by_key(|n| (self.records[*n].packet, self.records[*n].hop.at));
        let mut found: Vec<(usize, Journey)> = order
            .chunk_by(|a, b| self.records[*a].packet == self.records[*b].packet)
            .filter_map(|of_packet| {
                let first = &self.records[of_packet[0]];
                let journey = Journey {
                    packet: first.packet,
                    proto: first.proto,
                    len: first.len,
                    hops: of_packet
                        .iter()
                        .map(|n| self.records[*n].hop.clone())
                        .collect(),
                };
                let began = of_packet.iter().copied().min().unwrap_or_default();
                filter.wants(&journey).then_some((began, journey))
            })
            .collect();
        found.sort_by_key(|(began, journey)| (journey.hops.first().map(|h| h.at), *began));
        found.truncate(most);
        found.into_iter().map(|(_, journey)| journey).collect()
    }
}
