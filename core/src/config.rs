//! What an engine may use and how it should behave. Law 8: memory is bounded by this.

use alloc::{string::String, vec::Vec};
use core::net::SocketAddr;
use core::time::Duration;

use crate::PeerId;
use crate::dht::{DhtConfig, DhtMode, Saved};
use crate::metainfo::HostPort;
use crate::wire::peer::MAX_EXTENDED_LEN;

/// What the platform offers; an op that it lacks is never emitted, or answers
/// `Unsupported`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Caps {
    /// Streams can be opened.
    pub tcp_connect: bool,
    /// Names can be resolved.
    pub resolve: bool,
    /// `http://` can be fetched.
    pub http: bool,
    /// `https://` can be fetched.
    pub https: bool,
    /// IPv4 works.
    pub ipv4: bool,
    /// IPv6 works.
    pub ipv6: bool,
    /// Streams and requests go through a proxy, which decides over which family they go on: a
    /// tracker is asked once, not over each family.
    pub proxied: bool,
    /// What is to be saved is kept until the next start. Without it there is no DHT.
    pub session: bool,
}

impl Caps {
    /// Everything that a desktop operating system has.
    #[must_use]
    pub const fn all() -> Self {
        Self {
            tcp_connect: true,
            resolve: true,
            http: true,
            https: true,
            ipv4: true,
            ipv6: true,
            proxied: false,
            session: true,
        }
    }
}

impl Default for Caps {
    fn default() -> Self {
        Self::all()
    }
}

/// Whether peer connections are encrypted (MSE).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EncryptionPolicy {
    /// Plaintext only.
    Off,
    /// Both are accepted; outgoing connections try an encrypted handshake where plaintext failed.
    Allowed,
    /// Both are accepted; outgoing connections try an encrypted handshake first. After it the stream is plaintext
    /// where both sides allow it, and RC4 where one side requires it.
    #[default]
    Preferred,
    /// RC4 only: plaintext is refused both ways.
    Required,
}

/// Limits and habits of an engine. Construct with [`Config::default`] or [`Config::tiny`] and
/// change fields; numbers out of range are clamped where they are used, never a panic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Addresses to bind, datagrams and streams alike; port 0 lets the platform choose. At
    /// most one per family.
    pub listen: heapless::Vec<SocketAddr, 2>,
    /// What we call ourselves; `None` draws one per engine (BEP 20 style, `-DN0100-`).
    pub peer_id: Option<PeerId>,
    /// Name and version that peers (BEP 10 `v`) and HTTP trackers are told.
    pub user_agent: String,
    /// Encryption of peer connections.
    pub encryption: EncryptionPolicy,
    /// Exchange peers with peers (BEP 11), never for private torrents.
    pub pex: bool,

    /// Whether and when the DHT node runs. Private torrents never use it.
    pub dht: DhtMode,
    /// UDP port of the DHT node. `None`: that of the main sockets. Another one than theirs gets
    /// sockets of its own while the node runs; with 0 it is never started.
    pub dht_port: Option<u16>,
    /// Limits and habits of the DHT node.
    pub dht_config: DhtConfig,
    /// Nodes to begin with while few others are known.
    pub dht_routers: Vec<HostPort>,
    /// What [`Op::SaveDht`](crate::Op::SaveDht) kept. It stands for a session folder, too: with
    /// `None`, and without [`Caps::session`], there is no DHT.
    pub dht_saved: Option<Saved>,
    /// Bytes per second that the DHT node sends at most; `None`: no limit but the global one.
    pub dht_limit_up: Option<u64>,
    /// What that limit is called, for people.
    pub dht_throttle: String,
    /// A torrent with fewer peers than this asks the DHT as well, if no peer tells it of others.
    pub min_peers: u32,

    /// Most torrents.
    pub max_torrents: u32,
    /// Most connections in all, half-open ones included.
    pub max_connections: u32,
    /// Most connections of one torrent.
    pub max_connections_per_torrent: u32,
    /// Most outgoing connections that are not established yet.
    pub max_half_open: u32,
    /// Most addresses remembered for one torrent.
    pub max_known_peers: u32,
    /// Most connections of one torrent with one IPv4 address or IPv6 /64, and most of its
    /// incoming connections whose handshake has not come yet. Several peers may share a NAT, but
    /// one address must not take every place. The ports of one address that are remembered
    /// depend on it, too: four times as many from trackers, half as many from peer exchange.
    /// Peers that the application names are always connected to.
    pub max_connections_per_ip: u32,
    /// Most connections of all torrents with one IPv4 address or IPv6 /64; at least
    /// [`Config::max_connections_per_ip`].
    pub max_connections_per_ip_in_all: u32,
    /// Most incoming connections whose handshake has not come yet; one more ends the oldest.
    pub max_handshaking: u32,

    /// Blocks of 16 KiB that may be on loan at once: between socket, disk and socket.
    pub max_blocks: u32,
    /// Ops that may be in flight at once, HTTP requests and name look-ups apart.
    pub max_jobs: u32,
    /// HTTP requests that may be in flight at once. One server gets a quarter of them.
    pub max_requests: u32,
    /// Name look-ups that may be in flight at once.
    pub max_lookups: u32,
    /// Notices kept for an application that does not fetch them.
    pub max_notices: u32,
    /// Blocks of one piece that are written with one op.
    pub write_run: u32,
    /// Requests a peer may have outstanding with us (BEP 10 `reqq`).
    pub reqq: u32,
    /// Most requests outstanding with one peer.
    pub max_pipeline: u32,
    /// Longest metadata to fetch for a magnet, in bytes (BEP 9).
    pub max_metadata: u32,
    /// Bytes kept of what the peers of magnets say of their pieces before the metadata comes;
    /// each of [`Config::max_connections`] has an equal part. A peer that says more is connected
    /// to again after that.
    pub max_early_bitfields: u32,

    /// Upload slots of one torrent, the optimistic one included; `None` fits them to the rate.
    pub upload_slots: Option<u32>,
    /// Bytes per second in; `None` unlimited, `Some(0)` stop.
    pub limit_down: Option<u64>,
    /// Bytes per second out; `None` unlimited, `Some(0)` stop.
    pub limit_up: Option<u64>,

    /// Peers to ask a tracker for.
    pub numwant: u32,
    /// Announce to every tracker of every tier, not just the first that answers (BEP 12 asks
    /// for the latter).
    pub announce_to_all: bool,
    /// Names the present boot of the machine, if the platform can: what a killed process had
    /// written is believed after a restart within the same boot, and hashed anew after another.
    pub boot: Option<[u8; 16]>,
    /// How often the resume record of an active torrent is saved.
    pub save_interval: Duration,
    /// How long an attempt to connect may take.
    pub connect_timeout: Duration,
    /// How long shutting down waits for trackers.
    pub stop_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: heapless::Vec::new(),
            peer_id: None,
            user_agent: String::from(concat!("Dunlin/", env!("CARGO_PKG_VERSION"))),
            encryption: EncryptionPolicy::default(),
            pex: true,
            dht: DhtMode::default(),
            dht_port: None,
            dht_config: DhtConfig::default(),
            dht_routers: Vec::new(),
            dht_saved: None,
            dht_limit_up: None,
            dht_throttle: String::new(),
            // What rTorrent's sample configuration has.
            min_peers: 40,
            max_torrents: 10_000,
            max_connections: 500,
            max_connections_per_torrent: 100,
            max_half_open: 50,
            max_known_peers: 2_000,
            // A household has one to three clients, and of the subscribers behind a carrier's
            // NAT few are in one swarm.
            max_connections_per_ip: 8,
            // A sixteenth of all connections.
            max_connections_per_ip_in_all: 32,
            // A fifth of all connections; an honest handshake takes a round trip.
            max_handshaking: 100,
            max_blocks: 512,
            max_jobs: 64,
            max_requests: 64,
            max_lookups: 16,
            max_notices: 256,
            write_run: 16,
            reqq: 500,
            max_pipeline: 2_000,
            max_metadata: 16 << 20,
            // 32 KiB for each of 500 connections: a quarter of a million pieces.
            max_early_bitfields: 16 << 20,
            upload_slots: None,
            limit_down: None,
            limit_up: None,
            numwant: 100,
            announce_to_all: false,
            boot: None,
            save_interval: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(15),
            stop_timeout: Duration::from_secs(5),
        }
    }
}

impl Config {
    /// For a machine with tens of KiB to spare: one torrent, two peers, three blocks.
    #[must_use]
    pub fn tiny() -> Self {
        Self {
            pex: false,
            dht: DhtMode::Disable,
            dht_config: DhtConfig::tiny(),
            max_torrents: 1,
            max_connections: 2,
            max_connections_per_torrent: 2,
            max_half_open: 1,
            max_handshaking: 1,
            max_known_peers: 8,
            max_blocks: 3,
            max_jobs: 4,
            max_requests: 2,
            max_lookups: 2,
            max_notices: 4,
            write_run: 1,
            reqq: 4,
            max_pipeline: 2,
            max_metadata: 4 << 10,
            max_early_bitfields: 1 << 10,
            upload_slots: Some(1),
            numwant: 8,
            ..Self::default()
        }
    }

    /// Longest extended message to read, in bytes. Our answer to a request for metadata is the
    /// longest that there is, 16 KiB and a header, if that much may be fetched at all.
    pub(crate) fn max_extended(&self) -> u32 {
        self.max_metadata
            .saturating_add(1 << 10)
            .clamp(4 << 10, MAX_EXTENDED_LEN)
    }

    /// Most connections with one IP address.
    pub(crate) const fn max_per_ip_in_all(&self) -> u32 {
        if self.max_connections_per_ip_in_all > self.max_connections_per_ip {
            self.max_connections_per_ip_in_all
        } else {
            self.max_connections_per_ip
        }
    }
}
