//! What to add to a session, and how.

use std::{
    fmt,
    fs::File,
    io::Read,
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use dunlin_core::{
    InfoHash,
    engine::{AddError, AddTorrent, Check, FilePriority, Source},
    metainfo::{self, Info, MAX_TORRENT_LEN, Magnet},
    op::HttpRequest,
};
use dunlin_std::disk::{Allocation, Placement};

use super::{Limits, Shared, Store, Torrent, blocking, store::Kept};
use crate::{Error, Result, driver::OnInfo, net};

/// How long fetching a torrent file by URL may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(60);
/// How much of a magnet link is repeated in messages.
const SHOWN_LINK: usize = 100;

/// How much each file is wanted, once the files are known.
type Selector = Box<dyn FnOnce(&Info) -> Vec<FilePriority> + Send>;

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
    limits: Limits,
}

enum From {
    Magnet(Magnet),
    Torrent(Box<metainfo::Torrent>),
    File(PathBuf),
    Url(String),
}

impl fmt::Debug for Add {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source: &dyn fmt::Debug = match &self.source {
            From::Magnet(magnet) => &magnet.info_hash,
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
            limits: Limits::default(),
        }
    }

    /// The torrent of a magnet link.
    ///
    /// # Errors
    /// [`Error::Magnet`].
    pub fn magnet(link: &str) -> Result<Self> {
        let magnet = link.parse().map_err(|source| Error::Magnet {
            link: shorten(link),
            source,
        })?;
        Ok(Self::new(From::Magnet(magnet)))
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

    /// Saves to `dir` in place of [`SessionConfig::dir`](super::SessionConfig::dir).
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

    /// Limits its traffic.
    #[must_use]
    pub const fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    pub(super) async fn run(self, shared: &Arc<Shared>) -> Result<Torrent> {
        let mut found = match self.source {
            From::Magnet(magnet) => Found::Magnet(magnet),
            From::Torrent(torrent) => Found::Torrent(torrent),
            From::File(path) => Found::Torrent(blocking(move || read(&path)).await?),
            From::Url(url) => Found::Torrent(fetch(shared, url).await?),
        };
        let (info_hash, name) = (found.info_hash(), found.name());
        let mut select = self.select;
        let mut peers = self.peers;
        if let Found::Magnet(magnet) = &mut found {
            peers.extend(addresses(magnet, shared).await);
            let ranges = std::mem::take(&mut magnet.select);
            select = select.or_else(|| magnet_selector(ranges));
        }

        let _one_at_a_time = shared.adding.lock().await;
        let known = shared.with_engine(move |engine, _| engine.find(info_hash));
        if let Some(id) = known.await? {
            return Err(Error::Duplicate { name, id });
        }
        let store = shared.store()?;
        let mut kept = Kept::default();
        if let Some(store) = store.clone() {
            (found, kept) = blocking(move || recall(&store, found)).await?;
        }

        let config = &shared.config;
        let placement = Placement {
            dir: self.dir.unwrap_or_else(|| config.dir.clone()),
            allocation: self.allocation.unwrap_or(config.allocation),
            names: config.names,
            root: self.root,
            renames: std::collections::BTreeMap::new(),
        };
        let mut add = AddTorrent {
            source: Source::Hash {
                info_hash,
                name: None,
            },
            trackers: Vec::new(),
            peers,
            resume: kept.resume,
            paused: self.paused,
            sequential: self.sequential,
            priorities: Vec::new(),
            check: self.check,
            limit_down: self.limits.down,
            limit_up: self.limits.up,
        };
        let mut on_info = None;
        match found {
            Found::Torrent(torrent) => {
                add.priorities = select.map_or_else(Vec::new, |select| select(&torrent.info));
                add.source = Source::Info(torrent.info);
                add.trackers = torrent.trackers;
            }
            Found::Magnet(magnet) => {
                add.source = Source::Hash {
                    info_hash,
                    name: magnet.name.clone(),
                };
                add.trackers = tiers(&magnet.trackers);
                on_info = Some(when_known(magnet, select, store.clone()));
            }
        }
        add.trackers.extend(tiers(&self.trackers));

        let added = shared.call(move |driver| {
            kept.notes.into_iter().for_each(|note| driver.notice(note));
            driver.add(add, placement, on_info)
        });
        let error = match added.await {
            Ok(Ok(id)) => return Ok(Torrent::new(Arc::clone(shared), id, info_hash)),
            Ok(Err(AddError::Duplicate(id))) => Error::Duplicate { name, id },
            Ok(Err(source)) => Error::Add { name, source },
            Err(error) => error,
        };
        if let Some(store) = store {
            store.release(info_hash);
        }
        Err(error)
    }
}

/// A torrent as the user gave it.
enum Found {
    Magnet(Magnet),
    Torrent(Box<metainfo::Torrent>),
}

impl Found {
    fn info_hash(&self) -> InfoHash {
        match self {
            Self::Magnet(magnet) => magnet.info_hash,
            Self::Torrent(torrent) => torrent.info.info_hash(),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Magnet(magnet) => match &magnet.name {
                Some(name) => name.clone(),
                None => magnet.info_hash.to_string(),
            },
            Self::Torrent(torrent) => torrent.info.name().into(),
        }
    }
}

/// Claims a torrent and adds what the session folder knows: a magnet whose metadata came in an
/// earlier session is a torrent file by now. Blocks.
fn recall(store: &Store, found: Found) -> Result<(Found, Kept)> {
    let mut kept = store.claim(found.info_hash())?;
    let found = match (found, kept.torrent.take()) {
        (Found::Magnet(magnet), Some(mut torrent)) => {
            let mut trackers = tiers(&magnet.trackers);
            torrent.trackers.retain(|tier| !trackers.contains(tier));
            trackers.append(&mut torrent.trackers);
            torrent.trackers = trackers;
            Found::Torrent(Box::new(torrent))
        }
        (Found::Torrent(torrent), None) => {
            if let Err(error) = store.keep(&torrent) {
                store.release(torrent.info.info_hash());
                return Err(error);
            }
            Found::Torrent(torrent)
        }
        (found, _) => found,
    };
    Ok((found, kept))
}

/// What to do when the metadata of `magnet` has come.
fn when_known(magnet: Magnet, select: Option<Selector>, store: Option<Arc<Store>>) -> OnInfo {
    Box::new(move |info| {
        let priorities = select.map_or_else(Vec::new, |select| select(&info));
        if let Some(store) = store {
            // Only spares the next session some work, so nobody waits for it.
            tokio::task::spawn_blocking(move || store.keep(&magnet.torrent(info)));
        }
        priorities
    })
}

/// The peers that a magnet names.
async fn addresses(magnet: &Magnet, shared: &Shared) -> Vec<SocketAddr> {
    let mut addresses = Vec::new();
    for peer in &magnet.peers {
        match peer.addr() {
            Some(address) => addresses.push(address),
            // Names are not looked up around a proxy.
            None if shared.config.route.proxy.is_some() => {}
            None => {
                let found = tokio::net::lookup_host((peer.host.as_str(), peer.port)).await;
                addresses.extend(found.into_iter().flatten());
            }
        }
    }
    addresses
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

async fn fetch(shared: &Shared, url: String) -> Result<Box<metainfo::Torrent>> {
    let name = net::shown(&url).to_owned();
    let request = HttpRequest {
        url,
        user_agent: shared.config.engine.user_agent.clone(),
        family: None,
        max_body: MAX_TORRENT_LEN,
        timeout: FETCH_TIMEOUT,
    };
    let reason = match shared.http.get(&request).await {
        Ok(answer) if answer.status == 200 => return parse(&name, &answer.body).map(Box::new),
        Ok(answer) => format!("the server answered with status {}", answer.status),
        Err(failure) => failure.reason,
    };
    Err(Error::Fetch { url: name, reason })
}
