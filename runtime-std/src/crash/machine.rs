//! A machine: a real engine on the real disk and session code, with streams to another machine.
//!
//! Time is virtual and each op is finished before the next one is looked at, so a run is always the same
//! and the recording shows exactly what was promised when. Outcomes reach the engine some time later: a
//! promise made too early shows in what the engine does meanwhile.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, channel},
    },
    time::Duration,
};

use dunlin_core::{
    Bitfield, Caps, CloseReason, Config, ConnId, EncryptionPolicy, InfoHash, Instant, NodeId, Op,
    OpErrorKind, OpId, Outcome, TorrentId,
    dht::Saved,
    engine::{AddTorrent, Engine, ReadBufs, Source, State, WriteBufs},
    metainfo::{Builder, Info, Torrent},
};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use crate::{
    disk::{Disk, DiskConfig, Placement},
    platform::trace::Recorder,
    session::store::Store,
};

/// The time between two steps of the world.
const TICK: Duration = Duration::from_millis(10);
/// Bytes that a stream carries in one step: a download takes long enough for several saves.
const PER_TICK: usize = 8 << 10;
/// The interval of saves.
const SAVE_INTERVAL: Duration = Duration::from_millis(50);
/// More steps than any run needs.
const MAX_TICKS: usize = 4_000;
/// The time until the engine hears of a flush. Pieces that the flush does not cover are verified meanwhile.
const FLUSH: Duration = Duration::from_millis(40);
const SAVE: Duration = Duration::from_millis(20);
pub(super) const PIECE: u32 = 32 << 10;

/// A promise, or something that was begun and may be visible before it is promised.
#[derive(Clone, Debug)]
pub(super) enum Fact {
    /// The torrent file is saved.
    Kept,
    SaveBegun(Vec<u8>),
    Saved(Vec<u8>),
    DhtBegun(u8),
    DhtSaved(u8),
    ForgetBegun,
    Forgotten,
    DeleteBegun,
}

/// A recorder, and what was promised after how many steps.
pub(super) struct Watch {
    pub(super) recorder: Recorder,
    pub(super) facts: Vec<(usize, Fact)>,
}

impl Watch {
    pub(super) fn new(base: &Path) -> Self {
        Self {
            recorder: Recorder::new(base),
            facts: Vec::new(),
        }
    }

    pub(super) fn note(&mut self, fact: Fact) {
        self.facts.push((self.recorder.len(), fact));
    }
}

/// What is downloaded: files in folders that share pieces, and no page of which is all zeros.
pub(super) struct Content {
    pub(super) torrent: Torrent,
    pub(super) data: Vec<u8>,
}

impl Content {
    pub(super) fn new() -> Self {
        let mut builder = Builder::folder("t.d");
        builder.piece_len = Some(PIECE);
        for (path, len) in [
            ("one.bin", 50_000),
            ("a/two.bin", 40_001),
            ("a/empty.bin", 0),
            ("a/deep/three.bin", 700),
            ("b/four.bin", 90_000),
            ("b/five.bin", 33_333),
        ] {
            builder.add(path.split('/').map(str::to_owned).collect(), len);
        }
        let draft = builder.draft().unwrap();
        let data: Vec<u8> = (0..draft.layout().total_len() as u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8 | 1)
            .collect();
        let hashes: Vec<_> = data
            .chunks(PIECE as usize)
            .map(dunlin_core::hash::sha1)
            .collect();
        let torrent = draft.finish(&hashes).unwrap();
        Self { torrent, data }
    }

    pub(super) fn info(&self) -> &Arc<Info> {
        &self.torrent.info
    }

    pub(super) fn hash(&self) -> InfoHash {
        self.torrent.info.info_hash()
    }

    /// Writes all of it below `dir`, as a seed has it.
    pub(super) fn write(&self, dir: &Path) {
        let paths = Placement::default().paths(self.info());
        for (file, path) in self.info().files().iter().zip(paths) {
            let path = dir.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let at = file.offset as usize;
            std::fs::write(path, &self.data[at..at + file.len as usize]).unwrap();
        }
    }
}

struct Stream {
    there: ConnId,
    inbox: VecDeque<u8>,
    eof: bool,
}

/// An engine and its platform.
pub(super) struct Machine {
    pub(super) engine: Engine,
    pub(super) disk: Disk,
    pub(super) store: Option<Store>,
    pub(super) watch: Option<Watch>,
    /// Records claim that everything verified is durable: a fault that the replay has to find.
    pub(super) claims_early: bool,
    pub(super) failures: Vec<String>,
    downloads: PathBuf,
    hash: InfoHash,
    wake: Receiver<()>,
    addr: SocketAddr,
    streams: BTreeMap<ConnId, Stream>,
    dials: Vec<ConnId>,
    later: Vec<(Instant, OpId, Outcome)>,
    next_op: u64,
}

/// The parameters of a machine.
pub(super) struct Start<'a> {
    /// The parent of `home/dl` and `session`.
    pub(super) base: &'a Path,
    pub(super) boot: u8,
    pub(super) session: bool,
    pub(super) number: u8,
}

impl Machine {
    pub(super) fn new(now: Instant, start: &Start<'_>, content: &Content) -> Self {
        let (tx, wake) = channel();
        let notify = Arc::new(move || tx.send(()).unwrap_or_default());
        let addr = SocketAddr::from(([10, 0, 0, start.number], 6881));
        let mut config = Config {
            boot: Some([start.boot; 16]),
            save_interval: SAVE_INTERVAL,
            encryption: EncryptionPolicy::Off,
            ..Config::default()
        };
        let _ = config.listen.push(addr);
        let mut caps = Caps::all();
        caps.ipv6 = false;
        let disk = Disk::new(
            DiskConfig {
                threads: 1,
                ..DiskConfig::default()
            },
            notify,
        )
        .unwrap();
        // A copy of a file has another file number.
        disk.without_ids();
        let rng = Box::new(ChaCha8Rng::seed_from_u64(start.number.into()));
        Self {
            engine: Engine::new(now, config, caps, rng),
            disk,
            store: (start.session).then(|| Store::open(&start.base.join("session")).unwrap()),
            watch: None,
            claims_early: false,
            failures: Vec::new(),
            downloads: start.base.join("home/dl"),
            hash: content.hash(),
            wake,
            addr,
            streams: BTreeMap::new(),
            dials: Vec::new(),
            later: Vec::new(),
            next_op: u64::MAX / 2,
        }
    }

    /// Adds the torrent as drivers do: claims it, and saves its torrent file if it is new.
    pub(super) fn add(
        &mut self,
        now: Instant,
        content: &Content,
        mut add: AddTorrent,
    ) -> TorrentId {
        if let Some(store) = &self.store {
            let kept = store.claim(content.hash()).unwrap();
            add.resume = kept.resume;
            if kept.torrent.is_none() {
                store.keep(&content.torrent).unwrap();
            }
            self.note(Fact::Kept);
        }
        let id = self.engine.add(now, add).unwrap();
        let placement = Placement {
            dir: self.downloads.clone(),
            ..Placement::default()
        };
        self.disk.place(id, placement);
        id
    }

    pub(super) fn torrent(content: &Content) -> AddTorrent {
        AddTorrent::new(Source::Info(Arc::clone(content.info())))
    }

    pub(super) fn note(&mut self, fact: Fact) {
        if let Some(watch) = &mut self.watch {
            watch.note(fact);
        }
    }

    pub(super) fn state(&self, now: Instant, id: TorrentId) -> Option<State> {
        self.engine.torrent(id).map(|t| t.status(now).state)
    }

    /// Whether the check of existing files is over.
    pub(super) fn is_checked(&self, id: TorrentId) -> bool {
        self.engine.torrent(id).and_then(|t| t.have()).is_some()
    }

    pub(super) fn have(&self, id: TorrentId) -> Bitfield {
        self.engine.torrent(id).unwrap().have().unwrap().clone()
    }

    /// Saves a DHT table with the id `n`.
    pub(super) fn save_dht(&mut self, n: u8) {
        self.note(Fact::DhtBegun(n));
        let saved = Saved {
            id: Some(NodeId([n; 20])),
            ..Saved::default()
        };
        let store = self.store.as_ref().unwrap();
        let _claimed = store.load_dht();
        assert!(matches!(store.save_dht(&saved), Outcome::Done));
        self.note(Fact::DhtSaved(n));
    }

    pub(super) fn forget(&mut self) {
        self.note(Fact::ForgetBegun);
        self.store.as_ref().unwrap().forget(self.hash).unwrap();
        self.note(Fact::Forgotten);
    }

    /// Carries out an op of the disk at once.
    pub(super) fn on_disk(&mut self, op: impl FnOnce(OpId) -> Op) -> Outcome {
        self.next_op += 1;
        self.run(op(OpId(self.next_op))).1
    }

    fn run(&self, op: Op) -> (OpId, Outcome) {
        let refused = self.disk.submit(op);
        assert!(refused.is_none(), "{refused:?} is not for the disk");
        let mut out = Vec::new();
        while out.is_empty() {
            self.wake.recv().unwrap();
            self.disk.drain(&mut out);
        }
        out.remove(0)
    }

    fn op(&mut self, now: Instant, op: Op) {
        let (delay, (id, outcome)) = match op {
            Op::TcpConnect { conn, .. } => return self.dials.push(conn),
            Op::TcpClose { conn, .. } => return drop(self.streams.remove(&conn)),
            Op::Cancel { .. } => return,
            Op::Bind { op, local, .. } => (TICK, (op, Outcome::Bound(local))),
            Op::Save { op, record, .. } => (SAVE, (op, self.save(record))),
            Op::Flush { .. } => (FLUSH, self.run(op)),
            Op::Release { delete, .. } => {
                if delete {
                    self.note(Fact::DeleteBegun);
                }
                (TICK, self.run(op))
            }
            // What does not exist cannot be hashed, and is downloaded.
            Op::Hash(_) => {
                let (id, outcome) = self.run(op);
                return self.later.push((now, id, outcome));
            }
            Op::Open { .. }
            | Op::Claim { .. }
            | Op::Confirm { .. }
            | Op::Read(_)
            | Op::Write(_)
            | Op::Select { .. } => (Duration::ZERO, self.run(op)),
            other => {
                let outcome = Outcome::failed(OpErrorKind::Unsupported, "not here");
                (TICK, (other.id().unwrap(), outcome))
            }
        };
        if let Outcome::Failed { error, .. } = &outcome
            && error.kind != OpErrorKind::Unsupported
        {
            self.failures.push(error.to_string());
        }
        self.later.push((now + delay, id, outcome));
    }

    fn save(&mut self, mut record: Vec<u8>) -> Outcome {
        let Some(store) = &self.store else {
            return Outcome::Done;
        };
        if self.claims_early {
            claim_all(&mut record);
        }
        let watch = self.watch.as_mut();
        if let Some(watch) = watch {
            watch.note(Fact::SaveBegun(record.clone()));
        }
        let outcome = store.save(self.hash, &record);
        if matches!(outcome, Outcome::Done) {
            self.note(Fact::Saved(record));
        }
        outcome
    }

    fn pump(&mut self, now: Instant) {
        if self.engine.poll_timeout().is_some_and(|at| at <= now) {
            self.engine.handle_timeout(now);
        }
        loop {
            let due = self.later.iter().position(|(at, ..)| *at <= now);
            if let Some(due) = due {
                let (_, id, outcome) = self.later.remove(due);
                self.engine.handle_op(now, id, outcome);
            } else if let Some(op) = self.engine.poll_op() {
                self.op(now, op);
            } else {
                break;
            }
        }
        while self.engine.poll_interest().is_some() {}
        while self.engine.poll_event().is_some() {}
    }

    fn is_idle(&self) -> bool {
        self.later.is_empty()
    }
}

/// Changes a record to claim that everything verified was flushed.
fn claim_all(record: &mut [u8]) {
    let find = |key: &[u8]| record.windows(key.len()).position(|part| part == key);
    let (Some(durable), Some(have)) = (find(b"7:durable"), find(b"4:have")) else {
        return;
    };
    let (from, len) = string_at(record, have + 6);
    let (to, same) = string_at(record, durable + 9);
    assert_eq!(len, same);
    record.copy_within(from..from + len, to);
}

/// The start and the length of the bencoded string at `at`.
fn string_at(bytes: &[u8], at: usize) -> (usize, usize) {
    let digits = bytes[at..].iter().position(|b| *b == b':').unwrap();
    let len = str::from_utf8(&bytes[at..at + digits]).unwrap();
    (at + digits + 1, len.parse().unwrap())
}

/// The pieces that a record claims as flushed.
pub(super) fn durable(record: &[u8], pieces: u32) -> Bitfield {
    let key = b"7:durable";
    let found = record.windows(key.len()).position(|part| part == key);
    let (at, len) = string_at(record, found.unwrap() + key.len());
    let bytes = &record[at..at + len];
    Bitfield::from_wire(bytes, pieces).unwrap_or_else(|| Bitfield::new(pieces))
}

/// One or two machines, and the time.
pub(super) struct World {
    pub(super) now: Instant,
    pub(super) machines: Vec<Machine>,
}

impl World {
    pub(super) fn new(machines: Vec<Machine>) -> Self {
        Self {
            now: Instant::from_micros(1_000_000),
            machines,
        }
    }

    /// Lets time pass until `done` returns true.
    pub(super) fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        for _ in 0..MAX_TICKS {
            self.tick();
            if done(self) {
                return;
            }
        }
        panic!("not {what} after {MAX_TICKS} ticks");
    }

    /// Lets time pass until machine `n` has nothing left to do.
    pub(super) fn rest(&mut self, n: usize) {
        self.until("at rest", |world| world.machines[n].is_idle());
    }

    pub(super) fn tick(&mut self) {
        self.now += TICK;
        for machine in &mut self.machines {
            machine.pump(self.now);
        }
        if self.machines.len() == 2 {
            self.connect(0, 1);
            self.connect(1, 0);
            self.carry(0, 1);
            self.carry(1, 0);
        }
    }

    fn connect(&mut self, from: usize, to: usize) {
        let now = self.now;
        for conn in std::mem::take(&mut self.machines[from].dials) {
            let remote = SocketAddr::new(self.machines[from].addr.ip(), 40_000);
            match self.machines[to].engine.accept(now, remote) {
                Some(there) => {
                    let stream = |there| Stream {
                        there,
                        inbox: VecDeque::new(),
                        eof: false,
                    };
                    self.machines[to].streams.insert(there, stream(conn));
                    self.machines[from].streams.insert(conn, stream(there));
                    self.machines[from].engine.handle_connected(now, conn);
                }
                None => {
                    let engine = &mut self.machines[from].engine;
                    engine.handle_closed(now, conn, CloseReason::Refused);
                }
            }
        }
    }

    fn carry(&mut self, from: usize, to: usize) {
        let now = self.now;
        let conns: Vec<ConnId> = self.machines[from].streams.keys().copied().collect();
        for conn in conns {
            let mut budget = PER_TICK;
            while budget > 0 {
                let there = self.machines[from].streams[&conn].there;
                let engine = &mut self.machines[from].engine;
                let bytes: Vec<u8> = {
                    let mut bufs = WriteBufs::new();
                    engine.write_bufs(now, conn, &mut bufs);
                    let all = bufs.iter().flat_map(|buf| buf.iter().copied());
                    all.take(budget).collect()
                };
                engine.handle_written(now, conn, bytes.len());
                if bytes.is_empty() {
                    break;
                }
                budget -= bytes.len();
                if let Some(stream) = self.machines[to].streams.get_mut(&there) {
                    stream.inbox.extend(bytes);
                }
            }
        }
        // A stream that was closed there ends here once everything was read.
        let open: Vec<ConnId> = self.machines[from].streams.keys().copied().collect();
        let Machine {
            streams, engine, ..
        } = &mut self.machines[to];
        for (conn, stream) in streams {
            stream.eof |= !open.contains(&stream.there);
            loop {
                let mut len = 0;
                {
                    let mut bufs = ReadBufs::new();
                    engine.read_bufs(now, *conn, &mut bufs);
                    for buf in &mut bufs {
                        let part = buf.len().min(stream.inbox.len());
                        for (to, byte) in buf.iter_mut().zip(stream.inbox.drain(..part)) {
                            *to = byte;
                        }
                        len += part;
                    }
                }
                engine.handle_read(now, *conn, len);
                if len == 0 {
                    break;
                }
            }
        }
        let ended = |(conn, s): (&ConnId, &Stream)| (s.eof && s.inbox.is_empty()).then_some(*conn);
        let ended: Vec<ConnId> = self.machines[to].streams.iter().filter_map(ended).collect();
        for conn in ended {
            let machine = &mut self.machines[to];
            machine.streams.remove(&conn);
            machine.engine.handle_closed(now, conn, CloseReason::Eof);
        }
    }
}
