//! The ways that packets took, for `explain`.

use std::{collections::VecDeque, net::SocketAddr};

use dunlin_core::Instant;

use crate::{
    id::{DeviceId, PacketId},
    packet::{Flow, Packet, Proto, verdict::Rule},
};

/// Sender and receiver.
pub type Ports = (SocketAddr, SocketAddr);

/// One thing that happened to a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// When.
    pub at: Instant,
    /// Where; of a link, its lower end.
    pub device: DeviceId,
    /// What decided; [`Rule::explain`] says it to a person.
    pub rule: Rule,
    /// Sender and receiver as it came.
    pub before: Ports,
    /// Sender and receiver as it went on.
    pub after: Ports,
}

/// The way of one packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journey {
    /// The packet.
    pub packet: PacketId,
    /// Protocol.
    pub proto: Proto,
    /// Length in bytes.
    pub len: u32,
    /// What happened to it, in the order of time. Its first hops are missing if they have made
    /// room for newer ones.
    pub hops: Vec<Hop>,
}

/// Which packets are meant. Everything that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// This one.
    pub packet: Option<PacketId>,
    /// Of this protocol.
    pub proto: Option<Proto>,
    /// From or to this endpoint, before or after any rewriting. Port 0 is any port.
    pub endpoints: Vec<SocketAddr>,
    /// Passing, or made by, this device.
    pub device: Option<DeviceId>,
    /// Decided upon by this rule.
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

/// The newest hops of all packets.
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

    /// The journeys that `filter` wants, in the order in which they began, at most `most`.
    pub(crate) fn find(&self, filter: &Filter, most: usize) -> Vec<Journey> {
        let mut order: Vec<usize> = (0..self.records.len()).collect();
        // Stable: the hops of one packet stay in their order.
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
