//! The configuration of an engine. It bounds the engine's memory (law 8).

use alloc::{string::String, vec::Vec};
use core::net::SocketAddr;
use core::time::Duration;

use crate::PeerId;
use crate::dht::{DhtConfig, DhtMode, Saved};
use crate::metainfo::HostPort;
use crate::wire::peer::MAX_EXTENDED_LEN;

/// What the platform supports. The engine does not emit ops that it does not support, or the driver answers
/// them with `Unsupported`.
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
    /// Streams and requests go through a proxy, which chooses their family: a tracker is asked once, not
    /// over each family.
    pub proxied: bool,
    /// What the engine saves is available at the next start. Without this there is no DHT.
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

/// Whether connections to peers are encrypted (MSE).
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

/// The limits and options of an engine. Start from [`Config::default`] or [`Config::tiny`] and change
/// fields. Numbers out of range are clamped where they are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The addresses to bind, for datagrams and streams; port 0 lets the platform choose. At most one for
    /// each family.
    pub listen: heapless::Vec<SocketAddr, 2>,
    /// Our peer id; `None` draws one for each engine (BEP 20, `-DN0100-` and random bytes).
    pub peer_id: Option<PeerId>,
    /// The client name and version for peers (BEP 10 `v`) and HTTP trackers.
    pub user_agent: String,
    /// Whether connections to peers are encrypted.
    pub encryption: EncryptionPolicy,
    /// Whether to exchange peers with other peers (BEP 11); never done for private torrents.
    pub pex: bool,

    /// Whether and when the DHT node runs. Private torrents never use it.
    pub dht: DhtMode,
    /// The UDP port of the DHT node. `None`: the port of the main sockets. With another port, the node has
    /// sockets of its own while it runs; with 0 it is never started.
    pub dht_port: Option<u16>,
    /// The limits and options of the DHT node.
    pub dht_config: DhtConfig,
    /// Nodes to start from while few others are known.
    pub dht_routers: Vec<HostPort>,
    /// The table saved by [`Op::SaveDht`](crate::Op::SaveDht). It also stands for a session folder: with
    /// `None`, and without [`Caps::session`], there is no DHT.
    pub dht_saved: Option<Saved>,
    /// The limit for what the DHT node sends, in bytes per second; `None`: only the global limit.
    pub dht_limit_up: Option<u64>,
    /// The name of that limit in statistics.
    pub dht_throttle: String,
    /// A torrent with fewer peers than this asks the DHT as well, unless peers tell it of others.
    pub min_peers: u32,

    /// The most torrents.
    pub max_torrents: u32,
    /// The most connections of all torrents, including half-open ones.
    pub max_connections: u32,
    /// The most connections of one torrent.
    pub max_connections_per_torrent: u32,
    /// The most outgoing connections that are not established yet.
    pub max_half_open: u32,
    /// The most addresses remembered for one torrent.
    pub max_known_peers: u32,
    /// The most connections of one torrent with one IPv4 address or IPv6 /64, and the most of its incoming
    /// connections whose handshake has not arrived. Several peers may share a NAT, but one address must not
    /// take every place. The number of ports remembered for one address depends on it as well: four times
    /// as many from trackers, half as many from peer exchange. Peers that the application adds are always
    /// connected to.
    pub max_connections_per_ip: u32,
    /// The most connections of all torrents with one IPv4 address or IPv6 /64; at least
    /// [`Config::max_connections_per_ip`].
    pub max_connections_per_ip_in_all: u32,
    /// The most incoming connections whose handshake has not arrived; a further one ends the oldest.
    pub max_handshaking: u32,

    /// The most blocks of 16 KiB on loan at one time, between sockets and disk.
    pub max_blocks: u32,
    /// The most ops in flight at one time, except HTTP requests and name resolutions.
    pub max_jobs: u32,
    /// The most HTTP requests in flight at one time. One server gets at most a quarter of them.
    pub max_requests: u32,
    /// The most name resolutions in flight at one time.
    pub max_lookups: u32,
    /// The most notices kept for an application that does not fetch them.
    pub max_notices: u32,
    /// The most blocks of one piece written by one op.
    pub write_run: u32,
    /// The most requests of one peer that wait for our answer (BEP 10 `reqq`).
    pub reqq: u32,
    /// The most requests outstanding with one peer.
    pub max_pipeline: u32,
    /// The longest metadata that is fetched for a magnet, in bytes (BEP 9).
    pub max_metadata: u32,
    /// Bytes kept of the bitfields that peers of magnets send before the metadata is known; each of
    /// [`Config::max_connections`] has an equal share. A peer that sends more is connected to again once
    /// the metadata is known.
    pub max_early_bitfields: u32,

    /// The upload slots of one torrent, including the optimistic one; `None` adapts them to the rate.
    pub upload_slots: Option<u32>,
    /// The limit for downloading in bytes per second; `None` is unlimited, `Some(0)` stops it.
    pub limit_down: Option<u64>,
    /// The limit for uploading in bytes per second; `None` is unlimited, `Some(0)` stops it.
    pub limit_up: Option<u64>,

    /// The number of peers requested from a tracker.
    pub numwant: u32,
    /// Whether to announce to every tracker of every tier, instead of only to the first that answers (BEP
    /// 12).
    pub announce_to_all: bool,
    /// An id of the current boot of the machine, if the platform has one: what a killed process wrote is
    /// trusted after a restart within the same boot, and hashed again after another boot.
    pub boot: Option<[u8; 16]>,
    /// The interval at which the resume record of an active torrent is saved.
    pub save_interval: Duration,
    /// The time limit for connecting to a peer.
    pub connect_timeout: Duration,
    /// How long a shutdown waits for trackers.
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
            // As in rTorrent's sample configuration.
            min_peers: 40,
            max_torrents: 10_000,
            max_connections: 500,
            max_connections_per_torrent: 100,
            max_half_open: 50,
            max_known_peers: 2_000,
            // A household runs one to three clients, and few of the subscribers behind one carrier-grade
            // NAT are in one swarm.
            max_connections_per_ip: 8,
            // A sixteenth of all connections.
            max_connections_per_ip_in_all: 32,
            // A fifth of all connections; a correct handshake takes one round trip.
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
            // 32 KiB for each of 500 connections: bitfields of a quarter of a million pieces.
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
    /// For a machine with tens of KiB of memory: one torrent, two peers, three blocks.
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

    /// The longest extended message that is read, in bytes. The longest one that we may get is a piece of
    /// metadata, 16 KiB and a header, if metadata of that length may be fetched at all.
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
