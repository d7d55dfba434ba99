//! Packets that are not let in.

use dunlin_core::Instant;

use super::{
    Nat, UnsolicitedSyn, WanInput,
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
        if !nobody || !self.is_own(external) {
            return Verdict::Drop(rule);
        }
        let flow = packet.flow();
        let unreachable = || {
            let error = Packet::icmp_error(flow.dst.ip(), IcmpError::PortUnreachable, packet);
            Box::new(error)
        };
        if flow.proto == Proto::Udp {
            return match self.config.wan_input {
                WanInput::Drop => Verdict::Drop(rule),
                WanInput::Reject => Verdict::Answer(rule, unreachable()),
                WanInput::Accept => match self.remember(now, external, remote) {
                    Ok(()) => Verdict::Answer(Rule::NatStray, unreachable()),
                    Err(full) => Verdict::Drop(full),
                },
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
    fn remember(&mut self, now: Instant, external: End, remote: End) -> Result<(), Rule> {
        if self.table.find_in(Proto::Udp, external, remote).is_some() {
            return Ok(());
        }
        self.make_room(now, None)?;
        let (track, life) = Track::begin(&self.rules(), now, Proto::Udp, &Segment::default())
            .ok_or(Rule::NatTcpState)?;
        self.admit(Flow {
            inside: End::NONE,
            external,
            remote,
            track,
            expires: now + life,
            proto: Proto::Udp,
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
