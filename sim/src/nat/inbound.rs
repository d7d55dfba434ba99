//! Packets from outside.

use dunlin_core::Instant;

use super::{
    Dir, Filtering, Nat, Use, WanInput,
    key::{End, Key, Kind},
    table::{Flow, Origin},
    tcp_life,
};
use crate::{
    Packet, Proto, Rule, TcpFlags, Verdict,
    tcp::{self, State},
};

impl Nat {
    /// A packet from outside. If it passes, its receiver is an internal endpoint.
    pub fn inbound(&mut self, now: Instant, packet: &mut Packet) -> Verdict {
        let flow = *packet.flow();
        let (Some(remote), Some(external)) = (End::of(flow.src), End::of(flow.dst)) else {
            return Verdict::Pass(Rule::NatUntouched);
        };
        self.expire(now);
        if self.down.is_some() {
            return Verdict::Drop(Rule::NatRebooted);
        }
        if !self.hop(packet) {
            return Verdict::Drop(Rule::HopLimit);
        }
        if flow.proto == Proto::Icmp {
            return Verdict::Drop(Rule::NatIcmpUnknown);
        }
        match self.way_in(now, flow.proto, external, remote, flow.flags) {
            Ok((inside, rule)) => {
                packet.set_dst(inside.addr());
                Verdict::Pass(rule)
            }
            Err(rule) => self.refuse(now, external, remote, rule, packet),
        }
    }

    /// The internal endpoint that a packet from `remote` is for, if it is let in.
    pub(super) fn way_in(
        &mut self,
        now: Instant,
        proto: Proto,
        external: End,
        remote: End,
        flags: TcpFlags,
    ) -> Result<(End, Rule), Rule> {
        if let Some(slot) = self.table.find_in(proto, external, remote) {
            if self.table.flow(slot).origin == Origin::Stray {
                self.touch(now, slot, Dir::In, flags);
                return Err(Rule::NatStray);
            }
            match self.touch(now, slot, Dir::In, flags) {
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
                let by = self.let_in(proto, external, remote);
                let by = by.ok_or_else(|| self.why_closed(proto, external, remote))?;
                let flow = self.table.flow(by);
                (flow.inside, Rule::NatReusedMapping, Some(flow.expires))
            }
        };
        if self.table.find_out(proto, inside, remote).is_some() {
            // As Linux does: what would answer it belongs to another flow.
            return Err(Rule::NatClash);
        }
        let times = &self.config.timeouts;
        let (state, mut life) = match proto {
            Proto::Udp => (State::None, times.udp_first),
            Proto::Icmp => (State::None, times.icmp),
            Proto::Tcp => {
                let state = tcp::first(flags, self.config.tcp_loose).ok_or(Rule::NatTcpState)?;
                (state, tcp_life(times, state, false))
            }
        };
        if let Some(until) = until
            && proto == Proto::Udp
            && !times.inbound_refresh
        {
            // What is let in does not keep the mapping that let it in.
            life = until.saturating_since(now);
        }
        self.make_room(now, Some(inside))?;
        let hairpin = self.is_own(remote);
        self.admit(Flow {
            inside,
            external,
            remote,
            made: now,
            expires: now + life,
            proto,
            origin: Origin::Outside,
            tcp: state,
            answered: false,
            hairpin,
        });
        Ok((inside, rule))
    }

    /// The flow by whose mapping an unknown sender is let in (RFC 4787 §5). If several internal
    /// endpoints share the external one, the oldest flow counts.
    fn let_in(&self, proto: Proto, external: End, remote: End) -> Option<u32> {
        let key = |kind, far| Key::new(kind, proto, external, far);
        match self.translation(proto).filtering {
            Filtering::EndpointIndependent => self.table.oldest(key(Kind::External, End::NONE)),
            Filtering::AddressDependent => self.table.oldest(key(Kind::Permit, remote.bare())),
            Filtering::AddressAndPortDependent => None,
        }
    }

    /// What becomes of a packet that is not let in.
    fn refuse(
        &mut self,
        now: Instant,
        external: End,
        remote: End,
        rule: Rule,
        packet: &Packet,
    ) -> Verdict {
        if !self.is_own(external) {
            return Verdict::Drop(rule);
        }
        match packet.flow().proto {
            Proto::Tcp => Verdict::Drop(self.refuse_syn(rule, packet)),
            Proto::Udp => match self.config.wan_input {
                WanInput::Drop | WanInput::Reject => Verdict::Drop(rule),
                WanInput::Accept => Verdict::Drop(self.remember(now, external, remote, rule)),
            },
            Proto::Icmp => Verdict::Drop(rule),
        }
    }

    fn refuse_syn(&self, rule: Rule, packet: &Packet) -> Rule {
        let syn = packet.flow().flags == TcpFlags::SYN;
        match rule {
            Rule::NatNoMapping if syn => Rule::NatUnsolicitedSyn,
            _ => rule,
        }
    }

    /// Keeps a flow to the box itself, so that no mapping may have its place.
    fn remember(&mut self, now: Instant, external: End, remote: End, rule: Rule) -> Rule {
        if rule == Rule::NatStray || rule == Rule::NatTableFull {
            return rule;
        }
        if let Err(full) = self.make_room(now, None) {
            return full;
        }
        if self.table.find_in(Proto::Udp, external, remote).is_none() {
            self.admit(Flow {
                inside: End::NONE,
                external,
                remote,
                made: now,
                expires: now + self.config.timeouts.udp_first,
                proto: Proto::Udp,
                origin: Origin::Stray,
                tcp: State::None,
                answered: false,
                hairpin: false,
            });
        }
        Rule::NatStray
    }
}
