//! Packets from inside.

use dunlin_core::Instant;

use super::{
    Dir, Entered, Hairpin, Nat, Use,
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

/// How a packet from inside leaves.
pub(super) struct Way {
    pub(super) external: End,
    pub(super) rule: Rule,
    pub(super) hairpin: bool,
}

impl Nat {
    /// Handles a packet from inside. If it passes, its sender is an external endpoint of this box;
    /// with [`Verdict::Hairpin`], its receiver is an internal endpoint.
    pub fn outbound(&mut self, now: Instant, packet: &mut Packet) -> Verdict {
        self.spend_hop(packet, |nat, packet| nat.translate_out(now, packet))
    }

    fn translate_out(&mut self, now: Instant, packet: &mut Packet) -> Verdict {
        let Entered {
            flow,
            src: inside,
            dst: remote,
            fragment,
        } = match self.enter(now, Dir::Out, packet) {
            Ok(entered) => entered,
            Err(verdict) => return verdict,
        };
        if flow.proto == Proto::Icmp {
            return self.icmp_out(now, packet);
        }
        if self.config.hairpin != Hairpin::ExternalSource && self.is_own(remote) {
            return self.turn_back(now, inside, remote, packet);
        }
        match self.way_out(now, flow.proto, inside, remote, &packet.segment()) {
            Err(rule) => Verdict::Drop(rule),
            Ok(way) => {
                packet.set_src(way.external.of_packet(flow.src));
                if self.config.alg {
                    rewrite_payload(packet, inside, way.external);
                }
                if let Some(fragment) = fragment {
                    let end = way.external;
                    (self.fragments).first(Dir::Out, fragment, &flow, end);
                }
                if way.hairpin {
                    return self.back_in(now, packet);
                }
                Verdict::Pass(way.rule)
            }
        }
    }

    pub(super) fn is_own(&self, end: End) -> bool {
        self.public.contains(&end.ip())
    }

    /// The external endpoint of a packet's flow, which is created if it does not exist.
    pub(super) fn way_out(
        &mut self,
        now: Instant,
        proto: Proto,
        inside: End,
        remote: End,
        segment: &Segment,
    ) -> Result<Way, Rule> {
        if let Some(slot) = self.table.find_out(proto, inside, remote) {
            match self.touch(now, slot, Dir::Out, segment) {
                Use::Pass => {
                    let flow = self.table.flow(slot);
                    return Ok(Way {
                        external: flow.external,
                        rule: Rule::NatMapped,
                        hairpin: flow.hairpin,
                    });
                }
                Use::Stop(rule) => return Err(rule),
                Use::Over => {
                    self.table.remove(slot);
                }
            }
        }
        let (track, life) =
            Track::begin(&self.rules(), now, proto, segment).ok_or(Rule::NatTcpState)?;
        self.make_room(now, Some(inside))?;
        if self.spent {
            return Err(Rule::HopLimit);
        }
        let (external, rule) = self.choose(proto, inside, remote)?;
        let hairpin = self.is_own(remote);
        self.admit(Flow {
            inside,
            external,
            remote,
            track,
            expires: now + life,
            proto,
            origin: Origin::Inside,
            hairpin,
        });
        self.cancel_refusal(proto, external, remote);
        if rule != Rule::NatReusedMapping {
            self.mapping_made(now, rule, self.source_key(proto, inside, remote), proto);
        }
        Ok(Way {
            external,
            rule,
            hairpin,
        })
    }

    /// Counts a new mapping, and schedules its end if it is the one that the planted fault removes.
    fn mapping_made(&mut self, now: Instant, rule: Rule, key: Key, proto: Proto) {
        self.stats.mappings += 1;
        self.stats.remapped += u64::from(rule == Rule::NatRemapped);
        if let Some(super::Fault::ForgetMapping { nth, after }) = self.config.fault
            && self.stats.mappings == u64::from(nth)
        {
            self.fault = Some((now + after, proto, key));
        }
    }

    /// Handles a packet from inside to one of the box's own addresses when the box does not
    /// translate the sender of such packets: it comes back with its sender unchanged, or is for
    /// the box itself.
    fn turn_back(
        &mut self,
        now: Instant,
        inside: End,
        remote: End,
        packet: &mut Packet,
    ) -> Verdict {
        if self.config.hairpin == Hairpin::None {
            return self.refuse_inside(now, remote, inside, Rule::NatNoHairpin, packet);
        }
        let proto = packet.flow().proto;
        let key = Key::new(Kind::External, proto, remote, End::NONE);
        // Filtering does not apply to packets from inside.
        let target = (self.forwards.inside_of(proto, remote))
            .or_else(|| Some(self.table.flow(self.table.oldest(key)?).inside));
        match target {
            Some(target) if target != inside => {
                packet.set_dst(target.of_packet(packet.flow().dst));
                Verdict::Hairpin(Rule::NatHairpin)
            }
            _ => {
                let rule = self.why_closed(proto, remote, inside);
                self.refuse_inside(now, remote, inside, rule, packet)
            }
        }
    }

    /// Handles a packet between two external endpoints of the box: it comes in like one from
    /// outside (RFC 4787 REQ-9).
    pub(super) fn back_in(&mut self, now: Instant, packet: &mut Packet) -> Verdict {
        let flow = *packet.flow();
        let (Some(from), Some(to)) = (End::of(flow.src), End::of(flow.dst)) else {
            return Verdict::Drop(Rule::NoRoute);
        };
        match self.way_in(now, flow.proto, to, from, &packet.segment()) {
            Ok((inside, _)) => {
                packet.set_dst(inside.of_packet(flow.dst));
                Verdict::Hairpin(Rule::NatHairpin)
            }
            Err(rule) => Verdict::Drop(rule),
        }
    }
}

/// Does what an application-level gateway does: the sender's own endpoint, or else its address
/// alone, is replaced by the external one wherever the payload contains it.
fn rewrite_payload(packet: &mut Packet, inside: End, external: End) {
    let octets = |end: End| {
        let ([a, b, c, d], [e, f]) = (end.ip().octets(), end.port().to_be_bytes());
        [a, b, c, d, e, f]
    };
    let (old, new) = (octets(inside), octets(external));
    packet.replace(&old, &new);
    packet.replace(&old[..4], &new[..4]);
}
