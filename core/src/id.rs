//! Names: the 20-byte ones of the protocol, and those by which the engine and its driver mean the same op, stream or torrent.

use core::fmt;

macro_rules! id20 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 20]);

        impl fmt::Display for $name {
            /// Lower-case hex.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

id20! {
    /// SHA-1 of a torrent's info dictionary (BEP 3): what the network calls the torrent.
    InfoHash
}
id20! {
    /// A place in the DHT's key space: a node, or what is looked for (BEP 5).
    NodeId
}
id20! {
    /// What a client calls itself in the handshake and to trackers (BEP 20).
    PeerId
}

/// Names one op until its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub u64);

/// Names one stream; a stale id is recognised, never mistaken for its successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId {
    /// Slot.
    pub index: u32,
    /// How often the slot was reused.
    pub generation: u32,
}

/// Names one torrent of an engine; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TorrentId(pub u32);

impl NodeId {
    /// How many leading bits two ids share: 0 to 160. The more, the closer they are (BEP 5).
    #[must_use]
    pub fn common_prefix(&self, other: &Self) -> u32 {
        let differ = self.0.iter().zip(&other.0).position(|(a, b)| a != b);
        differ.map_or(160, |i| {
            i as u32 * 8 + (self.0[i] ^ other.0[i]).leading_zeros()
        })
    }

    /// The XOR metric: the smaller, the closer (BEP 5).
    #[must_use]
    pub fn distance(&self, other: &Self) -> [u8; 20] {
        core::array::from_fn(|i| self.0[i] ^ other.0[i])
    }
}

impl From<InfoHash> for NodeId {
    fn from(hash: InfoHash) -> Self {
        Self(hash.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_and_distance_agree() {
        let (mut a, b) = (NodeId([0x55; 20]), NodeId([0x55; 20]));
        assert_eq!((a.common_prefix(&b), a.distance(&b)), (160, [0; 20]));
        a.0[2] ^= 0x10;
        assert_eq!((a.common_prefix(&b), a.distance(&b)[2]), (19, 0x10));
    }
}
