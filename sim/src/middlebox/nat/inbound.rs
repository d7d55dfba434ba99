//! Packets from outside.

use dunlin_core::Instant;

use super::{
    Dir, Entered, Filtering, Nat, Use,
    key::{End, Key, Kind},
    table::{Flow, Origin},
};
use crate::{
    middlebox::conntrack::Track,
    packet::{
        Packet, Proto, Segment,
        verdict::{Rule, Verdict},
    },
};

impl Nat {
    /// Handles a packet from outside. If it passes, its receiver is an internal endpoint.
    pub fn inbound(&mut self, now: Instant, packet: &mut Packet) -> Verdict {
        self.spend_hop(packet, |nat, packet| nat.translate_in(now, packet))
    }

    fn translate_in(&mut self, now: Instant, packet: &mut Packet) -> Verdict {
        let Entered {
            flow,
            src: remote,
            dst: external,
            fragment,
        } = match self.enter(now, Dir::In, packet) {
            Ok(entered) => entered,
            Err(verdict) => return verdict,
        };
        if flow.proto == Proto::Icmp {
            return self.icmp_in(now, packet);
        }
        match self.way_in(now, flow.proto, external, remote, &packet.segment()) {
            Ok((inside, rule)) => {
                packet.set_dst(inside.of_packet(flow.dst));
                if let Some(fragment) = fragment {
                    (self.fragments).first(Dir::In, fragment, &flow, inside);
                }
                Verdict::Pass(rule)
            }
            Err(rule) => self.refuse(now, external, remote, rule, packet),
        }
    }

    /// The internal endpoint that a packet from `remote` is for, if the packet is let in.
    pub(super) fn way_in(
        &mut self,
        now: Instant,
        proto: Proto,
        external: End,
        remote: End,
        segment: &Segment,
    ) -> Result<(End, Rule), Rule> {
        if let Some(slot) = self.table.find_in(proto, external, remote) {
            if self.table.flow(slot).origin == Origin::Stray {
                self.touch(now, slot, Dir::In, segment);
                return Err(Rule::NatStray);
            }
            match self.touch(now, slot, Dir::In, segment) {
                Use::Pass => return Ok((self.table.flow(slot).inside, Rule::NatMapped)),
                Use::Stop(rule) => return Err(rule),
                Use::Over => {
                    self.table.remove(slot);
                }
            }
        }
        let (inside, rule, until) = match self.forwards.inside_of(proto, external) {
            Some(inside) => (inside, Rule::NatForwarded, None),
            None => {
                if let Some(by) = self.let_in(proto, external, remote) {
                    let flow = self.table.flow(by);
                    (flow.inside, Rule::NatReusedMapping, Some(flow.expires))
                } else if let Some(host) = self.forwards.exposed
                    && proto != Proto::Icmp
                    && self.is_own(external)
                {
                    let inside = End::new(host, external.port());
                    (inside, Rule::NatForwarded, None)
                } else {
                    return Err(self.why_closed(proto, external, remote));
                }
            }
        };
        if self.table.find_out(proto, inside, remote).is_some() {
            // The answer would belong to another flow. Linux 6.18 lets the packet in from another
            // port of the sender (measured); this model drops it.
            return Err(Rule::NatClash);
        }
        let (track, mut life) =
            Track::begin(&self.rules(), now, proto, segment).ok_or(Rule::NatTcpState)?;
        if let Some(until) = until
            && proto == Proto::Udp
            && !self.config.timeouts.inbound_refresh
        {
            // The flow does not outlive the mapping that let it in.
            life = until.saturating_since(now);
        }
        self.make_room(now, Some(inside))?;
        if self.spent {
            return Err(Rule::HopLimit);
        }
        let hairpin = self.is_own(remote);
        self.admit(Flow {
            inside,
            external,
            remote,
            track,
            expires: now + life,
            proto,
            origin: Origin::Outside,
            hairpin,
        });
        Ok((inside, rule))
    }

    /// The flow through whose mapping an unknown remote is let in (RFC 4787 §5). When several
    /// internal endpoints share the external one, this is the oldest flow.
    fn let_in(&self, proto: Proto, external: End, remote: End) -> Option<u32> {
        let key = |kind, far| Key::new(kind, proto, external, far);
        match self.translation(proto).filtering {
            Filtering::EndpointIndependent => self.table.oldest(key(Kind::External, End::NONE)),
            Filtering::AddressDependent => self.table.oldest(key(Kind::Permit, remote.bare())),
            Filtering::AddressAndPortDependent => None,
        }
    }
}
