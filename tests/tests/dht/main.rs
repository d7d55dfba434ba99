//! Dunlin's DHT with the nodes people run: a private network of python3-libtorrent, rTorrent 0.9.8,
//! transmission-daemon and Dunlin, without trackers, without anything else to find each other by; and Dunlin with single
//! nodes of `mainline` and bittorrent-dht.

#![expect(clippy::print_stdout, reason = "tests report to the terminal")]

mod bootstrap;
mod items;
mod magnet;
mod matrix;
mod port;
mod strangers;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use dunlin_tests::dht::Cloud;
use dunlin_tests::lab::{Family, Lab};
use dunlin_tests::payload::{Payload, Torrent};
use dunlin_tests::peers::{Client, Crypto, Job, Peer, Role, Source};
use dunlin_tests::wait::until;

/// The slowest of them: Transmission asks nobody until it knows nine nodes, and then within 20 s.
const PATIENCE: Duration = Duration::from_secs(100);
/// Where clients listen, each on an address of its own; their DHT nodes too.
const PORT: u16 = 6991;
/// Nodes of the network that are not in question: enough for Transmission to believe in it.
const NODES: usize = 10;
/// What knows this many of them did not stop at the one it began with.
const ENOUGH: usize = 6;

/// A network namespace with a DHT in it.
struct Net {
    lab: Lab,
    cloud: Cloud,
    family: Family,
}

impl Net {
    fn new(family: Family) -> Self {
        Self::with(family, NODES)
    }

    fn with(family: Family, nodes: usize) -> Self {
        let lab = Lab::new();
        let cloud = Cloud::start(&lab, family, nodes);
        Self { lab, cloud, family }
    }

    /// Where the next client listens.
    fn listen(&self) -> SocketAddr {
        SocketAddr::new(self.lab.address(self.family), PORT)
    }

    /// A torrent without trackers.
    fn torrent(&self, name: &str, len: u64) -> (Payload, Torrent) {
        let payload = Payload::single(&self.lab.folder("payload"), name, len, len);
        let torrent = payload.torrent(15, &[]);
        (payload, torrent)
    }

    /// What a client that takes part in the DHT is to do.
    fn job(&self, role: Role, source: Source, dir: &Path) -> Job {
        Job {
            listen: self.listen(),
            crypto: Crypto::Off,
            role,
            source,
            dir: dir.to_owned(),
            marker: None,
            dht: Some(self.cloud.nodes().to_vec()),
        }
    }

    /// Starts a client that shares a torrent, and tells other nodes of its node.
    fn share(
        &self,
        client: Client,
        payload: &Payload,
        torrent: &Torrent,
    ) -> (SocketAddr, Box<dyn Peer>) {
        let job = self.job(Role::Seed, Source::File(torrent.clone()), &payload.root);
        let peer = client.start(&self.lab, &job);
        self.cloud.meet(&[job.listen]);
        (job.listen, peer)
    }

    /// Waits until the network tells of a peer.
    fn wait_announced(&self, who: &str, torrent: &Torrent, peer: SocketAddr) {
        until(&format!("{who} to be announced"), PATIENCE, || {
            let peers = self.cloud.peers(0, &torrent.hex());
            peers.contains(&peer).then_some(())
        });
    }
}
