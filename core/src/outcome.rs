//! The outcomes of ops, and the reasons why streams end.

use alloc::{string::String, vec::Vec};
use core::net::{IpAddr, SocketAddr};

use crate::{block::Block, hash::Hasher};

/// The outcome of an op.
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// The socket is bound to this address.
    Bound(SocketAddr),
    /// The addresses of a name, at least one.
    Resolved(Vec<IpAddr>),
    /// The server answered, whatever the status.
    Http {
        /// The status code of the response.
        status: u16,
        /// The body, decoded from transfer and content coding.
        body: Vec<u8>,
    },
    /// The files are open. One entry for each file, including padding files; `None` if the file does not exist. The parts
    /// file, if there is one, has an entry after these.
    Opened(Vec<Option<FileStat>>),
    /// The blocks, filled from the disk.
    Read(Vec<Block>),
    /// The blocks, filled with the requested range.
    Fetched(Vec<Block>),
    /// The blocks were written.
    Written {
        /// The blocks, for the pool.
        blocks: Vec<Block>,
        /// The hasher, if there was one, with the bytes added.
        hasher: Option<Hasher>,
    },
    /// The hasher, with the bytes added.
    Hashed(Hasher),
    /// Done. The present state of the files, in the same form as [`Outcome::Opened`].
    Flushed(Vec<Option<FileStat>>),
    /// Done, without a result.
    Done,
    /// It failed.
    Failed {
        /// The reason.
        error: OpError,
        /// The blocks that were lent to the op.
        blocks: Vec<Block>,
    },
}

impl Outcome {
    /// A failure of an op without blocks.
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

/// The attributes of a file, for fast resume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStat {
    /// Its length in bytes.
    pub len: u64,
    /// Its modification time in nanoseconds since 1970. It is only compared for equality.
    pub mtime_ns: i64,
    /// Its file number (inode number): another file at the same path has another one. `None` if the file system has no such
    /// numbers, or if they change from one mount to the next.
    pub id: Option<u64>,
}

impl FileStat {
    /// Whether both may be the same file, whatever was written to it in the meantime.
    #[must_use]
    pub(crate) fn is_same_file(&self, other: &Self) -> bool {
        self.id == other.id || self.id.is_none() || other.id.is_none()
    }

    /// Whether both are the same file with the same content, judged by length and modification time.
    #[must_use]
    pub fn agrees(&self, other: &Self) -> bool {
        self.len == other.len && self.mtime_ns == other.mtime_ns && self.is_same_file(other)
    }
}

/// The reason for which an op failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpError {
    /// The kind of the error.
    pub kind: OpErrorKind,
    /// A message for the user: the file or URL, and the error of the platform.
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
    /// A file that is not known to belong to this torrent is at the path of one of its files.
    /// [`Claim::Overwrite`](crate::op::Claim::Overwrite) would overwrite it. The error lasts until the user decides about
    /// the file.
    Exists,
    /// Another torrent or program uses a file that this torrent has to write. The error lasts until that has ended.
    InUse,
    /// There is something other than a regular file where a file has to be, or a file where a folder has to be. The error
    /// lasts until the user moves it.
    NotAFile,
    /// The disk or the quota is full.
    NoSpace,
    /// A file ended early.
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
    /// Whether something is in the way of a file. The op is then not retried until the application asks for it.
    #[must_use]
    pub const fn is_obstruction(self) -> bool {
        matches!(self, Self::Exists | Self::InUse | Self::NotAFile)
    }
}

/// The reason for which a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The other side closed it.
    Eof,
    /// The other side reset it.
    Reset,
    /// The connection was refused.
    Refused,
    /// The connection attempt timed out.
    TimedOut,
    /// There is no route to the host.
    Unreachable,
    /// Any other I/O error.
    Io,
}
