//! What counts of one end's boxes for one transport.

use super::{End, Family, RENDEZVOUS_PORT, Transport};
use crate::{
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
pub(super) struct Layer {
    /// A NAT, that is.
    pub(super) translates: bool,
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
    /// The external port can be told in advance.
    pub(super) predictable: bool,
    /// How packets to the box's own endpoints come back in.
    pub(super) hairpin: Hairpin,
}

/// One end for one transport.
#[derive(Clone, Debug)]
pub(super) struct Side {
    /// From the host to the core.
    pub(super) layers: Vec<Layer>,
    /// How many of them stand before the outermost box.
    pub(super) inner: usize,
    /// The ports that every firewall lets out, as a list of each one's.
    out: Vec<Ports>,
    port: u16,
    forwarded: bool,
}

impl Side {
    pub(super) fn of(end: &End, transport: Transport, family: Family) -> Self {
        let mut side = Self {
            layers: Vec::new(),
            inner: 0,
            out: Vec::new(),
            port: end.port,
            forwarded: end.forwarded,
        };
        for (n, one) in end.path.iter().enumerate() {
            if n + 1 == end.path.len() {
                side.inner = side.layers.len();
            }
            if let Some(firewall) = &one.firewall
                && (family == Family::V6 || firewall.families == Families::Both)
            {
                let ports = match transport {
                    Transport::Udp => &firewall.udp_out,
                    Transport::Tcp => &firewall.tcp_out,
                };
                side.out.push(ports.clone());
                side.layers
                    .push(Layer::of_firewall(firewall, end.forwarded));
            }
            if let (Some(nat), Family::V4) = (&one.nat, family) {
                side.layers
                    .push(Layer::of_nat(nat, transport, end.forwarded));
            }
        }
        side
    }

    /// It can register: something leaves by this transport.
    pub(super) fn registers(&self) -> bool {
        self.lets_out(RENDEZVOUS_PORT)
    }

    fn lets_out(&self, port: u16) -> bool {
        self.out.iter().all(|ports| ports.allow(port))
    }

    /// Nothing at all of this transport passes.
    pub(super) fn is_blocked(&self) -> bool {
        self.out
            .iter()
            .any(|ports| matches!(ports, Ports::Only(some) if some.is_empty()))
    }

    /// It can send to an endpoint of `peer` that the rendezvous told.
    pub(super) fn may_send_to(&self, peer: &Self) -> bool {
        let observed = peer.layers.iter().all(|l| !l.translates || l.preserves);
        if peer.forwarded || observed {
            self.lets_out(peer.port)
        } else {
            // Some port above 1023.
            self.out.iter().all(|ports| *ports == Ports::All)
        }
    }

    /// It has a port for a destination beside the rendezvous.
    pub(super) fn has_ports(&self) -> bool {
        self.layers.iter().all(|l| l.stable || !l.rigid)
    }

    /// The endpoint that the rendezvous observed is the one that every peer sees.
    pub(super) fn is_stable(&self) -> bool {
        self.layers.iter().all(|l| l.stable)
    }

    /// Whoever sends to the endpoint that the rendezvous told is let in.
    pub(super) fn admits_strangers(&self) -> bool {
        self.layers.iter().all(Layer::admits_strangers)
    }

    /// The same for what comes from a neighbour behind one outermost box.
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

    /// As it is after a stranger's packet was refused, for a peer whose packets come from where
    /// that one came from. A box that took it in for itself and remembers it gives the end another
    /// port. A box that had let it pass to the one that refused it keeps the flow that it made,
    /// whatever the port of others, unless it was `reset`.
    pub(super) fn refusing(&self, turned: bool, reset: bool) -> Self {
        let mut side = self.clone();
        let Some(n) = self.refuser() else {
            return side;
        };
        if !reset {
            side.layers[n + 1..]
                .iter_mut()
                .for_each(|l| l.stable = true);
        }
        if self.remembers(turned) && self.layers[..n].iter().all(|l| l.stable) {
            side.layers[n].stable = false;
        }
        side
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

impl Layer {
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
            translates: true,
            // New flows of a port that is forwarded leave by the forwarded one.
            stable: forwarded || is_stable(t),
            filtering: (!forwarded).then_some(t.filtering),
            meets: if reset { Meets::Reset } else { Meets::Softly },
            // A connection whose first answer is a reset is forgotten at once.
            remembers: accepts && transport == Transport::Udp,
            preserves: forwarded || preserves(t),
            rigid: t.clash == Clash::Drop && preserves(t),
            predictable: matches!(t.ports, PortPolicy::Sequential(_))
                || (preserves(t) && t.clash == Clash::Next),
            hairpin: nat.hairpin,
        }
    }

    fn of_firewall(firewall: &FirewallConfig, forwarded: bool) -> Self {
        Self {
            translates: false,
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
