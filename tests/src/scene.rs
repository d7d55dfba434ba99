//! A transfer from one client to another: what moves, how it is found, and over what.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::lab::{Family, Lab};
use crate::payload::Payload;
use crate::peers::{Client, Crypto, Job, Peer, Role, Source};
use crate::tracker::{self, Opentracker, Small, Tracker};
use crate::wait::until;

/// How the trackers are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announce {
    /// BEP 3.
    Http,
    /// BEP 15.
    Udp,
}

/// Bytes moved: enough for several hundred blocks, little enough for Transmission's pace.
const LEN: u64 = 12 << 20;
/// 128 KiB pieces, so that the small files of the tree share some and the large span many.
const PIECE_LOG: u32 = 17;
/// The slowest thing clients do: start, check, announce.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where the seed listens; the downloader takes the next port, since some listen on all addresses.
const PORT: u16 = 6881;

/// One transfer, described.
#[derive(Clone, Copy, Debug)]
pub struct Scene {
    magnet: bool,
    announce: Announce,
    crypto: Crypto,
    family: Family,
}

impl Scene {
    /// The multi-file torrent, from its file, in plain text, over IPv4 and an HTTP tracker.
    pub fn tree() -> Self {
        Self {
            magnet: false,
            announce: Announce::Http,
            crypto: Crypto::Off,
            family: Family::V4,
        }
    }

    /// The downloader has only a magnet link.
    pub fn magnet(self) -> Self {
        Self {
            magnet: true,
            ..self
        }
    }

    /// How the tracker is asked.
    pub fn announce(self, announce: Announce) -> Self {
        Self { announce, ..self }
    }

    /// What both clients insist on.
    pub fn crypto(self, crypto: Crypto) -> Self {
        Self { crypto, ..self }
    }

    /// The address family of everything.
    pub fn family(self, family: Family) -> Self {
        Self { family, ..self }
    }

    /// Plays it: `from` seeds, `to` downloads, every file is compared.
    ///
    /// # Panics
    /// When it does not end well.
    pub fn run(self, lab: &Lab, from: Client, to: Client) {
        let began = Instant::now();
        let payload = Payload::tree(&lab.folder("payload"), "lab tree", 1, LEN);
        let tracker = tracker::address_for(lab, self.family);
        let url = match self.announce {
            Announce::Http => tracker::http_url(tracker),
            Announce::Udp => tracker::udp_url(tracker),
        };
        let torrent = payload.torrent(PIECE_LOG, &[url]);
        let tracker: Box<dyn Tracker> = match self.family {
            Family::V4 => Box::new(Opentracker::start(lab, tracker, &[&torrent])),
            Family::V6 => Box::new(Small::start(lab, tracker)),
        };

        let job = |role, port, source, dir| Job {
            role,
            listen: SocketAddr::new(lab.address(self.family), port),
            crypto: self.crypto,
            source,
            dir,
            marker: None,
            dht: None,
        };
        let mut seed = from.start(
            lab,
            &job(
                Role::Seed,
                PORT,
                Source::File(torrent.clone()),
                payload.root.clone(),
            ),
        );
        wait_complete(lab, "the seed to have checked its files", seed.as_mut());
        tracker.wait_for_seed(lab, &torrent, PATIENCE);
        let seeding = began.elapsed();

        let dir = lab.folder("download");
        let source = if self.magnet {
            Source::Magnet(torrent)
        } else {
            Source::File(torrent)
        };
        let mut leech = to.start(lab, &job(Role::Download, PORT + 1, source, dir.clone()));
        wait_complete(lab, "the download", leech.as_mut());
        payload.assert_same(&dir, to.omits_empty_files());
        if self.crypto == Crypto::Preferred
            && let Some(agreed) = agreed_encryption(from, to)
        {
            let dunlin = if from == Client::Dunlin { seed } else { leech };
            let log = dunlin.into_process().log();
            let connected = |line: &str| line.contains("connected") && line.contains(agreed);
            assert!(log.lines().any(connected), "not {agreed}: {log}");
        }
        println!(
            "{to:?} from {from:?}: seed ready after {seeding:.1?}, all in {:.1?}",
            began.elapsed()
        );
    }
}

/// How Dunlin's notice of a connection ends if both prefer encryption: what the other client offers when it opens the
/// connection, and selects when it accepts it. The downloader opens it.
fn agreed_encryption(from: Client, to: Client) -> Option<&'static str> {
    match (from, to) {
        // Offers both methods, and selects plaintext (`prefer_rc4` is off).
        (Client::Libtorrent, Client::Dunlin) |
        // Offers both methods; asked, it selects RC4.
        (Client::Dunlin, Client::Rtorrent) => Some(", encrypted handshake"),
        // Transmission offers RC4 alone.
        (Client::Rtorrent | Client::Transmission, Client::Dunlin)
        | (Client::Dunlin, Client::Transmission) => Some(", encrypted\""),
        // To a peer that a tracker named libtorrent opens with a plaintext handshake.
        _ => None,
    }
}

fn wait_complete(lab: &Lab, what: &str, peer: &mut dyn Peer) {
    until(what, PATIENCE, || peer.complete(lab).then_some(()));
}
