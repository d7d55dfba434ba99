//! What to add to a session, and how, whichever driver runs it.

use std::{
    fmt,
    fs::{self, File},
    io::{self, ErrorKind, Read},
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::Arc,
};

use dunlin_core::{
    InfoHash,
    engine::{AddTorrent, Check, Existing, FilePriority, Source},
    metainfo::{self, Info, MAX_TORRENT_LEN, Magnet, MagnetError, MutableKey},
};

use crate::{
    Error, Result,
    disk::{Allocation, Placement},
    net::http::shown,
    platform,
    session::setup::SessionConfig,
    session::store::{Kept, Store},
};

/// How much of a magnet link is repeated in messages.
const SHOWN_LINK: usize = 100;

/// How much each file is wanted, once the files are known.
type Selector = Box<dyn FnOnce(&Info) -> Vec<FilePriority> + Send>;
/// Something to do off the engine's thread.
pub type Job = Box<dyn FnOnce() + Send>;
/// What to do once the files of a magnet are known: says how much each is wanted, and how the
/// session folder comes to know them.
pub type OnInfo = Box<dyn FnOnce(Arc<Info>) -> (Vec<FilePriority>, Option<Job>) + Send>;

/// Rates in bytes per second; `None` is unlimited, `Some(0)` stops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// In.
    pub down: Option<u64>,
    /// Out.
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
    /// before, and any other goes into [`SessionConfig::dir`]. If the folder where it was saved before
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
        Ok(Loaded {
            found,
            add: self,
            hosts,
            kept: Kept::default(),
        })
    }
}

/// An [`Add`] whose torrent is at hand.
#[derive(Debug)]
pub struct Loaded {
    found: Found,
    /// Everything but its source.
    add: Add,
    /// Peers of a magnet that are named by host.
    pub hosts: Vec<(String, u16)>,
    kept: Kept,
}

/// What an engine and a disk are given.
pub struct Ready {
    /// For the engine.
    pub torrent: AddTorrent,
    /// For the disk.
    pub placement: Placement,
    /// For a magnet's metadata, when it has come.
    pub on_info: Option<OnInfo>,
    /// What a person should know.
    pub notes: Vec<String>,
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ready")
            .field("torrent", &self.torrent)
            .field("placement", &self.placement)
            .finish_non_exhaustive()
    }
}

impl Loaded {
    /// What the network calls it.
    #[must_use]
    pub fn info_hash(&self) -> InfoHash {
        self.found.info_hash()
    }

    /// What people call it.
    #[must_use]
    pub fn name(&self) -> String {
        self.found.name()
    }

    /// More peers to try at once, such as those of [`Loaded::hosts`].
    pub fn add_peers(&mut self, peers: impl IntoIterator<Item = SocketAddr>) {
        self.add.peers.extend(peers);
    }

    /// Claims the torrent, adds what the session folder knows, and makes the folder that it is saved
    /// in; without a session folder only the latter. A magnet whose metadata came in an earlier
    /// session is a torrent file by now. Where nobody named a folder, the torrent is where an earlier
    /// session saved it, or in the folder of `defaults` if it is there, or is new. Blocks.
    ///
    /// # Errors
    /// [`Error::Folder`], for instance if another process runs it; [`Error::Gone`] and
    /// [`Error::Dir`], see [`Add::dir`].
    pub fn recall(&mut self, store: Option<&Store>, defaults: &SessionConfig) -> Result<()> {
        let Some(store) = store else {
            return self.make_dir(&self.dir(defaults));
        };
        self.kept = store.claim(self.info_hash())?;
        match (&mut self.found, self.kept.torrent.take()) {
            (Found::Magnet(_, magnet), Some(mut torrent)) => {
                let mut trackers = tiers(&magnet.trackers);
                torrent.trackers.retain(|tier| !trackers.contains(tier));
                trackers.append(&mut torrent.trackers);
                torrent.trackers = trackers;
                let ranges = std::mem::take(&mut magnet.select);
                self.add.select = self.add.select.take().or_else(|| magnet_selector(ranges));
                self.found = Found::Torrent(Box::new(torrent));
            }
            // The same bytes can be read with another encoding of names than declared here. The
            // files have the names that the session gave them.
            (Found::Torrent(torrent), Some(kept)) if torrent.info != kept.info => {
                torrent.info = kept.info;
                torrent.encoding = kept.encoding;
            }
            (Found::Torrent(torrent), None) => {
                if let Err(error) = store.keep(torrent) {
                    store.release(torrent.info.info_hash());
                    return Err(error);
                }
            }
            _ => {}
        }
        let settled = self.settle_place(store, defaults);
        if settled.is_err() {
            store.release(self.info_hash());
        }
        settled
    }

    /// Decides on the folder, and has the next session find it.
    fn settle_place(&mut self, store: &Store, defaults: &SessionConfig) -> Result<()> {
        let kept = self.kept.place.take();
        let usual = self.add.dir.as_ref().unwrap_or(&defaults.dir);
        let Ok(usual) = std::path::absolute(usual) else {
            // Without a current folder nothing can be said for the next session.
            return Ok(());
        };
        let here = self.is_in(&usual, defaults);
        let known = kept.as_ref() == Some(&usual);
        if let (Some(dir), None) = (kept, &self.add.dir) {
            match is_folder(&dir) {
                Ok(()) if known => return Ok(()),
                // It may have been moved here by hand.
                Ok(()) if !here || self.is_in(&dir, defaults) => {
                    let (name, dir_shown) = (self.name(), dir.display());
                    let note = format!("{name}: it is in {dir_shown}, where it was saved before");
                    self.kept.notes.push(note);
                    self.add.dir = Some(dir);
                    return Ok(());
                }
                // To fetch everything again, into a folder that nobody named, could fill another
                // disk than the one that was chosen.
                Err(source) if !here => {
                    let name = self.name();
                    return Err(Error::Gone { name, dir, source });
                }
                _ => {}
            }
        }
        self.make_dir(&usual)?;
        // A folder in which it was only looked for is not where it is.
        if !known && (here || self.add.existing != Existing::ReadOnly) {
            store.place(self.info_hash(), &usual)?;
        }
        Ok(())
    }

    /// Makes the folder `dir` if the torrent may be written. A full disk is not an error here: the
    /// engine tries again until there is space.
    fn make_dir(&self, dir: &Path) -> Result<()> {
        use ErrorKind::{QuotaExceeded, StaleNetworkFileHandle, StorageFull, TimedOut};

        let made = match self.add.existing {
            Existing::ReadOnly => is_folder(dir),
            _ => platform::make_folders(dir),
        };
        let Err(error) = made else {
            return Ok(());
        };
        if let StorageFull | QuotaExceeded | TimedOut | StaleNetworkFileHandle = error.kind()
            && self.add.existing != Existing::ReadOnly
        {
            return Ok(());
        }
        // The system's words name neither what is in the way nor where.
        let there = dir.ancestors().find(|path| path.symlink_metadata().is_ok());
        let source = match there {
            Some(file) if file == dir && !dir.is_dir() => not_a_folder("it is not a folder"),
            Some(file) if !file.is_dir() => {
                not_a_folder(&format!("{} is not a folder", file.display()))
            }
            _ => error,
        };
        Err(Error::Dir {
            name: self.name(),
            dir: dir.into(),
            source,
        })
    }

    /// Whether its file or folder is in `dir`; `false` while its name is not known.
    fn is_in(&self, dir: &Path, defaults: &SessionConfig) -> bool {
        let Found::Torrent(torrent) = &self.found else {
            return false;
        };
        let placement = Placement {
            names: defaults.names,
            root: self.add.root.clone(),
            ..Placement::default()
        };
        let paths = placement.paths(&torrent.info);
        let root = paths.first().and_then(|path| path.iter().next());
        root.is_some_and(|root| dir.join(root).exists())
    }

    /// Where it is saved: a folder that was named or remembered, or else that of `defaults`.
    #[must_use]
    pub fn dir(&self, defaults: &SessionConfig) -> PathBuf {
        self.add.dir.as_ref().unwrap_or(&defaults.dir).clone()
    }

    /// Fills in what was not said. `store` keeps the metadata of a magnet.
    #[must_use]
    pub fn ready(self, defaults: &SessionConfig, store: Option<Arc<Store>>) -> Ready {
        let add = self.add;
        let mut ready = Ready {
            torrent: AddTorrent {
                resume: self.kept.resume,
                peers: add.peers,
                paused: add.paused,
                sequential: add.sequential,
                check: add.check,
                existing: add.existing,
                limit_down: add.limits.down,
                limit_up: add.limits.up,
                ..AddTorrent::new(Source::Hash {
                    info_hash: self.found.info_hash(),
                    name: None,
                })
            },
            placement: Placement {
                dir: add.dir.unwrap_or_else(|| defaults.dir.clone()),
                allocation: add.allocation.unwrap_or(defaults.allocation),
                names: defaults.names,
                root: add.root,
                renames: std::collections::BTreeMap::new(),
            },
            on_info: None,
            notes: [add.notes, self.kept.notes].concat(),
        };
        let mut select = add.select;
        match self.found {
            Found::Torrent(torrent) => {
                let priorities = select.map_or_else(Vec::new, |select| select(&torrent.info));
                ready.torrent.priorities = priorities;
                ready.torrent.source = Source::Info(torrent.info);
                ready.torrent.trackers = torrent.trackers;
                ready.torrent.nodes = torrent.nodes;
            }
            Found::Magnet(info_hash, mut magnet) => {
                let ranges = std::mem::take(&mut magnet.select);
                select = select.or_else(|| magnet_selector(ranges));
                ready.torrent.source = Source::Hash {
                    info_hash,
                    name: magnet.name.clone(),
                };
                ready.torrent.trackers = tiers(&magnet.trackers);
                ready.on_info = Some(when_known(*magnet, select, store));
            }
        }
        ready.torrent.trackers.extend(tiers(&add.trackers));
        ready
    }
}

/// A torrent as the user gave it.
#[derive(Debug)]
enum Found {
    Magnet(InfoHash, Box<Magnet>),
    Torrent(Box<metainfo::Torrent>),
}

impl Found {
    fn info_hash(&self) -> InfoHash {
        match self {
            Self::Magnet(info_hash, _) => *info_hash,
            Self::Torrent(torrent) => torrent.info.info_hash(),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Magnet(info_hash, magnet) => match &magnet.name {
                Some(name) => name.clone(),
                None => info_hash.to_string(),
            },
            Self::Torrent(torrent) => torrent.info.name().into(),
        }
    }
}

/// What to do when the metadata of `magnet` has come.
fn when_known(magnet: Magnet, select: Option<Selector>, store: Option<Arc<Store>>) -> OnInfo {
    Box::new(move |info| {
        let priorities = select.map_or_else(Vec::new, |select| select(&info));
        let keep = store.map(|store| -> Job {
            // Only spares the next session some work, so nobody waits for it.
            Box::new(move || drop(store.keep(&magnet.torrent(info))))
        });
        (priorities, keep)
    })
}

/// The selection of a magnet (BEP 53).
fn magnet_selector(ranges: Vec<RangeInclusive<u32>>) -> Option<Selector> {
    if ranges.is_empty() {
        return None;
    }
    let wanted = move |file: u32| ranges.iter().any(|range| range.contains(&file));
    Some(Box::new(move |info| {
        (0u32..)
            .zip(info.files())
            .map(|(i, _)| match wanted(i) {
                true => FilePriority::Normal,
                false => FilePriority::Skip,
            })
            .collect()
    }))
}

/// Whether `dir` is a folder, or why not.
fn is_folder(dir: &Path) -> io::Result<()> {
    match fs::metadata(dir)?.is_dir() {
        true => Ok(()),
        false => Err(not_a_folder("it is not a folder")),
    }
}

fn not_a_folder(words: &str) -> io::Error {
    io::Error::new(ErrorKind::NotADirectory, words)
}

/// A tier for every URL.
fn tiers(urls: &[String]) -> Vec<Vec<String>> {
    urls.iter().map(|url| vec![url.clone()]).collect()
}

/// The beginning of a link, enough to recognise it.
fn shorten(link: &str) -> String {
    match link.char_indices().nth(SHOWN_LINK) {
        Some((end, _)) => format!("{}…", &link[..end]),
        None => link.into(),
    }
}

fn parse(name: &str, data: &[u8]) -> Result<metainfo::Torrent> {
    metainfo::Torrent::parse(data).map_err(|source| Error::Metainfo {
        name: name.into(),
        source,
    })
}

/// Reads a torrent file, and no more of it than a torrent file may have. Blocks.
///
/// # Errors
/// [`Error::File`], [`Error::Metainfo`], [`Error::TooLong`].
pub fn read_torrent(path: &Path) -> Result<metainfo::Torrent> {
    read(path).map(|torrent| *torrent)
}

fn read(path: &Path) -> Result<Box<metainfo::Torrent>> {
    let name = path.display().to_string();
    let failed = |source| Error::File {
        path: path.into(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let mut data = Vec::new();
    file.take(MAX_TORRENT_LEN as u64 + 1)
        .read_to_end(&mut data)
        .map_err(failed)?;
    if data.len() > MAX_TORRENT_LEN {
        return Err(Error::TooLong {
            name,
            limit: MAX_TORRENT_LEN,
        });
    }
    parse(&name, &data).map(Box::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_to_be_fetched_before_it_is_loaded() {
        let add = Add::url("http://host/a.torrent?key=secret");
        let error = add.load().unwrap_err().to_string();
        assert!(error.contains("a.torrent") && !error.contains("secret"));
        let add = Add::url("http://host/a.torrent?key=secret");
        let error = add.fetched(b"<html>").unwrap_err().to_string();
        assert!(error.contains("a.torrent") && !error.contains("secret"));
    }

    #[test]
    fn a_magnet_tells_its_addresses_from_its_hosts() {
        let link = "magnet:?xt=urn:btih:0123456789abcdef0123456789abcdef01234567\
                    &x.pe=127.0.0.1:7&x.pe=peer.example:8";
        let loaded = Add::magnet(link).unwrap().load().unwrap();
        assert_eq!(loaded.hosts, [("peer.example".to_owned(), 8)]);
        let ready = loaded.ready(&SessionConfig::default(), None);
        assert_eq!(ready.torrent.peers, ["127.0.0.1:7".parse().unwrap()]);
    }

    /// A torrent of one file, `one`.
    fn one() -> metainfo::Torrent {
        let draft = metainfo::Builder::file("one", 1).draft().unwrap();
        draft.finish(&[dunlin_core::hash::sha1(b"x")]).unwrap()
    }

    fn saving_to(dir: &Path) -> SessionConfig {
        SessionConfig {
            dir: dir.into(),
            ..SessionConfig::default()
        }
    }

    /// Adds the torrent to a session that saves to `usual`, and gives it up again. Returns the
    /// folder that it would be saved in.
    fn recalled(add: Add, store: Option<&Store>, usual: &Path) -> Result<PathBuf> {
        let mut loaded = add.load().unwrap();
        let defaults = saving_to(usual);
        loaded.recall(store, &defaults)?;
        if let Some(store) = store {
            store.release(loaded.info_hash());
        }
        Ok(loaded.dir(&defaults))
    }

    #[test]
    fn a_folder_that_is_gone_is_not_replaced_by_another() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("session")).unwrap();
        let (disk, home) = (dir.path().join("disk"), dir.path().join("home"));
        let (mounted, aside) = (disk.join("saved"), dir.path().join("aside"));
        let add = || Add::torrent(one());
        let place = recalled(add(), Some(&store), &mounted).unwrap();
        assert!(place == mounted && mounted.is_dir());
        fs::rename(&disk, &aside).unwrap();
        // Where the usual folder is another one, and where it is the same.
        for (add, usual) in [
            (add(), &home),
            (add(), &mounted),
            (add().existing(Existing::ReadOnly), &home),
            (Add::magnet(&one().magnet().to_string()).unwrap(), &home),
        ] {
            let error = recalled(add, Some(&store), usual).unwrap_err();
            assert!(
                matches!(&error, Error::Gone { dir, .. } if *dir == mounted),
                "{error}"
            );
            assert!(error.to_string().contains("saved before"), "{error}");
        }
        assert!(!disk.exists() && !home.exists(), "a folder was made");
        // It is mounted again; nothing was forgotten meanwhile.
        fs::rename(&aside, &disk).unwrap();
        assert_eq!(recalled(add(), Some(&store), &home).unwrap(), mounted);
        // A folder that is named goes before, and so does one to which it was moved by hand.
        fs::rename(&disk, &aside).unwrap();
        let named = dir.path().join("named");
        let place = recalled(add().dir(&named), Some(&store), &home).unwrap();
        assert!(place == named && named.is_dir());
        fs::remove_dir(&named).unwrap();
        fs::create_dir(&home).unwrap();
        fs::write(home.join("one"), "x").unwrap();
        assert_eq!(recalled(add(), Some(&store), &home).unwrap(), home);
    }

    #[test]
    fn a_folder_is_made_or_refused_when_a_torrent_is_added() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("session")).unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "the user's").unwrap();
        let inside = file.join("below/it");
        let new = dir.path().join("new/folder");
        for store in [None, Some(&store)] {
            for (dir, read_only, says) in [
                (&file, false, "file: it is not a folder"),
                (&file, true, "file: it is not a folder"),
                (&inside, false, "file is not a folder"),
                (&inside, true, "file is not a folder"),
                (&new, true, "new/folder: "),
            ] {
                let mut add = Add::torrent(one());
                if read_only {
                    add = add.existing(Existing::ReadOnly);
                }
                let error = recalled(add, store, dir).unwrap_err();
                assert!(matches!(error, Error::Dir { .. }), "{error}");
                assert!(error.to_string().contains(says), "{says} in {error}");
                assert!(!new.exists());
            }
        }
        assert_eq!(fs::read(&file).unwrap(), b"the user's");
        // What was refused is not remembered as its place.
        recalled(Add::torrent(one()), Some(&store), &new).unwrap();
        assert!(new.is_dir());
    }

    #[test]
    fn what_is_ignored_of_a_magnet_is_said() {
        let link = "'magnet:?xt=urn:btih:0123456789abcdef0123456789abcdef01234567&so=x'";
        let loaded = Add::magnet(link).unwrap().load().unwrap();
        let ready = loaded.ready(&SessionConfig::default(), None);
        let [note] = ready.notes.as_slice() else {
            panic!("{:?}", ready.notes);
        };
        assert!(note.contains("`so=`") && note.contains("ignored"), "{note}");
    }
}
