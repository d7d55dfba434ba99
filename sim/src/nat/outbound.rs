//! Packets from inside.

use dunlin_core::Instant;

use super::{
    Dir, Hairpin, Nat, Use,
    key::{End, Key, Kind},
    table::{Flow, Origin},
    tcp_life,
};
use crate::{
    Packet, Proto, Rule, TcpFlags, Verdict,
    tcp::{self, State},
};

/// How a packet from inside leaves.
pub(super) struct Way {
    pub(super) external: End,
    pub(super) rule: Rule,
    pub(super) hairpin: bool,
}

impl Nat {
    /// A packet from inside. If it passes, its sender is an external endpoint of this box; if
    /// it is [`Verdict::Hairpin`], its receiver is an internal one.
    pub fn outbound(&mut self, now: Instant, packet: &mut Packet) -> Verdict {
        let flow = *packet.flow();
        let (Some(inside), Some(remote)) = (End::of(flow.src), End::of(flow.dst)) else {
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
        if self.config.hairpin != Hairpin::ExternalSource && self.is_own(remote) {
            return self.turn_back(inside, remote, packet);
        }
        match self.way_out(now, flow.proto, inside, remote, flow.flags) {
            Err(rule) => Verdict::Drop(rule),
            Ok(way) => {
                packet.set_src(way.external.addr());
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

    /// The external endpoint of a packet's flow, which is made if it is new.
    pub(super) fn way_out(
        &mut self,
        now: Instant,
        proto: Proto,
        inside: End,
        remote: End,
        flags: TcpFlags,
    ) -> Result<Way, Rule> {
        if let Some(slot) = self.table.find_out(proto, inside, remote) {
            match self.touch(now, slot, Dir::Out, flags) {
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
        let times = &self.config.timeouts;
        let (state, life) = match proto {
            Proto::Udp => (State::None, times.udp_first),
            Proto::Icmp => (State::None, times.icmp),
            Proto::Tcp => {
                let state = tcp::first(flags, self.config.tcp_loose).ok_or(Rule::NatTcpState)?;
                (state, tcp_life(times, state, false))
            }
        };
        self.make_room(now, Some(inside))?;
        let (external, rule) = self.choose(proto, inside, remote)?;
        let hairpin = self.is_own(remote);
        self.admit(Flow {
            inside,
            external,
            remote,
            made: now,
            expires: now + life,
            proto,
            origin: Origin::Inside,
            tcp: state,
            answered: false,
            hairpin,
        });
        if rule != Rule::NatReusedMapping {
            self.mapping_made(now, rule, self.source_key(proto, inside, remote), proto);
        }
        Ok(Way {
            external,
            rule,
            hairpin,
        })
    }

    /// Counts a new mapping, and plans its end if that is the planted fault.
    fn mapping_made(&mut self, now: Instant, rule: Rule, key: Key, proto: Proto) {
        self.stats.mappings += 1;
        self.stats.remapped += u64::from(rule == Rule::NatRemapped);
        if let Some(super::Fault::ForgetMapping { nth, after }) = self.config.fault
            && self.stats.mappings == u64::from(nth)
        {
            self.fault = Some((now + after, proto, key));
        }
    }

    /// A packet from inside for one of the box's own addresses, of a box that does not translate
    /// its sender: it goes back with the sender it has, or not at all.
    fn turn_back(&self, inside: End, remote: End, packet: &mut Packet) -> Verdict {
        if self.config.hairpin == Hairpin::None {
            return Verdict::Drop(Rule::NatNoHairpin);
        }
        let proto = packet.flow().proto;
        let key = Key::new(Kind::External, proto, remote, End::NONE);
        // Filtering is for those outside.
        let target = (self.forwards.inside_of(proto, remote))
            .or_else(|| Some(self.table.flow(self.table.oldest(key)?).inside));
        match target {
            Some(target) if target != inside => {
                packet.set_dst(target.addr());
                Verdict::Hairpin(Rule::NatHairpin)
            }
            _ => Verdict::Drop(self.why_closed(proto, remote, inside)),
        }
    }

    /// A packet whose sender is one of the box's external endpoints, and its receiver another:
    /// it comes in as if from outside (RFC 4787 REQ-9).
    fn back_in(&mut self, now: Instant, packet: &mut Packet) -> Verdict {
        let flow = *packet.flow();
        let (Some(from), Some(to)) = (End::of(flow.src), End::of(flow.dst)) else {
            return Verdict::Drop(Rule::NoRoute);
        };
        match self.way_in(now, flow.proto, to, from, flow.flags) {
            Ok((inside, _)) => {
                packet.set_dst(inside.addr());
                Verdict::Hairpin(Rule::NatHairpin)
            }
            Err(rule) => Verdict::Drop(rule),
        }
    }
}
