use alloc::{collections::VecDeque, vec, vec::Vec};

use quickcheck::quickcheck;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use super::*;
use crate::BLOCK_LEN;

mod inbound;
mod pair;
mod protocol;
mod slips;
mod timing;

const TORRENT: InfoHash = InfoHash([0x5a; 20]);
const BLOCK: u32 = BLOCK_LEN as u32;

fn local(id: u8) -> Local<'static> {
    Local {
        info_hash: TORRENT,
        peer_id: PeerId([id; 20]),
        dht: true,
        pex: true,
        listen_port: Some(6881),
        version: "test",
        remote_ip: IpAddr::from([10, 0, 0, id]),
        metadata_size: Some(20_000),
        upload_only: false,
    }
}

fn at(piece: u32, begin: u32, len: u32) -> BlockRef {
    BlockRef { piece, begin, len }
}

/// Byte `i` of a block: different for every block, and no block is a shift of another.
fn payload(at: BlockRef) -> Vec<u8> {
    let mut seed = [0; 32];
    seed[..4].copy_from_slice(&at.piece.to_be_bytes());
    seed[4..8].copy_from_slice(&at.begin.to_be_bytes());
    let mut out = vec![0; at.len as usize];
    ChaCha8Rng::from_seed(seed).fill_bytes(&mut out);
    out
}

fn knows(name: &[u8; 20]) -> Option<InfoHash> {
    (*name == crypto::req2(&TORRENT)).then_some(TORRENT)
}

/// One end: the machine, its pool, what it said and what it reported.
#[derive(Debug)]
struct End {
    peer: Peer,
    pool: BlockPool,
    events: Vec<PeerEvent>,
    /// Bytes on their way to it.
    wire: VecDeque<u8>,
}

impl End {
    fn new(peer: Peer) -> Self {
        Self {
            peer,
            pool: BlockPool::new(64),
            events: Vec::new(),
            wire: VecDeque::new(),
        }
    }

    fn collect(&mut self) {
        while let Some(event) = self.peer.poll_event() {
            assert!(self.fault().is_none(), "after the end: {event:?}");
            self.events.push(event);
        }
    }

    /// One read of at most `limit` bytes from the wire, as `readv` would; returns how many came.
    fn read(&mut self, cx: &mut Cx<'_>, limit: usize, max: usize) -> usize {
        let mut bufs = heapless::Vec::new();
        self.peer.read_bufs(&mut self.pool, limit, &mut bufs);
        let (mut n, lent) = (0, bufs.iter().map(|b| b.len()).sum::<usize>());
        assert!(lent <= limit, "lent {lent} of {limit}");
        for buf in bufs {
            let mut rest = &mut *buf;
            while let want @ 1.. = rest.len().min(max - n).min(self.wire.len()) {
                let (front, _) = self.wire.as_slices();
                let step = want.min(front.len());
                rest[..step].copy_from_slice(&front[..step]);
                self.wire.drain(..step);
                rest = &mut rest[step..];
                n += step;
            }
        }
        self.peer.handle_read(cx, &mut self.pool, n, &knows);
        self.collect();
        n
    }

    /// One write of at most `limit` bytes.
    fn write(&mut self, cx: &mut Cx<'_>, limit: usize) -> Vec<u8> {
        let mut bufs = heapless::Vec::new();
        self.peer.write_bufs(limit, &mut bufs);
        let bytes = bufs.concat();
        drop(bufs);
        assert!(bytes.len() <= limit);
        self.peer.handle_written(cx, &mut self.pool, bytes.len());
        bytes
    }

    fn take_events(&mut self) -> Vec<PeerEvent> {
        self.collect();
        core::mem::take(&mut self.events)
    }

    /// Everything it has to say now.
    fn said(&mut self, cx: &mut Cx<'_>) -> Vec<u8> {
        let mut all = vec![];
        while self.peer.wants_write() {
            all.extend(self.write(cx, usize::MAX));
        }
        all
    }

    /// Reads `bytes` to their end.
    fn hear(&mut self, cx: &mut Cx<'_>, bytes: &[u8]) {
        self.wire.extend(bytes);
        while !self.wire.is_empty() && self.read(cx, usize::MAX, usize::MAX) > 0 {}
    }

    /// Closes it and counts the blocks that are still out.
    fn lent_after_close(mut self) -> usize {
        self.peer.close(&mut self.pool);
        for event in self.events.drain(..) {
            if let PeerEvent::Block { block, .. } = event {
                self.pool.give(block);
            }
        }
        self.pool.lent()
    }

    fn fault(&self) -> Option<PeerFault> {
        self.events.iter().find_map(|e| match e {
            PeerEvent::Closed(fault) => Some(*fault),
            _ => None,
        })
    }
}

/// A clock and a source of randomness.
#[derive(Debug)]
struct World {
    now: Instant,
    rng: ChaCha8Rng,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            now: Instant::from_micros(1_000_000),
            rng: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    fn cx(&mut self) -> Cx<'_> {
        Cx {
            now: self.now,
            rng: &mut self.rng,
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.rng.next_u32() as usize % bound.max(1)
    }
}

/// An open outgoing connection whose remote is played by the test, and is fast.
fn open(world: &mut World, pieces: u32) -> End {
    open_with(world, pieces, Reserved::ours(true))
}

fn open_with(world: &mut World, pieces: u32, reserved: Reserved) -> End {
    let cfg = PeerConfig::default();
    let mut end = End::new(Peer::outgoing(&mut world.cx(), &cfg, &local(1), None));
    let hello = Handshake {
        reserved,
        info_hash: TORRENT,
        peer_id: PeerId([2; 20]),
    };
    end.hear(&mut world.cx(), &hello.emit());
    end.peer.set_pieces(pieces);
    end.said(&mut world.cx());
    assert!(end.peer.is_open());
    end.take_events();
    end
}

fn bytes_of(messages: &[Message<'_>]) -> Vec<u8> {
    let mut out = vec![];
    for message in messages {
        message.emit(&mut out);
    }
    out
}

#[test]
fn s13_a_port_of_another_length_is_ignored() {
    let mut world = World::new(1);
    let mut end = open(&mut world, 4);
    for len in [0u32, 1, 3, 4, 40] {
        let mut bytes = (len + 1).to_be_bytes().to_vec();
        bytes.push(crate::wire::peer::id::PORT);
        bytes.resize(5 + len as usize, 1);
        end.hear(&mut world.cx(), &bytes);
    }
    end.hear(&mut world.cx(), &bytes_of(&[Message::Port(6881)]));
    let mut events = end.take_events();
    events.retain(|event| !matches!(event, PeerEvent::Forgiven));
    assert!(
        matches!(events[..], [PeerEvent::DhtPort(6881)]),
        "{events:?}"
    );
}

#[test]
fn keepalives_and_unknown_messages_are_passed_over() {
    let mut world = World::new(1);
    let mut end = open(&mut world, 4);
    let bytes = bytes_of(&[
        Message::KeepAlive,
        Message::Unknown { id: 77 },
        Message::Have(3),
    ]);
    end.hear(&mut world.cx(), &bytes);
    assert!(end.peer.has().get(3) && end.fault().is_none());
}
