//! Ops: everything the engine wants done that is neither a datagram nor a stream byte, and
//! the outcomes that come back.
//!
//! Law 1: every [`OpId`] gets exactly one [`Outcome`], also after a cancel, so blocks always
//! come home.

use alloc::{string::String, vec::Vec};
use core::net::SocketAddr;

pub use crate::job::{FetchJob, HashJob, ReadJob, WriteJob};
pub use crate::outcome::FileStat;
use crate::outcome::{OpError, Outcome};
use crate::{
    bitfield::Bitfield,
    block::Block,
    dht::Saved,
    http::HttpRequest,
    id::{ConnId, OpId, TorrentId},
    machine::SocketId,
    metainfo::Info,
    sync::Arc,
};

/// What a bound socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketKind {
    /// Datagrams: trackers and the DHT, later uTP.
    Udp,
    /// Incoming streams.
    TcpListener,
}

/// How to end a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// Send what the kernel holds, then close.
    Flush,
    /// Drop it now.
    Abort,
}

/// What is known of a file that exists when its torrent takes its files into use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Whose {
    /// No piece that covers it passed its check.
    #[default]
    Unknown,
    /// Some of the pieces that cover it passed their check, others failed.
    Partly,
    /// At least one of the pieces that cover it passed its check, and none failed. Those that could not be checked reach
    /// beyond its end, or into a file that is missing or too short.
    Checked,
    /// The record of the torrent vouches for it, whatever it holds.
    Recorded,
}

/// What a torrent takes its files into use for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// To read them: nothing is written, so others may read the same files.
    Read,
    /// To write them. A file that exists is taken if it is [`Whose::Recorded`]. Else it must not be longer than it should
    /// be, and where no piece passed its check it must hold nothing but zeros; what could not be checked of a file that is
    /// [`Whose::Checked`] may hold anything.
    Write,
    /// To write them, whatever they hold: the user insists. Files of another torrent that runs
    /// are refused all the same.
    Overwrite,
}

/// A job for the driver.
#[derive(Debug)]
#[non_exhaustive]
pub enum Op {
    /// Bind `socket`; answered by [`Outcome::Bound`].
    Bind {
        /// Answer to.
        op: OpId,
        /// The name datagrams carry from now on.
        socket: SocketId,
        /// Datagrams or listener.
        kind: SocketKind,
        /// Address and port; port 0 lets the platform choose.
        local: SocketAddr,
    },
    /// Close the datagram socket of this name; answered by [`Outcome::Done`], also if there is
    /// none.
    Unbind {
        /// Answer to.
        op: OpId,
        /// The name it was bound by.
        socket: SocketId,
    },
    /// Open a stream; answered by `handle_connected` or `handle_closed`, not by an outcome.
    TcpConnect {
        /// Its name.
        conn: ConnId,
        /// Where to.
        remote: SocketAddr,
    },
    /// End a stream; not answered. The id is dead from here on.
    TcpClose {
        /// Which.
        conn: ConnId,
        /// How.
        how: Close,
    },
    /// Look a host name up; answered by [`Outcome::Resolved`].
    Resolve {
        /// Answer to.
        op: OpId,
        /// The name, without port.
        host: String,
    },
    /// Make an HTTP or HTTPS GET; answered by [`Outcome::Http`].
    Http {
        /// Answer to.
        op: OpId,
        /// What to ask.
        request: HttpRequest,
    },
    /// Fill blocks with a range of what a server has; answered by [`FetchJob::done`]. Proxy, TLS, redirects and name resolution
    /// are the driver's policy, as with [`Op::Http`].
    Fetch(FetchJob),
    /// Prepare the files of a torrent, without creating any; answered by [`Outcome::Opened`].
    /// Always the first disk op of a torrent.
    Open {
        /// Answer to.
        op: OpId,
        /// The torrent whose files these are.
        torrent: TorrentId,
        /// Names, lengths and pieces.
        info: Arc<Info>,
    },
    /// Fill blocks from the disk; answered by [`ReadJob::done`].
    Read(ReadJob),
    /// Write blocks to the disk; answered by [`WriteJob::done`].
    Write(WriteJob),
    /// Feed a hasher from the disk; answered by [`HashJob::done`].
    Hash(HashJob),
    /// Take the files of a torrent into use, before the first write and before anything of them
    /// is served; answered by [`Outcome::Flushed`], or by [`OpErrorKind::Exists`],
    /// [`OpErrorKind::InUse`] or [`OpErrorKind::NotAFile`] with the name of each file that stands
    /// in the way: the last two if overwriting would not help with one of them. Two torrents never have a claim for writing on one
    /// path; several may share what none of them writes to.
    Claim {
        /// Answer to.
        op: OpId,
        /// Whose files.
        torrent: TorrentId,
        /// One for each file: what is known of what exists there. A file that is
        /// [`Whose::Recorded`] and too long is cut to its length by a claim for writing.
        whose: Vec<Whose>,
        /// The pieces that passed their check, or that the record lists.
        have: Bitfield,
        /// What for.
        claim: Claim,
    },
    /// Look at every file by its path, after all earlier writes of the torrent. Answered by [`Outcome::Flushed`]; a file that this torrent
    /// wrote and that is not at its path any more is `None` there, also if another one is.
    Confirm {
        /// Answer to.
        op: OpId,
        /// Whose files.
        torrent: TorrentId,
        /// All that is wanted has been written; else something went wrong with a file.
        done: bool,
    },
    /// Make what was written durable, after all earlier writes of the torrent; answered by
    /// [`Outcome::Flushed`]. A file that this torrent wrote since and that is not at its path
    /// any more is `None` there.
    Flush {
        /// Answer to.
        op: OpId,
        /// Whose files.
        torrent: TorrentId,
        /// `false`: only wait for the writes and look at the files; they may still be lost with
        /// the machine's power.
        durable: bool,
    },
    /// Tell the disk which files are wanted, so that pieces shared with unwanted ones do not
    /// create them; answered by [`Outcome::Done`].
    Select {
        /// Answer to.
        op: OpId,
        /// Whose files.
        torrent: TorrentId,
        /// One flag a file.
        wanted: Vec<bool>,
    },
    /// Forget a torrent's files (close handles) and its claim, after all its other disk ops are
    /// answered; answered by [`Outcome::Done`].
    Release {
        /// Answer to.
        op: OpId,
        /// Whose files.
        torrent: TorrentId,
        /// Delete what was downloaded as well: the files that this torrent wrote or had verified,
        /// and folders that are empty then.
        delete: bool,
    },
    /// Keep `record` for the next start, atomically; answered by [`Outcome::Done`].
    Save {
        /// Answer to.
        op: OpId,
        /// What it is about.
        torrent: TorrentId,
        /// Opaque bytes.
        record: Vec<u8>,
    },
    /// Keep the DHT's table for the next start, atomically, to be handed back as
    /// [`Config::dht_saved`](crate::Config::dht_saved); answered by [`Outcome::Done`].
    SaveDht {
        /// Answer to.
        op: OpId,
        /// The table.
        saved: Saved,
    },
    /// The engine no longer needs `op`; it is still answered, with whatever came of it.
    Cancel {
        /// Which.
        op: OpId,
    },
}

impl Op {
    /// The id an outcome has to carry; `None` for the ops that are not answered by one.
    #[must_use]
    pub const fn id(&self) -> Option<OpId> {
        match self {
            Self::Bind { op, .. }
            | Self::Unbind { op, .. }
            | Self::Resolve { op, .. }
            | Self::Http { op, .. }
            | Self::Open { op, .. }
            | Self::Fetch(FetchJob { op, .. })
            | Self::Read(ReadJob { op, .. })
            | Self::Write(WriteJob { op, .. })
            | Self::Hash(HashJob { op, .. })
            | Self::Claim { op, .. }
            | Self::Confirm { op, .. }
            | Self::Flush { op, .. }
            | Self::Select { op, .. }
            | Self::Release { op, .. }
            | Self::Save { op, .. }
            | Self::SaveDht { op, .. } => Some(*op),
            Self::TcpConnect { .. } | Self::TcpClose { .. } | Self::Cancel { .. } => None,
        }
    }

    /// The outcome of an op that is not done, with whatever was lent to it. A driver answers so what it does not know.
    #[must_use]
    pub fn fail(self, error: OpError) -> Outcome {
        match self {
            Self::Fetch(job) => job.fail(error),
            Self::Read(job) => job.fail(error),
            Self::Write(job) => job.fail(error),
            Self::Hash(job) => job.fail(error),
            _ => Outcome::failed(error.kind, error.detail),
        }
    }

    /// The driver has not seen it: takes the blocks back that it would fill.
    pub(crate) fn recall(&mut self) -> Vec<Block> {
        match self {
            Self::Fetch(job) => job.recall(),
            Self::Read(job) => job.recall(),
            _ => Vec::new(),
        }
    }
}
