//! What is sent, when, by whom: a list of events, and its form as text, one event a line.
//!
//! ```text
//! model linux-preserve
//! 0    out h1:40000 > r1:3478 udp
//! 0    in  r1:3478 > seen 0 udp
//! 1000 in  r2:3479 > wan 40000 tcp 02 1 0 0
//! 1000 out h2:40000 > seen 0 udp
//! ```
//! The first word is the time in milliseconds; `seen 0` is the external endpoint that event 0
//! came out with; `tcp` has flags in hexadecimal, sequence and acknowledgement number, and bytes
//! of data. After the time, `ttl 1` may say how far the packet gets. Lines that begin with `#` say
//! how it went.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use dunlin_sim::Packet;

use super::body::Body;

/// An endpoint inside: `h1:40000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Local {
    /// Which host, from 1.
    pub host: u8,
    /// Its port.
    pub port: u16,
}

/// An endpoint outside: `r1:3478`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remote {
    /// Which address, from 1.
    pub host: u8,
    /// Its port.
    pub port: u16,
}

/// An endpoint of the router's public address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wan {
    /// What the event of this number came out with.
    Seen(usize),
    /// This port.
    Port(u16),
}

/// One packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Send {
    /// From inside to outside.
    Out(Local, Remote),
    /// From outside to the public address.
    In(Remote, Wan),
    /// From inside to the public address.
    Hairpin(Local, Wan),
}

/// One packet, and when it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Milliseconds since the script began.
    pub at: u32,
    /// How many routers it gets past, and one.
    pub ttl: u8,
    /// The sender and the receiver.
    pub send: Send,
    /// What.
    pub body: Body,
}

/// A list of events in order of time, for one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// Name of the model it was made for.
    pub model: String,
    /// What it was made from; 0 if by hand.
    pub seed: u64,
    /// The events.
    pub events: Vec<Event>,
}

/// The time to live of a packet that gets past the router.
pub const FAR: u8 = 64;

/// Where a script lives: which of the scripts of one router it is, and by which protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which.
    pub number: u16,
    /// IPv6, without translation. Then the external endpoint of an inside one is itself.
    pub v6: bool,
}

/// Most scripts of one router.
pub const MAX_PLACES: u16 = 1 << 15;
/// Last byte of a remote address, less its number.
const REMOTES_FROM: u8 = 100;
/// Last byte of an inside address, less its number.
const LOCALS_FROM: u8 = 10;

impl Place {
    /// The public address.
    pub fn public(self) -> Ipv4Addr {
        let [high, low] = self.number.to_be_bytes();
        Ipv4Addr::new(20, high, low, 1)
    }

    /// The router's address on the inner side.
    pub fn gateway(self) -> Ipv4Addr {
        let [high, low] = self.number.to_be_bytes();
        Ipv4Addr::new(10, high, low, 1)
    }

    /// The address with this last byte, inside (10 or `fd10`) or outside (20 or `fd20`).
    fn address(self, net: u8, last: u8) -> IpAddr {
        if self.v6 {
            let net = 0xfd00 | u16::from(net / 10 * 16);
            return Ipv6Addr::new(net, self.number, 0, 0, 0, 0, 0, last.into()).into();
        }
        let [high, low] = self.number.to_be_bytes();
        Ipv4Addr::new(net, high, low, last).into()
    }

    /// An inside endpoint's address.
    pub fn local(self, local: Local) -> SocketAddr {
        SocketAddr::new(self.address(10, LOCALS_FROM + local.host), local.port)
    }

    /// A remote endpoint's address.
    pub fn remote(self, remote: Remote) -> SocketAddr {
        SocketAddr::new(self.address(20, REMOTES_FROM + remote.host), remote.port)
    }

    /// The address that an inside endpoint shows outside.
    pub fn shown(self, local: Local) -> IpAddr {
        if self.v6 {
            self.local(local).ip()
        } else {
            self.public().into()
        }
    }

    fn last(at: IpAddr) -> u8 {
        match at {
            IpAddr::V4(v4) => v4.octets()[3],
            IpAddr::V6(v6) => v6.octets()[15],
        }
    }

    /// The inside endpoint that has this address.
    pub fn is_local(self, at: SocketAddr) -> Option<Local> {
        let local = Local {
            host: Self::last(at.ip()).checked_sub(LOCALS_FROM)?,
            port: at.port(),
        };
        (self.local(local) == at).then_some(local)
    }

    /// The remote endpoint that has this address.
    pub fn is_remote(self, at: SocketAddr) -> Option<Remote> {
        let remote = Remote {
            host: Self::last(at.ip()).checked_sub(REMOTES_FROM)?,
            port: at.port(),
        };
        (self.remote(remote) == at).then_some(remote)
    }

    /// Whose address this is.
    pub fn of(at: IpAddr) -> Option<Self> {
        let (net, number, v6) = match at {
            IpAddr::V4(v4) => {
                let [net, high, low, _] = v4.octets();
                (net.into(), u16::from_be_bytes([high, low]), false)
            }
            IpAddr::V6(v6) => (v6.segments()[0], v6.segments()[1], true),
        };
        let known = matches!(net, 10 | 20 | 0xfd10 | 0xfd20) && number < MAX_PLACES;
        known.then_some(Self { number, v6 })
    }
}

impl Event {
    /// The endpoint of the public address that it is for.
    pub fn wan(&self) -> Option<Wan> {
        match self.send {
            Send::Out(..) => None,
            Send::In(_, wan) | Send::Hairpin(_, wan) => Some(wan),
        }
    }
}

impl Script {
    /// The sender and the receiver of an event's packet. `seen` is the external port that an
    /// earlier event came out with; without one, there is nobody to send to.
    pub fn ends(
        &self,
        place: Place,
        number: usize,
        seen: impl Fn(usize) -> Option<u16>,
    ) -> Option<(SocketAddr, SocketAddr)> {
        let public = |wan| {
            Some(match wan {
                Wan::Port(port) if place.v6 => place.local(Local { host: 1, port }),
                Wan::Port(port) => SocketAddr::from((place.public(), port)),
                Wan::Seen(k) => {
                    let port = seen(k)?;
                    match self.events[k].send {
                        Send::Out(local, _) => SocketAddr::new(place.shown(local), port),
                        Send::In(..) | Send::Hairpin(..) => return None,
                    }
                }
            })
        };
        Some(match self.events[number].send {
            Send::Out(local, remote) => (place.local(local), place.remote(remote)),
            Send::In(remote, wan) => (place.remote(remote), public(wan)?),
            Send::Hairpin(local, wan) => (place.local(local), public(wan)?),
        })
    }

    /// The packet of an event between these ends. An error is about `quote`; without that there is
    /// none.
    pub fn packet(
        &self,
        number: usize,
        (src, dst): (SocketAddr, SocketAddr),
        quote: Option<&Packet>,
    ) -> Option<Packet> {
        let event = &self.events[number];
        let mut packet = event.body.packet(src, dst, number, quote)?;
        if event.ttl != FAR {
            let mut bytes = packet.into_bytes();
            bytes[if src.is_ipv4() { 8 } else { 7 }] = event.ttl;
            packet = Packet::parse(bytes).ok()?;
            packet.fill_checksums();
        }
        Some(packet)
    }

    /// The packet that an event's ICMP error is about, of those that came out.
    pub fn quote<'a>(&self, number: usize, outs: &'a [Option<Packet>]) -> Option<&'a Packet> {
        match self.events[number].body {
            Body::Error { about, .. } => outs[about].as_ref(),
            _ => None,
        }
    }

    /// The script without these events and without those that are for what they show.
    pub fn without(&self, gone: &[usize]) -> Self {
        // Where each event that stays has moved to.
        let mut moved: Vec<Option<usize>> = Vec::new();
        let mut events = Vec::new();
        for (i, event) in self.events.iter().enumerate() {
            let mut event = *event;
            let mut stays = !gone.contains(&i);
            if let Send::In(_, Wan::Seen(k)) | Send::Hairpin(_, Wan::Seen(k)) = &mut event.send {
                match moved[*k] {
                    Some(new) => *k = new,
                    None => stays = false,
                }
            }
            if let Body::Error { about, .. } = &mut event.body {
                match moved[*about] {
                    Some(new) => *about = new,
                    None => stays = false,
                }
            }
            moved.push(stays.then_some(events.len()));
            if stays {
                events.push(event);
            }
        }
        Self {
            events,
            ..self.clone()
        }
    }
}

impl fmt::Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "h{}:{}", self.host, self.port)
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}:{}", self.host, self.port)
    }
}

impl fmt::Display for Wan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seen(k) => write!(f, "seen {k}"),
            Self::Port(port) => write!(f, "wan {port}"),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.at)?;
        if self.ttl != FAR {
            write!(f, "ttl {} ", self.ttl)?;
        }
        match self.send {
            Send::Out(local, remote) => write!(f, "out {local} > {remote}")?,
            Send::In(remote, wan) => write!(f, "in {remote} > {wan}")?,
            Send::Hairpin(local, wan) => write!(f, "out {local} > {wan}")?,
        }
        write!(f, " {}", self.body)
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "model {}\nseed {}", self.model, self.seed)?;
        self.events.iter().try_for_each(|e| writeln!(f, "{e}"))
    }
}

/// A line that says no event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadScript(String);

impl fmt::Display for BadScript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not an event: {}", self.0)
    }
}

impl FromStr for Event {
    type Err = BadScript;

    fn from_str(line: &str) -> Result<Self, BadScript> {
        event(line).ok_or_else(|| BadScript(line.to_owned()))
    }
}

fn event(line: &str) -> Option<Event> {
    let mut words = line.split_whitespace();
    let at = words.next()?.parse().ok()?;
    let (mut side, mut ttl) = (words.next()?, FAR);
    if side == "ttl" {
        ttl = words.next()?.parse().ok()?;
        side = words.next()?;
    }
    let (host, port) = words.next()?.split_once(':')?;
    let port = port.parse().ok()?;
    let local = |host: &str, port| {
        let host = host.strip_prefix('h')?.parse().ok()?;
        Some(Local { host, port })
    };
    let remote = |host: &str, port| {
        let host = host.strip_prefix('r')?.parse().ok()?;
        Some(Remote { host, port })
    };
    (words.next()? == ">").then_some(())?;
    let to = words.next()?;
    let wan = match to {
        "seen" => Some(Wan::Seen(words.next()?.parse().ok()?)),
        "wan" => Some(Wan::Port(words.next()?.parse().ok()?)),
        _ => None,
    };
    let send = match (side, wan) {
        ("in", Some(wan)) => Send::In(remote(host, port)?, wan),
        ("out", Some(wan)) => Send::Hairpin(local(host, port)?, wan),
        ("out", None) => {
            let (to, to_port) = to.split_once(':')?;
            Send::Out(local(host, port)?, remote(to, to_port.parse().ok()?)?)
        }
        _ => return None,
    };
    let body = Body::parse(words)?;
    Some(Event {
        at,
        ttl,
        send,
        body,
    })
}

impl FromStr for Script {
    type Err = BadScript;

    fn from_str(text: &str) -> Result<Self, BadScript> {
        let (mut model, mut seed, mut events) = (String::new(), 0, Vec::new());
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let bad = || BadScript(line.to_owned());
            if let Some(name) = line.strip_prefix("model ") {
                name.trim().clone_into(&mut model);
            } else if let Some(number) = line.strip_prefix("seed ") {
                seed = number.trim().parse().map_err(|_| bad())?;
            } else {
                let event: Event = line.parse()?;
                let early = events.last().is_some_and(|e: &Event| e.at > event.at);
                let known = |k| k < events.len();
                let ahead = matches!(event.wan(), Some(Wan::Seen(k)) if !known(k))
                    || matches!(event.body, Body::Error { about, .. } if !known(about));
                if early || ahead {
                    return Err(bad());
                }
                events.push(event);
            }
        }
        Ok(Self {
            model,
            seed,
            events,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parity::{generate, model};

    #[test]
    fn text_and_script_are_the_same() {
        for model in model::all() {
            for seed in 1..200 {
                let script = generate::script(&model, seed);
                assert_eq!(script.to_string().parse(), Ok(script));
            }
        }
    }

    #[test]
    fn a_later_event_cannot_be_referred_to() {
        let text = "0 in r1:1 > seen 0 udp";
        assert_eq!(text.parse::<Script>(), Err(BadScript(text.to_owned())));
    }

    #[test]
    fn removal_takes_what_depends_along() {
        let script: Script = "0 out h1:1 > r1:1 udp\n0 out h2:1 > r1:1 udp\n\
             0 in r1:1 > seen 0 udp\n0 in r1:1 > seen 1 udp"
            .parse()
            .unwrap();
        let rest: Script = "0 out h2:1 > r1:1 udp\n0 in r1:1 > seen 0 udp"
            .parse()
            .unwrap();
        assert_eq!(script.without(&[0]), rest);
    }
}
