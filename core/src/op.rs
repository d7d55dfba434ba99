//! Ops: everything the engine wants done that is neither a datagram nor a stream byte, and
//! the outcomes that come back.
//!
//! Law 1: every [`OpId`] gets exactly one [`Outcome`], also after a cancel, so blocks always
//! come home.

use alloc::{string::String, vec::Vec};
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use crate::{
    bitfield::Bitfield, block::Block, dht::Saved, hash::Hasher, http::Origin, machine::SocketId,
    metainfo::Info, net::Family, sync::Arc,
};

/// Names one op until its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub u64);

/// Names one stream; a stale id is recognised, never mistaken for its successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId {
    /// Slot.
    pub index: u32,
    /// How often the slot was reused.
    pub generation: u32,
}

/// Names one torrent of an engine; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TorrentId(pub u32);

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
    /// Fill `blocks` from `at`; answered by [`Outcome::Read`]. Never crosses a piece.
    Read {
        /// Answer to.
        op: OpId,
        /// Whose files.
        torrent: TorrentId,
        /// Offset in the torrent's byte space.
        at: u64,
        /// Bytes in all; every block is full but the last.
        len: u32,
        /// Where to.
        blocks: Vec<Block>,
    },
    /// Write `blocks` at `at`; answered by [`Outcome::Written`]. Never crosses a piece.
    Write {
        /// Answer to.
        op: OpId,
        /// Whose files.
        torrent: TorrentId,
        /// Offset in the torrent's byte space.
        at: u64,
        /// Bytes in all; every block is full but the last.
        len: u32,
        /// What.
        blocks: Vec<Block>,
        /// If given, fed with the same bytes while they are warm, and handed back.
        hasher: Option<Hasher>,
    },
    /// Feed `hasher` from the disk; answered by [`Outcome::Hashed`]. Never crosses a piece.
    Hash {
        /// Answer to.
        op: OpId,
        /// Whose files.
        torrent: TorrentId,
        /// Offset in the torrent's byte space.
        at: u64,
        /// Bytes in all.
        len: u64,
        /// State to go on from.
        hasher: Hasher,
    },
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
            | Self::Read { op, .. }
            | Self::Write { op, .. }
            | Self::Hash { op, .. }
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
}

/// An HTTP GET. Proxy, TLS, redirects and name resolution are the driver's policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRequest {
    /// Absolute `http://` or `https://` URL.
    pub url: String,
    /// `User-Agent` to send.
    pub user_agent: String,
    /// Connect from this family only, so that a tracker learns both our addresses (BEP 7).
    pub family: Option<Family>,
    /// Longest body to accept, in bytes; more is [`OpErrorKind::TooLarge`].
    pub max_body: usize,
    /// Give up after this long in all.
    pub timeout: Duration,
    /// Who named the URL: decides, with [`Policy`](crate::http::Policy), which addresses the
    /// driver may ask.
    pub origin: Origin,
}

/// What came of an op.
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// The socket is bound to this address.
    Bound(SocketAddr),
    /// The addresses of a name, at least one.
    Resolved(Vec<IpAddr>),
    /// The server answered, with whatever status.
    Http {
        /// Status code.
        status: u16,
        /// Body, decoded from transfer and content coding.
        body: Vec<u8>,
    },
    /// One entry a file, padding files included; `None` where no file exists. Bytes of unwanted
    /// files that are kept apart, if there are any, have an entry behind these.
    Opened(Vec<Option<FileStat>>),
    /// The blocks, filled.
    Read(Vec<Block>),
    /// The blocks, free again.
    Written {
        /// For the pool.
        blocks: Vec<Block>,
        /// As it went in, fed.
        hasher: Option<Hasher>,
    },
    /// The hasher, fed.
    Hashed(Hasher),
    /// Done; the files as they are now, in the same form as [`Outcome::Opened`].
    Flushed(Vec<Option<FileStat>>),
    /// Done, nothing to say.
    Done,
    /// It did not work. Blocks come home here too.
    Failed {
        /// Why.
        error: OpError,
        /// Whatever was lent to the op.
        blocks: Vec<Block>,
    },
}

impl Outcome {
    /// A failure that carries no blocks.
    pub fn failed(kind: OpErrorKind, detail: impl Into<String>) -> Self {
        Self::Failed {
            error: OpError {
                kind,
                detail: detail.into(),
            },
            blocks: Vec::new(),
        }
    }
}

/// A file as the disk has it, for fast resume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStat {
    /// Bytes.
    pub len: u64,
    /// Modification time in nanoseconds since 1970; only compared for equality.
    pub mtime_ns: i64,
    /// Which file it is, as the file system counts files (an inode number): another file at the
    /// same path has another one. `None` where there is no such number, or none that stays the
    /// same from one mount to the next.
    pub id: Option<u64>,
}

impl FileStat {
    /// Whether both may be the same file, whatever was written to it meanwhile.
    #[must_use]
    pub fn is_same_file(&self, other: &Self) -> bool {
        self.id == other.id || self.id.is_none() || other.id.is_none()
    }

    /// Whether both are the same file, with the same content as far as length and time tell.
    #[must_use]
    pub fn agrees(&self, other: &Self) -> bool {
        self.len == other.len && self.mtime_ns == other.mtime_ns && self.is_same_file(other)
    }
}

/// Why an op failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpError {
    /// What a program can act on.
    pub kind: OpErrorKind,
    /// What a person should read: the file or URL, and the platform's words.
    pub detail: String,
}

impl core::fmt::Display for OpError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.detail)
    }
}

impl core::error::Error for OpError {}

/// The kinds of failure that the engine treats differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpErrorKind {
    /// This platform does not offer it (see `Caps`).
    Unsupported,
    /// It was cancelled, or the driver is stopping.
    Cancelled,
    /// No such file, host or route.
    NotFound,
    /// Not allowed.
    Denied,
    /// A file stands where one of this torrent's has to be, and is not known to be this torrent's.
    /// [`Claim::Overwrite`] would take it. It lasts until somebody decides what becomes of it.
    Exists,
    /// Another torrent or program uses a file that this torrent has to write. It lasts until that
    /// one has ended.
    InUse,
    /// Something other than a regular file stands where a file has to be, or a file where a folder
    /// has to be. No claim takes it: it lasts until somebody moves it away.
    NotAFile,
    /// The disk or the quota is full.
    NoSpace,
    /// Shorter than expected: a file ended early.
    Truncated,
    /// The answer was larger than the request allows.
    TooLarge,
    /// Too slow.
    TimedOut,
    /// The network or the other side refused.
    Refused,
    /// A certificate or the TLS handshake was bad.
    Tls,
    /// Any other I/O error.
    Io,
}

impl OpErrorKind {
    /// Whether something is in the way of a file: it is not tried again before somebody says so.
    #[must_use]
    pub const fn is_obstruction(self) -> bool {
        matches!(self, Self::Exists | Self::InUse | Self::NotAFile)
    }
}

/// Why a stream ended, as the driver saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The other side finished.
    Eof,
    /// The other side reset it.
    Reset,
    /// Nobody listens there.
    Refused,
    /// No answer to the attempt to connect.
    TimedOut,
    /// No route.
    Unreachable,
    /// Any other I/O error.
    Io,
}
