//! The boxes between two links: a NAT, a firewall, both or neither.
//!
//! [`nat`] and [`firewall`] both follow flows with [`conntrack`]. None of them knows a network: a
//! box is handed one packet at a time and returns a [`Verdict`].

pub mod conntrack;
pub mod firewall;
pub mod nat;
mod reassembly;

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use dunlin_core::Instant;

use crate::{
    middlebox::{
        firewall::{Firewall, FirewallConfig},
        nat::{Fragments, Nat, NatConfig},
        reassembly::{Added, Reassembly, Whole},
    },
    packet::{
        Packet,
        verdict::{Rule, Verdict},
    },
};

/// The inner side of a box.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatewayConfig {
    /// The box's own address on its inner side. Packets for it get [`Verdict::Local`].
    pub lan: Option<IpAddr>,
    /// Further addresses of its own there, such as one of IPv6.
    pub also: Vec<IpAddr>,
}

impl GatewayConfig {
    /// All addresses of the box on its inner side.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.lan.iter().chain(&self.also).copied()
    }

    /// Returns `true` when `addr` is one of these addresses.
    #[must_use]
    pub fn owns(&self, addr: IpAddr) -> bool {
        self.addresses().any(|own| own == addr)
    }
}

/// The configuration of a box. By default it only routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BoxConfig {
    /// Translates IPv4, if set.
    pub nat: Option<NatConfig>,
    /// Filters, if set.
    pub firewall: Option<FirewallConfig>,
    /// Its inner side.
    pub gateway: GatewayConfig,
}

impl From<NatConfig> for BoxConfig {
    /// A box that only translates.
    fn from(nat: NatConfig) -> Self {
        Self {
            nat: Some(nat),
            ..Self::default()
        }
    }
}

/// A box with its state.
#[derive(Clone, Debug)]
pub struct Middlebox {
    nat: Option<Nat>,
    firewall: Option<Firewall>,
    gateway: GatewayConfig,
    reassembly: Reassembly,
    /// The fragments of the datagram that passed last, behind the first.
    rest: VecDeque<Packet>,
}

impl Middlebox {
    /// Creates a box. Only a NAT needs the external IPv4 addresses in `public`.
    ///
    /// # Panics
    /// Like [`Nat::new`].
    #[must_use]
    pub fn new(config: BoxConfig, public: &[Ipv4Addr], seed: u64) -> Self {
        Self {
            nat: config.nat.map(|nat| Nat::new(nat, public, seed)),
            firewall: config.firewall.map(|wall| Firewall::new(wall, seed)),
            gateway: config.gateway,
            reassembly: Reassembly::default(),
            rest: VecDeque::new(),
        }
    }

    /// Handles a packet from the inner side. It meets the firewall first, then the NAT.
    ///
    /// A box that reassembles fragments says [`Verdict::Hold`] until a datagram is complete. If
    /// that passes, `packet` is its first fragment, and [`Middlebox::next_fragment`] has the others.
    pub fn outbound(&mut self, now: Instant, packet: &mut Packet) -> Verdict {
        match self.whole(now, true, packet) {
            None => self.whole_outbound(now, packet),
            Some(Ok(whole)) => self.in_parts(packet, whole, |one, it| one.whole_outbound(now, it)),
            Some(Err(verdict)) => verdict,
        }
    }

    /// Handles a packet from the outer side. It meets the NAT first, then the firewall, which lets
    /// pass what a port mapping has let in. The NAT keeps no new flow for a packet that the
    /// firewall drops. Fragments are handled as in [`Middlebox::outbound`].
    pub fn inbound(&mut self, now: Instant, packet: &mut Packet) -> Verdict {
        match self.whole(now, false, packet) {
            None => self.whole_inbound(now, packet),
            Some(Ok(whole)) => self.in_parts(packet, whole, |one, it| one.whole_inbound(now, it)),
            Some(Err(verdict)) => verdict,
        }
    }

    /// Takes the next fragment of the datagram that passed last. It goes the way of the first one.
    pub fn next_fragment(&mut self) -> Option<Packet> {
        self.rest.pop_front()
    }

    /// Puts fragments together. Returns `None` for a packet that is not a fragment, or when the
    /// box does not reassemble.
    fn whole(
        &mut self,
        now: Instant,
        out: bool,
        packet: &Packet,
    ) -> Option<Result<Whole, Verdict>> {
        packet.fragment()?;
        let reassembles = match &self.nat {
            Some(nat) if packet.flow().src.is_ipv4() => {
                nat.config().fragments == Fragments::Reassemble && !nat.is_down(now)
            }
            _ => self.firewall.is_some(),
        };
        if !reassembles || out && self.gateway.owns(packet.flow().dst.ip()) {
            return None;
        }
        Some(match self.reassembly.add(now, out, packet) {
            Added::Held => Err(Verdict::Hold(Rule::BoxFragmentHeld)),
            Added::Bad => Err(Verdict::Drop(Rule::BoxFragmentBad)),
            Added::Complete(whole) => Ok(*whole),
        })
    }

    /// Decides about a datagram, and cuts it again if it passes.
    fn in_parts(
        &mut self,
        packet: &mut Packet,
        Whole {
            packet: mut whole,
            cuts,
        }: Whole,
        decide: impl FnOnce(&mut Self, &mut Packet) -> Verdict,
    ) -> Verdict {
        let verdict = decide(self, &mut whole);
        *packet = whole;
        if matches!(verdict, Verdict::Pass(_) | Verdict::Hairpin(_))
            && let Some(parts) = cuts.cut(packet)
        {
            self.rest = parts.into();
            if let Some(first) = self.rest.pop_front() {
                *packet = first;
            }
        }
        verdict
    }

    fn whole_outbound(&mut self, now: Instant, packet: &mut Packet) -> Verdict {
        if self.gateway.owns(packet.flow().dst.ip()) {
            return Verdict::Local(Rule::BoxLocal);
        }
        let filtered = match &mut self.firewall {
            Some(wall) => wall.outbound(now, packet),
            None => Verdict::Pass(Rule::NatUntouched),
        };
        match (&mut self.nat, filtered) {
            (Some(nat), Verdict::Pass(rule)) => match nat.outbound(now, packet) {
                // The packet was never outside, so the firewall lets it pass. It has to know the
                // flow all the same, or it would drop the answer as unsolicited.
                Verdict::Hairpin(by) => match self.firewall.as_mut() {
                    Some(wall) => match wall.forwarded(now, packet) {
                        Verdict::Pass(_) => Verdict::Hairpin(by),
                        stopped => {
                            nat.forget_created(nat.created());
                            stopped
                        }
                    },
                    None => Verdict::Hairpin(by),
                },
                verdict => reported(verdict, rule),
            },
            (_, verdict) => verdict,
        }
    }

    fn whole_inbound(&mut self, now: Instant, packet: &mut Packet) -> Verdict {
        let verdict = match &mut self.nat {
            Some(nat) => nat.inbound(now, packet),
            None => Verdict::Pass(Rule::NatUntouched),
        };
        let (Some(wall), Verdict::Pass(rule)) = (&mut self.firewall, &verdict) else {
            return verdict;
        };
        let put_off = wall.delayed_count();
        let filtered = match *rule {
            Rule::NatForwarded => wall.forwarded(now, packet),
            _ => wall.inbound(now, packet),
        };
        if let Verdict::Pass(by) = filtered {
            return reported(verdict, by);
        }
        let created = self.nat.as_ref().map(Nat::created);
        // An answer of the firewall is about the packet as the NAT left it, and must be translated
        // like a packet from inside while the flow is still known.
        let filtered = match filtered {
            Verdict::Answer(by, answer) => self.answered(now, by, *answer),
            _ => filtered,
        };
        if let (Some(nat), Some(wall)) = (&mut self.nat, &mut self.firewall)
            && wall.delayed_count() > put_off
        {
            wall.translate_last(|error| matches!(nat.outbound(now, error), Verdict::Pass(_)));
        }
        if let (Some(nat), Some(created)) = (&mut self.nat, created) {
            nat.forget_created(created);
        }
        filtered
    }

    fn answered(&mut self, now: Instant, by: Rule, mut answer: Packet) -> Verdict {
        match self.nat.as_mut().map(|nat| nat.outbound(now, &mut answer)) {
            None | Some(Verdict::Pass(_)) => Verdict::Answer(by, Box::new(answer)),
            Some(_) => Verdict::Drop(by),
        }
    }

    /// Returns a refusal that was delayed and is due now, for the outer side. Call it until it
    /// returns `None`. See [`Nat::delayed`].
    pub fn delayed(&mut self, now: Instant) -> Option<Packet> {
        let translated = self.nat.as_mut().and_then(|nat| nat.delayed(now));
        translated.or_else(|| self.firewall.as_mut()?.delayed(now))
    }

    /// When [`Middlebox::delayed`] returns something next.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let nat = self.nat.as_ref().and_then(Nat::next_timeout);
        let wall = self.firewall.as_ref().and_then(Firewall::next_timeout);
        [nat, wall].into_iter().flatten().min()
    }

    /// The NAT, if the box has one.
    #[must_use]
    pub const fn nat(&self) -> Option<&Nat> {
        self.nat.as_ref()
    }

    /// The NAT, for port mappings.
    pub const fn nat_mut(&mut self) -> Option<&mut Nat> {
        self.nat.as_mut()
    }

    /// The firewall, if the box has one.
    #[must_use]
    pub const fn firewall(&self) -> Option<&Firewall> {
        self.firewall.as_ref()
    }

    /// The firewall, for pinholes.
    pub const fn firewall_mut(&mut self) -> Option<&mut Firewall> {
        self.firewall.as_mut()
    }

    /// The services for the inner side.
    #[must_use]
    pub const fn gateway(&self) -> &GatewayConfig {
        &self.gateway
    }

    /// Restarts the box.
    pub fn reboot(&mut self, now: Instant) {
        self.reassembly.clear();
        if let Some(nat) = &mut self.nat {
            nat.reboot(now);
        }
        if let Some(wall) = &mut self.firewall {
            wall.reboot();
        }
    }

    /// Forgets the translated flows, as when the outer link goes down. Flows of IPv6 and port
    /// mappings stay.
    pub fn flush(&mut self) {
        if let Some(nat) = &mut self.nat {
            nat.flush();
            // Both follow flows with one table in a real box.
            if let Some(wall) = &mut self.firewall {
                wall.forget_v4();
            }
        }
    }

    /// How much longer each packet takes at present; see
    /// [`Full::Slowdown`](crate::middlebox::nat::Full::Slowdown).
    #[must_use]
    pub fn penalty(&self) -> Duration {
        self.nat.as_ref().map_or(Duration::ZERO, Nat::penalty)
    }
}

/// The rule to report when both the NAT and the firewall decided: the NAT's, unless the NAT had
/// nothing to do.
fn reported(nat: Verdict, wall: Rule) -> Verdict {
    match nat {
        Verdict::Pass(Rule::NatUntouched) => Verdict::Pass(wall),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        middlebox::{
            firewall,
            nat::{UnsolicitedSyn, presets},
        },
        packet::TcpFlags,
    };

    fn make(nat: Option<NatConfig>, wall: Option<FirewallConfig>) -> Middlebox {
        let config = BoxConfig {
            nat,
            firewall: wall,
            gateway: GatewayConfig {
                lan: Some(IpAddr::from([10, 0, 0, 1])),
                ..GatewayConfig::default()
            },
        };
        Middlebox::new(config, &[Ipv4Addr::new(203, 0, 113, 1)], 1)
    }

    fn udp(from: &str, to: &str) -> Packet {
        let addr = |s: &str| s.parse().expect("an endpoint");
        Packet::udp(addr(from), addr(to), b"x")
    }

    const NOW: Instant = Instant::from_micros(5);

    #[test]
    fn v6_meets_the_firewall_and_not_the_nat() {
        let mut one = make(Some(presets::linux()), Some(firewall::presets::home6()));
        let mut stranger = udp("[2001:db8::9]:1", "[2001:db8::2]:2");
        assert_eq!(
            one.inbound(NOW, &mut stranger).rule(),
            Rule::FirewallUnsolicited
        );
        let mut out = udp("[2001:db8::2]:2", "[2001:db8::9]:1");
        assert_eq!(
            one.outbound(NOW, &mut out),
            Verdict::Pass(Rule::FirewallNew)
        );
        assert_eq!(out, udp("[2001:db8::2]:2", "[2001:db8::9]:1"));
        assert_eq!(
            one.inbound(NOW, &mut stranger),
            Verdict::Pass(Rule::FirewallEstablished)
        );
    }

    #[test]
    fn v4_meets_both_and_a_port_mapping_opens_both() {
        let wall = firewall::presets::no_inbound();
        let mut one = make(Some(presets::linux()), Some(wall));
        let mut out = udp("10.0.0.2:6881", "192.0.2.1:9");
        assert_eq!(
            one.outbound(NOW, &mut out),
            Verdict::Pass(Rule::NatNewMapping)
        );
        let mut stranger = udp("192.0.2.2:9", "203.0.113.1:6881");
        assert_eq!(one.inbound(NOW, &mut stranger).rule(), Rule::NatFiltered);
        let nat = one.nat_mut().expect("has one");
        let internal = "10.0.0.2:6881".parse().expect("an endpoint");
        let given = nat.forward(NOW, crate::packet::Proto::Udp, 6881, internal, None);
        assert_eq!(given, Ok("203.0.113.1:6881".parse().expect("an endpoint")));
        assert_eq!(
            one.inbound(NOW, &mut stranger),
            Verdict::Pass(Rule::NatForwarded)
        );
        assert_eq!(stranger.flow().dst, internal);
    }

    #[test]
    fn what_the_firewall_answers_is_translated() {
        let wall = FirewallConfig {
            unsolicited_syn: UnsolicitedSyn::Icmp,
            ..firewall::presets::no_inbound()
        };
        let nat = (presets::find("full-cone").expect("a preset").make)();
        let mut one = make(Some(nat), Some(wall));
        let inside = ([10, 0, 0, 2], 6881).into();
        let (friend, stranger) = (([192, 0, 2, 1], 9).into(), ([192, 0, 2, 2], 9).into());
        let mut out = Packet::tcp(inside, friend, TcpFlags::SYN, 1, 0, b"");
        assert!(matches!(one.outbound(NOW, &mut out), Verdict::Pass(_)));
        let external = out.flow().src;
        let mut knock = Packet::tcp(stranger, external, TcpFlags::SYN, 1, 0, b"");
        let Verdict::Answer(Rule::FirewallUnsolicited, answer) = one.inbound(NOW, &mut knock)
        else {
            panic!("no answer");
        };
        assert!(answer.checksums_hold());
        assert_eq!(answer.flow().src.ip(), external.ip());
        assert_eq!(answer.quoted().map(|q| q.dst), Some(external));
    }

    #[test]
    fn a_nat_keeps_no_flow_for_what_its_own_firewall_drops() {
        let strict = FirewallConfig {
            filtering: crate::middlebox::nat::Filtering::AddressAndPortDependent,
            ..firewall::presets::no_inbound()
        };
        for refusal in [
            UnsolicitedSyn::Drop,
            UnsolicitedSyn::Reset,
            UnsolicitedSyn::Icmp,
            UnsolicitedSyn::DelayedIcmp,
        ] {
            let wall = FirewallConfig {
                unsolicited_syn: refusal,
                ..strict.clone()
            };
            let nat = (presets::find("full-cone").expect("a preset").make)();
            let mut one = make(Some(nat), Some(wall));
            let mut out = udp("10.0.0.2:6881", "192.0.2.1:9");
            assert!(matches!(one.outbound(NOW, &mut out), Verdict::Pass(_)));
            let inside = ([10, 0, 0, 2], 6882).into();
            let mut syn = Packet::tcp(inside, ([192, 0, 2, 1], 9).into(), TcpFlags::SYN, 1, 0, b"");
            assert!(matches!(one.outbound(NOW, &mut syn), Verdict::Pass(_)));
            let flows = |one: &Middlebox| {
                let nat = one.nat().expect("has one");
                (nat.len(), nat.stats().flows)
            };
            assert_eq!(flows(&one), (2, 2));
            let mut stranger = Packet::udp(([192, 0, 2, 2], 9).into(), out.flow().src, b"x");
            let verdict = one.inbound(NOW, &mut stranger);
            assert_eq!(verdict.rule(), Rule::FirewallUnsolicited);
            assert_eq!(flows(&one), (2, 2), "{refusal:?}");
            let from = ([192, 0, 2, 2], 9).into();
            let mut knock = Packet::tcp(from, syn.flow().src, TcpFlags::SYN, 1, 0, b"");
            let verdict = one.inbound(NOW, &mut knock);
            assert_eq!(verdict.rule(), Rule::FirewallUnsolicited);
            assert_eq!(flows(&one), (2, 2), "{refusal:?}");
            // A delayed refusal comes from the external address, too.
            if refusal == UnsolicitedSyn::DelayedIcmp {
                let due = one.next_timeout().expect("a refusal is due");
                let error = one.delayed(due).expect("an error");
                assert!(error.checksums_hold());
                assert_eq!(error.flow().src.ip(), syn.flow().src.ip());
                assert_eq!(error.quoted().map(|q| q.dst), Some(syn.flow().src));
            }
            // The host's own flow is unchanged.
            let mut friend = Packet::udp(([192, 0, 2, 1], 9).into(), out.flow().src, b"x");
            assert!(matches!(one.inbound(NOW, &mut friend), Verdict::Pass(_)));
        }
    }

    #[test]
    fn its_own_address_is_its_own() {
        let mut one = make(None, None);
        let mut ask = udp("10.0.0.2:6881", "10.0.0.1:5351");
        assert_eq!(one.outbound(NOW, &mut ask), Verdict::Local(Rule::BoxLocal));
        let mut out = udp("10.0.0.2:6881", "10.0.0.3:5351");
        assert_eq!(
            one.outbound(NOW, &mut out),
            Verdict::Pass(Rule::NatUntouched)
        );
    }
}
