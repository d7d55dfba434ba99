//! The properties of one end's boxes that matter for one transport.

use super::{End, Family, Meet, RENDEZVOUS_PORT, Transport};
use crate::middlebox::{
    firewall::{Families, FirewallConfig, Ports},
    nat::{
        Clash, Filtering, Hairpin, Mapping, NatConfig, PortPolicy, Translation, UnsolicitedSyn,
        WanInput,
    },
};

/// How a layer answers an unsolicited SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SynAnswer {
    /// Not at all, or with an ICMP error, which is only a hint to a host that is connecting (RFC
    /// 5461 §2.1, RFC 1122 §4.2.3.9; measured: error 111, and it connects all the same).
    Softly,
    /// With a reset.
    Reset,
}

/// One layer: a NAT or a firewall. A box with both has two layers, the firewall nearer to the host.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layer<'a> {
    /// The ports that it lets out; `None` for all.
    out: Option<&'a Ports>,
    /// The layer is a NAT.
    pub(super) translates: bool,
    /// The layer is the NAT of the box whose firewall is the layer before it, so it keeps no flow
    /// for what that one drops.
    walled: bool,
    /// The external endpoint is the same for every destination.
    pub(super) stable: bool,
    /// The remotes that an endpoint in use admits; `None` for every remote, also when it is not in
    /// use.
    pub(super) filtering: Option<Filtering>,
    /// How it answers an unsolicited SYN.
    pub(super) syn_answer: SynAnswer,
    /// It accepts packets for the box itself and creates flows for them.
    pub(super) remembers: bool,
    /// The external port is the internal one.
    pub(super) preserves: bool,
    /// There is no other port when the external port is taken.
    pub(super) rigid: bool,
    /// There is one external endpoint for each remote address (ADM).
    by_address: bool,
    /// The external port can be predicted.
    pub(super) predictable: bool,
    /// How packets to the box's own endpoints come back in.
    pub(super) hairpin: Hairpin,
}

/// One end, for one transport.
#[derive(Clone, Debug)]
pub(super) struct Side<'a> {
    /// The layers from the host to the core.
    pub(super) layers: Vec<Layer<'a>>,
    /// The number of layers that are not part of the outermost box.
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
            // The firewall of the box that both are behind does not see a stranger.
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

    /// Returns `true` when packets to the rendezvous leave.
    pub(super) fn registers(&self) -> bool {
        let mut ports = self.layers.iter().filter_map(|l| l.out);
        ports.all(|ports| ports.allow(RENDEZVOUS_PORT))
    }

    /// Returns `true` when no packet of this transport leaves.
    pub(super) fn is_blocked(&self) -> bool {
        let mut ports = self.layers.iter().filter_map(|l| l.out);
        ports.any(|ports| matches!(ports, Ports::Only(some) if some.is_empty()))
    }

    /// The number of layers that a packet to the observed endpoint of `peer` passes. The packet is
    /// sent when it passes all of them.
    pub(super) fn progress(&self, peer: &Self) -> usize {
        // A NAT chooses some port above 1023.
        let observed = peer.layers.iter().all(|l| !l.translates || l.preserves);
        let lets_out = |ports: &Ports| match ports {
            Ports::All => true,
            Ports::Only(_) => observed && ports.allow(peer.port),
        };
        let mut same = true;
        let stops = self.layers.iter().position(|layer| {
            let stopped = layer.out.is_some_and(|ports| !lets_out(ports))
                // The port is taken by what a packet of the peer left behind.
                || same && layer.rigid && !layer.stable;
            same &= layer.stable;
            stopped
        });
        stops.unwrap_or(self.layers.len())
    }

    /// Returns `true` when every peer sees the endpoint that the rendezvous observed.
    pub(super) fn is_stable(&self) -> bool {
        self.layers.iter().all(|l| l.stable)
    }

    /// Returns `true` when all boxes but the outermost admit any remote to an endpoint in use.
    pub(super) fn inner_admits_strangers(&self) -> bool {
        self.layers[..self.inner]
            .iter()
            .all(Layer::admits_strangers)
    }

    /// The first layer, seen from the core, that refuses a packet from a stranger.
    fn refuser(&self) -> Option<usize> {
        self.layers.iter().rposition(|l| !l.admits_strangers())
    }

    /// The same layer, if it reacts. A packet that is hairpinned (`turned`) is not from outside, so
    /// the outermost layer drops it silently.
    fn reacting(&self, turned: bool) -> Option<usize> {
        self.refuser()
            .filter(|n| !(turned && n + 1 == self.layers.len()))
    }

    /// How a stranger's SYN is answered.
    pub(super) fn syn_answer(&self, turned: bool) -> SynAnswer {
        self.reacting(turned)
            .map_or(SynAnswer::Softly, |n| self.layers[n].syn_answer)
    }

    /// Returns `true` when a box accepts a stranger's packet for itself.
    pub(super) fn remembers(&self, turned: bool) -> bool {
        self.reacting(turned)
            .is_some_and(|n| self.layers[n].remembers)
    }

    /// The side after a stranger's packet was refused. `very` means that the packet came from the
    /// endpoint to which this end is going to send. A box that accepted the packet for itself gives
    /// the end another port then. A box that passed it on to the one that refused it keeps the
    /// flow, whatever its policy for ports, unless the flow was `reset` or the refusal came from
    /// the box's own firewall.
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

    /// Returns `true` when a packet of this end in its first `sent` layers makes a layer before the
    /// refusing one drop a stranger's packet, because the end already sends from another endpoint.
    pub(super) fn shields(&self, sent: usize) -> bool {
        let clash = self.layers[..sent].iter().position(|l| !l.stable);
        clash.is_some_and(|n| self.refuser().is_none_or(|r| r < n))
    }

    /// How the box that both ends are behind hairpins packets.
    pub(super) fn hairpin(&self) -> Hairpin {
        self.layers.last().map_or(Hairpin::None, |l| l.hairpin)
    }

    /// Returns `true` when every layer that changes ports does so predictably.
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
            // New flows of a forwarded port leave from it.
            stable: forwarded || is_stable(t),
            filtering: (!forwarded).then_some(t.filtering),
            syn_answer: if reset {
                SynAnswer::Reset
            } else {
                SynAnswer::Softly
            },
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
            syn_answer: match firewall.unsolicited_syn {
                UnsolicitedSyn::Reset => SynAnswer::Reset,
                UnsolicitedSyn::Drop | UnsolicitedSyn::Icmp | UnsolicitedSyn::DelayedIcmp => {
                    SynAnswer::Softly
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

/// Returns `true` when all destinations see one external endpoint. A box that asks for the internal
/// port each time and shares it among destinations gives the same one each time without a binding
/// (measured: Linux masquerade keeps 40000 for four of four destinations). A box that does not
/// share ports finds it taken by the host's own first flow.
fn is_stable(t: &Translation) -> bool {
    t.mapping == Mapping::EndpointIndependent
        || (preserves(t) && matches!(t.clash, Clash::Overload | Clash::Drop))
}
