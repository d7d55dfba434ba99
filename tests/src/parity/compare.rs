//! What a packet that came out means, and whether two runs of a script tell the same.
//!
//! External ports that the model leaves to chance are compared by what they tell: which packets
//! share one, and whether the inside port was kept. Everything else must be equal.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use dunlin_sim::{Packet, Proto, TcpFlags};

use super::model::{LONGEST_TIMEOUT, Model, Ports};
use super::script::{Body, Event, Local, Place, Script, Send, Wan};
use super::{Fate, From};

/// A side of the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Inside.
    Lan,
    /// Outside.
    Wan,
}

/// What it means that after `event`, which sent `sent`, `came` came out on `side`.
pub fn fate(place: Place, event: &Event, sent: &Packet, side: Side, came: &Packet) -> Fate {
    let (flow, public) = (came.flow(), IpAddr::V4(place.public()));
    let strange = |what: &str| Fate::Strange(format!("{what} on {side:?}: {came:?}"));
    if !came.checksums_hold() {
        return strange("a wrong checksum");
    }
    let home = match event.send {
        Send::In(..) => Side::Wan,
        Send::Out(..) | Send::Hairpin(..) => Side::Lan,
    };
    let back = (side, flow.dst.ip()) == (home, sent.flow().src.ip());
    if flow.proto == Proto::Icmp {
        let head = came.transport();
        return if back {
            Fate::Icmp {
                kind: head[0],
                code: head[1],
            }
        } else {
            strange("a stray ICMP message")
        };
    }
    if back && (flow.src, flow.dst) == (sent.flow().dst, sent.flow().src) {
        return if flow.flags.has(TcpFlags::RST) {
            Fate::Reset
        } else {
            strange("an answer")
        };
    }
    let same = flow.proto == sent.flow().proto
        && flow.flags == sent.flow().flags
        && came.tcp_numbers() == sent.tcp_numbers()
        && came.payload() == sent.payload();
    if !same {
        return strange("another packet");
    }
    match (side, event.send) {
        (Side::Wan, Send::Out(_, remote))
            if flow.src.ip() == public && flow.dst == place.remote(remote) =>
        {
            Fate::Outside {
                port: flow.src.port(),
            }
        }
        (Side::Lan, Send::In(..) | Send::Hairpin(..)) => {
            match (place.is_local(flow.dst), sender(place, flow.src)) {
                (Some(to), Some(from)) => Fate::Inside { to, from },
                _ => strange("an address that nobody has"),
            }
        }
        _ => strange("a packet with wrong addresses"),
    }
}

fn sender(place: Place, at: SocketAddr) -> Option<From> {
    if at.ip() == IpAddr::V4(place.public()) {
        return Some(From::Wan(at.port()));
    }
    let remote = place.is_remote(at).map(From::Remote);
    remote.or_else(|| place.is_local(at).map(From::Local))
}

/// An event whose fate was not the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// Which.
    pub event: usize,
    /// How they differ.
    pub why: &'static str,
}

/// A pair of external ports, the kernel's and the simulator's, that stand for each other.
struct Pair {
    proto: Proto,
    kernel: u16,
    simulated: u16,
    used: Duration,
}

/// Where the two runs of a script differ. `times` says when each packet was sent.
pub fn divergences(
    model: &Model,
    script: &Script,
    times: &[Duration],
    kernel: &[Fate],
    simulated: &[Fate],
) -> Vec<Divergence> {
    let mut same = Same {
        model,
        pairs: Vec::new(),
        shift: [None; 2],
        blocks: Vec::new(),
    };
    let mut found = Vec::new();
    for (i, event) in script.events.iter().enumerate() {
        if let Some(Wan::Seen(k)) = event.wan() {
            same.refresh(&kernel[k], &kernel[i], times[i]);
        }
        if let Err(why) = same.event(event, times[i], &kernel[i], &simulated[i]) {
            found.push(Divergence { event: i, why });
        }
    }
    found
}

struct Same<'a> {
    model: &'a Model,
    pairs: Vec<Pair>,
    /// How far the simulator's sequence is ahead of the kernel's, for UDP and TCP.
    shift: [Option<i32>; 2],
    /// Which block each inside host has, in the kernel and in the simulator.
    blocks: Vec<(u8, [u16; 2])>,
}

impl Same<'_> {
    /// What comes in by an external port keeps it alive.
    fn refresh(&mut self, endpoint: &Fate, fate: &Fate, at: Duration) {
        if let (Fate::Outside { port }, Fate::Inside { .. }) = (endpoint, fate) {
            for pair in self.pairs.iter_mut().filter(|pair| pair.kernel == *port) {
                pair.used = at;
            }
        }
    }

    fn event(
        &mut self,
        event: &Event,
        at: Duration,
        kernel: &Fate,
        simulated: &Fate,
    ) -> Result<(), &'static str> {
        let proto = match event.body {
            Body::Udp => Proto::Udp,
            Body::Tcp { .. } => Proto::Tcp,
        };
        match (kernel, simulated) {
            (Fate::Strange(_), _) | (_, Fate::Strange(_)) => Err("strange"),
            (Fate::Outside { port: k }, Fate::Outside { port: s }) => {
                let Send::Out(local, _) = event.send else {
                    return Err("strange");
                };
                self.ports(proto, local, *k, *s, at)
            }
            (
                Fate::Inside { to, from: a },
                Fate::Inside {
                    to: other, from: b, ..
                },
            ) => {
                if to != other {
                    return Err("delivered to another");
                }
                match (a, b) {
                    (From::Wan(k), From::Wan(s)) => match event.send {
                        Send::Hairpin(local, _) => self.ports(proto, local, *k, *s, at),
                        _ => Err("strange"),
                    },
                    _ if a == b => Ok(()),
                    _ => Err("another sender is shown"),
                }
            }
            _ if kernel == simulated => Ok(()),
            _ => Err("another verdict"),
        }
    }

    /// Whether two external ports, given to one packet, tell the same.
    fn ports(
        &mut self,
        proto: Proto,
        local: Local,
        kernel: u16,
        simulated: u16,
        at: Duration,
    ) -> Result<(), &'static str> {
        match self.model.ports {
            Ports::Preserve => {
                if (kernel == local.port) != (simulated == local.port) {
                    return Err("one keeps the port, the other does not");
                }
            }
            Ports::Sequential(range) => {
                let shift = (i32::from(simulated) - i32::from(kernel)).rem_euclid(range.into());
                let known = self.shift[usize::from(proto == Proto::Tcp)].get_or_insert(shift);
                if *known != shift {
                    return Err("out of sequence");
                }
            }
            Ports::Block(size) => {
                let block = [kernel / size, simulated / size];
                for (host, known) in &self.blocks {
                    for side in 0..2 {
                        if (*host == local.host) != (known[side] == block[side]) {
                            return Err("outside the host's block");
                        }
                    }
                }
                self.blocks.push((local.host, block));
            }
            Ports::Stable | Ports::Random => {}
        }
        // A port that chance picked again long after is not the same mapping; one that the model
        // computes, or a kept one, is.
        if !matches!(self.model.ports, Ports::Stable) {
            self.pairs.retain(|pair| pair.used + LONGEST_TIMEOUT > at);
        }
        let known = self.pairs.iter_mut().find(|pair| {
            pair.proto == proto && (pair.kernel == kernel || pair.simulated == simulated)
        });
        match known {
            None => {
                self.pairs.push(Pair {
                    proto,
                    kernel,
                    simulated,
                    used: at,
                });
                Ok(())
            }
            Some(pair) if (pair.kernel, pair.simulated) == (kernel, simulated) => {
                pair.used = at;
                Ok(())
            }
            Some(_) => Err("another mapping"),
        }
    }
}
