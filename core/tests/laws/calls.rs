//! Arbitrary calls of a driver and an application. A failing list shrinks to the few calls that matter, each of them with
//! small numbers.

use std::time::Duration;

use dunlin_core::dht::Goal;
use dunlin_core::engine::{Command, Engine, FilePriority, ReadBufs, Scope, Source, WriteBufs};
use dunlin_core::{
    CloseReason, ConnId, DhtMode, Ecn, InfoHash, Instant, NodeId, Op, OpErrorKind, OpId, Outcome,
    RecvMeta, SocketId, TorrentId,
};
use quickcheck::{Arbitrary, Gen};

use crate::common::commands::Commands;
use crate::common::{add, torrent};

/// A ping of another node (BEP 5).
const PING: &[u8; 56] = b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe";

/// A call, and how long after the one before it comes.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    after_ms: u16,
    call: Call,
}

/// A call of the engine. What it is about (a torrent, a connection, an op) is the `n`th of those that the earlier calls
/// made, round and round; stale ones are among them. A call about a torrent does nothing while there is none.
#[derive(Clone, Debug)]
enum Call {
    AddFiles,
    AddHash(u8),
    Pause(u8),
    Resume(u8),
    Remove {
        torrent: u8,
        delete: bool,
    },
    Recheck(u8),
    SkipFirstFile(u8),
    AddPeer(u8),
    Limit {
        torrent: u8,
        down: u16,
    },
    SwitchTracker {
        torrent: u8,
        on: bool,
    },
    SaveAll,
    Shutdown,
    SetDht(DhtMode),
    SetDhtPort(Option<u16>),
    SetDhtLimit(u16),
    AddDhtNode(u8),
    PingDhtNode,
    Search {
        target: u8,
        cancel: bool,
    },
    Accept,
    Connected(u8),
    Closed(u8),
    /// What `read_bufs` asks for.
    Read {
        conn: u8,
        byte: u8,
    },
    /// So many bytes, without asking.
    ReadUnasked {
        conn: u8,
        len: u8,
    },
    Write(u8),
    Answer {
        op: u8,
        with: Answer,
    },
    Datagram {
        socket: SocketId,
        data: Datagram,
    },
    Timeout,
    PollOps,
    PollInterest,
    PollEvents,
    PollTransmits,
}

/// An outcome, seldom that which the op asks for.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Opened,
    Done,
    Resolved,
    Flushed,
    Bound,
    Failed,
}

/// What a datagram holds.
#[derive(Clone, Debug)]
enum Datagram {
    Ping,
    /// The first bytes of a ping.
    Part(u8),
    Bytes(Vec<u8>),
}

impl Arbitrary for Step {
    fn arbitrary(g: &mut Gen) -> Self {
        Self {
            after_ms: u16::arbitrary(g) % 5000,
            call: Call::arbitrary(g),
        }
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        let this = self.clone();
        let sooner = self.after_ms.shrink().map(move |after_ms| Self {
            after_ms,
            ..this.clone()
        });
        let after_ms = self.after_ms;
        let simpler = self.call.shrink().map(move |call| Self { after_ms, call });
        Box::new(simpler.chain(sooner))
    }
}

/// One of these with a probability of one in `n`.
fn seldom(g: &mut Gen, n: u32) -> bool {
    u32::arbitrary(g).is_multiple_of(n)
}

impl Arbitrary for Call {
    fn arbitrary(g: &mut Gen) -> Self {
        let kinds: [fn(&mut Gen) -> Self; 31] = [
            |_| Self::AddFiles,
            |g| Self::AddHash(u8::arbitrary(g)),
            |g| Self::Pause(u8::arbitrary(g)),
            |g| Self::Resume(u8::arbitrary(g)),
            |g| Self::Remove {
                torrent: u8::arbitrary(g),
                delete: bool::arbitrary(g),
            },
            |g| Self::Recheck(u8::arbitrary(g)),
            |g| Self::SkipFirstFile(u8::arbitrary(g)),
            |g| Self::AddPeer(u8::arbitrary(g)),
            |g| Self::Limit {
                torrent: u8::arbitrary(g),
                down: u16::arbitrary(g),
            },
            |g| Self::SwitchTracker {
                torrent: u8::arbitrary(g),
                on: bool::arbitrary(g),
            },
            |_| Self::SaveAll,
            // It ends everything, so it must be rare.
            |g| match seldom(g, 40) {
                true => Self::Shutdown,
                false => Self::SaveAll,
            },
            // After `Disable` there is no DHT any more.
            |g| match seldom(g, 50) {
                true => Self::SetDht(DhtMode::Disable),
                false => Self::SetDht(*g.choose(&RUNNING).expect("modes")),
            },
            |g| Self::SetDhtPort(*g.choose(&PORTS).expect("ports")),
            |g| Self::SetDhtLimit(u16::arbitrary(g) % 300),
            |g| Self::AddDhtNode(u8::arbitrary(g)),
            |_| Self::PingDhtNode,
            |g| Self::Search {
                target: u8::arbitrary(g),
                cancel: seldom(g, 3),
            },
            |_| Self::Accept,
            |g| Self::Connected(u8::arbitrary(g)),
            |g| Self::Closed(u8::arbitrary(g)),
            |g| Self::Read {
                conn: u8::arbitrary(g),
                byte: u8::arbitrary(g),
            },
            |g| Self::ReadUnasked {
                conn: u8::arbitrary(g),
                len: u8::arbitrary(g) % 100,
            },
            |g| Self::Write(u8::arbitrary(g)),
            |g| Self::Answer {
                op: u8::arbitrary(g),
                with: *g.choose(&ANSWERS).expect("answers"),
            },
            |g| Self::Datagram {
                socket: *g
                    .choose(&[SocketId::V4, SocketId::DHT_V4])
                    .expect("sockets"),
                data: Datagram::arbitrary(g),
            },
            |_| Self::Timeout,
            |_| Self::PollOps,
            |_| Self::PollInterest,
            |_| Self::PollEvents,
            |_| Self::PollTransmits,
        ];
        g.choose(&kinds).expect("kinds")(g)
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        match *self {
            Self::AddHash(n) => Box::new(n.shrink().map(Self::AddHash)),
            Self::Pause(n) => Box::new(n.shrink().map(Self::Pause)),
            Self::Resume(n) => Box::new(n.shrink().map(Self::Resume)),
            Self::Recheck(n) => Box::new(n.shrink().map(Self::Recheck)),
            Self::SkipFirstFile(n) => Box::new(n.shrink().map(Self::SkipFirstFile)),
            Self::AddPeer(n) => Box::new(n.shrink().map(Self::AddPeer)),
            Self::AddDhtNode(n) => Box::new(n.shrink().map(Self::AddDhtNode)),
            Self::Connected(n) => Box::new(n.shrink().map(Self::Connected)),
            Self::Closed(n) => Box::new(n.shrink().map(Self::Closed)),
            Self::Write(n) => Box::new(n.shrink().map(Self::Write)),
            Self::SetDhtPort(port) => Box::new(port.shrink().map(Self::SetDhtPort)),
            Self::SetDhtLimit(n) => Box::new(n.shrink().map(Self::SetDhtLimit)),
            Self::Remove { torrent, delete } => {
                let pairs = (torrent, delete).shrink();
                Box::new(pairs.map(|(torrent, delete)| Self::Remove { torrent, delete }))
            }
            Self::Limit { torrent, down } => {
                let pairs = (torrent, down).shrink();
                Box::new(pairs.map(|(torrent, down)| Self::Limit { torrent, down }))
            }
            Self::SwitchTracker { torrent, on } => {
                let pairs = (torrent, on).shrink();
                Box::new(pairs.map(|(torrent, on)| Self::SwitchTracker { torrent, on }))
            }
            Self::Search { target, cancel } => {
                let pairs = (target, cancel).shrink();
                Box::new(pairs.map(|(target, cancel)| Self::Search { target, cancel }))
            }
            Self::Read { conn, byte } => {
                let pairs = (conn, byte).shrink();
                Box::new(pairs.map(|(conn, byte)| Self::Read { conn, byte }))
            }
            Self::ReadUnasked { conn, len } => {
                let pairs = (conn, len).shrink();
                Box::new(pairs.map(|(conn, len)| Self::ReadUnasked { conn, len }))
            }
            Self::Answer { op, with } => {
                Box::new(op.shrink().map(move |op| Self::Answer { op, with }))
            }
            Self::Datagram { socket, ref data } => Box::new(
                data.shrink()
                    .map(move |data| Self::Datagram { socket, data }),
            ),
            Self::AddFiles
            | Self::SaveAll
            | Self::Shutdown
            | Self::SetDht(_)
            | Self::PingDhtNode
            | Self::Accept
            | Self::Timeout
            | Self::PollOps
            | Self::PollInterest
            | Self::PollEvents
            | Self::PollTransmits => quickcheck::empty_shrinker(),
        }
    }
}

const RUNNING: [DhtMode; 4] = [DhtMode::On, DhtMode::Auto, DhtMode::On, DhtMode::Off];
const PORTS: [Option<u16>; 4] = [None, Some(6881), Some(7000), Some(0)];
const ANSWERS: [Answer; 6] = [
    Answer::Opened,
    Answer::Done,
    Answer::Resolved,
    Answer::Flushed,
    Answer::Bound,
    Answer::Failed,
];

impl Answer {
    fn outcome(self) -> Outcome {
        match self {
            Self::Opened => Outcome::Opened(vec![None]),
            Self::Done => Outcome::Done,
            Self::Resolved => Outcome::Resolved(vec![[10, 1, 1, 1].into()]),
            Self::Flushed => Outcome::Flushed(vec![None]),
            Self::Bound => Outcome::Bound(([10, 0, 0, 1], 6881).into()),
            Self::Failed => Outcome::failed(OpErrorKind::Io, "broken"),
        }
    }
}

impl Arbitrary for Datagram {
    fn arbitrary(g: &mut Gen) -> Self {
        match u8::arbitrary(g) % 3 {
            0 => Self::Ping,
            1 => Self::Part(u8::arbitrary(g) % PING.len() as u8),
            _ => {
                let len = u16::arbitrary(g) % 1500;
                Self::Bytes((0..len).map(|_| u8::arbitrary(g)).collect())
            }
        }
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        match self {
            Self::Ping => quickcheck::empty_shrinker(),
            Self::Part(len) => Box::new(len.shrink().map(Self::Part)),
            Self::Bytes(bytes) => Box::new(bytes.shrink().map(Self::Bytes)),
        }
    }
}

/// An engine, and what the calls have made so far.
struct Driver<'a> {
    engine: &'a mut Engine,
    now: Instant,
    torrents: Vec<TorrentId>,
    conns: Vec<ConnId>,
    ops: Vec<OpId>,
}

/// Makes the calls, the first of them at `now` or later.
pub(crate) fn make(engine: &mut Engine, now: Instant, steps: &[Step]) {
    let mut driver = Driver {
        engine,
        now,
        torrents: Vec::new(),
        conns: vec![ConnId {
            index: 7,
            generation: 3,
        }],
        ops: vec![OpId(999)],
    };
    for step in steps {
        driver.now += Duration::from_millis(step.after_ms.into());
        driver.make(&step.call);
    }
}

impl Driver<'_> {
    fn torrent(&self, n: u8) -> Option<TorrentId> {
        let at = usize::from(n).checked_rem(self.torrents.len())?;
        Some(self.torrents[at])
    }

    fn conn(&self, n: u8) -> ConnId {
        self.conns[usize::from(n) % self.conns.len()]
    }

    fn make(&mut self, call: &Call) {
        let now = self.now;
        match *call {
            Call::Pause(n)
            | Call::Resume(n)
            | Call::Recheck(n)
            | Call::SkipFirstFile(n)
            | Call::AddPeer(n)
            | Call::Remove { torrent: n, .. }
            | Call::Limit { torrent: n, .. }
            | Call::SwitchTracker { torrent: n, .. } => {
                if let Some(id) = self.torrent(n) {
                    self.change(id, call);
                }
            }
            Call::AddFiles => {
                let (info, _) = torrent(100_000, 32 << 10);
                self.torrents
                    .extend(self.engine.add(now, add(Source::Info(info))));
            }
            Call::AddHash(n) => {
                let source = Source::Hash {
                    info_hash: InfoHash([n; 20]),
                    name: None,
                };
                self.torrents.extend(self.engine.add(now, add(source)));
            }
            Call::SaveAll => self.engine.save_all(now),
            Call::Shutdown => self.engine.shutdown(now),
            Call::SetDht(_)
            | Call::SetDhtPort(_)
            | Call::SetDhtLimit(_)
            | Call::AddDhtNode(_)
            | Call::PingDhtNode
            | Call::Search { .. } => self.use_dht(call),
            Call::Accept => self
                .conns
                .extend(self.engine.accept(now, ([10, 8, 8, 8], 88).into())),
            Call::Connected(n) => self.engine.handle_connected(now, self.conn(n)),
            Call::Closed(n) => self
                .engine
                .handle_closed(now, self.conn(n), CloseReason::Reset),
            Call::Read { conn, byte } => {
                let conn = self.conn(conn);
                let mut bufs = ReadBufs::new();
                self.engine.read_bufs(now, conn, &mut bufs);
                let len = bufs.first_mut().map_or(0, |buf| {
                    buf.fill(byte);
                    buf.len()
                });
                drop(bufs);
                self.engine.handle_read(now, conn, len);
            }
            Call::ReadUnasked { conn, len } => {
                self.engine.handle_read(now, self.conn(conn), len.into());
            }
            Call::Write(n) => {
                let conn = self.conn(n);
                let mut bufs = WriteBufs::new();
                self.engine.write_bufs(now, conn, &mut bufs);
                let len = bufs.first().map_or(0, |buf| buf.len());
                drop(bufs);
                self.engine.handle_written(now, conn, len);
            }
            Call::Answer { op, with } => {
                let op = self.ops[usize::from(op) % self.ops.len()];
                self.engine.handle_op(now, op, with.outcome());
            }
            Call::Datagram { socket, ref data } => {
                let meta = RecvMeta {
                    socket,
                    from: ([10, 7, 7, 7], 77).into(),
                    local: None,
                    ecn: Ecn::NotEct,
                };
                let mut data = match data {
                    Datagram::Ping => PING.to_vec(),
                    Datagram::Part(len) => PING[..usize::from(*len)].to_vec(),
                    Datagram::Bytes(bytes) => bytes.clone(),
                };
                self.engine.handle_udp(now, &meta, &mut data);
            }
            Call::Timeout => self.engine.handle_timeout(now),
            Call::PollOps => {
                while let Some(op) = self.engine.poll_op() {
                    if let Op::TcpConnect { conn, .. } = op {
                        self.conns.push(conn);
                    }
                    self.ops.extend(op.id());
                }
            }
            Call::PollInterest => while self.engine.poll_interest().is_some() {},
            Call::PollEvents => while self.engine.poll_event().is_some() {},
            Call::PollTransmits => {
                let mut buf = [0; 2048];
                while self.engine.poll_transmit(now, 1, &mut buf).is_some() {}
            }
        }
    }

    /// A call about a torrent, which may be gone.
    fn change(&mut self, id: TorrentId, call: &Call) {
        let (engine, now) = (&mut *self.engine, self.now);
        let _existed = match *call {
            Call::Pause(_) => engine.pause(now, id),
            Call::Resume(_) => engine.resume(now, id),
            Call::Recheck(_) => engine.recheck(now, id),
            Call::SkipFirstFile(_) => engine.set_priorities(now, id, &[FilePriority::Skip]),
            Call::AddPeer(_) => engine.add_peers(now, id, &[([10, 9, 9, 9], 99).into()]),
            Call::Remove { delete, .. } => engine.remove(now, id, delete),
            Call::Limit { down, .. } => {
                engine.set_limits(now, Scope::Torrent(id), Some(down.into()), None)
            }
            Call::SwitchTracker { on, .. } => {
                let trackers = engine.torrent(id).map(|t| t.trackers());
                let last = trackers.and_then(|all| all.last().map(|tracker| tracker.id));
                if let Some(tracker) = last {
                    engine.set_tracker_enabled(now, id, tracker, on);
                }
                engine.reannounce(now, id)
            }
            _ => return,
        };
    }

    fn use_dht(&mut self, call: &Call) {
        let (engine, now) = (&mut *self.engine, self.now);
        match *call {
            Call::SetDht(mode) => {
                engine.set_dht(now, mode);
            }
            Call::SetDhtPort(port) => engine.set_dht_port(now, port),
            Call::SetDhtLimit(up) => {
                let _in_use = engine.set_dht_limit(now, "dht", Some(up.into()));
            }
            Call::AddDhtNode(n) => {
                let nodes = ["10.4.4.4", "node.example:7", "10.4.4.4:99999", "x:y"];
                let _refused = engine.dht_add_node(now, nodes[usize::from(n) % nodes.len()]);
            }
            Call::PingDhtNode => {
                let _busy = engine.dht_ping(now, ([10, 4, 4, 4], 4).into());
            }
            Call::Search { target, cancel } => {
                let goal = Goal::Nodes(NodeId([target; 20]));
                if let Ok(lookup) = engine.dht_search(now, goal)
                    && cancel
                {
                    engine.done(now, Command::CancelSearch(lookup));
                }
            }
            _ => {}
        }
    }
}
