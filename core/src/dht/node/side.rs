//! The state of one address family: its table, the nodes it begins with, and its bootstrap.

use alloc::collections::VecDeque;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use super::liveness::Liveness;
use crate::dht::DhtConfig;
use crate::dht::estimate::SizeEstimate;
use crate::dht::table::{Limits, Routes};
use crate::net::Family;
use crate::{Instant, NodeId};

/// Networks (/16 of IPv4, /32 of IPv6) that the nodes of a table are in if they are not one operator's.
const NETWORKS: usize = 8;

/// The shortest pause before the next round of a search for more nodes, when the last brought nothing; it doubles with
/// each such round.
pub(super) const FIRST_ROUND: Duration = Duration::from_millis(500);
/// The pause before a round that follows from what just happened: not the same instant, so that time goes on.
pub(super) const AT_ONCE: Duration = Duration::from_millis(1);

/// The state of one address family.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) routes: Routes,
    pub(super) estimate: SizeEstimate,
    /// Whether nodes of this family answer.
    pub(super) liveness: Liveness,
    /// Nodes to begin with, the newest last.
    pub(super) contacts: VecDeque<SocketAddr>,
    /// Contacts that were asked in this round.
    pub(super) probes: usize,
    /// A search for the table is under way.
    pub(super) searching: bool,
    /// When the next one begins.
    pub(super) round: Option<Instant>,
    /// The pause before it, if the last brought nothing.
    pub(super) pause: Duration,
    pub(super) rounds: u32,
    /// Its nodes are not one operator's, as far as their addresses tell.
    pub(super) diverse: bool,
}

impl Side {
    pub(super) fn new(family: Family, own: NodeId, config: &DhtConfig) -> Self {
        let limits = Limits {
            max_buckets: config.max_buckets,
            max_replacements: config.max_replacements,
            local: config.local,
        };
        Self {
            routes: Routes::new(family, own, limits),
            estimate: SizeEstimate::new(),
            liveness: Liveness::new(),
            contacts: VecDeque::new(),
            probes: 0,
            searching: false,
            round: None,
            pause: Duration::ZERO,
            rounds: 0,
            diverse: config.local,
        }
    }

    /// Decides whether the nodes that answered belong to more than one operator, who could otherwise capture the
    /// bootstrap. It does not matter whether they are new or came from a cache.
    pub(super) fn judge_diversity(&mut self) {
        if self.diverse {
            return;
        }
        let mut seen = heapless::Vec::<[u8; 4], NETWORKS>::new();
        // As of the origin every node that answered and did not fail since is a good one.
        let nodes = self.routes.nodes(Instant::ORIGIN);
        for (node, ..) in nodes.filter(|(.., good)| *good) {
            let net = match node.addr.ip() {
                IpAddr::V4(ip) => [ip.octets()[0], ip.octets()[1], 0, 0],
                IpAddr::V6(ip) => {
                    let [a, b, c, d, ..] = ip.octets();
                    [a, b, c, d]
                }
            };
            if !seen.contains(&net) && seen.push(net).is_err() {
                break;
            }
        }
        self.diverse = seen.is_full();
    }
}
