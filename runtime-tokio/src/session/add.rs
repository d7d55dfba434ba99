//! Adding a torrent to a session.

use std::{fmt, sync::Arc};

use dunlin_core::{TorrentId, engine};
use dunlin_std::session::add::{self, Add, Loaded};

use super::{Shared, Torrent, blocking, key};
use crate::{Error, Result};

/// The reason why a torrent was not added.
#[derive(Debug)]
#[non_exhaustive]
pub enum AddError {
    /// The session has it already.
    Duplicate {
        /// Its name.
        name: String,
        /// The torrent that the session has; it was not changed.
        torrent: Torrent,
    },
    /// Any other error.
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

pub(super) async fn add(mut add: Add, shared: &Arc<Shared>) -> Result<Torrent, AddError> {
    if let Some(url) = add.source_url() {
        let request = add::torrent_request(url, &shared.config.engine.user_agent);
        let file = add::torrent_file(url, shared.http.get(&request).await)?;
        add = add.fetched(&file)?;
    }
    if let Some(key) = add.key().cloned() {
        add = add.pointed(key::look_up(shared, key).await?);
    }
    let loaded = match add.blocks() {
        true => blocking(move || add.load()).await?,
        false => add.load()?,
    };
    let own = Arc::clone(shared);
    shared.to_the_end(insert(loaded, own)).await?
}

/// Passes a torrent to the engine. Once the engine has it, this future must not be dropped before the
/// torrent's folder is recorded.
async fn insert(loaded: Loaded, shared: Arc<Shared>) -> Result<Torrent, AddError> {
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
    let own = Arc::clone(&shared);
    let ready = blocking(move || loaded.claim(store, &own.config)).await?;
    let dir = ready.placement.dir.clone();
    match shared.call(move |driver| driver.add(ready)).await? {
        Ok(id) => {
            shared.dirs().insert(id, dir);
            Ok(Torrent::new(Arc::clone(&shared), id, info_hash))
        }
        Err(engine::AddError::Duplicate(id)) => Err(duplicate(id)),
        Err(error) => Err(AddError::Other(Error::of_add(name.clone(), error))),
    }
}
