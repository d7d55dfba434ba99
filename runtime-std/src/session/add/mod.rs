//! Torrents to add to a session, for every driver.
//!
//! ```text
//!  Add ──load──▶ Loaded ──claim──▶ Ready ──▶ engine, disk
//!      (file or download)  (session folder, place on disk)
//! ```

mod file;
mod loaded;
mod ready;
#[cfg(test)]
mod tests;

use std::{fmt, net::SocketAddr, path::PathBuf};

use dunlin_core::{
    InfoHash,
    engine::{Check, Existing, FilePriority},
    metainfo::{self, Info, Magnet, MagnetError, MutableKey},
};

use crate::{Error, Result, disk::Allocation, net::http::shown};

use self::{
    file::{parse, read},
    loaded::Found,
};
pub use self::{
    file::{read_torrent, torrent_file, torrent_request},
    loaded::Loaded,
    ready::{Job, OnInfo, Ready},
};

/// The most bytes of a magnet link that messages repeat.
const SHOWN_LINK: usize = 100;

/// Returns the priority of each file, once the files are known.
type Selector = Box<dyn FnOnce(&Info) -> Vec<FilePriority> + Send>;

/// Rates in bytes per second; `None` is unlimited, `Some(0)` stops the traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The limit for downloading.
    pub down: Option<u64>,
    /// The limit for uploading.
    pub up: Option<u64>,
}

/// A torrent to add: its source, where it is saved, and its options.
pub struct Add {
    source: From,
    dir: Option<PathBuf>,
    root: Option<String>,
    allocation: Option<Allocation>,
    trackers: Vec<String>,
    peers: Vec<SocketAddr>,
    select: Option<Selector>,
    paused: bool,
    sequential: bool,
    check: Check,
    existing: Existing,
    limits: Limits,
    /// Messages for people about the source.
    notes: Vec<String>,
}

enum From {
    /// A magnet with an info-hash.
    Magnet(InfoHash, Box<Magnet>),
    /// A magnet with a key; the DHT knows the info-hash (BEP 46).
    Key(MutableKey, Box<Magnet>),
    Torrent(Box<metainfo::Torrent>),
    File(PathBuf),
    Url(String),
}

impl fmt::Debug for Add {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source: &dyn fmt::Debug = match &self.source {
            From::Magnet(info_hash, _) => info_hash,
            From::Key(key, _) => key,
            From::Torrent(torrent) => &torrent.info.info_hash(),
            From::File(path) => path,
            From::Url(url) => url,
        };
        f.debug_struct("Add")
            .field("source", source)
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

impl Add {
    fn new(source: From) -> Self {
        Self {
            source,
            dir: None,
            root: None,
            allocation: None,
            trackers: Vec::new(),
            peers: Vec::new(),
            select: None,
            paused: false,
            sequential: false,
            check: Check::default(),
            existing: Existing::default(),
            limits: Limits::default(),
            notes: Vec::new(),
        }
    }

    /// The torrent of a magnet link. If the link names a key (BEP 46), the DHT is asked for the info-hash
    /// when the torrent is added.
    ///
    /// # Errors
    /// [`Error::Magnet`].
    pub fn magnet(link: &str) -> Result<Self> {
        let refuse = |source| Error::Magnet {
            link: shorten(link),
            source,
        };
        let (magnet, warnings) = Magnet::read(link).map_err(refuse)?;
        let magnet = Box::new(magnet);
        let mut add = Self::new(match (magnet.info_hash, magnet.key.clone()) {
            (Some(info_hash), _) => From::Magnet(info_hash, magnet),
            (None, Some(key)) => From::Key(key, magnet),
            (None, None) => return Err(refuse(MagnetError::NoHash)),
        });
        let notes = warnings
            .iter()
            .map(|w| format!("{}: {w}", shorten(link.trim())));
        add.notes.extend(notes);
        Ok(add)
    }

    /// The torrent in the content of a torrent file.
    ///
    /// # Errors
    /// [`Error::Metainfo`].
    pub fn bytes(data: &[u8]) -> Result<Self> {
        Ok(Self::torrent(parse("torrent", data)?))
    }

    /// A torrent that is parsed already.
    #[must_use]
    pub fn torrent(torrent: metainfo::Torrent) -> Self {
        Self::new(From::Torrent(Box::new(torrent)))
    }

    /// A torrent file, read when the torrent is added.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::new(From::File(path.into()))
    }

    /// A torrent file at an `http://` or `https://` URL, downloaded when the torrent is added.
    #[must_use]
    pub fn url(url: impl Into<String>) -> Self {
        Self::new(From::Url(url.into()))
    }

    /// Saves the torrent in `dir`. Without this, a torrent that the session folder knows stays where it was
    /// saved before, and any other is saved in
    /// [`SessionConfig::dir`](crate::session::setup::SessionConfig::dir). If the earlier folder does not
    /// exist, for instance because its disk is not mounted, adding the torrent fails with [`Error::Gone`].
    ///
    /// The folder is created when the torrent is added, unless its files may only be read
    /// ([`Existing::ReadOnly`]): then it has to exist. A folder that cannot be used is [`Error::Dir`].
    #[must_use]
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// Renames the torrent's folder, or its only file, to `name`.
    #[must_use]
    pub fn rename(mut self, name: impl Into<String>) -> Self {
        self.root = Some(name.into());
        self
    }

    /// When disk space is reserved, in place of the session's setting.
    #[must_use]
    pub const fn allocation(mut self, allocation: Allocation) -> Self {
        self.allocation = Some(allocation);
        self
    }

    /// Trackers in addition to the torrent's own, one tier each.
    #[must_use]
    pub fn trackers(mut self, urls: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.trackers.extend(urls.into_iter().map(Into::into));
        self
    }

    /// Peers to connect to at once.
    #[must_use]
    pub fn peers(mut self, peers: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.peers.extend(peers);
        self
    }

    /// Sets the function that returns the priority of each file; it is called as soon as the files are
    /// known. It replaces the selection of a magnet (BEP 53).
    #[must_use]
    pub fn select(
        mut self,
        select: impl FnOnce(&Info) -> Vec<FilePriority> + Send + 'static,
    ) -> Self {
        self.select = Some(Box::new(select));
        self
    }

    /// Adds the torrent paused.
    #[must_use]
    pub const fn paused(mut self, paused: bool) -> Self {
        self.paused = paused;
        self
    }

    /// Downloads the pieces in order.
    #[must_use]
    pub const fn sequential(mut self, sequential: bool) -> Self {
        self.sequential = sequential;
        self
    }

    /// Which pieces on disk are trusted without a check.
    #[must_use]
    pub const fn check(mut self, check: Check) -> Self {
        self.check = check;
        self
    }

    /// What may be done with existing files at the paths of the torrent's files.
    #[must_use]
    pub const fn existing(mut self, existing: Existing) -> Self {
        self.existing = existing;
        self
    }

    /// Limits the torrent's traffic.
    #[must_use]
    pub const fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The URL that has to be downloaded first, for [`Add::fetched`].
    #[must_use]
    pub fn source_url(&self) -> Option<&str> {
        match &self.source {
            From::Url(url) => Some(url),
            _ => None,
        }
    }

    /// Replaces the URL by `data`, the torrent file that was downloaded from it.
    ///
    /// # Errors
    /// [`Error::Metainfo`].
    pub fn fetched(mut self, data: &[u8]) -> Result<Self> {
        let name = self.source_url().map_or("torrent", shown).to_owned();
        self.source = From::Torrent(Box::new(parse(&name, data)?));
        Ok(self)
    }

    /// The key that the DHT has to be asked about before the torrent can be added (BEP 46).
    #[must_use]
    pub const fn key(&self) -> Option<&MutableKey> {
        match &self.source {
            From::Key(key, _) => Some(key),
            _ => None,
        }
    }

    /// Replaces the key by the torrent that it points to.
    #[must_use]
    pub fn pointed(mut self, info_hash: InfoHash) -> Self {
        self.source = match self.source {
            From::Key(_, magnet) => From::Magnet(info_hash, magnet),
            other => other,
        };
        self
    }

    /// Whether [`Add::load`] reads a file.
    #[must_use]
    pub const fn blocks(&self) -> bool {
        matches!(self.source, From::File(_))
    }

    /// Reads the torrent file, if the source is one; this blocks.
    ///
    /// # Errors
    /// The file cannot be read or parsed; [`Error::Fetch`] for a URL that was not downloaded.
    pub fn load(mut self) -> Result<Loaded> {
        let found = match self.source {
            From::Magnet(info_hash, magnet) => Found::Magnet(info_hash, magnet),
            From::Key(..) => {
                let (link, source) = ("magnet:?xs=urn:btpk:…".into(), MagnetError::KeyOnly);
                return Err(Error::Magnet { link, source });
            }
            From::Torrent(torrent) => Found::Torrent(torrent),
            From::File(path) => Found::Torrent(read(&path)?),
            From::Url(url) => {
                return Err(Error::Fetch {
                    url: shown(&url).into(),
                    reason: "it has to be fetched first".into(),
                });
            }
        };
        let mut hosts = Vec::new();
        if let Found::Magnet(_, magnet) = &found {
            for peer in &magnet.peers {
                match peer.addr() {
                    Some(address) => self.peers.push(address),
                    None => hosts.push((peer.host.clone(), peer.port)),
                }
            }
        }
        self.source = From::Url(String::new());
        Ok(Loaded::new(found, self, hosts))
    }
}

/// The start of a link, long enough to recognise it.
fn shorten(link: &str) -> String {
    match link.char_indices().nth(SHOWN_LINK) {
        Some((end, _)) => format!("{}…", &link[..end]),
        None => link.into(),
    }
}
