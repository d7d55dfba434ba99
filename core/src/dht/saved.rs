//! The state of a node that is kept between sessions.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::Contact;
use crate::NodeId;
use crate::metainfo::HostPort;

/// Nodes that [`Saved::merged`] keeps at most; the youngest stay. Our choice: more than a full table has, less than
/// [`cache::MAX_NODES`](super::cache::MAX_NODES), which is what is read.
const MAX_MERGED: usize = 1024;

/// The state of a node that is kept between sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// Our id in the IPv4 DHT.
    pub id: Option<NodeId>,
    /// Our id in the IPv6 DHT.
    pub id6: Option<NodeId>,
    /// Nodes, each with the seconds since it was last heard of.
    pub nodes: Vec<(Contact, u32)>,
    /// Nodes to begin with that were not reached yet, by name or address.
    pub contacts: Vec<HostPort>,
}

impl Saved {
    /// The same nodes without our ids, for a node beside the one that these ids belong to: no two nodes of a network may
    /// have one id.
    #[must_use]
    pub fn without_ids(self) -> Self {
        Self {
            id: None,
            id6: None,
            ..self
        }
    }

    /// Adds the nodes of `self` to what `other` has saved, whose ids and contacts stay.
    #[must_use]
    pub fn merged(self, other: Self) -> Self {
        let mut nodes = self.nodes;
        let known: BTreeSet<NodeId> = nodes.iter().map(|(contact, _)| contact.id).collect();
        let others = other.nodes.into_iter();
        nodes.extend(others.filter(|(contact, _)| !known.contains(&contact.id)));
        nodes.sort_by_key(|(_, age)| *age);
        nodes.truncate(MAX_MERGED);
        Self { nodes, ..other }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_keeps_the_ids_of_the_other_and_the_youngest_nodes_once_each() {
        let node = |n: u16, age| {
            let mut id = NodeId([0; 20]);
            id.0[..2].copy_from_slice(&n.to_be_bytes());
            let addr = ([192, 0, 2, 1], n).into();
            (Contact { id, addr }, age)
        };
        let mut cached = Saved {
            id: Some(NodeId([9; 20])),
            nodes: (0..8).map(|n| node(n, 100)).collect(),
            ..Saved::default()
        };
        for round in 0..30u16 {
            let own = Saved {
                id: Some(NodeId([1; 20])),
                nodes: (0..100)
                    .map(|n| node(round * 50 + n, u32::from(round)))
                    .collect(),
                ..Saved::default()
            };
            cached = own.merged(cached);
        }
        assert_eq!(cached.id, Some(NodeId([9; 20])));
        assert_eq!(cached.nodes.len(), MAX_MERGED);
        let ids: BTreeSet<_> = cached.nodes.iter().map(|(c, _)| c.id).collect();
        assert_eq!(ids.len(), MAX_MERGED, "none twice");
        assert!(cached.nodes.iter().all(|(_, age)| *age < 100));
        assert_eq!(cached.without_ids().id, None);
    }
}
