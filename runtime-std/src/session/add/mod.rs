//! What to add to a session, and how, whichever driver runs it.
//!
//! ```text
//!  Add ──load──▶ Loaded ──claim──▶ Ready ──▶ engine, disk
//!      (file or fetched)  (session folder, place on disk)
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

/// How much of a magnet link is repeated in messages.
const SHOWN_LINK: usize = 100;

/// How much each file is wanted, once the files are known.
type Selector = Box<dyn FnOnce(&Info) -> Vec<FilePriority> + Send>;

/// Rates in bytes per second; `None` is unlimited, `Some(0)` stops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Limit of what is received.
    pub down: Option<u64>,
    /// Limit of what is sent.
    pub up: Option<u64>,
}

/// A torrent to add: from where, to where, and how.
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
    /// What a person should know about how it was read.
    notes: Vec<String>,
}

enum From {
    /// With its info-hash.
    Magnet(InfoHash, Box<Magnet>),
    /// The DHT knows which torrent it is (BEP 46).
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

    /// The torrent of a magnet link. One that names a key (BEP 46) is looked up in the DHT when it
    /// is added.
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

    /// The torrent of a torrent file's content.
    ///
    /// # Errors
    /// [`Error::Metainfo`].
    pub fn bytes(data: &[u8]) -> Result<Self> {
        Ok(Self::torrent(parse("torrent", data)?))
    }

    /// A torrent that has been read already.
    #[must_use]
    pub fn torrent(torrent: metainfo::Torrent) -> Self {
        Self::new(From::Torrent(Box::new(torrent)))
    }

    /// A torrent file, read when it is added.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::new(From::File(path.into()))
    }

    /// A torrent file behind an `http://` or `https://` URL, fetched when it is added.
    #[must_use]
    pub fn url(url: impl Into<String>) -> Self {
        Self::new(From::Url(url.into()))
    }

    /// Saves to `dir`. Without it a torrent that the session folder knows is where it was saved
    /// before, and any other goes into [`SessionConfig::dir`](crate::session::setup::SessionConfig::dir). If the folder where it was saved before
    /// is gone, for instance because its disk is not mounted, adding it fails with [`Error::Gone`].
    ///
    /// The folder is made when the torrent is added, unless its files are only to be read
    /// ([`Existing::ReadOnly`]): then it has to exist. A folder that cannot be used is
    /// [`Error::Dir`].
    #[must_use]
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// Calls the torrent's folder, or its only file, `name`.
    #[must_use]
    pub fn rename(mut self, name: impl Into<String>) -> Self {
        self.root = Some(name.into());
        self
    }

    /// When files take up their space, in place of the session's setting.
    #[must_use]
    pub const fn allocation(mut self, allocation: Allocation) -> Self {
        self.allocation = Some(allocation);
        self
    }

    /// Trackers in addition to its own, a tier each.
    #[must_use]
    pub fn trackers(mut self, urls: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.trackers.extend(urls.into_iter().map(Into::into));
        self
    }

    /// Peers to try at once.
    #[must_use]
    pub fn peers(mut self, peers: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.peers.extend(peers);
        self
    }

    /// How much each file is wanted: asked as soon as the files are known. A magnet's own
    /// selection (BEP 53) is not looked at then.
    #[must_use]
    pub fn select(
        mut self,
        select: impl FnOnce(&Info) -> Vec<FilePriority> + Send + 'static,
    ) -> Self {
        self.select = Some(Box::new(select));
        self
    }

    /// Adds it at rest.
    #[must_use]
    pub const fn paused(mut self, paused: bool) -> Self {
        self.paused = paused;
        self
    }

    /// Fetches pieces in order.
    #[must_use]
    pub const fn sequential(mut self, sequential: bool) -> Self {
        self.sequential = sequential;
        self
    }

    /// Which pieces on disk to trust.
    #[must_use]
    pub const fn check(mut self, check: Check) -> Self {
        self.check = check;
        self
    }

    /// What may become of files that exist where the torrent's files belong.
    #[must_use]
    pub const fn existing(mut self, existing: Existing) -> Self {
        self.existing = existing;
        self
    }

    /// Limits its traffic.
    #[must_use]
    pub const fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The URL that has to be fetched first, and handed to [`Add::fetched`].
    #[must_use]
    pub fn source_url(&self) -> Option<&str> {
        match &self.source {
            From::Url(url) => Some(url),
            _ => None,
        }
    }

    /// Puts the torrent file `data` in place of the URL that it came from.
    ///
    /// # Errors
    /// [`Error::Metainfo`].
    pub fn fetched(mut self, data: &[u8]) -> Result<Self> {
        let name = self.source_url().map_or("torrent", shown).to_owned();
        self.source = From::Torrent(Box::new(parse(&name, data)?));
        Ok(self)
    }

    /// The key that the DHT has to be asked about before it can be added (BEP 46).
    #[must_use]
    pub const fn key(&self) -> Option<&MutableKey> {
        match &self.source {
            From::Key(key, _) => Some(key),
            _ => None,
        }
    }

    /// Puts the torrent that the key points to in its place.
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

    /// Reads the torrent file, if that is what it was made of. Blocks then.
    ///
    /// # Errors
    /// What is wrong with the file; [`Error::Fetch`] for a URL that was not fetched.
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

/// The beginning of a link, enough to recognise it.
fn shorten(link: &str) -> String {
    match link.char_indices().nth(SHOWN_LINK) {
        Some((end, _)) => format!("{}…", &link[..end]),
        None => link.into(),
    }
}
