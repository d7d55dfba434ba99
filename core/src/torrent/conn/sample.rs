//! Connections for tests.

use core::net::SocketAddr;

use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use super::link::Link;
use super::stream::Stream;
use super::{Dialing, Greeting, Opened};
use crate::peer::crypto::Encryption;
use crate::peer::{Local, Peer, PeerConfig};
use crate::torrent::ReadBufs;
use crate::torrent::status::PeerSource;
use crate::wire::peer::{Handshake, Reserved};
use crate::{BlockPool, ConnId, Cx, InfoHash, Instant, PeerId, TorrentId};

const TORRENT: TorrentId = TorrentId(1);
const INFO_HASH: InfoHash = InfoHash([7; 20]);

/// The id of connection `n`.
pub(crate) fn conn(n: u8) -> ConnId {
    ConnId {
        index: n.into(),
        generation: 0,
    }
}

/// Connection `n`, on which the peer `theirs` at 10.0.0.`host` has sent its handshake to `own`.
pub(crate) fn greeting(
    n: u8,
    host: u8,
    (own, theirs): (PeerId, PeerId),
    incoming: bool,
) -> Greeting {
    let remote = SocketAddr::from(([10, 0, 0, host], 6881));
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut cx = Cx {
        now: Instant::from_micros(1),
        rng: &mut rng,
    };
    let config = PeerConfig::default();
    let mut peer = if incoming {
        Peer::incoming(&mut cx, &config, Encryption::Off)
    } else {
        let local = Local {
            info_hash: INFO_HASH,
            peer_id: own,
            dht: false,
            pex: false,
            listen_port: None,
            version: "",
            remote_ip: remote.ip(),
            metadata_size: None,
            upload_only: false,
        };
        Peer::outgoing(&mut cx, &config, &local, None)
    };
    let handshake = Handshake {
        reserved: Reserved::ours(false),
        info_hash: INFO_HASH,
        peer_id: theirs,
    };
    receive(&mut cx, &mut peer, &handshake.emit());
    Greeting {
        stream: Stream::new(conn(n), remote, peer, Link::accepted()),
        opened: match incoming {
            true => Opened::ByPeer(Some(TORRENT)),
            false => Opened::ByUs(Dialing {
                torrent: TORRENT,
                addr: remote,
                source: PeerSource::Tracker,
                encrypt: false,
                again: false,
            }),
        },
    }
}

/// The peer sends bytes, none of which belong to a block.
pub(crate) fn receive(cx: &mut Cx<'_>, peer: &mut Peer, mut bytes: &[u8]) {
    let mut pool = BlockPool::new(1);
    while !bytes.is_empty() {
        let mut bufs = ReadBufs::new();
        peer.read_bufs(&mut pool, bytes.len(), &mut bufs);
        let buf = bufs.first_mut().expect("it reads");
        let len = buf.len().min(bytes.len());
        buf[..len].copy_from_slice(&bytes[..len]);
        bytes = &bytes[len..];
        drop(bufs);
        peer.handle_read(cx, &mut pool, len, &|_| None);
    }
}
