//! A member of a torrent: a connection that has completed its handshakes.

use alloc::collections::VecDeque;
use alloc::string::String;
use core::net::SocketAddr;
use core::time::Duration;

use super::pex::{Pex, Roster};
use super::stream::Stream;
use super::{Greeting, Holding, Opened};
use crate::peer::crypto::StreamEncryption;
use crate::throttle::BucketId;
use crate::torrent::choker::Candidate;
use crate::torrent::member_id::MemberId;
use crate::torrent::peer_list::canonical;
use crate::torrent::picker::{PickState, Picker};
use crate::torrent::status::PeerSource;
use crate::wire::extension::PexFlags;
use crate::{BLOCK_LEN, Bitfield, BlockPool, BlockRef, Instant};

/// A connection that moved no payload counts as successful if it lasted this long.
const WORKED: Duration = Duration::from_secs(60);

/// A metadata request that is not answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MetadataAsked {
    pub(crate) piece: u32,
    /// The size of the metadata that the peer claimed at that time. Its answer is judged by it.
    pub(crate) size: u32,
    pub(crate) at: Instant,
}

/// A peer of a torrent, and what the torrent knows of it beyond the peer protocol.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) id: MemberId,
    pub(crate) stream: Stream,
    /// The address at which it accepts connections: that of the stream or, if it connected to us, its IP address with the port
    /// that it says it listens on.
    pub(crate) dialable: Option<SocketAddr>,
    pub(crate) source: PeerSource,
    pub(crate) incoming: bool,
    /// When the handshakes were completed.
    pub(crate) established: Instant,
    /// Its node of the throttle tree.
    pub(crate) bucket: BucketId,
    /// Its pieces, as the picker was told.
    pub(crate) counted: Bitfield,
    /// What the picker remembers about it.
    pub(crate) pick: PickState,
    /// The peer's requests that were not read from the disk yet.
    pub(crate) uploads: VecDeque<BlockRef>,
    /// The number of blocks that are being read from the disk for it.
    pub(crate) reading: u32,
    /// The blocks that it holds, as [`Conns`](super::table::Conns) has counted them.
    pub(crate) holds: Holding,
    /// The metadata request that it has not answered (BEP 9).
    pub(crate) metadata_asked: Option<MetadataAsked>,
    /// When it may be asked for metadata again, after it refused or sent wrong data.
    pub(crate) metadata_pause: Option<Instant>,
    /// The number of its attempts to send the metadata that were too slow.
    pub(crate) metadata_turns: u32,
    /// What it was told of other peers (BEP 11).
    pub(crate) pex: Pex,
    /// Whether it told the port of its DHT node (BEP 5).
    dht_port_told: bool,
    /// When we last choked or unchoked it.
    choke_changed: Instant,
    /// How many bytes of payload it had been sent when it was last unchoked.
    sent_before: u64,
    /// The last time at which either side was interested.
    pub(crate) useful: Instant,
}

impl Member {
    /// Creates the member of a connection that has completed its handshakes.
    pub(crate) fn new(id: MemberId, now: Instant, bucket: BucketId, greeting: Greeting) -> Self {
        let Greeting { mut stream, opened } = greeting;
        stream.bucket = Some(bucket);
        let (dialable, source) = match opened {
            Opened::ByUs(dialing) => (Some(dialing.addr), dialing.source),
            Opened::ByPeer(_) => (None, PeerSource::Incoming),
        };
        Self {
            id,
            stream,
            dialable,
            source,
            incoming: matches!(opened, Opened::ByPeer(_)),
            established: now,
            bucket,
            counted: Bitfield::new(0),
            pick: PickState::default(),
            uploads: VecDeque::new(),
            reading: 0,
            holds: Holding::default(),
            metadata_asked: None,
            metadata_pause: None,
            metadata_turns: 0,
            pex: Pex::default(),
            dht_port_told: false,
            choke_changed: now,
            sent_before: 0,
            useful: now,
        }
    }

    /// The address by which it is shown, blamed and banned: the one at which it accepts connections, if that is known.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.dialable.unwrap_or(self.stream.remote)
    }

    /// Whether it supports peer exchange (BEP 11).
    pub(crate) fn exchanges_peers(&self) -> bool {
        let extended = self.stream.peer.extended();
        extended.is_some_and(|e| e.ids.ut_pex != 0)
    }

    /// The upload blocks that it holds.
    pub(crate) fn holding(&self) -> Holding {
        let queued = self.stream.peer.queued_payload();
        let blocks = self.reading + queued.div_ceil(BLOCK_LEN) as u32;
        Holding {
            blocks,
            uploads: blocks > 0 || !self.uploads.is_empty(),
        }
    }

    /// Whether it needs no pieces: it has all of them, or all that it wants (BEP 21).
    pub(crate) fn is_done(&self) -> bool {
        let peer = &self.stream.peer;
        peer.is_seed() || peer.extended().is_some_and(|e| e.upload_only)
    }

    /// Whether payload was moved.
    pub(crate) fn has_moved(&self) -> bool {
        let totals = self.stream.peer.totals();
        totals.payload_down + totals.payload_up > 0
    }

    /// Whether the connection was worth its handshakes.
    pub(crate) fn has_worked(&self, now: Instant) -> bool {
        self.has_moved() || self.established + WORKED <= now
    }

    /// The client's name: that of its extension handshake (BEP 10) or, until it is received, the start of its peer id (BEP 20).
    pub(crate) fn client(&self) -> String {
        let told = self.stream.peer.extended().map(|e| &e.client);
        if let Some(told) = told.filter(|told| !told.is_empty()) {
            return told.clone();
        }
        let Some(id) = self.stream.peer.peer_id() else {
            return String::new();
        };
        let known = &id.0[..8];
        if known.is_ascii() && known.iter().all(u8::is_ascii_graphic) {
            String::from_utf8_lossy(known).into_owned()
        } else {
            "an unnamed client".into()
        }
    }

    // ---- what it is told, and tells ----

    /// Sends the first messages: our pieces, and the port of our DHT node. `pieces` is their number and those that we have, as
    /// far as they are known.
    pub(crate) fn introduce(
        &mut self,
        pieces: (Option<u32>, Option<&Bitfield>),
        dht_port: Option<u16>,
    ) {
        let peer = &mut self.stream.peer;
        let (count, have) = pieces;
        if let Some(count) = count {
            peer.set_pieces(count);
        }
        match have {
            Some(have) => peer.bitfield(have),
            // BEP 6 requires one of the three messages, also before the pieces are known.
            None => peer.bitfield(&Bitfield::new(0)),
        }
        if let Some(port) = dht_port {
            peer.port(port);
        }
    }

    /// Its extension handshake arrived. If it connected to us and names the port on which it listens, its address becomes known,
    /// and is returned the first time.
    pub(crate) fn learn_port(&mut self) -> Option<SocketAddr> {
        let named = self.stream.peer.extended().and_then(|e| e.port);
        let port = named.filter(|port| *port != 0)?;
        if !self.incoming || self.dialable.is_some() {
            return None;
        }
        let addr = canonical(SocketAddr::new(self.stream.remote.ip(), port));
        self.dialable = Some(addr);
        Some(addr)
    }

    /// It told the port of its DHT node (BEP 5). Returns the address of the node, once per connection.
    pub(crate) fn dht_node(&mut self, port: u16) -> Option<SocketAddr> {
        let news = port != 0 && !core::mem::replace(&mut self.dht_port_told, true);
        news.then(|| SocketAddr::new(self.stream.remote.ip(), port))
    }

    /// How others are told of it (BEP 11), if they can connect to it.
    pub(crate) fn listing(&self) -> Option<(SocketAddr, PexFlags)> {
        let encrypted = self.stream.peer.encryption() != StreamEncryption::None;
        let flags = [
            (encrypted, PexFlags::ENCRYPTION),
            (self.is_done(), PexFlags::SEED),
            (!self.incoming, PexFlags::REACHABLE),
        ];
        let set = flags.iter().filter(|(on, _)| *on);
        let flags = set.fold(PexFlags::default(), |all, (_, flag)| all.with(*flag));
        Some((self.dialable?, flags))
    }

    /// Tells it which peers joined and left. Returns whether a message was sent.
    pub(crate) fn tell_peers(&mut self, roster: &Roster) -> bool {
        if !self.stream.peer.is_open() {
            return false;
        }
        let Some(update) = self.pex.update(roster, self.dialable) else {
            return false;
        };
        let sent = self.stream.peer.pex(&update.added, &update.dropped);
        if sent {
            self.pex.told(&update);
        }
        sent
    }

    // ---- its upload slot ----

    /// What the choker has to know of it.
    pub(crate) fn candidate(&self, now: Instant, piece_len: u64) -> Candidate {
        let peer = &self.stream.peer;
        let totals = peer.totals();
        Candidate {
            key: self.id.key(),
            interested: peer.peer_interested(),
            snubbed: peer.is_snubbed(),
            down_rate: peer.rate_down(now),
            given: totals.payload_down,
            up_rate: peer.rate_up(now),
            unchoked: !peer.am_choking(),
            since: self.choke_changed,
            connected: self.established,
            sent: self.sent(),
            empty: peer.has().count() == 0 && totals.payload_up < piece_len,
        }
    }

    /// How many bytes of payload it was sent since it was last unchoked.
    pub(crate) fn sent(&self) -> u64 {
        let all = self.stream.peer.totals().payload_up;
        all.saturating_sub(self.sent_before)
    }

    /// Takes its slot. Requests that were not answered are rejected.
    pub(crate) fn choke(&mut self, now: Instant, pool: &mut BlockPool) {
        let peer = &mut self.stream.peer;
        if peer.am_choking() {
            return;
        }
        peer.choke(pool);
        for at in core::mem::take(&mut self.uploads) {
            peer.reject(at);
        }
        self.choke_changed = now;
    }

    /// Gives it a slot.
    pub(crate) fn unchoke(&mut self, now: Instant) {
        let peer = &mut self.stream.peer;
        if !peer.am_choking() {
            return;
        }
        peer.unchoke();
        self.sent_before = peer.totals().payload_up;
        self.choke_changed = now;
    }

    // ---- its end ----

    /// Lets the picker forget it: its requests may be sent to others.
    pub(crate) fn leave(&mut self, picker: &mut Picker) {
        let key = self.id.key();
        for at in self.stream.peer.in_flight() {
            picker.aborted(at, key);
        }
        if !self.counted.is_empty() {
            picker.peer_left(&self.counted);
        }
        picker.peer_gone(key, &mut self.pick);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PeerId;
    use crate::torrent::conn::sample;

    #[test]
    fn a_client_is_named_by_its_peer_id_until_it_tells_more() {
        let named = |id: &[u8; 20]| {
            let greeting = sample::greeting(1, 1, (PeerId([1; 20]), PeerId(*id)), true);
            let bucket = crate::throttle::BucketId::ROOT;
            let at = Instant::from_micros(1);
            Member::new(MemberId::numbered(0), at, bucket, greeting).client()
        };
        assert_eq!(named(b"-TR3000-123456789012"), "-TR3000-");
        assert_eq!(named(&[0xff; 20]), "an unnamed client");
    }
}
