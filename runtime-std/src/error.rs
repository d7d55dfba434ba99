//! Errors for applications, the same for every driver. Each names the subject, the place and the reason.

use std::path::PathBuf;

use crate::folder::SessionError;
use dunlin_core::{
    OpError, TorrentId,
    engine::{AddError, CommandError},
    metainfo::{self, MagnetError},
};

/// Result with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a session, a torrent or a DHT node.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The path of the file.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// Something is not a torrent file.
    #[error("{name}: {source}")]
    Metainfo {
        /// Path or URL of it.
        name: String,
        /// Where in it, and why.
        source: metainfo::Error,
    },
    /// Something is longer than any torrent file may be.
    #[error("{name}: not a torrent file: it is longer than {limit} bytes")]
    TooLong {
        /// Path or URL of it.
        name: String,
        /// The length of the longest torrent file that is read, in bytes.
        limit: usize,
    },
    /// A text is not a magnet link.
    #[error("{link}: {source}")]
    Magnet {
        /// The link, shortened.
        link: String,
        /// What is wrong with it.
        source: MagnetError,
    },
    /// A torrent file could not be fetched from a URL.
    #[error("{url}: {reason}")]
    Fetch {
        /// Where from, without its query.
        url: String,
        /// The reason, for people.
        reason: String,
    },
    /// The DHT could not tell which torrent a key stands for (BEP 46).
    #[error("{key}: {reason}")]
    Key {
        /// The key, in hex.
        key: String,
        /// The reason, for people.
        reason: String,
    },
    /// The DHT was not told of a node.
    #[error("{node}: {source}")]
    DhtNode {
        /// The node, as it was named.
        node: String,
        /// The reason of the engine.
        source: CommandError,
    },
    /// A DHT node's cache could not be written: the reason.
    #[error("{0}")]
    DhtCache(String),
    /// The torrent has been added already.
    #[error("{name}: this torrent has been added already")]
    Duplicate {
        /// The torrent's name.
        name: String,
        /// What it is called in this session.
        id: TorrentId,
    },
    /// The engine did not carry out a command.
    #[error("{0}")]
    Command(CommandError),
    /// The engine did not take the torrent.
    #[error("{name}: {source}")]
    Add {
        /// The torrent's name.
        name: String,
        /// The reason of the engine.
        source: AddError,
    },
    /// The torrent cannot go on by itself, for instance because the disk is full.
    #[error("{name}: {source}")]
    Failed {
        /// The torrent's name.
        name: String,
        /// The error of the disk.
        source: OpError,
    },
    /// The folder where an earlier session saved the torrent is gone, for instance because its disk
    /// is not mounted. The torrent was not added; [`Add::dir`](crate::session::add::Add::dir) puts it elsewhere.
    #[error("{name}: {}, where it was saved before, is gone: {source}", dir.display())]
    Gone {
        /// The torrent's name.
        name: String,
        /// The path of the folder.
        dir: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// The folder that the torrent belongs in cannot be made, or does not exist where its files are
    /// only to be read. The torrent was not added.
    #[error("{name}: the folder {}: {source}", dir.display())]
    Dir {
        /// The torrent's name.
        name: String,
        /// The path of the folder.
        dir: PathBuf,
        /// The obstacle, or the error of the system.
        source: std::io::Error,
    },
    /// The session's folder cannot be used, or another process runs the torrent.
    #[error(transparent)]
    Folder(#[from] SessionError),
    /// The disk's threads could not be started, or the system has no random numbers.
    #[error("cannot start a session: {0}")]
    Start(String),
    /// The system refuses to wait for sockets; the driver cannot go on.
    #[error("cannot wait for sockets: {0}")]
    Poll(std::io::Error),
    /// A call would wait for the very thread that makes it.
    #[error("{what} would wait for its own thread; {instead}")]
    Deadlock {
        /// What was called.
        what: &'static str,
        /// What to do in its place.
        instead: &'static str,
    },
    /// The torrent has been removed from its session.
    #[error("the torrent has been removed from its session")]
    Removed,
    /// The session has ended.
    #[error("the session has ended")]
    Stopped,
}

impl Error {
    /// Why the engine did not take the torrent `name`.
    #[must_use]
    pub const fn of_add(name: String, error: AddError) -> Self {
        match error {
            AddError::Duplicate(id) => Self::Duplicate { name, id },
            source => Self::Add { name, source },
        }
    }
}

impl From<CommandError> for Error {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::NoTorrent(_) => Self::Removed,
            error => Self::Command(error),
        }
    }
}
