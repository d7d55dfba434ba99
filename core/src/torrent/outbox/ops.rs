//! Ops on their way out and in flight, and why each was asked for.

use alloc::{
    collections::{BTreeMap, VecDeque},
    format,
    string::String,
    vec::Vec,
};

use super::queries::Queries;
use crate::dht::Wanted;
use crate::op::{Claim, SocketKind};
use crate::torrent::member_id::MemberId;
use crate::tracker::QueryKey;
use crate::wire::tracker::{TrackerUrl, parse_url};
use crate::{Block, BlockRef, Config, Op, OpId, SocketId, TorrentId};

/// Why an op was asked for: what its outcome means.
#[derive(Debug)]
pub(crate) enum Purpose {
    Bind(SocketId, SocketKind),
    Resolve(TorrentId, QueryKey),
    Http(TorrentId, QueryKey),
    /// A range is fetched to see whether the driver can.
    Fetch,
    /// Work of a torrent's on its files.
    Disk(TorrentId, DiskJob),
    Release(TorrentId),
    /// A socket of the DHT's own, by the count of its starts.
    DhtBind(u32),
    /// The name of a DHT node, its port, and what it is wanted for.
    DhtName(u16, Wanted),
    /// Something of the DHT's that nobody waits for.
    DhtQuiet,
}

/// Work on a torrent's files: what its outcome means for the torrent.
#[derive(Debug)]
pub(crate) enum DiskJob {
    /// The files are opened.
    Open,
    /// The files are taken into use.
    Claim(Claim),
    /// Blocks that a peer asked for are read.
    Upload {
        /// Who asked.
        member: MemberId,
        wanted: Vec<BlockRef>,
    },
    /// A run of a piece that is being assembled is written.
    Write {
        piece: u32,
        /// Of the assembly: a later one of the same piece has another.
        serial: u64,
        /// Offset in the piece, in bytes.
        begin: u32,
        /// Bytes.
        len: u32,
    },
    /// The rest of a piece is hashed from the disk, after its last write.
    Verify { piece: u32, serial: u64 },
    /// A piece is hashed because its content is doubted.
    Check { piece: u32 },
    /// A piece that passed or failed its check is read back to find who sent false blocks.
    Blame { piece: u32, passed: bool },
    /// The files are looked at by their paths.
    Confirm,
    /// What was written is flushed.
    Flush,
    /// The resume record is saved.
    Save,
    /// The disk is told which files are wanted.
    Select,
}

impl Purpose {
    /// The torrent that asks, if this is a query to a tracker.
    const fn asks(&self) -> Option<TorrentId> {
        match self {
            Self::Resolve(t, _) | Self::Http(t, _) => Some(*t),
            _ => None,
        }
    }

    /// The torrent whose disk ops this one has to be waited for with.
    pub(crate) const fn disk(&self) -> Option<TorrentId> {
        match self {
            Self::Disk(t, _) => Some(*t),
            Self::Bind(..)
            | Self::Resolve(..)
            | Self::Http(..)
            | Self::Fetch
            | Self::Release(_)
            | Self::DhtBind(_)
            | Self::DhtName(..)
            | Self::DhtQuiet => None,
        }
    }
}

/// The queues. Stream ops go out at once. Jobs wait for a place of their class: those of the disk
/// and sockets while `max_jobs` are in flight, HTTP requests and name look-ups each behind a limit
/// of their own, so a server that does not answer never stops the disk.
#[derive(Debug)]
pub(crate) struct Ops {
    next: u64,
    max_jobs: usize,
    emitted: usize,
    streams: VecDeque<Op>,
    jobs: VecDeque<Op>,
    requests: Queries,
    lookups: Queries,
    purposes: BTreeMap<OpId, Purpose>,
}

impl Ops {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            next: 0,
            max_jobs: config.max_jobs.max(1) as usize,
            emitted: 0,
            streams: VecDeque::new(),
            jobs: VecDeque::new(),
            requests: Queries::new(config.max_requests as usize),
            lookups: Queries::new(config.max_lookups as usize),
            purposes: BTreeMap::new(),
        }
    }

    /// Queues an op that needs no answer.
    pub(crate) fn stream(&mut self, op: Op) {
        self.streams.push_back(op);
    }

    /// Queues a job; `make` is given its id.
    pub(crate) fn job(&mut self, purpose: Purpose, make: impl FnOnce(OpId) -> Op) {
        self.next += 1;
        let id = OpId(self.next);
        let owner = purpose.asks();
        self.purposes.insert(id, purpose);
        match make(id) {
            Op::Http { op, request } => {
                let server = server(&request.url);
                let op = Op::Http { op, request };
                self.requests.push(owner, &server, id, op);
            }
            Op::Fetch(job) => {
                let server = server(&job.request.url);
                self.requests.push(owner, &server, id, Op::Fetch(job));
            }
            Op::Resolve { op, host } => {
                let server = host.clone();
                let op = Op::Resolve { op, host };
                self.lookups.push(owner, &server, id, op);
            }
            op => self.jobs.push_back(op),
        }
    }

    /// The next op for the driver.
    pub(crate) fn poll(&mut self) -> Option<Op> {
        if let Some(op) = self.streams.pop_front() {
            return Some(op);
        }
        if self.emitted < self.max_jobs
            && let Some(op) = self.jobs.pop_front()
        {
            self.emitted += 1;
            return Some(op);
        }
        self.requests.poll().or_else(|| self.lookups.poll())
    }

    /// Whether [`Ops::poll`] would yield something.
    pub(crate) fn is_pending(&self) -> bool {
        !self.streams.is_empty()
            || (self.emitted < self.max_jobs && !self.jobs.is_empty())
            || self.requests.is_pending()
            || self.lookups.is_pending()
    }

    /// Takes the reason of an op that was answered; `None` for an id that is not in flight.
    pub(crate) fn answered(&mut self, id: OpId) -> Option<Purpose> {
        let purpose = self.purposes.remove(&id)?;
        match purpose {
            Purpose::Http(..) | Purpose::Fetch => self.requests.answered(id),
            Purpose::Resolve(..) | Purpose::DhtName(..) => self.lookups.answered(id),
            _ => self.emitted = self.emitted.saturating_sub(1),
        }
        Some(purpose)
    }

    /// Jobs in flight or waiting.
    pub(crate) fn len(&self) -> usize {
        self.purposes.len()
    }

    /// Jobs with the driver.
    pub(crate) const fn emitted(&self) -> usize {
        self.emitted + self.requests.emitted() + self.lookups.emitted()
    }

    /// Disk jobs of a torrent that are not answered yet. Not for the hot path.
    pub(crate) fn disk_jobs(&self, torrent: TorrentId) -> usize {
        self.purposes
            .values()
            .filter(|p| p.disk() == Some(torrent))
            .count()
    }

    /// Drops jobs of a torrent that the driver has not seen and that are not worth doing any
    /// more (uploads and, if so wished, checks), and returns the blocks they held.
    pub(crate) fn drop_reads(&mut self, torrent: TorrentId, checks: bool) -> Vec<Block> {
        let mut home = Vec::new();
        let purposes = &mut self.purposes;
        self.jobs.retain_mut(|op| {
            let idle = op.id().is_some_and(|id| match purposes.get(&id) {
                Some(Purpose::Disk(t, DiskJob::Upload { .. })) => *t == torrent,
                Some(Purpose::Disk(t, DiskJob::Check { .. })) => checks && *t == torrent,
                _ => false,
            });
            if idle {
                if let Some(id) = op.id() {
                    purposes.remove(&id);
                }
                home.append(&mut op.recall());
            }
            !idle
        });
        home
    }

    /// Asks the driver not to bother with the HTTP requests and name look-ups of a torrent, and returns the blocks that those
    /// held which the driver has not seen.
    pub(crate) fn cancel_queries(&mut self, torrent: TorrentId) -> Vec<Block> {
        let mut home = Vec::new();
        for queries in [&mut self.requests, &mut self.lookups] {
            let cancelled = queries.cancel(torrent);
            for mut op in cancelled.taken_back {
                home.append(&mut op.recall());
                if let Some(id) = op.id() {
                    self.purposes.remove(&id);
                }
            }
            let cancel = |op| Op::Cancel { op };
            self.streams
                .extend(cancelled.with_driver.into_iter().map(cancel));
        }
        home
    }
}

/// Host and port of a URL: who is asked.
fn server(url: &str) -> String {
    let name = |url: TrackerUrl<'_>| format!("{}:{}", url.host.to_ascii_lowercase(), url.port);
    parse_url(url).map_or_else(|_| String::new(), name)
}
