//! Packets that are not let in.

use dunlin_core::Instant;

use super::{
    Dir, Nat, UnsolicitedSyn, WanInput,
    key::End,
    table::{Flow, Origin},
};
use crate::{
    middlebox::conntrack::Track,
    packet::{
        IcmpError, Packet, Proto, Segment, TcpFlags,
        verdict::{Rule, Verdict},
    },
};

impl Nat {
    /// Handles a packet from inside for the box itself, whose address is `own`. `rule` is why it is
    /// not for anybody else.
    pub(super) fn refuse_inside(
        &mut self,
        now: Instant,
        own: End,
        inside: End,
        rule: Rule,
        packet: &Packet,
    ) -> Verdict {
        match (self.config.lan_input, packet.reset()) {
            (WanInput::Drop, _) => Verdict::Drop(rule),
            (WanInput::Reject, _) => {
                let from = packet.flow().dst.ip();
                let error = Packet::icmp_error(from, IcmpError::PortUnreachable, packet);
                Verdict::Answer(rule, Box::new(error))
            }
            // The box's own stack has no socket there.
            (WanInput::Accept, Some(reset)) => Verdict::Answer(rule, Box::new(reset)),
            (WanInput::Accept, None) => {
                self.touch_stray(now, packet.flow().proto, own, inside, &packet.segment());
                self.take_in(now, own, inside, rule, packet)
            }
        }
    }

    /// Accounts for a packet of a flow of the box itself, if there is that flow.
    pub(super) fn touch_stray(
        &mut self,
        now: Instant,
        proto: Proto,
        own: End,
        remote: End,
        segment: &Segment,
    ) {
        if let Some(slot) = self.table.find_in(proto, own, remote)
            && self.table.flow(slot).origin == Origin::Stray
        {
            self.touch(now, slot, Dir::In, segment);
        }
    }

    /// Accepts a packet that is for the box itself, which does not know what to do with it.
    fn take_in(
        &mut self,
        now: Instant,
        own: End,
        remote: End,
        rule: Rule,
        packet: &Packet,
    ) -> Verdict {
        let proto = packet.flow().proto;
        let error = match proto {
            Proto::Udp | Proto::UdpLite => IcmpError::PortUnreachable,
            Proto::Sctp | Proto::Gre | Proto::Esp => IcmpError::ProtocolUnreachable,
            Proto::Tcp | Proto::Icmp => return Verdict::Drop(rule),
        };
        match self.remember(now, proto, own, remote, &packet.segment()) {
            Ok(()) => {
                let error = Packet::icmp_error(packet.flow().dst.ip(), error, packet);
                Verdict::Answer(Rule::NatStray, Box::new(error))
            }
            Err(full) => Verdict::Drop(full),
        }
    }

    /// Handles a packet that is not let in, for the reason `rule`.
    pub(super) fn refuse(
        &mut self,
        now: Instant,
        external: End,
        remote: End,
        rule: Rule,
        packet: &Packet,
    ) -> Verdict {
        let nobody = matches!(
            rule,
            Rule::NatNoMapping
                | Rule::NatExpired
                | Rule::NatFiltered
                | Rule::NatRebooted
                | Rule::NatStray
                | Rule::PlantedFault
        );
        // A segment that does not belong to its connection is not translated, so what is behind
        // the address takes it for its own.
        let strays = rule == Rule::NatTcpState && self.config.wan_input != WanInput::Drop;
        let nobody = nobody || strays;
        if !nobody || !self.is_own(external) {
            return Verdict::Drop(rule);
        }
        let flow = packet.flow();
        let unreachable = || {
            let error = Packet::icmp_error(flow.dst.ip(), IcmpError::PortUnreachable, packet);
            Box::new(error)
        };
        if flow.proto != Proto::Tcp {
            return match self.config.wan_input {
                WanInput::Drop => Verdict::Drop(rule),
                WanInput::Reject => Verdict::Answer(rule, unreachable()),
                WanInput::Accept => self.take_in(now, external, remote, rule, packet),
            };
        }
        let opens = flow.flags.has(TcpFlags::SYN) && !flow.flags.has(TcpFlags::ACK);
        let rule = match rule {
            Rule::NatNoMapping if opens => Rule::NatUnsolicitedSyn,
            _ => rule,
        };
        let reset = |rule| match packet.reset() {
            Some(reset) => Verdict::Answer(rule, Box::new(reset)),
            None => Verdict::Drop(rule),
        };
        match (self.config.wan_input, self.config.unsolicited_syn) {
            // The box's own stack has no socket there. The reset ends the flow at once, so no flow
            // is created.
            (WanInput::Accept, _) => reset(rule),
            (WanInput::Reject, UnsolicitedSyn::Reset) => reset(rule),
            (WanInput::Reject, _) if !opens => Verdict::Answer(rule, unreachable()),
            (WanInput::Drop, _) if !opens => Verdict::Drop(rule),
            (_, UnsolicitedSyn::Drop) => Verdict::Drop(rule),
            (_, UnsolicitedSyn::Reset) => reset(rule),
            (_, UnsolicitedSyn::Icmp) => Verdict::Answer(rule, unreachable()),
            (_, UnsolicitedSyn::DelayedIcmp) => {
                self.delayed.put_off(now, external, remote, unreachable);
                Verdict::Drop(rule)
            }
        }
    }

    /// Creates a flow of the box itself, so that no mapping can take its place.
    pub(super) fn remember(
        &mut self,
        now: Instant,
        proto: Proto,
        external: End,
        remote: End,
        segment: &Segment,
    ) -> Result<(), Rule> {
        if self.table.find_in(proto, external, remote).is_some() {
            return Ok(());
        }
        self.make_room(now, None)?;
        let (track, life) =
            Track::begin(&self.rules(), now, proto, segment).ok_or(Rule::NatTcpState)?;
        self.admit(Flow {
            inside: End::NONE,
            external,
            remote,
            track,
            expires: now + life,
            proto,
            origin: Origin::Stray,
            hairpin: false,
        });
        Ok(())
    }

    /// Notes a flow that went out: a SYN that came from its remote end is not refused any more.
    pub(super) fn cancel_refusal(&mut self, proto: Proto, external: End, remote: End) {
        if proto == Proto::Tcp {
            self.delayed.take_back(external, remote);
        }
    }

    /// Returns a refusal that was delayed and is due: an ICMP error for the outer side. Call it
    /// until it returns `None`.
    pub fn delayed(&mut self, now: Instant) -> Option<Packet> {
        self.delayed.due(now)
    }

    /// When [`Nat::delayed`] returns something next.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.delayed.next_at()
    }
}
