//! Rate limits under the traffic of a real swarm: a few peers that move payload, and many that say
//! little. The peers are played byte by byte under virtual time.

#![allow(clippy::unwrap_used, reason = "a test that unwraps nothing fails")]

mod common;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use common::add;
use common::commands::Commands;
use dunlin_core::engine::{AddTorrent, Check, Engine, ReadBufs, Scope, Source, WriteBufs};
use dunlin_core::metainfo::{Builder, Info};
use dunlin_core::op::FileStat;
use dunlin_core::sync::Arc;
use dunlin_core::{BLOCK_LEN, Caps, Config, ConnId, Instant, Op, Outcome, TorrentId};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

const PIECE: u32 = 256 << 10;
const BULK: usize = 10;
const QUIET: usize = 200;
/// How often a quiet peer says something.
const PERIOD: Duration = Duration::from_secs(2);
const SECOND: Duration = Duration::from_secs(1);

const UNCHOKE: u8 = 1;
const INTERESTED: u8 = 2;
const ALLOWED_FAST: u8 = 17;
const HAVE: u8 = 4;
const REQUEST: u8 = 6;
const PIECE_MESSAGE: u8 = 7;
const HAVE_ALL: u8 = 14;
const HAVE_NONE: u8 = 15;
const REJECT: u8 = 16;

fn message(id: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32 + 1).to_be_bytes().to_vec();
    out.push(id);
    out.extend_from_slice(payload);
    out
}

fn request(block: u32) -> Vec<u8> {
    let per_piece = PIECE / BLOCK_LEN as u32;
    let fields = [
        block / per_piece,
        block % per_piece * BLOCK_LEN as u32,
        BLOCK_LEN as u32,
    ];
    message(REQUEST, &fields.map(u32::to_be_bytes).concat())
}

/// A torrent of zeros.
fn zeros(len: u64) -> Arc<Info> {
    let piece = dunlin_core::hash::sha1(&vec![0; PIECE as usize]);
    let mut builder = Builder::file("zeros", len);
    builder.piece_len = Some(PIECE);
    let hashes = vec![piece; (len / u64::from(PIECE)) as usize];
    builder.draft().unwrap().finish(&hashes).unwrap().info
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Sends every block that is asked for at once.
    Seed,
    /// Asks for blocks, sixteen at a time.
    Leech,
    /// Says that it has one more piece every two seconds.
    Quiet,
    /// Asks for a block every two seconds, although it is choked.
    Beggar,
    /// Asks for 240 blocks once it is unchoked, and reads nothing from then on.
    Deaf,
}

struct Remote {
    role: Role,
    conn: ConnId,
    /// Bytes in the socket's buffer.
    to_engine: VecDeque<u8>,
    heard: Vec<u8>,
    shook_hands: bool,
    unchoked: bool,
    next_block: u32,
    owed: u32,
    payload: u64,
    haves: u32,
    allowed: u32,
    rejects: u32,
    requested: u32,
    speaks: Instant,
    read: bool,
    write: bool,
}

struct Scene {
    engine: Engine,
    torrent: TorrentId,
    now: Instant,
    remotes: Vec<Remote>,
    by_conn: BTreeMap<ConnId, usize>,
    blocks: u32,
    seeding: bool,
}

impl Scene {
    fn new(info: &Arc<Info>, seeding: bool, mut config: Config) -> Self {
        config.upload_slots.get_or_insert(BULK as u32 + 2);
        config.max_connections_per_torrent = 300;
        config.max_handshaking = 300;
        let now = Instant::from_micros(1_000_000);
        let rng = Box::new(ChaCha8Rng::seed_from_u64(1));
        let mut engine = Engine::new(now, config, Caps::all(), rng);
        let mut torrent: AddTorrent = add(Source::Info(info.clone()));
        if seeding {
            torrent.check = Check::Nothing;
        }
        let torrent = engine.add(now, torrent).unwrap();
        let mut this = Self {
            engine,
            torrent,
            now,
            remotes: Vec::new(),
            by_conn: BTreeMap::new(),
            blocks: (info.total_len() / BLOCK_LEN as u64) as u32,
            seeding,
        };
        this.settle(info);
        this
    }

    fn join(&mut self, info: &Info, role: Role, count: usize) {
        for _ in 0..count {
            let n = self.remotes.len();
            let from = SocketAddr::from(([10, 8, (n / 200) as u8, (n % 200) as u8 + 1], 40_000));
            let conn = self.engine.accept(self.now, from).unwrap();
            let mut hello = b"\x13BitTorrent protocol\0\0\0\0\0\0\0\x04".to_vec();
            hello.extend_from_slice(&info.info_hash().0);
            hello.extend_from_slice(format!("-XX0001-{n:012}").as_bytes());
            hello.extend(match role {
                Role::Seed => [message(HAVE_ALL, &[]), message(UNCHOKE, &[])].concat(),
                Role::Leech | Role::Deaf => {
                    [message(HAVE_NONE, &[]), message(INTERESTED, &[])].concat()
                }
                Role::Quiet | Role::Beggar => message(HAVE_NONE, &[]),
            });
            self.by_conn.insert(conn, n);
            self.remotes.push(Remote {
                role,
                conn,
                to_engine: hello.into(),
                heard: Vec::new(),
                shook_hands: false,
                unchoked: false,
                next_block: (n as u32 * 31) % self.blocks,
                owed: 0,
                payload: 0,
                haves: 0,
                allowed: 0,
                rejects: 0,
                requested: 0,
                speaks: self.now + Duration::from_millis(10 * n as u64),
                read: true,
                write: true,
            });
        }
    }

    fn run(&mut self, info: &Info, time: Duration) {
        let end = self.now + time;
        loop {
            self.settle(info);
            let speaks = self
                .remotes
                .iter()
                .filter(|r| r.role.speaks())
                .map(|r| r.speaks);
            let next = speaks.chain(self.engine.poll_timeout()).min();
            let Some(next) = next.filter(|at| *at <= end) else {
                break;
            };
            self.now = self.now.max(next);
            if self.engine.poll_timeout().is_some_and(|at| at <= self.now) {
                self.engine.handle_timeout(self.now);
            }
            for remote in &mut self.remotes {
                remote.speak(self.now, self.blocks);
            }
        }
        self.now = end;
    }

    fn settle(&mut self, info: &Info) {
        let mut busy = true;
        while core::mem::take(&mut busy) {
            while let Some(op) = self.engine.poll_op() {
                busy = true;
                self.op(info, op);
            }
            while let Some((conn, readiness)) = self.engine.poll_interest() {
                busy = true;
                if let Some(n) = self.by_conn.get(&conn) {
                    let remote = &mut self.remotes[*n];
                    (remote.read, remote.write) = (readiness.read, readiness.write);
                }
            }
            for remote in &mut self.remotes {
                busy |= remote.write(&mut self.engine, self.now);
                remote.answer(self.blocks);
                busy |= remote.read(&mut self.engine, self.now);
            }
            while self.engine.poll_event().is_some() {}
        }
    }

    fn op(&mut self, info: &Info, op: Op) {
        let outcome = match op {
            Op::Open { .. } => Outcome::Opened(vec![self.seeding.then_some(FileStat {
                len: info.total_len(),
                mtime_ns: 1,
                id: None,
            })]),
            Op::Flush { .. } => Outcome::Flushed(vec![Some(FileStat {
                len: info.total_len(),
                mtime_ns: 1,
                id: None,
            })]),
            Op::Read(mut job) => {
                job.parts().for_each(|part| part.fill(0));
                return self.engine.handle_op(self.now, job.op, job.done());
            }
            Op::Write(mut job) => {
                job.feed();
                return self.engine.handle_op(self.now, job.op, job.done());
            }
            Op::Hash(mut job) => {
                let zeros = vec![0; job.len as usize];
                job.hasher().update(&zeros);
                return self.engine.handle_op(self.now, job.op, job.done());
            }
            ref other => match other.id() {
                Some(_) => Outcome::Done,
                None => return,
            },
        };
        if let Some(id) = op.id() {
            self.engine.handle_op(self.now, id, outcome);
        }
    }

    fn moved(&self) -> (u64, u64) {
        let t = self.engine.torrent(self.torrent).unwrap().status(self.now);
        (t.downloaded, t.uploaded)
    }

    fn sum(&self, role: Role, of: impl Fn(&Remote) -> u32) -> u32 {
        let those = self.remotes.iter().filter(|r| r.role == role);
        those.map(of).sum()
    }
}

impl Role {
    fn speaks(self) -> bool {
        matches!(self, Self::Quiet | Self::Beggar)
    }
}

impl Remote {
    fn speak(&mut self, now: Instant, blocks: u32) {
        if !self.role.speaks() || self.speaks > now {
            return;
        }
        self.speaks = now + PERIOD;
        let piece = self.next_block / (PIECE / BLOCK_LEN as u32);
        self.to_engine.extend(match self.role {
            Role::Quiet => message(HAVE, &piece.to_be_bytes()),
            _ => request(self.next_block),
        });
        self.next_block = (self.next_block + PIECE / BLOCK_LEN as u32) % blocks;
    }

    /// The engine writes; the kernel takes all of it.
    fn write(&mut self, engine: &mut Engine, now: Instant) -> bool {
        if !self.write || self.role == Role::Deaf && self.unchoked {
            return false;
        }
        let mut bufs = WriteBufs::new();
        engine.write_bufs(now, self.conn, &mut bufs);
        let before = self.heard.len();
        for buf in &bufs {
            self.heard.extend_from_slice(buf);
        }
        drop(bufs);
        let len = self.heard.len() - before;
        if len == 0 {
            self.write = false;
            return false;
        }
        engine.handle_written(now, self.conn, len);
        true
    }

    /// What it makes of what it heard.
    fn answer(&mut self, blocks: u32) {
        let mut at = 0;
        if !self.shook_hands && self.heard.len() >= 68 {
            self.shook_hands = true;
            at = 68;
        }
        while self.shook_hands
            && let Some(prefix) = self.heard.get(at..at + 4)
            && let len = u32::from_be_bytes(prefix.try_into().unwrap()) as usize
            && let Some(body) = self.heard.get(at + 4..at + 4 + len)
        {
            at += 4 + len;
            match body.first() {
                Some(&UNCHOKE) => self.unchoked = true,
                Some(&0) => (self.unchoked, self.owed) = (false, 0),
                Some(&HAVE) => self.haves += 1,
                Some(&ALLOWED_FAST) => self.allowed += 1,
                Some(&REJECT) => self.rejects += 1,
                Some(&REQUEST) => {
                    self.requested += 1;
                    let mut piece = body[1..9].to_vec();
                    piece.resize(8 + BLOCK_LEN, 0);
                    self.to_engine.extend(message(PIECE_MESSAGE, &piece));
                }
                Some(&PIECE_MESSAGE) => {
                    self.payload += body.len() as u64 - 9;
                    self.owed = self.owed.saturating_sub(1);
                }
                _ => {}
            }
        }
        self.heard.drain(..at);
        let most = match self.role {
            Role::Leech => 16,
            Role::Deaf => 240,
            _ => 0,
        };
        while self.unchoked && self.owed < most {
            self.to_engine.extend(request(self.next_block));
            self.next_block = (self.next_block + 1) % blocks;
            self.owed += 1;
        }
    }

    fn read(&mut self, engine: &mut Engine, now: Instant) -> bool {
        if !self.read || self.to_engine.is_empty() {
            return false;
        }
        let mut bufs = ReadBufs::new();
        engine.read_bufs(now, self.conn, &mut bufs);
        let mut len = 0;
        for buf in &mut bufs {
            let n = buf.len().min(self.to_engine.len());
            for (to, from) in buf.iter_mut().zip(self.to_engine.drain(..n)) {
                *to = from;
            }
            len += n;
        }
        drop(bufs);
        if len == 0 {
            self.read = false;
            return false;
        }
        engine.handle_read(now, self.conn, len);
        true
    }
}

/// Limits, and for how many seconds each is watched: blocks are counted when they are complete.
const RATES: [(u64, u32); 3] = [(100_000, 40), (500_000, 15), (5_000_000, 5)];

fn is_near(moved: u64, rate: u64, seconds: u32, what: &str) {
    let seconds = u64::from(seconds);
    let (least, most) = (rate * seconds * 95 / 100, rate * seconds * 103 / 100);
    assert!(
        (least..=most).contains(&moved),
        "{what} at {rate} B/s: {moved} bytes in {seconds} s"
    );
}

#[test]
fn quiet_peers_cost_a_download_limit_what_they_weigh() {
    for (rate, seconds) in RATES {
        let len = rate * u64::from(seconds + 5);
        let info = zeros(len / u64::from(PIECE) * u64::from(PIECE));
        let config = Config {
            limit_down: Some(rate),
            ..Config::default()
        };
        let mut scene = Scene::new(&info, false, config);
        scene.join(&info, Role::Seed, BULK);
        scene.join(&info, Role::Quiet, QUIET);
        scene.run(&info, 2 * SECOND);
        let before = scene.moved().0;
        scene.run(&info, seconds * SECOND);
        is_near(scene.moved().0 - before, rate, seconds, "download");
    }
}

#[test]
fn quiet_peers_cost_an_upload_limit_what_they_weigh() {
    for (rate, seconds) in RATES {
        let info = zeros(40 << 20);
        let config = Config {
            limit_up: Some(rate),
            ..Config::default()
        };
        let mut scene = Scene::new(&info, true, config);
        scene.join(&info, Role::Leech, BULK);
        scene.join(&info, Role::Beggar, QUIET);
        scene.run(&info, 3 * SECOND);
        let (before, rejects) = (scene.moved().1, scene.sum(Role::Beggar, |r| r.rejects));
        scene.run(&info, seconds * SECOND);
        is_near(scene.moved().1 - before, rate, seconds, "upload");
        let rejects = scene.sum(Role::Beggar, |r| r.rejects) - rejects;
        let asked = QUIET as u32 * seconds / 2;
        assert!(rejects >= asked * 3 / 4, "{rejects} rejects of {asked}");
    }
}

#[test]
fn a_download_limit_of_zero_holds_payload_and_hears_requests() {
    let info = zeros(4 << 20);
    let config = Config {
        limit_down: Some(0),
        ..Config::default()
    };
    // Nothing is asked for that would not be read.
    let mut scene = Scene::new(&info, false, config.clone());
    scene.join(&info, Role::Seed, 2);
    scene.join(&info, Role::Quiet, 3);
    scene.run(&info, 30 * SECOND);
    assert_eq!(scene.moved().0, 0);
    assert_eq!(scene.sum(Role::Seed, |r| r.requested), 0);
    let known = scene
        .engine
        .torrent(scene.torrent)
        .unwrap()
        .peers(scene.now);
    assert!(
        known.iter().filter(|p| p.pieces > 10).count() == 5,
        "{known:?}"
    );
    // The stop is lifted, and comes back while blocks are under way.
    let global = |scene: &mut Scene, down| {
        scene
            .engine
            .set_limits(scene.now, Scope::Global, down, None);
    };
    global(&mut scene, Some(200_000));
    scene.run(&info, 5 * SECOND);
    let got = scene.moved().0;
    assert!((800_000..1_100_000).contains(&got), "{got}");
    global(&mut scene, Some(0));
    scene.run(&info, SECOND);
    let held = scene.moved().0;
    scene.run(&info, 30 * SECOND);
    assert_eq!(scene.moved().0, held);
    assert!(held < got + 2 * BLOCK_LEN as u64 * 2, "{held} after {got}");
    global(&mut scene, None);
    scene.run(&info, 10 * SECOND);
    let status = scene
        .engine
        .torrent(scene.torrent)
        .unwrap()
        .status(scene.now);
    assert_eq!(status.done, info.total_len());
    // A seed whose download limit is 0 still uploads.
    let config = Config {
        limit_up: Some(5_000_000),
        ..config
    };
    let mut scene = Scene::new(&info, true, config);
    scene.join(&info, Role::Leech, 2);
    scene.run(&info, 5 * SECOND);
    assert!(scene.moved().1 > info.total_len());
}

#[test]
fn an_upload_limit_of_zero_holds_payload_and_lets_requests_out() {
    let info = zeros(4 << 20);
    let mut scene = Scene::new(&info, true, Config::default());
    let global = |scene: &mut Scene, up| {
        scene.engine.set_limits(scene.now, Scope::Global, None, up);
    };
    global(&mut scene, Some(300_000));
    scene.join(&info, Role::Leech, 4);
    scene.join(&info, Role::Beggar, 4);
    scene.run(&info, 3 * SECOND);
    global(&mut scene, Some(0));
    scene.run(&info, SECOND);
    let (sent, rejects) = (scene.moved().1, scene.sum(Role::Beggar, |r| r.rejects));
    scene.run(&info, 10 * SECOND);
    assert_eq!(scene.moved().1, sent);
    // Some of what they ask for is in their allowed-fast set, which waits.
    let rejects = scene.sum(Role::Beggar, |r| r.rejects) - rejects;
    assert!(rejects >= 4 * 5 / 2, "{rejects}");
    global(&mut scene, Some(5_000_000));
    scene.run(&info, SECOND);
    assert!(scene.moved().1 > sent + 4_000_000);
    // A download goes on while uploads are stopped, and peers are told of the pieces.
    let config = Config {
        limit_up: Some(0),
        ..Config::default()
    };
    let mut scene = Scene::new(&info, false, config);
    scene.join(&info, Role::Seed, 2);
    scene.join(&info, Role::Leech, 2);
    scene.run(&info, 20 * SECOND);
    let status = scene
        .engine
        .torrent(scene.torrent)
        .unwrap()
        .status(scene.now);
    assert_eq!((status.done, status.uploaded), (info.total_len(), 0));
    assert_eq!(scene.sum(Role::Leech, |r| r.haves), 2 * info.piece_count());
}

/// Not even the allowed-fast pieces (BEP 6) that choked peers may ask for.
#[test]
fn nobody_is_served_without_upload_slots() {
    let info = zeros(4 << 20);
    let config = Config {
        upload_slots: Some(0),
        ..Config::default()
    };
    let mut scene = Scene::new(&info, true, config);
    // The later ones want something after the first round.
    for _ in 0..2 {
        scene.join(&info, Role::Leech, 4);
        scene.run(&info, 20 * SECOND);
    }
    assert_eq!(scene.moved().1, 0);
    assert_eq!(scene.sum(Role::Leech, |r| r.allowed), 0);
}

/// However many peers wait for a slot, they are promised no more than a fraction of what the others got: an uplink may be
/// slow without a limit, and in one network all are promised the same pieces.
#[test]
fn choked_peers_are_promised_a_fraction_of_the_upload() {
    let info = zeros(40 << 20);
    let config = Config {
        upload_slots: Some(4),
        ..Config::default()
    };
    let mut scene = Scene::new(&info, true, config);
    scene.join(&info, Role::Deaf, 4);
    scene.run(&info, SECOND);
    scene.join(&info, Role::Deaf, 100);
    scene.run(&info, SECOND);
    let promised = u64::from(scene.sum(Role::Deaf, |r| r.allowed)) * u64::from(PIECE);
    let uploaded = scene.moved().1;
    assert!(promised <= uploaded / 8, "{promised} of {uploaded}");
}

#[test]
fn blocks_of_peers_that_do_not_read_are_taken_back() {
    let info = zeros(40 << 20);
    let config = Config {
        limit_up: Some(5_000_000),
        max_blocks: 32,
        ..Config::default()
    };
    let mut scene = Scene::new(&info, true, config);
    scene.join(&info, Role::Deaf, BULK);
    scene.run(&info, SECOND);
    let lent = |scene: &Scene| scene.engine.status(scene.now).blocks_lent;
    let pinned = lent(&scene);
    assert!(pinned >= 8, "{pinned}");
    // The blocks that the first ones lose go to those that waited for them, and do not read either.
    scene.run(&info, 30 * SECOND);
    assert_eq!(lent(&scene), 0);
    scene.join(&info, Role::Leech, 1);
    scene.run(&info, 11 * SECOND);
    let leech = scene.remotes.last().unwrap();
    assert!(leech.payload > 20_000_000, "{}", leech.payload);
    assert_eq!(scene.engine.status(scene.now).connections, BULK as u32 + 1);
}
