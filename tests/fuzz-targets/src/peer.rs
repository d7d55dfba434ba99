//! A peer's stream, plain and encrypted, with an owner that asks, serves and pauses meanwhile.

use std::net::IpAddr;
use std::time::Duration;

use arbitrary::Unstructured;
use dunlin_core::peer::crypto::{Encryption, MseHandshake, Progress, Rc4Stream, req2};
use dunlin_core::peer::{Local, Peer, PeerConfig, PeerEvent};
use dunlin_core::{BLOCK_LEN, Bitfield, BlockPool, BlockRef, Cx, InfoHash, Instant, PeerId};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

const TORRENT: InfoHash = InfoHash([0x5a; 20]);
const PIECES: u32 = 40;
const BLOCKS: usize = 12;
/// Bytes that wait for a peer that reads nothing: what is asked for, with ample room.
const MAX_QUEUED: usize = 8 << 20;

/// The first byte chooses how the connection begins, the rest is what happens on it.
pub fn run(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let how: u8 = u.arbitrary().unwrap_or(0);
    let mut rig = Rig::new(how);
    rig.greet(how);
    while !u.is_empty() {
        rig.step(&mut u);
        rig.owner();
    }
    rig.finish();
}

struct Rig {
    peer: Peer,
    pool: BlockPool,
    rng: ChaCha8Rng,
    now: Instant,
    /// How the bytes of the other side are encrypted.
    cipher: Option<Rc4Stream>,
    welcomed: bool,
    established: bool,
    closed: bool,
}

fn local() -> Local<'static> {
    Local {
        info_hash: TORRENT,
        peer_id: PeerId([1; 20]),
        dht: true,
        pex: true,
        listen_port: Some(6881),
        version: "fuzz",
        remote_ip: IpAddr::from([10, 0, 0, 1]),
        metadata_size: Some(20_000),
        upload_only: false,
    }
}

fn knows(name: &[u8; 20]) -> Option<InfoHash> {
    (*name == req2(&TORRENT)).then_some(TORRENT)
}

/// A BitTorrent handshake with all extensions.
fn hello() -> Vec<u8> {
    let mut hello = b"\x13BitTorrent protocol\0\0\0\0\0\x10\0\x05".to_vec();
    hello.extend_from_slice(&TORRENT.0);
    hello.extend_from_slice(b"-XX0001-abcdefghijkl");
    hello
}

impl Rig {
    fn new(how: u8) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let now = Instant::from_micros(1_000_000);
        let mut cx = Cx { now, rng: &mut rng };
        let cfg = PeerConfig {
            max_metadata: 64 << 10,
            reqq: 20,
            ..PeerConfig::default()
        };
        let policy = [
            Encryption::Off,
            Encryption::Preferred,
            Encryption::Required,
            Encryption::Preferred,
        ][usize::from(how >> 1 & 3)];
        let peer = if how & 1 == 0 {
            Peer::incoming(&mut cx, &cfg, policy)
        } else {
            Peer::outgoing(&mut cx, &cfg, &local(), policy.offer())
        };
        Self {
            peer,
            pool: BlockPool::new(BLOCKS),
            rng,
            now,
            cipher: None,
            welcomed: false,
            established: false,
            closed: false,
        }
    }

    /// Gets past the handshakes, if the input wants that.
    fn greet(&mut self, how: u8) {
        let encrypted = self.greets_encrypted(how);
        match how >> 3 & 3 {
            0 => {}
            1 if !encrypted => self.hear(&hello()),
            _ => {
                if let Some(offer) = Encryption::Required.offer()
                    && encrypted
                {
                    let mut rng = ChaCha8Rng::seed_from_u64(6);
                    let mut cx = Cx {
                        now: self.now,
                        rng: &mut rng,
                    };
                    let mse = if how & 1 == 0 {
                        MseHandshake::outgoing(&mut cx, TORRENT, offer, &hello())
                    } else {
                        MseHandshake::incoming(&mut cx, offer)
                    };
                    self.negotiate(mse);
                    if how & 1 == 1 {
                        self.hear(&hello());
                    }
                } else {
                    self.hear(&hello());
                }
            }
        }
        self.owner();
    }

    fn greets_encrypted(&self, how: u8) -> bool {
        let off = how >> 1 & 3 == 0;
        // A peer that calls us may choose; a peer that we call gets what the policy says.
        !off && (how & 1 == 1 || how & 0x20 == 0)
    }

    /// Plays the other side of an encrypted handshake honestly.
    fn negotiate(&mut self, mut mse: MseHandshake) {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        for _ in 0..8 {
            let out = mse.output().to_vec();
            mse.sent(out.len());
            self.hear(&out);
            let said = self.said(usize::MAX);
            let mut cx = Cx {
                now: self.now,
                rng: &mut rng,
            };
            match mse.receive(&mut cx, &said, &knows) {
                Ok(Progress::NeedMore) => {}
                Ok(Progress::Done) => break,
                Err(_) => return,
            }
        }
        if let Some(done) = mse.finish() {
            self.hear(&done.unsent);
            self.cipher = done.cipher.map(|pair| pair.tx);
        }
    }

    /// Reads `bytes` as they are, in as few reads as the peer allows.
    fn hear(&mut self, bytes: &[u8]) {
        self.read(bytes, usize::MAX);
    }

    fn read(&mut self, mut bytes: &[u8], most: usize) {
        loop {
            let mut bufs = heapless::Vec::new();
            self.peer.read_bufs(&mut self.pool, most, &mut bufs);
            let lent: usize = bufs.iter().map(|b| b.len()).sum();
            assert!(lent <= most, "more is lent than the limit allows");
            let mut n = 0;
            for buf in bufs {
                let len = buf.len().min(bytes.len());
                buf[..len].copy_from_slice(&bytes[..len]);
                bytes = &bytes[len..];
                n += len;
            }
            let mut cx = Cx {
                now: self.now,
                rng: &mut self.rng,
            };
            self.peer.handle_read(&mut cx, &mut self.pool, n, &knows);
            if n == 0 {
                return;
            }
        }
    }

    fn said(&mut self, most: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < most {
            let mut bufs = heapless::Vec::new();
            self.peer.write_bufs(most - all.len(), &mut bufs);
            let bytes = bufs.concat();
            drop(bufs);
            assert_eq!(bytes.is_empty(), !self.peer.wants_write());
            if bytes.is_empty() {
                break;
            }
            let mut cx = Cx {
                now: self.now,
                rng: &mut self.rng,
            };
            self.peer
                .handle_written(&mut cx, &mut self.pool, bytes.len());
            all.extend(bytes);
        }
        all
    }

    /// One thing that happens: bytes arrive, time passes, the owner wants something.
    fn step(&mut self, u: &mut Unstructured<'_>) {
        let what: u8 = u.arbitrary().unwrap_or(0);
        let n: u8 = u.arbitrary().unwrap_or(0);
        let block = self.block(n);
        match what % 16 {
            0..=2 => {
                let bytes = u
                    .bytes(usize::from(n).min(u.len()))
                    .unwrap_or_default()
                    .to_vec();
                self.send(
                    bytes,
                    if what & 0x80 == 0 {
                        usize::MAX
                    } else {
                        1 + usize::from(what & 0x7f)
                    },
                );
            }
            // A message of the length that its content has.
            3..=5 => {
                let body = u
                    .bytes(usize::from(n % 64).min(u.len()))
                    .unwrap_or_default()
                    .to_vec();
                self.message(what >> 4, &body);
            }
            6 => {
                let mut body = [block.piece.to_be_bytes(), block.begin.to_be_bytes()].concat();
                body.resize(8 + block.len as usize, n);
                self.message(7, &body);
            }
            7 => {
                let body = u
                    .bytes(usize::from(n).min(u.len()))
                    .unwrap_or_default()
                    .to_vec();
                self.message(20, &body);
            }
            8 if self.established => {
                let mut cx = Cx {
                    now: self.now,
                    rng: &mut self.rng,
                };
                self.peer.request(&mut cx, block);
            }
            9 => {
                let mut cx = Cx {
                    now: self.now,
                    rng: &mut self.rng,
                };
                self.peer.cancel(&mut cx, block);
            }
            10 if self.established => match n % 6 {
                0 => self.peer.choke(&mut self.pool),
                1 => self.peer.unchoke(),
                2 => self.peer.set_interested(n & 8 == 0),
                3 => self.peer.have(u32::from(n) % PIECES),
                4 => self.peer.suggest(u32::from(n) % PIECES),
                _ => self.peer.allow_fast(u32::from(n) % PIECES),
            },
            11 if self.established => {
                let _ = self.peer.metadata_request(u32::from(n % 6));
                let _ = self.peer.pex(&[], &[]);
                self.peer.port(6881);
            }
            12 | 13 => {
                self.now +=
                    Duration::from_millis(u64::from(n) * if what & 0x80 == 0 { 10 } else { 2_000 });
                let mut cx = Cx {
                    now: self.now,
                    rng: &mut self.rng,
                };
                self.peer.handle_timeout(&mut cx);
                let next = self.peer.poll_timeout();
                assert!(next.is_none_or(|at| at > self.now), "the timer spins");
            }
            14 => drop(self.said(usize::from(n) * 256)),
            15 => self.peer.hold_writing(),
            _ => {}
        }
    }

    fn block(&self, n: u8) -> BlockRef {
        let len = if n & 0x40 == 0 {
            BLOCK_LEN as u32
        } else {
            1 + u32::from(n)
        };
        BlockRef {
            piece: u32::from(n) % 8,
            begin: u32::from(n >> 3 & 1) * BLOCK_LEN as u32,
            len,
        }
    }

    fn message(&mut self, id: u8, body: &[u8]) {
        let mut bytes = (body.len() as u32 + 1).to_be_bytes().to_vec();
        bytes.push(id);
        bytes.extend_from_slice(body);
        self.send(bytes, usize::MAX);
    }

    fn send(&mut self, mut bytes: Vec<u8>, most: usize) {
        if let Some(cipher) = &mut self.cipher {
            cipher.apply(&mut bytes);
        }
        self.read(&bytes, most);
    }

    /// What an engine does with the events.
    fn owner(&mut self) {
        while let Some(event) = self.peer.poll_event() {
            assert!(!self.closed, "an event after the end: {event:?}");
            let mut cx = Cx {
                now: self.now,
                rng: &mut self.rng,
            };
            match event {
                PeerEvent::Handshake { info_hash, .. } => {
                    assert!(!self.welcomed, "two handshakes");
                    self.welcomed = true;
                    if info_hash == TORRENT {
                        self.peer.welcome(&mut cx, &local());
                    } else {
                        self.peer.close(&mut self.pool);
                    }
                }
                PeerEvent::Established => {
                    assert!(!self.established, "established twice");
                    self.established = true;
                    self.peer.set_pieces(PIECES);
                    let mut have = Bitfield::new(PIECES);
                    have.set(3);
                    self.peer.bitfield(&have);
                }
                PeerEvent::Have(piece)
                | PeerEvent::DontHave(piece)
                | PeerEvent::Suggested(piece)
                | PeerEvent::AllowedFast(piece) => {
                    assert!(piece < PIECES, "a piece that there is not");
                }
                PeerEvent::Requested(at) => {
                    assert!(at.len as usize <= BLOCK_LEN);
                    if let Some(block) = (at.piece % 2 == 1).then(|| self.pool.take()).flatten() {
                        if let Some(block) = self.peer.send_block(at, block) {
                            self.pool.give(block);
                        }
                    } else {
                        self.peer.reject(at);
                    }
                }
                PeerEvent::Block { at, block } => {
                    assert!(at.len as usize <= BLOCK_LEN);
                    self.pool.give(block);
                }
                PeerEvent::MetadataRequested(piece) => {
                    self.peer.metadata_data(piece, 20_000, &[0; 100]);
                }
                PeerEvent::MetadataPiece { data, .. } => assert!(data.len() <= BLOCK_LEN),
                PeerEvent::Pex { added, dropped } => {
                    assert!(added.len() <= 100 && dropped.len() <= 100);
                }
                PeerEvent::Closed(_) => {
                    self.closed = true;
                    assert!(!self.peer.wants_write());
                }
                _ => {}
            }
        }
        assert!(self.peer.queued_bytes() <= MAX_QUEUED);
        assert!(
            self.peer.asked_len() <= 20,
            "more requests than we said we would queue"
        );
        assert!(self.peer.has().len() <= PIECES);
    }

    /// However it ends, all blocks come home.
    fn finish(&mut self) {
        self.peer.close(&mut self.pool);
        assert_eq!(self.pool.lent(), 0, "a block is lost");
        assert_eq!(self.peer.poll_timeout(), None);
    }
}
