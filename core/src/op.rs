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
    /// Send what is in the socket's buffer, then close.
    Flush,
    /// Close at once.
    Abort,
}

/// What is known of a file that exists when its torrent claims its files.
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
    /// The torrent's record says that it belongs to the torrent, whatever it holds.
    Recorded,
}

/// What a torrent claims its files for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// To read them: nothing is written, so others may read the same files.
    Read,
    /// To write them. A file that exists is accepted if it is [`Whose::Recorded`]. Otherwise, it must not be longer than it
    /// should be, and must be all zeros where no piece passed its check. The parts of a [`Whose::Checked`] file that could
    /// not be checked may hold anything.
    Write,
    /// To write them, whatever they hold, as the user chose. Files of another running torrent are refused all the same.
    Overwrite,
}

/// A job for the driver.
#[derive(Debug)]
#[non_exhaustive]
pub enum Op {
    /// Bind `socket`. The outcome is [`Outcome::Bound`].
    Bind {
        /// Its id.
        op: OpId,
        /// The id of the socket, which its datagrams carry.
        socket: SocketId,
        /// Whether it is for datagrams, or accepts streams.
        kind: SocketKind,
        /// The address and port. With port 0 the platform chooses one.
        local: SocketAddr,
    },
    /// Close a datagram socket. The outcome is [`Outcome::Done`], also if there is no such socket.
    Unbind {
        /// Its id.
        op: OpId,
        /// The id by which it was bound.
        socket: SocketId,
    },
    /// Open a stream. There is no outcome: the driver calls `handle_connected` or `handle_closed`.
    TcpConnect {
        /// The id of the connection.
        conn: ConnId,
        /// The address to connect to.
        remote: SocketAddr,
    },
    /// Close a stream. There is no outcome, and the id is invalid from then on.
    TcpClose {
        /// The connection.
        conn: ConnId,
        /// How to close it.
        how: Close,
    },
    /// Look up a host name. The outcome is [`Outcome::Resolved`].
    Resolve {
        /// Its id.
        op: OpId,
        /// The host name, without a port.
        host: String,
    },
    /// Send an HTTP or HTTPS GET. The outcome is [`Outcome::Http`].
    Http {
        /// Its id.
        op: OpId,
        /// The request.
        request: HttpRequest,
    },
    /// Download a range of a resource into blocks. The outcome is that of [`FetchJob::done`]. Proxy, TLS, redirects and name
    /// resolution are up to the driver, as with [`Op::Http`].
    Fetch(FetchJob),
    /// Open the files of a torrent, without creating any. The outcome is [`Outcome::Opened`]. It is the first disk op of a
    /// torrent.
    Open {
        /// Its id.
        op: OpId,
        /// The torrent.
        torrent: TorrentId,
        /// The metadata.
        info: Arc<Info>,
    },
    /// Read from the disk into blocks. The outcome is that of [`ReadJob::done`].
    Read(ReadJob),
    /// Write blocks to the disk. The outcome is that of [`WriteJob::done`].
    Write(WriteJob),
    /// Hash bytes from the disk. The outcome is that of [`HashJob::done`].
    Hash(HashJob),
    /// Claim the files of a torrent, before the first write and before any upload. The outcome is [`Outcome::Flushed`], or
    /// an error that names each file that is in the way: [`Exists`], or [`InUse`] or [`NotAFile`] if overwriting would not
    /// help with one of them. Two torrents never have a claim to write on one path; several torrents may share files that
    /// none of them writes to.
    ///
    /// [`Exists`]: crate::OpErrorKind::Exists
    /// [`InUse`]: crate::OpErrorKind::InUse
    /// [`NotAFile`]: crate::OpErrorKind::NotAFile
    Claim {
        /// Its id.
        op: OpId,
        /// The torrent.
        torrent: TorrentId,
        /// What is known of each file, if it exists. A claim to write cuts a [`Whose::Recorded`] file that is too long to
        /// its length.
        whose: Vec<Whose>,
        /// The pieces that passed their check, or that are in the record.
        have: Bitfield,
        /// What they are claimed for.
        claim: Claim,
    },
    /// Examine every file by its path, after all earlier writes of the torrent. The outcome is [`Outcome::Flushed`]. A file
    /// that this torrent wrote and that is not at its path any more is `None` there, also if there is another file.
    Confirm {
        /// Its id.
        op: OpId,
        /// The torrent.
        torrent: TorrentId,
        /// Whether every wanted file has been written. Otherwise, an error occurred with a file.
        done: bool,
    },
    /// Flush the files, after all earlier writes of the torrent. The outcome is [`Outcome::Flushed`]. A file that this
    /// torrent wrote since the last flush and that is not at its path any more is `None` there.
    Flush {
        /// Its id.
        op: OpId,
        /// The torrent.
        torrent: TorrentId,
        /// Whether the bytes have to reach the medium. With `false`, only wait for the writes and examine the files: a power
        /// cut may still lose them.
        durable: bool,
    },
    /// Set which files are wanted, so that pieces that extend into unwanted files do not create those. The outcome is
    /// [`Outcome::Done`].
    Select {
        /// Its id.
        op: OpId,
        /// The torrent.
        torrent: TorrentId,
        /// Whether each file is wanted.
        wanted: Vec<bool>,
    },
    /// Close a torrent's files and drop its claim, after all of its other disk ops. The outcome is [`Outcome::Done`].
    Release {
        /// Its id.
        op: OpId,
        /// The torrent.
        torrent: TorrentId,
        /// Whether to delete the files that this torrent wrote or verified, and folders that are empty then.
        delete: bool,
    },
    /// Save a resume record for the next start, atomically. The outcome is [`Outcome::Done`].
    Save {
        /// Its id.
        op: OpId,
        /// The torrent.
        torrent: TorrentId,
        /// The record, as opaque bytes.
        record: Vec<u8>,
    },
    /// Save the DHT's nodes for the next start, atomically; they are passed back in
    /// [`Config::dht_saved`](crate::Config::dht_saved). The outcome is [`Outcome::Done`].
    SaveDht {
        /// Its id.
        op: OpId,
        /// The nodes.
        saved: Saved,
    },
    /// The engine does not need `op` any more. It still has an outcome, whatever that is.
    Cancel {
        /// The op to cancel.
        op: OpId,
    },
}

impl Op {
    /// The id of the op, by which its outcome is reported. `None` if the op has no outcome.
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

    /// The outcome of an op that failed, with the buffers that were lent to it. A driver uses it for ops that it does not know.
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

    /// Takes back the blocks of an op that was not passed to the driver.
    pub(crate) fn recall(&mut self) -> Vec<Block> {
        match self {
            Self::Fetch(job) => job.recall(),
            Self::Read(job) => job.recall(),
            _ => Vec::new(),
        }
    }
}
