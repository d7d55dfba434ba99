//! What a packet that came out means, and whether two runs of a script tell the same.
//!
//! External ports that the model leaves to chance are compared by what they tell: which packets
//! share one, and whether the inside port was kept. Everything else must be equal.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use dunlin_sim::{Packet, Proto, TcpFlags};

use super::body::{self, Body};
use super::model::{Model, Ports};
use super::script::{Event, Local, Place, Remote, Script, Send, Wan};
use super::table::{Name, Table, differences};
use super::{Fate, From};

/// A side of the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Inside.
    Lan,
    /// Outside.
    Wan,
}

/// What it means that after `event`, which sent `sent`, these packets came out.
pub fn fate(place: Place, event: &Event, sent: &Packet, came: &[(Side, Packet)]) -> Fate {
    match (came, event.body) {
        ([], _) => Fate::Dropped,
        ([(side, one)], _) if one.fragment().is_none() => {
            fate_of_one(place, event, sent, *side, one)
        }
        ([(side, _), ..], Body::Piece { of, .. }) if came.iter().all(|(s, _)| s == side) => {
            let pieces: Vec<Packet> = came.iter().map(|(_, packet)| packet.clone()).collect();
            let Some((whole, cuts)) = body::whole(&pieces) else {
                return Fate::Strange(format!("not the pieces of a datagram: {came:?}"));
            };
            let sent = body::datagram(sent.flow().src, sent.flow().dst, of);
            match fate_of_one(place, event, &sent, *side, &whole) {
                strange @ Fate::Strange(_) => strange,
                fate => Fate::Pieces(Box::new(fate), cuts),
            }
        }
        _ => Fate::Strange(format!("several packets: {came:?}")),
    }
}

fn fate_of_one(place: Place, event: &Event, sent: &Packet, side: Side, came: &Packet) -> Fate {
    let flow = came.flow();
    let strange = |what: &str| Fate::Strange(format!("{what} on {side:?}: {came:?}"));
    if !came.checksums_hold() {
        return strange("a wrong checksum");
    }
    let (home, away) = match event.send {
        Send::In(..) => (Side::Wan, Side::Lan),
        Send::Out(..) | Send::Hairpin(..) => (Side::Lan, Side::Wan),
    };
    if matches!(event.body, Body::Error { .. }) && side == away {
        return error(place, event, sent, came).unwrap_or_else(|| strange("another error"));
    }
    let back = (side, flow.dst.ip()) == (home, sent.flow().src.ip());
    let query = matches!(event.body, Body::Query { .. });
    if flow.proto == Proto::Icmp && (!query || back) {
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
        && came.payload() == sent.payload()
        && came.ttl() + 1 == sent.ttl();
    if !same {
        return strange("another packet");
    }
    // A query's one port is that of its inside end.
    let far = |at: SocketAddr| match query {
        true => SocketAddr::new(at.ip(), 0),
        false => at,
    };
    match (side, event.send) {
        (Side::Wan, Send::Out(local, remote))
            if flow.src.ip() == place.shown(local) && far(flow.dst) == place.remote(remote) =>
        {
            Fate::Outside {
                port: flow.src.port(),
            }
        }
        (Side::Lan, Send::In(..) | Send::Hairpin(..)) => {
            match (place.is_local(flow.dst), sender(place, far(flow.src))) {
                (Some(to), Some(from)) => Fate::Inside { to, from },
                _ => strange("an address that nobody has"),
            }
        }
        _ => strange("a packet with wrong addresses"),
    }
}

/// The fate of an ICMP error that came out: the packet that it quotes tells to whom it is.
fn error(place: Place, event: &Event, sent: &Packet, came: &Packet) -> Option<Fate> {
    let (was, quoted) = (sent.quoted()?, came.quoted()?);
    let (src, dst) = (came.flow().src.ip(), came.flow().dst.ip());
    let same = came.transport()[..2] == sent.transport()[..2]
        && quoted.proto == was.proto
        && came.ttl() + 1 == sent.ttl();
    // Both ports of a query are its identifier, which may have been translated.
    let at = |at: SocketAddr| match quoted.proto {
        Proto::Icmp => SocketAddr::new(at.ip(), 0),
        _ => at,
    };
    match event.send {
        Send::In(..) if same && at(quoted.dst) == at(was.dst) && src == sent.flow().src.ip() => {
            let to = place
                .is_local(quoted.src)
                .filter(|_| dst == quoted.src.ip())?;
            Some(Fate::Inside {
                to,
                from: From::Remote(Remote {
                    port: 0,
                    ..place.is_remote(SocketAddr::new(src, 0))?
                }),
            })
        }
        Send::Out(local, _)
            if same && at(quoted.src) == at(was.src) && dst == sent.flow().dst.ip() =>
        {
            let shown = place.shown(local);
            (quoted.dst.ip() == shown && src == shown).then(|| Fate::Outside {
                port: quoted.dst.port(),
            })
        }
        _ => None,
    }
}

fn sender(place: Place, at: SocketAddr) -> Option<From> {
    if at.ip() == place.public() && !place.v6 {
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
    pub why: String,
}

/// A pair of external ports, the kernel's and the simulator's, that stand for each other.
struct Pair {
    proto: Proto,
    kernel: u16,
    simulated: u16,
    used: Duration,
}

/// One run of a script: what came of each event, and the flows after it.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// What came of it.
    pub fates: &'a [Fate],
    /// The flows.
    pub tables: &'a [Table],
}

/// Where the two runs of a script differ. `times` says when each packet was sent.
pub fn divergences(
    model: &Model,
    script: &Script,
    times: &[Duration],
    kernel: Seen<'_>,
    simulated: Seen<'_>,
) -> Vec<Divergence> {
    let mut told: BTreeSet<Name> = BTreeSet::new();
    let tables = kernel.tables.iter().zip(simulated.tables);
    let tables: Vec<_> = tables.map(|(a, b)| differences(a, b)).collect();
    let (kernel, simulated) = (kernel.fates, simulated.fates);
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
        let about = match event.body {
            Body::Error { about, .. } => script.events[about].body,
            body => body,
        };
        let fates = (&kernel[i], &simulated[i]);
        if let Err(why) = same.event(event, about.proto(), times[i], fates) {
            let why = why.to_owned();
            found.push(Divergence { event: i, why });
        } else if let Some((_, how)) = (tables[i].iter()).find(|(name, _)| !told.contains(name)) {
            let why = format!("the tables: {how}");
            found.push(Divergence { event: i, why });
        }
        // A flow that has gone astray stays so. It is told once.
        told.extend(tables[i].keys());
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
        if let (Some(port), true) = (endpoint.port(), fate.passed()) {
            for pair in self.pairs.iter_mut().filter(|pair| pair.kernel == port) {
                pair.used = at;
            }
        }
    }

    fn event(
        &mut self,
        event: &Event,
        proto: Proto,
        at: Duration,
        (kernel, simulated): (&Fate, &Fate),
    ) -> Result<(), &'static str> {
        match (kernel, simulated) {
            (Fate::Strange(_), _) | (_, Fate::Strange(_)) => Err("strange"),
            (Fate::Pieces(k, a), Fate::Pieces(s, b)) if a == b => {
                self.event(event, proto, at, (k, s))
            }
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
            // A host that is sent its own packet drops it, so the simulated router may do so.
            (
                Fate::Inside {
                    to,
                    from: From::Local(from),
                },
                Fate::Dropped,
            ) if to.host == from.host => Ok(()),
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
            // Identifiers of ICMP are translated in one way by all.
            _ if proto == Proto::Icmp => {
                if (kernel == local.port) != (simulated == local.port) {
                    return Err("one keeps the identifier, the other does not");
                }
            }
            Ports::Preserve => {
                let low = |port: u16| match port {
                    ..=511 => 0,
                    512..1024 => 1,
                    _ => 2,
                };
                let stays = self.model.config.nat.as_ref();
                if stays.is_some_and(|nat| nat.low_ports_stay) && low(kernel) != low(simulated) {
                    return Err("another range of ports");
                }
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
            self.pairs
                .retain(|pair| pair.used + self.model.longest > at);
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
