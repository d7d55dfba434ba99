//! One torrent without an engine: the test is the rest of the engine, the driver, the disk and the peers.

use alloc::{boxed::Box, vec, vec::Vec};
use core::net::SocketAddr;
use core::time::Duration;

use super::conn::link::Link;
use super::conn::stream::{Flow, Stream};
use super::conn::{Conn, Greeting, Opened};
use super::io::Io;
use super::member_id::MemberId;
use super::outbox::event::{Event, What};
use super::outbox::ops::Purpose;
use super::outbox::timers::{Timer, TorrentTimer};
use super::surroundings::Surroundings;
use super::{AddTorrent, ReadBufs, Source, State, WriteBufs, cx};
use super::{Torrent, Wants};
use crate::hash::sha1;
use crate::metainfo::{Builder, Info};
use crate::op::FileStat;
use crate::peer::crypto::Encryption;
use crate::peer::{Peer, PeerEvent};
use crate::sync::Arc;
use crate::wire::peer::{Handshake, Message, Reserved, id, piece_header};
use crate::{
    BLOCK_LEN, BlockRef, Config, ConnId, Op, OpError, OpErrorKind, OpId, Outcome, PeerId, TorrentId,
};

const ID: TorrentId = TorrentId(1);
/// Pieces of one block each.
const PIECES: usize = 3;

/// A torrent, and all that it works with.
struct Bench {
    around: Surroundings,
    torrent: Torrent,
    info: Arc<Info>,
    data: Vec<u8>,
    /// What was closed.
    closed: Vec<ConnId>,
}

impl Bench {
    /// A torrent that was added, with a file of the right length on the disk.
    fn new() -> Self {
        let data: Vec<u8> = (0..PIECES * BLOCK_LEN).map(|i| (i / 7) as u8).collect();
        let hashes: Vec<[u8; 20]> = data.chunks(BLOCK_LEN).map(sha1).collect();
        let mut builder = Builder::file("alone.bin", data.len() as u64);
        builder.piece_len = Some(BLOCK_LEN as u32);
        let info = builder.draft().unwrap().finish(&hashes).unwrap().info;
        let mut around = Surroundings::new(Config {
            pex: false,
            ..Config::default()
        });
        let mut add = AddTorrent::new(Source::Info(info.clone()));
        let io = &mut around.io();
        let mut torrent = Torrent::new(io, ID, (info.info_hash(), None), None, &mut add);
        torrent.begin(io, add);
        Self {
            around,
            torrent,
            info,
            data,
            closed: Vec::new(),
        }
    }

    fn with<T>(&mut self, what: impl FnOnce(&mut Torrent, &mut Io<'_>) -> T) -> T {
        let done = what(&mut self.torrent, &mut self.around.io());
        self.settle();
        done
    }

    /// What an engine does for a torrent before its call ends.
    fn settle(&mut self) {
        let io = &mut self.around.io();
        while io.out.wanting.pop_front().is_some() {
            let wants = self.torrent.intents.take_wants();
            if wants.contains(Wants::TRACKERS) {
                self.torrent.pump_trackers(io);
            }
            if wants.contains(Wants::PROCEED) {
                self.torrent.proceed(io);
            }
        }
        if core::mem::take(&mut io.out.next_check) && !io.out.checks.is_empty() {
            self.torrent.check_on(io);
        }
    }

    /// The next op on the files; streams that are closed are noted.
    fn next_op(&mut self) -> Option<Op> {
        loop {
            match self.around.out.ops.poll()? {
                Op::TcpClose { conn, .. } => self.closed.push(conn),
                op => return Some(op),
            }
        }
    }

    fn answer(&mut self, id: OpId, outcome: Outcome) {
        match self.around.out.ops.answered(id) {
            Some(Purpose::Disk(ID, job)) => self.with(|t, io| t.handle_disk(io, job, outcome)),
            Some(Purpose::Release(ID)) => {}
            other => panic!("{other:?}"),
        }
    }

    /// The disk as it should be, which holds piece 0 and nothing else, until there is nothing to do.
    fn disk_works(&mut self) {
        while let Some(op) = self.next_op() {
            let id = op.id().unwrap();
            let outcome = match op {
                Op::Open { .. } => Outcome::Opened(vec![Some(FileStat {
                    len: self.data.len() as u64,
                    mtime_ns: 1,
                    id: Some(1),
                })]),
                Op::Hash(mut job) => {
                    let bytes = match job.at {
                        0 => self.data[..job.len as usize].to_vec(),
                        _ => vec![0; job.len as usize],
                    };
                    job.hasher().update(&bytes);
                    job.done()
                }
                Op::Read(mut job) => {
                    let bytes = &self.data[job.at as usize..];
                    for (part, chunk) in job.parts().zip(bytes.chunks(BLOCK_LEN)) {
                        part.copy_from_slice(&chunk[..part.len()]);
                    }
                    job.done()
                }
                Op::Write(mut job) => {
                    job.feed();
                    job.done()
                }
                Op::Claim { .. } | Op::Save { .. } | Op::Release { .. } => Outcome::Done,
                Op::Flush { .. } => Outcome::Flushed(self.torrent.files.stats.clone()),
                other => panic!("{other:?}"),
            };
            self.answer(id, outcome);
        }
    }

    /// A peer connects, and both handshakes pass. It speaks nothing but BEP 3.
    fn join(&mut self, n: u8) -> ConnId {
        let remote = SocketAddr::from(([10, 0, 0, n], 6881));
        let policy = Encryption::Off;
        let io = &mut self.around.io();
        let peer = Peer::incoming(&mut cx!(io), &io.setup.peer_config, policy);
        let conn = io.conns.insert(remote, |id| {
            let (stream, opened) = (
                Stream::new(id, remote, peer, Link::accepted()),
                Opened::ByPeer(None),
            );
            Conn::Greeting(Box::new(Greeting { stream, opened }))
        });
        let handshake = Handshake {
            reserved: Reserved::default(),
            info_hash: self.info.info_hash(),
            peer_id: PeerId([n; 20]),
        };
        self.say(conn, &handshake.emit());
        assert!(self.hear(conn).len() >= 68, "the answer");
        conn
    }

    fn member(&self, conn: ConnId) -> Option<MemberId> {
        match self.around.conns.get(conn) {
            Some(Conn::Member(ID, member)) => Some(*member),
            _ => None,
        }
    }

    /// A peer sends bytes.
    fn say(&mut self, conn: ConnId, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let member = self.member(conn);
            let io = &mut self.around.io();
            let stream = match member {
                Some(member) => &mut self.torrent.members.get_mut(member).unwrap().stream,
                None => &mut io.conns.greeting(conn).unwrap().stream,
            };
            let mut flow = Flow {
                now: io.now,
                pool: io.pool,
                throttle: io.throttle,
                out: io.out,
            };
            let mut bufs = ReadBufs::new();
            stream.read_bufs(&mut flow, &mut bufs);
            let mut len = 0;
            for buf in &mut bufs {
                let part = buf.len().min(bytes.len());
                buf[..part].copy_from_slice(&bytes[..part]);
                bytes = &bytes[part..];
                len += part;
            }
            drop(bufs);
            assert!(len > 0, "it reads");
            match member {
                Some(member) => self.with(|t, io| t.handle_read(io, member, len)),
                None => self.greet(conn, len),
            }
        }
    }

    /// A stream whose handshakes are not through has bytes.
    fn greet(&mut self, conn: ConnId, len: usize) {
        let io = &mut self.around.io();
        let peer = &mut io.conns.greeting(conn).unwrap().stream.peer;
        let mut cx = crate::Cx {
            now: io.now,
            rng: io.rng,
        };
        peer.handle_read(&mut cx, io.pool, len, &|_| None);
        self.greeted(conn);
    }

    /// What a stream whose handshakes are not through has to say, the torrent is told as an engine would.
    fn greeted(&mut self, conn: ConnId) {
        while let Some(greeting) = self.around.conns.greeting(conn)
            && let Some(event) = greeting.stream.peer.poll_event()
        {
            match event {
                PeerEvent::Handshake { peer_id, .. } => {
                    self.with(|t, io| t.welcome(io, conn, peer_id));
                }
                PeerEvent::Established => {
                    self.with(|t, io| t.take_in(io, conn));
                    let member = self.member(conn).unwrap();
                    self.with(|t, io| t.handle_peer(io, member));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// What the torrent sends a peer.
    fn hear(&mut self, conn: ConnId) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let member = self.member(conn);
            let io = &mut self.around.io();
            let stream = match member {
                Some(member) => &mut self.torrent.members.get_mut(member).unwrap().stream,
                None => &mut io.conns.greeting(conn).unwrap().stream,
            };
            let mut flow = Flow {
                now: io.now,
                pool: io.pool,
                throttle: io.throttle,
                out: io.out,
            };
            let mut bufs = WriteBufs::new();
            stream.write_bufs(&mut flow, None, &mut bufs);
            let bytes: Vec<u8> = bufs.iter().flat_map(|b| b.iter().copied()).collect();
            drop(bufs);
            if bytes.is_empty() {
                return all;
            }
            match member {
                Some(member) => self.with(|t, io| t.handle_written(io, member, bytes.len())),
                None => {
                    let mut cx = crate::Cx {
                        now: io.now,
                        rng: io.rng,
                    };
                    stream.peer.handle_written(&mut cx, flow.pool, bytes.len());
                    self.greeted(conn);
                }
            }
            all.extend(bytes);
        }
    }

    fn timeout(&mut self, timer: TorrentTimer, after: Duration) {
        let timers = &self.around.out.timers;
        assert!(timers.is_armed(Timer::Torrent(ID, timer)), "{timer:?}");
        self.around.now += after;
        self.with(|t, io| t.handle_timeout(io, timer));
    }

    fn have(&self) -> Vec<u32> {
        let picker = self.torrent.content.picker();
        picker.map_or_else(Vec::new, |p| p.have().iter().collect())
    }
}

fn block(piece: u32) -> BlockRef {
    BlockRef {
        piece,
        begin: 0,
        len: BLOCK_LEN as u32,
    }
}

fn message(message: Message<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.emit(&mut bytes);
    bytes
}

/// A `piece` message.
fn piece(bench: &Bench, at: BlockRef) -> Vec<u8> {
    let from = at.piece as usize * BLOCK_LEN;
    let data = &bench.data[from..from + BLOCK_LEN];
    [&piece_header(at)[..], data].concat()
}

/// The pieces that a stream of messages asks for.
fn requested(mut bytes: &[u8]) -> Vec<u32> {
    let mut pieces = Vec::new();
    while let Some((len, rest)) = bytes.split_first_chunk::<4>() {
        let (body, rest) = rest.split_at(u32::from_be_bytes(*len) as usize);
        if let [id::REQUEST, a, b, c, d, ..] = body {
            pieces.push(u32::from_be_bytes([*a, *b, *c, *d]));
        }
        bytes = rest;
    }
    pieces.sort_unstable();
    pieces
}

#[test]
fn a_torrent_lives_without_an_engine() {
    let mut bench = Bench::new();
    assert_eq!(bench.torrent.state(), State::Opening);
    bench.disk_works();
    assert_eq!(bench.torrent.state(), State::Downloading, "it was checked");
    assert_eq!(bench.have(), [0]);

    // A seed, which is asked for what is missing.
    let seed = bench.join(1);
    bench.say(seed, &message(Message::Bitfield(&[0b1110_0000])));
    bench.say(seed, &message(Message::Unchoke));
    assert_eq!(requested(&bench.hear(seed)), [1, 2]);
    let sent = piece(&bench, block(1));
    bench.say(seed, &sent);
    assert_eq!(bench.around.pool.lent(), 1, "the block is with the disk");
    let leech = bench.join(2);
    bench.disk_works();
    assert_eq!(bench.have(), [0, 1]);
    assert_eq!(bench.around.pool.lent(), 0, "it came home");
    let news = bench.hear(leech);
    assert!(news.ends_with(&message(Message::Have(1))), "{news:?}");

    // A leech, which is served.
    bench.say(leech, &message(Message::Interested));
    bench.timeout(TorrentTimer::Unchoke, Duration::from_millis(50));
    assert_eq!(bench.hear(leech), message(Message::Unchoke));
    bench.say(leech, &message(Message::Request(block(1))));
    bench.disk_works();
    let expected = piece(&bench, block(1));
    assert!(bench.hear(leech) == expected, "the block that it asked for");

    // The disk fails: it rests, and every block comes home.
    let sent = piece(&bench, block(2));
    bench.say(seed, &sent);
    let write = bench.next_op().unwrap();
    assert!(matches!(write, Op::Write(_)), "{write:?}");
    let error = OpError {
        kind: OpErrorKind::Io,
        detail: "broken".into(),
    };
    let state = State::Failed(error.clone());
    bench.answer(write.id().unwrap(), write.fail(error));
    assert_eq!(bench.torrent.state(), state);
    bench.disk_works();
    assert_eq!(bench.closed, [seed, leech]);
    assert_eq!((bench.around.conns.len(), bench.around.pool.lent()), (0, 0));
    assert_eq!(bench.have(), [0, 1], "what it has is not forgotten");

    // It tries again by itself, and is stopped.
    bench.timeout(TorrentTimer::Retry, super::DISK_RETRY);
    assert_eq!(bench.torrent.state(), State::Downloading);
    bench.with(|t, io| t.begin_stop(io, false));
    assert_eq!(bench.torrent.state(), State::Stopping);
    let (mut saved, mut released) = (false, false);
    while let Some(op) = bench.next_op() {
        saved |= matches!(op, Op::Save { .. });
        released |= matches!(op, Op::Release { .. });
        assert!(saved || !released, "the record comes first");
        let outcome = match op {
            Op::Flush { .. } => Outcome::Flushed(bench.torrent.files.stats.clone()),
            _ => Outcome::Done,
        };
        bench.answer(op.id().unwrap(), outcome);
    }
    assert!(saved && released);
}

#[test]
fn a_block_that_cannot_be_written_during_a_stop_is_reported_once() {
    let mut bench = Bench::new();
    bench.disk_works();
    let seed = bench.join(1);
    bench.say(seed, &message(Message::Bitfield(&[0b1110_0000])));
    bench.say(seed, &message(Message::Unchoke));
    for n in [1, 2] {
        let sent = piece(&bench, block(n));
        bench.say(seed, &sent);
    }
    bench.with(|t, io| t.begin_stop(io, false));
    let mut warnings = 0;
    while let Some(op) = bench.next_op() {
        let id = op.id().unwrap();
        let outcome = match op {
            Op::Write(_) => op.fail(OpError {
                kind: OpErrorKind::Io,
                detail: "broken".into(),
            }),
            Op::Flush { .. } => Outcome::Flushed(bench.torrent.files.stats.clone()),
            _ => Outcome::Done,
        };
        bench.answer(id, outcome);
        while let Some(event) = bench.around.out.poll_notice() {
            let Event::Notice(notice) = event else {
                continue;
            };
            warnings += u32::from(matches!(notice.what, What::Disk { .. }));
        }
    }
    assert_eq!(warnings, 1, "two writes failed for one reason");
    assert_eq!(bench.around.pool.lent(), 0);
}
