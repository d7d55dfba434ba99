//! Ids: the 20-byte ones of the protocol, and those of ops, streams and torrents between the engine and its
//! driver.

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
    /// The SHA-1 of a torrent's info dictionary (BEP 3), which identifies the torrent.
    InfoHash
}
id20! {
    /// A point in the DHT's key space: the id of a node, or the target of a search (BEP 5).
    NodeId
}
id20! {
    /// The id of a client in handshakes and announces (BEP 20).
    PeerId
}

/// Identifies an op until its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub u64);

/// Identifies a stream; a stale id is recognised, and never taken for its successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId {
    /// The index of the slot.
    pub index: u32,
    /// The number of times the slot was reused.
    pub generation: u32,
}

/// Identifies a torrent of an engine; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TorrentId(pub u32);

/// The swarm of a torrent: that of its v1 info-hash (BEP 3), that of its v2 info-hash (BEP 52), or both for a hybrid torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SwarmId {
    /// SHA-1 of the info dictionary.
    v1: Option<InfoHash>,
    /// SHA-256 of the info dictionary.
    v2: Option<[u8; 32]>,
}

impl SwarmId {
    /// The swarm of a v1 torrent.
    #[must_use]
    pub(crate) const fn v1(hash: InfoHash) -> Self {
        Self {
            v1: Some(hash),
            v2: None,
        }
    }

    /// The info-hashes in handshakes, announces and the DHT. They have 20 bytes, so the v2 info-hash is truncated (BEP 52).
    pub(crate) fn names(&self) -> impl Iterator<Item = InfoHash> {
        let short = |hash: [u8; 32]| hash.first_chunk().copied().map(InfoHash);
        self.v1.into_iter().chain(self.v2.and_then(short))
    }
}

impl NodeId {
    /// The number of leading bits that two ids share, 0 to 160: the more, the closer they are (BEP 5).
    #[must_use]
    pub fn common_prefix(&self, other: &Self) -> u32 {
        let differ = self.0.iter().zip(&other.0).position(|(a, b)| a != b);
        differ.map_or(160, |i| {
            i as u32 * 8 + (self.0[i] ^ other.0[i]).leading_zeros()
        })
    }

    /// The XOR of two ids: the smaller, the closer they are (BEP 5).
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
    fn a_swarm_has_a_name_of_20_bytes_for_each_version() {
        let v1 = InfoHash([1; 20]);
        let v2 = core::array::from_fn(|at| at as u8);
        let short = InfoHash(core::array::from_fn(|at| at as u8));
        let names = |id: SwarmId| id.names().collect::<alloc::vec::Vec<_>>();
        assert_eq!(names(SwarmId::v1(v1)), [v1]);
        let hybrid = SwarmId {
            v1: Some(v1),
            v2: Some(v2),
        };
        assert_eq!(names(hybrid), [v1, short]);
        assert_eq!(names(SwarmId { v1: None, ..hybrid }), [short]);
    }

    #[test]
    fn prefix_and_distance_agree() {
        let (mut a, b) = (NodeId([0x55; 20]), NodeId([0x55; 20]));
        assert_eq!((a.common_prefix(&b), a.distance(&b)), (160, [0; 20]));
        a.0[2] ^= 0x10;
        assert_eq!((a.common_prefix(&b), a.distance(&b)[2]), (19, 0x10));
    }
}
