//! The messages between ends and the rendezvous.

use std::net::{IpAddr, SocketAddr};

/// The first bytes of every message.
const MAGIC: [u8; 3] = *b"Dpn";
/// The most endpoints in one message: the observed one and the advertised one.
pub(super) const MAX_ENDPOINTS: usize = 2;

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// To the rendezvous: registers `name`, which may also be reachable at `advertised`.
    Register {
        name: u8,
        advertised: Option<SocketAddr>,
    },
    /// From the rendezvous: the endpoints of the other end.
    Tell { endpoints: Vec<SocketAddr> },
    /// Between ends; `heard` means that a probe has come from the receiver.
    Probe { heard: bool },
}

impl Message {
    pub(super) fn emit(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        match self {
            Self::Register { name, advertised } => {
                out.extend_from_slice(&[1, *name]);
                out.extend(advertised.iter().flat_map(endpoint));
            }
            Self::Tell { endpoints } => {
                out.push(2);
                out.extend(endpoints.iter().flat_map(endpoint));
            }
            Self::Probe { heard } => out.extend_from_slice(&[3, u8::from(*heard)]),
        }
        out
    }

    /// Returns `None` when the bytes are not a message.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (kind, body) = bytes.strip_prefix(&MAGIC)?.split_first()?;
        match (kind, body) {
            (1, [name, rest @ ..]) => Some(Self::Register {
                name: *name,
                advertised: endpoints(rest)?.first().copied(),
            }),
            (2, rest) => Some(Self::Tell {
                endpoints: endpoints(rest)?,
            }),
            (3, [heard]) => Some(Self::Probe { heard: *heard != 0 }),
            _ => None,
        }
    }
}

fn endpoint(at: &SocketAddr) -> Vec<u8> {
    let mut out = match at.ip() {
        IpAddr::V4(ip) => [&[4][..], &ip.octets()].concat(),
        IpAddr::V6(ip) => [&[6][..], &ip.octets()].concat(),
    };
    out.extend_from_slice(&at.port().to_be_bytes());
    out
}

fn endpoints(mut bytes: &[u8]) -> Option<Vec<SocketAddr>> {
    let mut all = Vec::new();
    while let Some((family, rest)) = bytes.split_first() {
        let (ip, rest): (IpAddr, _) = match family {
            4 => {
                let (ip, rest) = rest.split_first_chunk::<4>()?;
                ((*ip).into(), rest)
            }
            6 => {
                let (ip, rest) = rest.split_first_chunk::<16>()?;
                ((*ip).into(), rest)
            }
            _ => return None,
        };
        let (port, rest) = rest.split_first_chunk::<2>()?;
        if all.len() == MAX_ENDPOINTS {
            return None;
        }
        all.push(SocketAddr::new(ip, u16::from_be_bytes(*port)));
        bytes = rest;
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    quickcheck! {
        fn no_bytes_panic(body: Vec<u8>) -> bool {
            if let Some(message) = Message::parse(&[&MAGIC[..], &body].concat()) {
                return Message::parse(&message.emit()) == Some(message);
            }
            true
        }
    }

    #[test]
    fn messages_come_back() {
        let (v4, v6) = ("192.0.2.1:6881", "[2001:db8::1]:6881");
        let (v4, v6) = (v4.parse().unwrap(), v6.parse().unwrap());
        for message in [
            Message::Register {
                name: 7,
                advertised: Some(v6),
            },
            Message::Register {
                name: 7,
                advertised: None,
            },
            Message::Tell {
                endpoints: vec![v4, v6],
            },
            Message::Probe { heard: true },
        ] {
            assert_eq!(Message::parse(&message.emit()), Some(message));
        }
    }
}
