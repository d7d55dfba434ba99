//! The outcomes of ops, and the reasons why streams end.

use alloc::{string::String, vec::Vec};
use core::net::{IpAddr, SocketAddr};

use crate::{block::Block, hash::Hasher};

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
        /// The status code of the response.
        status: u16,
        /// Body, decoded from transfer and content coding.
        body: Vec<u8>,
    },
    /// One entry a file, padding files included; `None` where no file exists. Bytes of unwanted
    /// files that are kept apart, if there are any, have an entry behind these.
    Opened(Vec<Option<FileStat>>),
    /// The blocks, filled.
    Read(Vec<Block>),
    /// The blocks, filled with the range that was asked for.
    Fetched(Vec<Block>),
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
    /// It failed. Blocks are returned here as well.
    Failed {
        /// The reason.
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
    /// Its length in bytes.
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
    pub(crate) fn is_same_file(&self, other: &Self) -> bool {
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
    /// The permissions do not allow it.
    Denied,
    /// A file that is not known to be this torrent's is at the path of one of its files.
    /// [`Claim::Overwrite`](crate::op::Claim::Overwrite) would take it. The error lasts until somebody
    /// decides about the file.
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
    /// It took too long.
    TimedOut,
    /// The network or the other side refused.
    Refused,
    /// A certificate or the TLS handshake was bad.
    Tls,
    /// Any other I/O error.
    Io,
}

impl OpErrorKind {
    /// Whether something is in the way of a file: the op is not tried again until the application asks for
    /// it.
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
    /// There is no route to the host.
    Unreachable,
    /// Any other I/O error.
    Io,
}
