//! Adding a torrent to a session.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use dunlin_core::{TorrentId, engine, http::Origin, metainfo::MAX_TORRENT_LEN, op::HttpRequest};
use dunlin_std::{
    net::http::shown,
    session::add::{Add, Loaded},
};

use super::{Shared, Torrent, blocking, key};
use crate::{Error, Result};

/// Why a torrent was not added.
#[derive(Debug)]
#[non_exhaustive]
pub enum AddError {
    /// The session has it already.
    Duplicate {
        /// Its name.
        name: String,
        /// The torrent that is there; it is as it was.
        torrent: Torrent,
    },
    /// Anything else.
    Other(Error),
}

impl fmt::Display for AddError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duplicate { name, torrent } => {
                let (name, id) = (name.clone(), torrent.id());
                Error::Duplicate { name, id }.fmt(f)
            }
            Self::Other(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for AddError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Duplicate { .. } => None,
            Self::Other(error) => error.source(),
        }
    }
}

impl From<Error> for AddError {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl From<AddError> for Error {
    fn from(error: AddError) -> Self {
        match error {
            AddError::Duplicate { name, torrent } => Self::Duplicate {
                name,
                id: torrent.id(),
            },
            AddError::Other(error) => error,
        }
    }
}

/// How long fetching a torrent file by URL may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) async fn add(mut add: Add, shared: &Arc<Shared>) -> Result<Torrent, AddError> {
    if let Some(url) = add.source_url() {
        let file = fetch(shared, url.to_owned()).await?;
        add = add.fetched(&file)?;
    }
    if let Some(key) = add.key().cloned() {
        add = add.pointed(key::look_up(shared, key).await?);
    }
    let mut loaded = match add.blocks() {
        true => blocking(move || add.load()).await?,
        false => add.load()?,
    };
    let hosts = std::mem::take(&mut loaded.hosts);
    loaded.add_peers(addresses(hosts, shared).await);
    let own = Arc::clone(shared);
    shared.to_the_end(insert(loaded, own)).await?
}

/// Gives a torrent to the engine. From the claim on a torrent to its release, or to the moment it is the engine's, this
/// must not be dropped.
async fn insert(mut loaded: Loaded, shared: Arc<Shared>) -> Result<Torrent, AddError> {
    let (info_hash, name) = (loaded.info_hash(), loaded.name());
    let duplicate = |id: TorrentId| AddError::Duplicate {
        name: name.clone(),
        torrent: Torrent::new(Arc::clone(&shared), id, info_hash),
    };
    let _one_at_a_time = shared.adding.lock().await;
    let known = shared.with_engine(move |engine, _| engine.find(info_hash));
    if let Some(id) = known.await? {
        return Err(duplicate(id));
    }
    let store = shared.store()?;
    let (own, config) = (store.clone(), Arc::clone(&shared));
    let recall = move || {
        let recalled = loaded.recall(own.as_deref(), &config.config);
        recalled.map(|()| loaded)
    };
    let loaded = blocking(recall).await?;
    let dir = loaded.dir(&shared.config);
    let ready = loaded.ready(&shared.config, store.clone());
    let error = match shared.call(move |driver| driver.add(ready)).await {
        Ok(Ok(id)) => {
            shared.dirs().insert(id, dir);
            return Ok(Torrent::new(Arc::clone(&shared), id, info_hash));
        }
        Ok(Err(engine::AddError::Duplicate(id))) => duplicate(id),
        Ok(Err(source)) => AddError::Other(Error::Add {
            name: name.clone(),
            source,
        }),
        Err(error) => AddError::Other(error),
    };
    if let Some(store) = store {
        store.release(info_hash);
    }
    Err(error)
}

/// The addresses of the peers that a magnet names by host.
async fn addresses(hosts: Vec<(String, u16)>, shared: &Shared) -> Vec<SocketAddr> {
    let mut addresses = Vec::new();
    // Names are not looked up around a proxy.
    if shared.config.route.proxy.is_none() {
        for (host, port) in hosts {
            let found = tokio::net::lookup_host((host.as_str(), port)).await;
            addresses.extend(found.into_iter().flatten());
        }
    }
    addresses
}

async fn fetch(shared: &Shared, url: String) -> Result<Vec<u8>> {
    let name = shown(&url).to_owned();
    let request = HttpRequest {
        url,
        user_agent: shared.config.engine.user_agent.clone(),
        family: None,
        max_body: MAX_TORRENT_LEN,
        timeout: FETCH_TIMEOUT,
        origin: Origin::User,
    };
    let reason = match shared.http.get(&request).await {
        Ok(answer) if answer.status == 200 => return Ok(answer.body),
        Ok(answer) => format!("the server answered with status {}", answer.status),
        Err(failure) => failure.reason,
    };
    Err(Error::Fetch { url: name, reason })
}
