//! Adding a torrent to a session.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use dunlin_core::{engine::AddError, http::Origin, metainfo::MAX_TORRENT_LEN, op::HttpRequest};
use dunlin_std::add::{Add, shown};

use super::{Shared, Torrent, blocking, key};
use crate::{Error, Result};

/// How long fetching a torrent file by URL may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) async fn add(mut add: Add, shared: &Arc<Shared>) -> Result<Torrent> {
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
    let (info_hash, name) = (loaded.info_hash(), loaded.name());
    let hosts = std::mem::take(&mut loaded.hosts);
    loaded.add_peers(addresses(hosts, shared).await);

    let _one_at_a_time = shared.adding.lock().await;
    let known = shared.with_engine(move |engine, _| engine.find(info_hash));
    if let Some(id) = known.await? {
        return Err(Error::Duplicate { name, id });
    }
    let store = shared.store()?;
    if let Some(store) = store.clone() {
        let shared = Arc::clone(shared);
        let recall = move || loaded.recall(&store, &shared.config).map(|()| loaded);
        loaded = blocking(recall).await?;
    }
    let dir = loaded.dir(&shared.config);
    let ready = loaded.ready(&shared.config, store.clone());
    let error = match shared.call(move |driver| driver.add(ready)).await {
        Ok(Ok(id)) => {
            shared.dirs().insert(id, dir);
            return Ok(Torrent::new(Arc::clone(shared), id, info_hash));
        }
        Ok(Err(AddError::Duplicate(id))) => Error::Duplicate { name, id },
        Ok(Err(source)) => Error::Add { name, source },
        Err(error) => error,
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
