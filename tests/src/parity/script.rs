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
//! of data. Lines that begin with `#` say how it went.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;

use dunlin_sim::{Packet, TcpFlags};

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

/// A datagram or a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// A datagram.
    Udp,
    /// A segment.
    Tcp {
        /// Flags.
        flags: u8,
        /// Sequence number.
        seq: u32,
        /// Acknowledgement number.
        ack: u32,
        /// Bytes of data.
        len: u8,
    },
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

/// Where a script lives: which of the scripts of one router it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(pub u16);

/// Most scripts of one router.
pub const MAX_PLACES: u16 = 1 << 15;
/// Last byte of a remote address, less its number.
const REMOTES_FROM: u8 = 100;
/// Last byte of an inside address, less its number.
const LOCALS_FROM: u8 = 10;

impl Place {
    /// The public address.
    pub fn public(self) -> Ipv4Addr {
        self.outside(1)
    }

    /// An address of the outside network, by its last byte.
    pub fn outside(self, last: u8) -> Ipv4Addr {
        let [high, low] = self.0.to_be_bytes();
        Ipv4Addr::new(20, high, low, last)
    }

    /// An inside endpoint's address.
    pub fn local(self, local: Local) -> SocketAddr {
        let [high, low] = self.0.to_be_bytes();
        let ip = Ipv4Addr::new(10, high, low, LOCALS_FROM + local.host);
        SocketAddr::from((ip, local.port))
    }

    /// A remote endpoint's address.
    pub fn remote(self, remote: Remote) -> SocketAddr {
        SocketAddr::from((self.outside(REMOTES_FROM + remote.host), remote.port))
    }

    /// The inside endpoint that has this address.
    pub fn is_local(self, at: SocketAddr) -> Option<Local> {
        let SocketAddr::V4(v4) = at else { return None };
        let local = Local {
            host: v4.ip().octets()[3].checked_sub(LOCALS_FROM)?,
            port: at.port(),
        };
        (self.local(local) == at).then_some(local)
    }

    /// The remote endpoint that has this address.
    pub fn is_remote(self, at: SocketAddr) -> Option<Remote> {
        let SocketAddr::V4(v4) = at else { return None };
        let remote = Remote {
            host: v4.ip().octets()[3].checked_sub(REMOTES_FROM)?,
            port: at.port(),
        };
        (self.remote(remote) == at).then_some(remote)
    }

    /// Whose address this is.
    pub fn of(at: Ipv4Addr) -> Option<Self> {
        let [net, high, low, _] = at.octets();
        let place = Self(u16::from_be_bytes([high, low]));
        (matches!(net, 10 | 20) && place.0 < MAX_PLACES).then_some(place)
    }
}

impl Event {
    /// The packet that is sent; `wan` is the port of the public address that it is for, if it is
    /// for that. The payload names the event.
    pub fn packet(&self, place: Place, number: usize, wan: u16) -> Packet {
        let public = SocketAddr::from((place.public(), wan));
        let (src, dst) = match self.send {
            Send::Out(local, remote) => (place.local(local), place.remote(remote)),
            Send::In(remote, _) => (place.remote(remote), public),
            Send::Hairpin(local, _) => (place.local(local), public),
        };
        match self.body {
            Body::Udp => Packet::udp(src, dst, &(number as u32).to_be_bytes()),
            Body::Tcp {
                flags,
                seq,
                ack,
                len,
            } => Packet::tcp(
                src,
                dst,
                TcpFlags(flags),
                seq,
                ack,
                &vec![number as u8; len.into()],
            ),
        }
    }

    /// The endpoint of the public address that it is for.
    pub fn wan(&self) -> Option<Wan> {
        match self.send {
            Send::Out(..) => None,
            Send::In(_, wan) | Send::Hairpin(_, wan) => Some(wan),
        }
    }
}

impl Script {
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
        match self.send {
            Send::Out(local, remote) => write!(f, "out {local} > {remote}")?,
            Send::In(remote, wan) => write!(f, "in {remote} > {wan}")?,
            Send::Hairpin(local, wan) => write!(f, "out {local} > {wan}")?,
        }
        match self.body {
            Body::Udp => write!(f, " udp"),
            Body::Tcp {
                flags,
                seq,
                ack,
                len,
            } => write!(f, " tcp {flags:02x} {seq} {ack} {len}"),
        }
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
    let side = words.next()?;
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
    let body = match words.next()? {
        "udp" => Body::Udp,
        "tcp" => Body::Tcp {
            flags: u8::from_str_radix(words.next()?, 16).ok()?,
            seq: words.next()?.parse().ok()?,
            ack: words.next()?.parse().ok()?,
            len: words.next()?.parse().ok()?,
        },
        _ => return None,
    };
    words.next().is_none().then_some(Event { at, send, body })
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
                let ahead = matches!(event.wan(), Some(Wan::Seen(k)) if k >= events.len());
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
