//! ICMP (RFC 5508). Queries are flows by their identifier, echoes and timestamps apart; errors
//! follow the flow that they quote and do not prolong it.

use std::net::{IpAddr, SocketAddr};

use dunlin_core::Instant;

use super::{Dir, Hairpin, Nat, WanInput, key::End, table::Origin};
use crate::packet::{
    Flow, IcmpError, Packet, Proto, Segment,
    verdict::{Rule, Verdict},
};

/// The remote end of a flow that an error quotes; see [`remote_of_query`].
fn far(proto: Proto, addr: SocketAddr, query: u16) -> Option<End> {
    let end = End::of(addr)?;
    Some(if proto == Proto::Icmp {
        End::new(end.ip(), query)
    } else {
        end
    })
}

/// The remote end of a query's flow: its port tells what is asked for, not where.
fn remote_of_query(packet: &Packet, end: End, dir: Dir) -> End {
    End::new(end.ip(), packet.icmp_query(dir == Dir::Out))
}

impl Nat {
    /// Handles an ICMP message from inside.
    pub(super) fn icmp_out(&mut self, now: Instant, packet: &mut Packet) -> Verdict {
        let flow = *packet.flow();
        if let Some(quoted) = packet.quoted() {
            return self.error_out(quoted, packet);
        }
        let (Some(inside), Some(remote)) = (End::of(flow.src), End::of(flow.dst)) else {
            return Verdict::Pass(Rule::NatUntouched);
        };
        if packet.is_icmp_reply() != Some(false) {
            return Verdict::Drop(Rule::NatIcmpUnknown);
        }
        if self.is_own(remote) {
            return self.asked(now, self.config.lan_input, Rule::NatNoHairpin, packet);
        }
        let remote = remote_of_query(packet, remote, Dir::Out);
        match self.way_out(now, Proto::Icmp, inside, remote, &Segment::default()) {
            Ok(way) => {
                packet.set_src(way.external.addr());
                Verdict::Pass(way.rule)
            }
            Err(rule) => Verdict::Drop(rule),
        }
    }

    /// Handles an error from inside, about a packet that came in.
    fn error_out(&self, quoted: Flow, packet: &mut Packet) -> Verdict {
        let known = End::of(quoted.dst)
            .zip(far(quoted.proto, quoted.src, packet.quoted_query(true)))
            .and_then(|(inside, remote)| self.table.find_out(quoted.proto, inside, remote));
        let Some(slot) = known else {
            return Verdict::Drop(Rule::NatIcmpUnknown);
        };
        if !self.config.icmp_errors {
            return Verdict::Drop(Rule::NatIcmpBlocked);
        }
        let (external, hairpin) = {
            let flow = self.table.flow(slot);
            (flow.external, flow.hairpin)
        };
        packet.set_quoted_dst(external.addr());
        packet.set_src(external.bare().addr());
        if !hairpin {
            return Verdict::Pass(Rule::NatIcmp);
        }
        if self.config.hairpin != Hairpin::ExternalSource {
            return Verdict::Drop(Rule::NatNoHairpin);
        }
        match packet.quoted() {
            // RFC 5508 REQ-7.
            Some(quoted) => match self.error_in(quoted, packet) {
                Verdict::Pass(rule) => Verdict::Hairpin(rule),
                other => other,
            },
            None => Verdict::Drop(Rule::NatIcmpUnknown),
        }
    }

    /// Handles an ICMP message from outside.
    pub(super) fn icmp_in(&mut self, now: Instant, packet: &mut Packet) -> Verdict {
        let flow = *packet.flow();
        if let Some(quoted) = packet.quoted() {
            return self.error_in(quoted, packet);
        }
        let (Some(remote), Some(external)) = (End::of(flow.src), End::of(flow.dst)) else {
            return Verdict::Pass(Rule::NatUntouched);
        };
        match packet.is_icmp_reply() {
            Some(true) => {}
            Some(false) if self.is_own(external) => {
                return self.asked(now, self.config.wan_input, Rule::NatIcmpUnknown, packet);
            }
            _ => return Verdict::Drop(Rule::NatIcmpUnknown),
        }
        let remote = remote_of_query(packet, remote, Dir::In);
        match self.way_in(now, Proto::Icmp, external, remote, &Segment::default()) {
            Ok((inside, rule)) => {
                packet.set_dst(inside.addr());
                Verdict::Pass(rule)
            }
            // A reply that nobody waits for is for the box, which ignores it unless it rejects everything.
            Err(_) if self.config.wan_input == WanInput::Reject && self.is_own(external) => {
                self.asked(now, WanInput::Reject, Rule::NatIcmpUnknown, packet)
            }
            Err(_) => Verdict::Drop(Rule::NatIcmpUnknown),
        }
    }

    /// Handles a query that is for the box itself; `otherwise` is why it is dropped.
    fn asked(
        &mut self,
        now: Instant,
        input: WanInput,
        otherwise: Rule,
        packet: &Packet,
    ) -> Verdict {
        let flow = packet.flow();
        let (IpAddr::V4(from), IpAddr::V4(to)) = (flow.dst.ip(), flow.src.ip()) else {
            return Verdict::Drop(otherwise);
        };
        let (id, seq) = (flow.src.port(), &packet.transport()[6..8]);
        let seq = u16::from_be_bytes([seq[0], seq[1]]);
        let answer = match input {
            WanInput::Drop => return Verdict::Drop(otherwise),
            WanInput::Reject => Packet::icmp_error(from.into(), IcmpError::PortUnreachable, packet),
            WanInput::Accept => {
                let (own, remote) = (End::new(from, id), End::new(to, packet.icmp_query(false)));
                let segment = Segment::default();
                self.touch_stray(now, Proto::Icmp, own, remote, &segment);
                if let Err(full) = self.remember(now, Proto::Icmp, own, remote, &segment) {
                    return Verdict::Drop(full);
                }
                if packet.transport().first() == Some(&13) {
                    let answer = Packet::timestamp(from, to, true, id, seq);
                    return Verdict::Answer(Rule::BoxLocal, Box::new(answer));
                }
                Packet::echo(from.into(), to.into(), true, id, seq, packet.payload())
            }
        };
        Verdict::Answer(Rule::BoxLocal, Box::new(answer))
    }

    /// Handles an error from outside, about a packet that went out.
    fn error_in(&self, quoted: Flow, packet: &mut Packet) -> Verdict {
        let known = End::of(quoted.src)
            .zip(far(quoted.proto, quoted.dst, packet.quoted_query(false)))
            .and_then(|(external, remote)| self.table.find_in(quoted.proto, external, remote))
            .filter(|slot| self.table.flow(*slot).origin != Origin::Stray);
        let Some(slot) = known else {
            return Verdict::Drop(Rule::NatIcmpUnknown);
        };
        if !self.config.icmp_errors {
            return Verdict::Drop(Rule::NatIcmpBlocked);
        }
        let inside = self.table.flow(slot).inside;
        packet.set_quoted_src(inside.addr());
        packet.set_dst(inside.bare().addr());
        Verdict::Pass(Rule::NatIcmp)
    }
}
