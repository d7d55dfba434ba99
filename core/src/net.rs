//! Address families, and the ports bound for each.

use core::net::{IpAddr, SocketAddr};

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    #[must_use]
    pub const fn of(addr: &SocketAddr) -> Self {
        match addr {
            SocketAddr::V4(_) => Self::V4,
            SocketAddr::V6(_) => Self::V6,
        }
    }
}

/// A port for each family; `None` for a family without a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// The port of the IPv4 socket.
    pub v4: Option<u16>,
    /// The port of the IPv6 socket.
    pub v6: Option<u16>,
}

impl Ports {
    /// The same port for both families.
    #[must_use]
    pub const fn both(port: u16) -> Self {
        Self {
            v4: Some(port),
            v6: Some(port),
        }
    }

    /// The ports of bound sockets: the first of each family.
    pub fn bound<'a>(addresses: impl IntoIterator<Item = &'a SocketAddr>) -> Self {
        let mut ports = Self::default();
        for address in addresses {
            ports.set(*address);
        }
        ports
    }

    /// Records the port of a bound socket, unless its family has one already.
    pub fn set(&mut self, bound: SocketAddr) {
        let port = match bound {
            SocketAddr::V4(_) => &mut self.v4,
            SocketAddr::V6(_) => &mut self.v6,
        };
        port.get_or_insert(bound.port());
    }

    /// The port of a family.
    #[must_use]
    pub const fn of(&self, family: Family) -> Option<u16> {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }

    /// The port of the family of `ip`.
    #[must_use]
    pub const fn towards(&self, ip: IpAddr) -> Option<u16> {
        match ip {
            IpAddr::V4(_) => self.v4,
            IpAddr::V6(_) => self.v6,
        }
    }

    /// One of the ports, that of IPv4 if there are two.
    #[must_use]
    pub const fn any(&self) -> Option<u16> {
        match self.v4 {
            None => self.v6,
            v4 => v4,
        }
    }
}
