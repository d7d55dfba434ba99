//! The numbers by which a world knows its devices and packets.

use std::fmt;

/// A device of the world: the core, a router or a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(pub(crate) u32);

impl DeviceId {
    /// The core, the root of the tree.
    pub const CORE: Self = Self(0);

    /// The device's number: devices are counted in the order in which they are added, and the core is 0.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    pub(crate) const fn at(index: usize) -> Self {
        Self(index as u32)
    }
}

/// A packet: the device that made it, and which of that device's packets it is. A duplicate keeps the
/// number of the original.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketId {
    /// The device that made the packet.
    pub origin: DeviceId,
    /// The packet's number among those of its origin, counted from 1.
    pub number: u32,
}

impl fmt::Display for PacketId {
    /// Writes `7#12` for the twelfth packet of device 7.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.origin.index(), self.number)
    }
}
