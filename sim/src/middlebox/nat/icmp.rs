//! ICMP (RFC 5508). Echoes are flows by their identifier; errors follow the flow that they quote
//! and do not prolong it.

use std::net::SocketAddr;

use dunlin_core::Instant;

use super::{Hairpin, Nat, WanInput, key::End, table::Origin};
use crate::packet::{
    Flow, Packet, Proto, Segment,
    verdict::{Rule, Verdict},
};

/// The remote end of a flow, which is an address without a port for an echo.
fn far(proto: Proto, addr: SocketAddr) -> Option<End> {
    let end = End::of(addr)?;
    Some(if proto == Proto::Icmp {
        end.bare()
    } else {
        end
    })
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
        if packet.is_echo_reply() != Some(false) {
            return Verdict::Drop(Rule::NatIcmpUnknown);
        }
        if self.is_own(remote) {
            return Verdict::Drop(Rule::NatNoHairpin);
        }
        match self.way_out(now, Proto::Icmp, inside, remote.bare(), &Segment::default()) {
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
            .zip(far(quoted.proto, quoted.src))
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
        match packet.is_echo_reply() {
            Some(true) => {}
            Some(false) if self.config.wan_input == WanInput::Accept && self.is_own(external) => {
                let (seq, data) = (&packet.transport()[6..8], packet.payload());
                let seq = u16::from_be_bytes([seq[0], seq[1]]);
                let (from, to) = (flow.dst.ip(), flow.src.ip());
                let reply = Packet::echo(from, to, true, flow.src.port(), seq, data);
                return Verdict::Answer(Rule::BoxLocal, Box::new(reply));
            }
            _ => return Verdict::Drop(Rule::NatIcmpUnknown),
        }
        match self.way_in(
            now,
            Proto::Icmp,
            external,
            remote.bare(),
            &Segment::default(),
        ) {
            Ok((inside, rule)) => {
                packet.set_dst(inside.addr());
                Verdict::Pass(rule)
            }
            Err(_) => Verdict::Drop(Rule::NatIcmpUnknown),
        }
    }

    /// Handles an error from outside, about a packet that went out.
    fn error_in(&self, quoted: Flow, packet: &mut Packet) -> Verdict {
        let known = End::of(quoted.src)
            .zip(far(quoted.proto, quoted.dst))
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
