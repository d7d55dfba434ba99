//! Peers that lie, flood or sit still, played byte by byte against one engine.

#![allow(clippy::unwrap_used, reason = "a test that unwraps nothing fails")]

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::{add, torrent};
use dunlin_core::engine::{Engine, Event, ReadBufs, Source, What, WriteBufs};
use dunlin_core::metainfo::Info;
use dunlin_core::{Caps, Config, ConnId, Instant, Op, Outcome};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// One engine with one torrent, and peers made of bytes.
struct Bench {
    e: Engine,
    now: Instant,
    connects: Vec<SocketAddr>,
}

impl Bench {
    fn new(source: Source, config: Config) -> Self {
        let now = Instant::from_micros(10);
        let rng = Box::new(ChaCha8Rng::seed_from_u64(1));
        let mut e = Engine::new(now, config, Caps::all(), rng);
        e.add(now, add(source)).unwrap();
        let mut this = Self {
            e,
            now,
            connects: Vec::new(),
        };
        this.pump();
        this
    }

    /// A disk without files, on which nothing goes wrong.
    fn pump(&mut self) {
        while let Some(op) = self.e.poll_op() {
            let outcome = match &op {
                Op::TcpConnect { remote, .. } => {
                    self.connects.push(*remote);
                    continue;
                }
                Op::Open { .. } => Outcome::Opened(vec![None]),
                Op::Flush { .. } => Outcome::Flushed(vec![None]),
                _ => Outcome::Done,
            };
            if let Some(id) = op.id() {
                self.e.handle_op(self.now, id, outcome);
            }
        }
        self.e.audit().unwrap();
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.e.poll_timeout().filter(|at| *at <= end) {
            self.now = at;
            self.e.handle_timeout(at);
            self.pump();
        }
        self.now = end;
    }

    /// Somebody who comes from 10.8.0.`host` and says hello.
    fn peer(&mut self, host: u8, info: &Info) -> ConnId {
        let from = SocketAddr::from(([10, 8, 0, host], 40_000));
        let conn = self.e.accept(self.now, from).unwrap();
        let mut hello = b"\x13BitTorrent protocol\0\0\0\0\0\x10\0\x05".to_vec();
        hello.extend_from_slice(&info.info_hash().0);
        hello.extend_from_slice(b"-XX0001-abcdefghijk");
        hello.push(host);
        self.say(conn, &hello);
        conn
    }

    /// All of it in as few reads as the engine lets us.
    fn say(&mut self, conn: ConnId, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let mut bufs = ReadBufs::new();
            self.e.read_bufs(self.now, conn, &mut bufs);
            let mut len = 0;
            for buf in &mut bufs {
                let n = buf.len().min(bytes.len());
                buf[..n].copy_from_slice(&bytes[..n]);
                bytes = &bytes[n..];
                len += n;
            }
            drop(bufs);
            if len == 0 {
                break;
            }
            self.e.handle_read(self.now, conn, len);
        }
        self.pump();
    }

    /// What the engine says to it.
    fn hear(&mut self, conn: ConnId) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let mut bufs = WriteBufs::new();
            self.e.write_bufs(self.now, conn, &mut bufs);
            let bytes: Vec<u8> = bufs.iter().flat_map(|b| b.iter().copied()).collect();
            drop(bufs);
            if bytes.is_empty() {
                return all;
            }
            self.e.handle_written(self.now, conn, bytes.len());
            all.extend(bytes);
        }
    }

    fn has_metadata(&mut self) -> bool {
        let events = core::iter::from_fn(|| self.e.poll_event());
        events
            .filter(|e| matches!(e, Event::Notice(n) if n.what == What::Metadata))
            .count()
            > 0
    }
}

fn message(id: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32 + 1).to_be_bytes().to_vec();
    out.push(id);
    out.extend_from_slice(payload);
    out
}

fn extended(payload: &[u8]) -> Vec<u8> {
    message(20, payload)
}

fn metadata_hello(size: usize) -> Vec<u8> {
    extended(format!("\0d1:md11:ut_metadatai1ee13:metadata_sizei{size}ee").as_bytes())
}

/// Our answer goes under the number that the engine's own handshake gave.
fn metadata_data(heard: &[u8], raw: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(heard);
    let at = text.find("11:ut_metadatai").unwrap() + "11:ut_metadatai".len();
    let number = text[at..].split('e').next().unwrap().parse().unwrap();
    let mut payload = vec![number];
    let head = format!("d8:msg_typei1e5:piecei0e10:total_sizei{}ee", raw.len());
    payload.extend_from_slice(head.as_bytes());
    payload.extend_from_slice(raw);
    extended(&payload)
}

fn contains(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|w| w == part)
}

const REQUEST: &[u8] = b"8:msg_typei0e5:piecei0e";

#[test]
fn pieces_are_counted_once_however_they_are_told() {
    let (info, _) = torrent(12 * (16 << 10), 16 << 10);
    let mut b = Bench::new(Source::Info(info.clone()), Config::default());
    let have = |n: u32| message(4, &n.to_be_bytes());
    let conn = b.peer(1, &info);
    // A bitfield and haves in one read; another bitfield; all; none; the rest one by one.
    b.say(
        conn,
        &[message(5, &[0xf0, 0]), have(4), have(5), have(4)].concat(),
    );
    b.say(
        conn,
        &[
            message(5, &[0x80, 0]),
            message(14, &[]),
            message(5, &[0x40, 0]),
        ]
        .concat(),
    );
    b.say(conn, &[message(14, &[]), message(15, &[])].concat());
    let all: Vec<u8> = (0..12).flat_map(have).collect();
    b.say(conn, &all);
    assert_eq!(
        b.e.peers(b.now, b.e.torrents().next().unwrap())[0].pieces,
        12
    );
    let other = b.peer(2, &info);
    b.say(other, &[message(14, &[]), have(3)].concat());
    b.e.handle_closed(b.now, conn, dunlin_core::CloseReason::Reset);
    b.pump();
    b.e.handle_closed(b.now, other, dunlin_core::CloseReason::Reset);
    b.pump();
}

#[test]
fn silent_callers_do_not_keep_us_from_calling() {
    let (info, _) = torrent(100_000, 32 << 10);
    let config = Config {
        max_half_open: 3,
        ..Config::default()
    };
    let mut b = Bench::new(Source::Info(info), config);
    for n in 1..10 {
        let from = SocketAddr::from(([10, 8, 0, n], 40_000));
        assert!(b.e.accept(b.now, from).is_some());
    }
    let peer = "10.9.9.9:99".parse().unwrap();
    let id = b.e.torrents().next().unwrap();
    b.e.add_peers(b.now, id, &[peer]);
    b.pump();
    assert_eq!(b.connects, [peer]);
}

#[test]
fn who_talks_but_never_listens_is_let_go() {
    let (info, _) = torrent(100_000, 32 << 10);
    let mut b = Bench::new(Source::Info(info.clone()), Config::default());
    let (deaf, good) = (b.peer(1, &info), b.peer(2, &info));
    for _ in 0..6 {
        b.wait(Duration::from_secs(60));
        b.say(deaf, &[0; 4]);
        b.say(good, &[0; 4]);
        b.hear(good);
    }
    assert_eq!(b.e.status(b.now).connections, 1);
}

fn magnet(info: &Info) -> Source {
    Source::Hash {
        info_hash: info.info_hash(),
        name: None,
    }
}

#[test]
fn who_names_a_wrong_size_first_does_not_hold_a_magnet_up() {
    let (info, _) = torrent(100_000, 32 << 10);
    let mut b = Bench::new(magnet(&info), Config::default());
    let liar = b.peer(1, &info);
    b.say(liar, &metadata_hello(50_000));
    let honest = b.peer(2, &info);
    b.say(honest, &metadata_hello(info.raw().len()));
    let heard = b.hear(honest);
    assert!(!contains(&heard, REQUEST));
    b.wait(Duration::from_secs(60));
    let asked = b.hear(honest);
    assert!(contains(&asked, REQUEST));
    b.say(honest, &metadata_data(&heard, info.raw()));
    assert!(b.has_metadata());
}

#[test]
fn who_sends_wrong_metadata_is_banned_and_the_next_is_asked() {
    let (info, _) = torrent(100_000, 32 << 10);
    let mut b = Bench::new(magnet(&info), Config::default());
    let liar = b.peer(1, &info);
    b.say(liar, &metadata_hello(info.raw().len()));
    let heard = b.hear(liar);
    assert!(contains(&heard, REQUEST));
    let mut wrong = info.raw().to_vec();
    wrong[20] ^= 1;
    b.say(liar, &metadata_data(&heard, &wrong));
    let honest = b.peer(2, &info);
    b.say(honest, &metadata_hello(info.raw().len()));
    let heard = b.hear(honest);
    b.wait(Duration::from_secs(60));
    let asked = [heard.clone(), b.hear(honest)].concat();
    assert!(contains(&asked, REQUEST));
    b.say(honest, &metadata_data(&heard, info.raw()));
    assert!(b.has_metadata());
}
