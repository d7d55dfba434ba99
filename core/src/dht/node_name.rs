//! Parses the address of a node that a user entered.

use core::fmt;
use core::net::{IpAddr, Ipv6Addr};

use crate::metainfo::HostPort;

/// The port of the DHT, and of a node, unless another one is given ("Using DHT").
pub const DEFAULT_PORT: u16 = 6881;

/// Why a text is not the address of a node; the words are rTorrent's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeNameError {
    /// The text is not `host` or `host:port`.
    Host,
    /// The port is not between 1 and 65535.
    Port,
}

impl fmt::Display for NodeNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "Could not parse host.",
            Self::Port => "Invalid port number.",
        })
    }
}

impl core::error::Error for NodeNameError {}

/// Reads `host`, `host:port` or `[v6]:port`, also `v6` alone and in brackets; without a port it is
/// [`DEFAULT_PORT`]. White space around it does not count.
///
/// # Errors
/// Which part is wrong; it is the port only if the port is a number.
pub fn parse_node(text: &str) -> Result<HostPort, NodeNameError> {
    let (host, port) = split(text.trim()).ok_or(NodeNameError::Host)?;
    let port = match port.map(str::parse::<i64>) {
        None => DEFAULT_PORT,
        Some(Ok(number)) => u16::try_from(number).map_err(|_| NodeNameError::Port)?,
        Some(Err(_)) => return Err(NodeNameError::Host),
    };
    if port == 0 {
        return Err(NodeNameError::Port);
    }
    HostPort::new(host, port).ok_or(NodeNameError::Host)
}

/// Host and port, as written.
fn split(text: &str) -> Option<(&str, Option<&str>)> {
    let (host, rest) = match text.strip_prefix('[') {
        Some(inner) => {
            let (host, rest) = inner.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            (host, rest)
        }
        // An IPv6 address without brackets has no port.
        None if text.parse::<IpAddr>().is_ok() => (text, ""),
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    match rest.strip_prefix(':') {
        Some(port) => Some((host, Some(port))),
        None => rest.is_empty().then_some((host, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s13_nodes_are_named_with_or_without_a_port() {
        for (text, host, port) in [
            ("router.example", "router.example", 6881),
            (" router.example:1 ", "router.example", 1),
            ("192.0.2.1:65535", "192.0.2.1", 65_535),
            ("[2001:db8::1]:7", "2001:db8::1", 7),
            ("[2001:db8::1]", "2001:db8::1", 6881),
            ("2001:db8::1", "2001:db8::1", 6881),
        ] {
            assert_eq!(parse_node(text), Ok(HostPort::new(host, port).unwrap()));
        }
        for text in ["host:0", "host:65536", "[::1]:-1"] {
            assert_eq!(parse_node(text), Err(NodeNameError::Port), "{text}");
        }
        for text in [
            "",
            ":6881",
            "a b:1",
            "host:",
            "host:x",
            "[host]:1",
            "[::1:1",
            "[::1]7",
            "a:b:1",
            "[1.2.3.4]:5",
        ] {
            assert_eq!(parse_node(text), Err(NodeNameError::Host), "{text}");
        }
    }
}
