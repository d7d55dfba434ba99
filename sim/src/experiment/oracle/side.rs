//! What counts of one end's boxes for one transport.

use super::{End, Family, Meet, RENDEZVOUS_PORT, Transport};
use crate::middlebox::{
    firewall::{Families, FirewallConfig, Ports},
    nat::{
        Clash, Filtering, Hairpin, Mapping, NatConfig, PortPolicy, Translation, UnsolicitedSyn,
        WanInput,
    },
};

/// How a layer meets a SYN that nobody asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meets {
    /// In silence, or with an ICMP error, which a host that is opening takes for a hint only
    /// (RFC 5461 §2.1, RFC 1122 §4.2.3.9; measured: error 111, and it connects all the same).
    Softly,
    /// With a reset.
    Reset,
}

/// One layer: a NAT or a firewall. A box with both has two, the firewall nearer to the host.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layer<'a> {
    /// The ports that it lets out; `None`: all.
    out: Option<&'a Ports>,
    /// A NAT, that is.
    pub(super) translates: bool,
    /// It is the NAT of the box whose firewall is the layer before it: it keeps no flow for what that drops.
    walled: bool,
    /// The external endpoint does not change with the destination.
    pub(super) stable: bool,
    /// Whom an endpoint that was used admits; `None`: everybody, whether it was used or not.
    pub(super) filtering: Option<Filtering>,
    /// See [`Meets`].
    pub(super) meets: Meets,
    /// Takes in, and remembers, what comes for the box itself.
    pub(super) remembers: bool,
    /// The external port is the internal one.
    pub(super) preserves: bool,
    /// If the external port is taken, there is no other.
    pub(super) rigid: bool,
    /// The external endpoint is one for each address (ADM).
    by_address: bool,
    /// The external port can be told in advance.
    pub(super) predictable: bool,
    /// How packets to the box's own endpoints come back in.
    pub(super) hairpin: Hairpin,
}

/// One end for one transport.
#[derive(Clone, Debug)]
pub(super) struct Side<'a> {
    /// From the host to the core.
    pub(super) layers: Vec<Layer<'a>>,
    /// How many of them stand before the outermost box.
    pub(super) inner: usize,
    port: u16,
}

impl<'a> Side<'a> {
    pub(super) fn of(end: &'a End, transport: Transport, family: Family, meet: Meet) -> Self {
        let mut side = Self {
            layers: Vec::new(),
            inner: 0,
            port: end.port,
        };
        for (n, one) in end.path.iter().enumerate() {
            let outermost = n + 1 == end.path.len();
            if outermost {
                side.inner = side.layers.len();
            }
            // The firewall of the box that both are behind takes nothing for a stranger's.
            let turned = outermost && meet == Meet::Box;
            let before = side.layers.len();
            if let Some(firewall) = &one.firewall
                && (family == Family::V6 || firewall.families == Families::Both)
            {
                let ports = match transport {
                    Transport::Udp => &firewall.udp_out,
                    Transport::Tcp => &firewall.tcp_out,
                };
                side.layers
                    .push(Layer::of_firewall(firewall, ports, end.forwarded || turned));
            }
            if let (Some(nat), Family::V4) = (&one.nat, family) {
                let walled = side.layers.len() > before;
                side.layers.push(Layer {
                    walled,
                    ..Layer::of_nat(nat, transport, end.forwarded)
                });
            }
        }
        side
    }

    /// It can register: what goes to the rendezvous leaves.
    pub(super) fn registers(&self) -> bool {
        let mut ports = self.layers.iter().filter_map(|l| l.out);
        ports.all(|ports| ports.allow(RENDEZVOUS_PORT))
    }

    /// Nothing at all of this transport leaves.
    pub(super) fn is_blocked(&self) -> bool {
        let mut ports = self.layers.iter().filter_map(|l| l.out);
        ports.any(|ports| matches!(ports, Ports::Only(some) if some.is_empty()))
    }

    /// How many layers a packet passes that goes to the endpoint of `peer` that the rendezvous
    /// told. If it is all of them, it is sent.
    pub(super) fn progress(&self, peer: &Self) -> usize {
        // What a NAT chooses is some port above 1023.
        let observed = peer.layers.iter().all(|l| !l.translates || l.preserves);
        let lets_out = |ports: &Ports| match ports {
            Ports::All => true,
            Ports::Only(_) => observed && ports.allow(peer.port),
        };
        let mut same = true;
        let stops = self.layers.iter().position(|layer| {
            let stopped = layer.out.is_some_and(|ports| !lets_out(ports))
                // The port is taken by its own packet to the rendezvous.
                || same && layer.rigid && !layer.stable;
            same &= layer.stable;
            stopped
        });
        stops.unwrap_or(self.layers.len())
    }

    /// The endpoint that the rendezvous observed is the one that every peer sees.
    pub(super) fn is_stable(&self) -> bool {
        self.layers.iter().all(|l| l.stable)
    }

    /// Whoever sends to an endpoint that was used is let in by all boxes but the outermost.
    pub(super) fn inner_admits_strangers(&self) -> bool {
        self.layers[..self.inner]
            .iter()
            .all(Layer::admits_strangers)
    }

    /// The layer at which a stranger's packet ends, seen from the core.
    fn refuser(&self) -> Option<usize> {
        self.layers.iter().rposition(|l| !l.admits_strangers())
    }

    /// The same, if that layer reacts to it. What was turned round in a box is not from outside:
    /// with `turned` the outermost layer drops it in silence.
    fn reacting(&self, turned: bool) -> Option<usize> {
        self.refuser()
            .filter(|n| !(turned && n + 1 == self.layers.len()))
    }

    /// How a stranger's SYN is met.
    pub(super) fn meets(&self, turned: bool) -> Meets {
        self.reacting(turned)
            .map_or(Meets::Softly, |n| self.layers[n].meets)
    }

    /// A stranger's packet is taken in by a box, for itself.
    pub(super) fn remembers(&self, turned: bool) -> bool {
        self.reacting(turned)
            .is_some_and(|n| self.layers[n].remembers)
    }

    /// As it is after a stranger's packet was refused. What counts is whether it came from the
    /// `very` endpoint that this end is going to send to. A box that took it in for itself and
    /// remembers it gives the end another port then. A box that had let it pass to the one that
    /// refused it keeps the flow that it made, whatever the port of others, unless it was `reset`,
    /// or the one that refused it is its own firewall.
    pub(super) fn refusing(&self, turned: bool, very: bool, reset: bool) -> Self {
        let mut side = self.clone();
        let Some(n) = self.refuser() else {
            return side;
        };
        let own_nat = side.layers.get(n + 1).is_some_and(|layer| layer.walled);
        for layer in side.layers[n + 1..].iter_mut().skip(own_nat.into()) {
            layer.stable |= !reset && (very || layer.by_address);
        }
        if very && self.remembers(turned) && self.layers[..n].iter().all(|l| l.stable) {
            side.layers[n].stable = false;
        }
        side
    }

    /// With its packet in its first `sent` layers: a stranger's is dropped in silence by a layer
    /// in front of that which refuses strangers, because the end speaks by another endpoint.
    pub(super) fn shields(&self, sent: usize) -> bool {
        let clash = self.layers[..sent].iter().position(|l| !l.stable);
        clash.is_some_and(|n| self.refuser().is_none_or(|r| r < n))
    }

    /// How the box that both ends are behind turns packets round.
    pub(super) fn hairpin(&self) -> Hairpin {
        self.layers.last().map_or(Hairpin::None, |l| l.hairpin)
    }

    /// Every layer that changes ports does so in a way that can be computed.
    pub(super) fn is_predictable(&self) -> bool {
        self.layers.iter().all(|l| l.stable || l.predictable)
    }
}

impl<'a> Layer<'a> {
    fn of_nat(nat: &NatConfig, transport: Transport, forwarded: bool) -> Self {
        let t = match transport {
            Transport::Udp => &nat.udp,
            Transport::Tcp => &nat.tcp,
        };
        let accepts = nat.wan_input == WanInput::Accept;
        let reset = match nat.wan_input {
            // The box's own stack has no socket there (RFC 9293 §3.10.7.1).
            WanInput::Accept => true,
            WanInput::Drop | WanInput::Reject => nat.unsolicited_syn == UnsolicitedSyn::Reset,
        };
        Self {
            out: None,
            translates: true,
            walled: false,
            // New flows of a port that is forwarded leave by the forwarded one.
            stable: forwarded || is_stable(t),
            filtering: (!forwarded).then_some(t.filtering),
            meets: if reset { Meets::Reset } else { Meets::Softly },
            // A connection whose first answer is a reset is forgotten at once.
            remembers: accepts && transport == Transport::Udp,
            preserves: forwarded || preserves(t),
            rigid: t.clash == Clash::Drop
                && (preserves(t)
                    || t.ports == PortPolicy::Hash && t.mapping == Mapping::EndpointIndependent),
            by_address: t.mapping == Mapping::AddressDependent,
            predictable: matches!(t.ports, PortPolicy::Sequential(_))
                || (preserves(t) && t.clash == Clash::Next),
            hairpin: nat.hairpin,
        }
    }

    fn of_firewall(firewall: &FirewallConfig, ports: &'a Ports, forwarded: bool) -> Self {
        Self {
            out: Some(ports),
            translates: false,
            walled: false,
            stable: true,
            filtering: (!forwarded && !firewall.open).then_some(firewall.filtering),
            meets: match firewall.unsolicited_syn {
                UnsolicitedSyn::Reset => Meets::Reset,
                UnsolicitedSyn::Drop | UnsolicitedSyn::Icmp | UnsolicitedSyn::DelayedIcmp => {
                    Meets::Softly
                }
            },
            remembers: false,
            preserves: true,
            rigid: false,
            by_address: false,
            predictable: true,
            hairpin: Hairpin::None,
        }
    }

    const fn admits_strangers(&self) -> bool {
        matches!(self.filtering, None | Some(Filtering::EndpointIndependent))
    }
}

const fn preserves(t: &Translation) -> bool {
    matches!(t.ports, PortPolicy::Preserve | PortPolicy::PreserveParity)
}

/// Whether all destinations see one external endpoint. A box that asks for the internal port each
/// time, and shares it among destinations, gives the same one each time though nothing binds it to
/// (measured: Linux masquerade keeps 40000 to four of four destinations). One that does not share
/// it finds it taken by the host's own first flow.
fn is_stable(t: &Translation) -> bool {
    t.mapping == Mapping::EndpointIndependent || (preserves(t) && t.clash == Clash::Overload)
}
