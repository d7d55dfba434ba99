//! Ops that are queued or in flight, and the purpose of each.

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

/// The purpose of an op: what its outcome means.
#[derive(Debug)]
pub(crate) enum Purpose {
    Bind(SocketId, SocketKind),
    Resolve(TorrentId, QueryKey),
    Http(TorrentId, QueryKey),
    /// A test fetches a range.
    Fetch,
    /// A torrent's work on its files.
    Disk(TorrentId, DiskJob),
    Release(TorrentId),
    /// A socket of the DHT; numbered by its starts.
    DhtBind(u32),
    /// The name of a DHT node: its port, and what to do with the node.
    DhtName(u16, Wanted),
    /// An op of the DHT whose outcome nobody waits for.
    DhtQuiet,
}

/// A job on a torrent's files: what its outcome means for the torrent.
#[derive(Debug)]
pub(crate) enum DiskJob {
    /// Open the files.
    Open,
    /// Claim the files.
    Claim(Claim),
    /// Read blocks that a peer requested.
    Upload {
        /// The peer.
        member: MemberId,
        wanted: Vec<BlockRef>,
    },
    /// Write a run of blocks of a piece that is being downloaded.
    Write {
        piece: u32,
        /// The serial number of the assembly: a later assembly of the same piece has another one.
        serial: u64,
        /// The offset in the piece, in bytes.
        begin: u32,
        /// The length in bytes.
        len: u32,
    },
    /// Hash the rest of a piece from the disk, after its last write.
    Verify { piece: u32, serial: u64 },
    /// Hash a doubtful piece.
    Check { piece: u32 },
    /// Read a piece back that passed or failed its check, to find the senders of bad blocks.
    Blame { piece: u32, passed: bool },
    /// Confirm the files by their paths.
    Confirm,
    /// Flush the files.
    Flush,
    /// Save the resume record.
    Save,
    /// Tell the disk which files are wanted.
    Select,
}

impl Purpose {
    /// The torrent, if this is a tracker query.
    const fn asks(&self) -> Option<TorrentId> {
        match self {
            Self::Resolve(t, _) | Self::Http(t, _) => Some(*t),
            _ => None,
        }
    }

    /// The torrent whose disk jobs include this one.
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

/// The queues of ops. Stream ops are passed to the driver at once. Jobs wait while too many of their class are in flight:
/// jobs of the disk and of sockets while `max_jobs` are, HTTP requests and name look-ups each behind a limit of their own,
/// so that a server that does not answer never stops the disk.
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

    /// Queues an op without an outcome.
    pub(crate) fn stream(&mut self, op: Op) {
        self.streams.push_back(op);
    }

    /// Queues a job. `make` creates it with its id.
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

    /// Returns the next op for the driver.
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

    /// Whether [`Ops::poll`] would return an op.
    pub(crate) fn is_pending(&self) -> bool {
        !self.streams.is_empty()
            || (self.emitted < self.max_jobs && !self.jobs.is_empty())
            || self.requests.is_pending()
            || self.lookups.is_pending()
    }

    /// An op was answered: removes and returns its purpose. `None` if it is not in flight.
    pub(crate) fn answered(&mut self, id: OpId) -> Option<Purpose> {
        let purpose = self.purposes.remove(&id)?;
        match purpose {
            Purpose::Http(..) | Purpose::Fetch => self.requests.answered(id),
            Purpose::Resolve(..) | Purpose::DhtName(..) => self.lookups.answered(id),
            _ => self.emitted = self.emitted.saturating_sub(1),
        }
        Some(purpose)
    }

    /// The number of jobs that are in flight or queued.
    pub(crate) fn len(&self) -> usize {
        self.purposes.len()
    }

    /// The number of jobs in flight.
    pub(crate) const fn emitted(&self) -> usize {
        self.emitted + self.requests.emitted() + self.lookups.emitted()
    }

    /// The number of disk jobs of a torrent that are not answered. It scans all jobs, so it is not for the hot path.
    pub(crate) fn disk_jobs(&self, torrent: TorrentId) -> usize {
        self.purposes
            .values()
            .filter(|p| p.disk() == Some(torrent))
            .count()
    }

    /// Drops queued jobs of a torrent that are not needed any more: reads for uploads and, with `checks`, hashes of a check.
    /// Returns their blocks.
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

    /// Cancels the HTTP requests and name look-ups of a torrent, and returns the blocks of those that were queued.
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

/// The host and port of a URL.
fn server(url: &str) -> String {
    let name = |url: TrackerUrl<'_>| format!("{}:{}", url.host.to_ascii_lowercase(), url.port);
    parse_url(url).map_or_else(|_| String::new(), name)
}
