//! Transport protocols, and what their headers have in common.

use super::{TCP_HEADER, UDP_HEADER};

/// The transport protocols that the simulator carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Proto {
    /// RFC 768.
    Udp,
    /// RFC 9293.
    Tcp,
    /// RFC 792 and RFC 4443: errors, and queries such as echo.
    Icmp,
    /// RFC 9260. It has ports.
    Sctp,
    /// RFC 3828. It has ports.
    UdpLite,
    /// RFC 2784.
    Gre,
    /// RFC 4303: what IPsec encrypts.
    Esp,
}

impl Proto {
    /// The number of protocols.
    pub(crate) const COUNT: usize = 7;

    pub(super) const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            6 => Self::Tcp,
            17 => Self::Udp,
            1 | 58 => Self::Icmp,
            132 => Self::Sctp,
            136 => Self::UdpLite,
            47 => Self::Gre,
            50 => Self::Esp,
            _ => return None,
        })
    }

    /// The number in an IP header.
    pub(super) const fn number(self, v4: bool) -> u8 {
        match self {
            Self::Udp => 17,
            Self::Tcp => 6,
            Self::Icmp if v4 => 1,
            Self::Icmp => 58,
            Self::Sctp => 132,
            Self::UdpLite => 136,
            Self::Gre => 47,
            Self::Esp => 50,
        }
    }

    /// The shortest transport header in bytes.
    pub(super) const fn header(self) -> usize {
        match self {
            Self::Udp | Self::Icmp | Self::UdpLite | Self::Esp => UDP_HEADER,
            Self::Tcp => TCP_HEADER,
            Self::Sctp => 12,
            Self::Gre => 4,
        }
    }

    /// The offset of the checksum in the transport header, if it has one that is the ones'
    /// complement sum of the packet.
    pub(super) const fn checksum_at(self) -> Option<usize> {
        match self {
            Self::Udp | Self::UdpLite => Some(6),
            Self::Tcp => Some(16),
            Self::Icmp => Some(2),
            Self::Sctp | Self::Gre | Self::Esp => None,
        }
    }

    /// Returns `true` for what is not UDP, TCP or ICMP.
    #[must_use]
    pub const fn is_other(self) -> bool {
        matches!(self, Self::Sctp | Self::UdpLite | Self::Gre | Self::Esp)
    }
}
