//! The crate `mainline` and webtorrent's `bittorrent-dht` beside Dunlin: each keeps what the other stores, and each reads
//! what the other keeps.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use dunlin_tests::dht::Item;
use dunlin_tests::dht::stranger::Kind;
use dunlin_tests::krpc;
use dunlin_tests::lab::{Family, Lab, Proc};
use dunlin_tests::peers::dunlin;
use dunlin_tests::wait::until;

use crate::PORT;

const PATIENCE: Duration = Duration::from_secs(60);
/// Nodes of Dunlin's in a network: so few that everyone keeps everything.
const NODES: usize = 3;
/// A torrent, and where the peer takes connections that strangers announce.
const HASH: &str = "00112233445566778899aabbccddeeff00112233";
const PEER_PORT: u16 = 7001;
const SALTS: [Option<&str>; 2] = [None, Some("salt")];

/// A network namespace, and Dunlin's nodes in it.
struct Net {
    lab: Lab,
    nodes: Vec<SocketAddr>,
    running: Vec<Proc>,
    /// Where Dunlin asks from: one address, because nodes take whoever asks into their tables, and one that is gone
    /// costs them time.
    asker: SocketAddr,
}

impl Net {
    fn new() -> Self {
        let lab = Lab::new();
        let asker = SocketAddr::new(lab.address(Family::V4), PORT);
        Self {
            lab,
            nodes: Vec::new(),
            running: Vec::new(),
            asker,
        }
    }

    fn listen(&self) -> SocketAddr {
        SocketAddr::new(self.lab.address(Family::V4), PORT)
    }

    /// Nodes of Dunlin's that know each other.
    fn formed() -> Self {
        let mut net = Self::new();
        for _ in 0..NODES {
            let (at, first) = (net.listen(), net.nodes.first().copied());
            net.add(at, first.as_slice());
        }
        for node in &net.nodes {
            net.knows(*node, NODES - 1);
        }
        net
    }

    /// Starts a node of Dunlin's that begins with these.
    fn add(&mut self, at: SocketAddr, nodes: &[SocketAddr]) {
        let session = self.lab.folder("session");
        let process = dunlin::node(&self.lab, at, nodes, &session);
        self.nodes.push(at);
        self.running.push(process);
    }

    /// Waits until a node names so many others.
    fn knows(&self, node: SocketAddr, count: usize) {
        until(&format!("{node} to know {count} nodes"), PATIENCE, || {
            (krpc::closest(&self.lab, self.asker, node)? >= count).then_some(())
        });
    }

    fn finds(&self, nodes: &[SocketAddr], peer: SocketAddr) {
        until("Dunlin to find the peer", PATIENCE, || {
            let peers = dunlin::get_peers(&self.lab, self.asker, nodes, HASH);
            peers.contains(&peer).then_some(())
        });
    }

    /// Waits until Dunlin fetches a value, by target or by key and salt.
    fn fetches(&self, nodes: &[SocketAddr], what: &str, salt: Option<&str>, value: &str) {
        let more = salt.map_or(vec![], |salt| vec!["--salt", salt]);
        until(&format!("Dunlin to fetch {value:?}"), PATIENCE, || {
            let found = dunlin::get_item(&self.lab, self.asker, nodes, what, &more);
            (found.as_deref() == Some(value)).then_some(())
        });
    }

    /// Has Dunlin announce a peer, and store an item of every kind.
    fn store(&self, nodes: &[SocketAddr]) -> Stored {
        until("Dunlin to announce", PATIENCE, || {
            let stored = dunlin::announce_seed(&self.lab, self.asker, nodes, HASH);
            (stored > 0).then_some(())
        });
        let target = until("Dunlin to store an item", PATIENCE, || {
            dunlin::put_item(&self.lab, self.asker, nodes, "immutable", &[])
        });
        let file = self.lab.folder("key").join("key");
        let key = dunlin::make_key(&self.lab, &file);
        let path = file.to_string_lossy();
        // Every attempt is a version of its own: bittorrent-dht does not take one that it has.
        let mut seq = 0;
        let versions = SALTS.map(|salt| {
            for value in [format!("old, {salt:?}"), version_of(salt)] {
                until(&format!("Dunlin to store {value:?}"), PATIENCE, || {
                    seq += 1;
                    let number = seq.to_string();
                    let mut more = vec!["--key", &*path, "--seq", &number];
                    more.extend(salt.iter().flat_map(|salt| ["--salt", salt]));
                    dunlin::put_item(&self.lab, self.asker, nodes, &value, &more)
                });
            }
            (salt, seq)
        });
        Stored {
            target,
            key,
            versions,
        }
    }
}

/// What is to be fetched.
struct Stored {
    target: String,
    key: String,
    /// The newest of each salt.
    versions: [(Option<&'static str>, i64); SALTS.len()],
}

/// The newest version of the item under a salt.
fn version_of(salt: Option<&str>) -> String {
    format!("new, {salt:?}")
}

/// A stranger stores at Dunlin's nodes, and is gone when Dunlin asks them.
fn dunlin_keeps_for(kind: Kind) {
    let began = Instant::now();
    let net = Net::formed();
    let at = net.listen();
    let stranger = kind.start(&net.lab, at, &net.nodes[..1]);
    until("it to know all nodes by one of them", PATIENCE, || {
        (stranger.nodes() >= NODES).then_some(())
    });
    until("it to announce", PATIENCE, || {
        stranger.announce(HASH, PEER_PORT).then_some(())
    });
    let target = until("it to store an item", PATIENCE, || {
        stranger.put("immutable")
    });
    let mut key = String::new();
    for salt in SALTS {
        for (seq, value) in [(1, format!("old, {salt:?}")), (2, version_of(salt))] {
            key = until("it to store a version", PATIENCE, || {
                stranger.put_mutable(salt, seq, &value)
            });
        }
    }
    drop(stranger);

    net.finds(&net.nodes, SocketAddr::new(at.ip(), PEER_PORT));
    net.fetches(&net.nodes, &target, None, "immutable");
    for salt in SALTS {
        net.fetches(&net.nodes, &key, salt, &version_of(salt));
    }
    println!("Dunlin keeps for {kind:?}: {:.1?}", began.elapsed());
}

/// A stranger comes when everything is stored at Dunlin's nodes, and asks them.
fn reads_from(kind: Kind) {
    let began = Instant::now();
    let net = Net::formed();
    let stored = net.store(&net.nodes);
    let stranger = kind.start(&net.lab, net.listen(), &net.nodes[..1]);
    until("it to find the peer", PATIENCE, || {
        stranger.peers(HASH).contains(&net.asker).then_some(())
    });
    until("it to fetch the item", PATIENCE, || {
        (stranger.get(&stored.target)? == "immutable").then_some(())
    });
    for (salt, seq) in stored.versions {
        let wanted = Item {
            value: Some(version_of(salt)),
            seq: Some(seq),
        };
        until("it to fetch the newest version", PATIENCE, || {
            (stranger.get_mutable(&stored.key, salt) == wanted).then_some(())
        });
    }
    println!("{kind:?} reads from Dunlin: {:.1?}", began.elapsed());
}

/// A stranger is the whole network: what Dunlin finds, it kept. Then two nodes of Dunlin's come, and nobody else could tell
/// the second of the first.
fn keeps_for_dunlin(kind: Kind) {
    let began = Instant::now();
    let mut net = Net::new();
    // It begins with the first, which is not there yet: mainline without anybody to begin with takes an asker's target for
    // its id.
    let [at, first, second] = [(); 3].map(|()| net.listen());
    let _stranger = kind.start(&net.lab, at, &[first]);
    let stored = net.store(&[at]);
    net.finds(&[at], net.asker);
    net.fetches(&[at], &stored.target, None, "immutable");
    for salt in SALTS {
        net.fetches(&[at], &stored.key, salt, &version_of(salt));
    }
    net.add(first, &[at]);
    net.knows(first, 1);
    net.knows(at, 1);
    net.add(second, &[at]);
    net.knows(second, 2);
    println!("{kind:?} keeps for Dunlin: {:.1?}", began.elapsed());
}

#[test]
fn dunlin_keeps_what_mainline_stores() {
    dunlin_keeps_for(Kind::Mainline);
}

#[test]
fn dunlin_keeps_what_bittorrent_dht_stores() {
    dunlin_keeps_for(Kind::Bittorrent);
}

#[test]
fn mainline_reads_what_dunlin_stores() {
    reads_from(Kind::Mainline);
}

#[test]
fn bittorrent_dht_reads_what_dunlin_stores() {
    reads_from(Kind::Bittorrent);
}

#[test]
fn mainline_keeps_what_dunlin_stores() {
    keeps_for_dunlin(Kind::Mainline);
}

#[test]
fn bittorrent_dht_keeps_what_dunlin_stores() {
    keeps_for_dunlin(Kind::Bittorrent);
}
