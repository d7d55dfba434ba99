//! The kinds of hosts: their names, descriptions and options.

use super::Kind;

/// A kind of host.
#[derive(Debug)]
pub struct KindInfo {
    /// The kind.
    pub kind: Kind,
    /// Its name, as the value of `kind`.
    pub name: &'static str,
    /// What the host does.
    pub doc: &'static str,
    /// Its default port.
    pub port: u16,
    /// The options that are required.
    pub needs: &'static [&'static str],
    /// The options that are permitted.
    pub takes: &'static [&'static str],
}

impl Kind {
    /// The description of the kind.
    #[must_use]
    pub fn info(self) -> &'static KindInfo {
        KINDS
            .iter()
            .find(|k| k.kind == self)
            .expect("every kind is in the table: a test goes through them")
    }

    /// Returns `true` when the host exchanges the torrent.
    #[must_use]
    pub const fn is_engine(self) -> bool {
        matches!(self, Self::EngineSeed | Self::EngineLeech)
    }

    /// Returns `true` when the host connects to another one through a rendezvous.
    #[must_use]
    pub const fn is_puncher(self) -> bool {
        matches!(self, Self::UdpPunch | Self::TcpPunch)
    }
}

/// Every kind.
pub const KINDS: &[KindInfo] = &[
    KindInfo {
        kind: Kind::Manual,
        name: "manual",
        doc: "Sends only when an event says so, and counts what it receives.",
        port: 40_000,
        needs: &[],
        takes: &["port"],
    },
    KindInfo {
        kind: Kind::Echo,
        name: "echo",
        doc: "Sends every datagram back to where it came from.",
        port: 7_000,
        needs: &[],
        takes: &["port", "reply-after"],
    },
    KindInfo {
        kind: Kind::Steady,
        name: "steady",
        doc: "Sends datagrams from one port at a steady pace and expects each of them \
              back, like a call or a game of another user of the network.",
        port: 40_000,
        needs: &["to"],
        takes: &["port", "to-port", "every", "size", "start", "stop"],
    },
    KindInfo {
        kind: Kind::Flood,
        name: "flood",
        doc: "Sends each datagram from another port to another port, like a client that \
              opens flows without regard for the router's table.",
        port: 10_000,
        needs: &["to"],
        takes: &["flows", "size", "start", "stop"],
    },
    KindInfo {
        kind: Kind::Rendezvous,
        name: "rendezvous",
        doc: "Tells hosts that punch holes each other's observed endpoints, over UDP and TCP, once \
              all of them have registered and `lead` has passed.",
        port: 3_478,
        needs: &[],
        takes: &["port", "lead"],
    },
    KindInfo {
        kind: Kind::UdpPunch,
        name: "udp-punch",
        doc: "Learns the other host's endpoint from a rendezvous server. Then both send until \
              each has heard the other.",
        port: 40_000,
        needs: &["to", "via"],
        takes: &["port", "start", "told-after", "advertise", "keepalive"],
    },
    KindInfo {
        kind: Kind::TcpPunch,
        name: "tcp-punch",
        doc: "The same over TCP: both connect at once from the port that the server saw \
              (simultaneous open).",
        port: 40_000,
        needs: &["to", "via"],
        takes: &["port", "start", "told-after", "advertise"],
    },
    KindInfo {
        kind: Kind::Tracker,
        name: "tracker",
        doc: "A tracker, over HTTP and UDP.",
        port: 6_969,
        needs: &[],
        takes: &["port"],
    },
    KindInfo {
        kind: Kind::Stun,
        name: "stun",
        doc: "A STUN server with two addresses and two ports, the second after the first (RFC 5780). With \
              one `address` it only tells endpoints (RFC 8489).",
        port: 3_478,
        needs: &[],
        takes: &["port"],
    },
    KindInfo {
        kind: Kind::StunClient,
        name: "stun-client",
        doc: "Finds out by a STUN server how the NATs before it map and filter (RFC 5780 section 4).",
        port: 40_000,
        needs: &["to"],
        takes: &["port"],
    },
    KindInfo {
        kind: Kind::Dns,
        name: "dns",
        doc: "A name server, over UDP to port 53. It knows `names`, and no others.",
        port: 53,
        needs: &["names"],
        takes: &[],
    },
    KindInfo {
        kind: Kind::Dht,
        name: "dht",
        doc: "A node of the DHT alone.",
        port: 6_881,
        needs: &[],
        takes: &["port", "bootstrap"],
    },
    KindInfo {
        kind: Kind::EngineSeed,
        name: "engine-seed",
        doc: "The real engine over a simulated TCP/IP stack and disk, with the complete torrent.",
        port: 6_881,
        needs: &[],
        takes: &[
            "port",
            "trackers",
            "tracker-urls",
            "dns",
            "bootstrap",
            "peers",
            "upload",
            "upload-slots",
            "download",
            "tcp",
            "disk-delay",
            "start",
            "stay",
            "leaves",
            "rejoin",
        ],
    },
    KindInfo {
        kind: Kind::EngineLeech,
        name: "engine-leech",
        doc: "The same engine without any of the torrent.",
        port: 6_881,
        needs: &[],
        takes: &[
            "port",
            "trackers",
            "tracker-urls",
            "dns",
            "bootstrap",
            "peers",
            "upload",
            "upload-slots",
            "download",
            "tcp",
            "disk-delay",
            "stay",
            "seed-for",
            "leaves",
            "rejoin",
            "start",
        ],
    },
];
