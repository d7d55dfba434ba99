//! The limits and behaviour of a node.

use core::time::Duration;

use crate::NodeId;

/// Whether the node answers queries (BEP 43).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadOnly {
    /// Answer queries.
    #[default]
    Never,
    /// Do not answer, and say so in our own queries (`ro`): for devices on battery and behind shared NATs.
    Always,
}

/// The limits and behaviour of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DhtConfig {
    /// Take part in the IPv4 DHT.
    pub ipv4: bool,
    /// Take part in the IPv6 DHT.
    pub ipv6: bool,
    /// The id of the IPv4 node; `None` draws one, and follows BEP 42 once our address is known.
    pub id: Option<NodeId>,
    /// Whether to answer queries.
    pub read_only: ReadOnly,
    /// A private network: nodes may have loopback and private addresses, several may
    /// share one address, and ids need not follow BEP 42.
    pub local: bool,

    /// Most buckets of a table.
    pub max_buckets: u8,
    /// Most replacement candidates of a table.
    pub max_replacements: u16,
    /// Most queries that await a reply.
    pub max_queries: u16,
    /// Most searches at once.
    pub max_lookups: u16,
    /// Most replies that wait to be sent.
    pub max_replies: u16,
    /// Most info-hashes for which peers are kept.
    pub max_hashes: u32,
    /// Most peers kept in all.
    pub max_peers: u32,
    /// Most peers kept for one info-hash.
    pub max_peers_per_hash: u32,
    /// Most items kept (BEP 44).
    pub max_items: u32,
    /// Most sources whose rate is watched.
    pub max_sources: u16,
    /// Queries a second that are answered to one network (a /24, or a /64), sustained. `None`: no
    /// limit; nor is there one if `local`.
    pub source_rate: Option<u32>,
    /// Such queries at once.
    pub source_burst: u32,
    /// The most events that wait for the owner to fetch them.
    pub max_events: u16,

    /// New remote endpoints a second, sustained: each costs the NAT an entry. `None`: no limit.
    ///
    /// 12 by default: a NAT's entry lives 30 s, and 180 s if it is used again, as by an announce
    /// after a search. Sustained, that is at most 800 entries with 200 peers' (measured); 15 fill
    /// a small router's table of 1024 to the brim, 25 overflow it.
    pub new_remote_budget: Option<u32>,
    /// New remote endpoints at once.
    pub new_remote_burst: u32,
    /// How long the NAT is taken to remember a remote endpoint.
    pub remote_memory: Duration,
    /// Remote endpoints that are remembered as not new.
    pub max_remotes: u16,
}

impl Default for DhtConfig {
    fn default() -> Self {
        Self {
            ipv4: true,
            ipv6: false,
            id: None,
            read_only: ReadOnly::default(),
            local: false,
            max_buckets: 50,
            max_replacements: 128,
            max_queries: 256,
            max_lookups: 32,
            max_replies: 256,
            max_hashes: 2_000,
            max_peers: 100_000,
            max_peers_per_hash: 128,
            max_items: 700,
            max_sources: 1_024,
            source_rate: Some(50),
            source_burst: 200,
            max_events: 256,
            new_remote_budget: Some(12),
            new_remote_burst: 100,
            remote_memory: Duration::from_secs(30),
            max_remotes: 2_048,
        }
    }
}

impl DhtConfig {
    /// Limits for a node in 32 KiB of memory.
    #[must_use]
    pub fn tiny() -> Self {
        Self {
            max_buckets: 16,
            max_replacements: 8,
            max_queries: 64,
            max_lookups: 1,
            max_replies: 8,
            max_hashes: 32,
            max_peers: 128,
            max_peers_per_hash: 32,
            max_items: 2,
            max_sources: 32,
            max_events: 8,
            max_remotes: 64,
            ..Self::default()
        }
    }
}
