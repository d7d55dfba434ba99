//! Adding torrents, and the peers named for them.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use dunlin_tokio::{
    Add, Error, Existing, Limits,
    dunlin_core::{engine::Check, metainfo::HostPort},
};
use futures_util::future::join_all;

use crate::{
    args::Swarm,
    input,
    report::Report,
    select::{self, Picked, Selection},
};

/// The options with which torrents are added.
pub(super) struct How {
    pub(super) selections: Vec<Selection>,
    pub(super) sequential: bool,
    pub(super) check: Check,
    pub(super) existing: Existing,
    pub(super) limits: Limits,
    /// The folder that was named; it has precedence over one that is remembered.
    pub(super) dir: Option<PathBuf>,
}

impl How {
    /// Prepares the torrent `text`. Returns it, the place where its selection will be found, and the number
    /// of web seeds it names.
    pub(super) async fn add(
        &self,
        text: &str,
        swarm: &Swarm,
        peers: &[SocketAddr],
    ) -> Result<(Add, Choice, usize), Error> {
        let (add, web_seeds) = input::add(text).await?;
        let mut add = add
            .peers(peers.iter().copied())
            .trackers(&swarm.trackers)
            .sequential(self.sequential)
            .check(self.check)
            .existing(self.existing)
            .limits(self.limits);
        if let Some(dir) = &self.dir {
            add = add.dir(dir);
        }
        let choice = Choice::default();
        if !self.selections.is_empty() {
            let (selections, choice) = (self.selections.clone(), Arc::clone(&choice));
            add = add.select(move |info| {
                let (priorities, picked) = select::priorities(&selections, info);
                let _ = choice.set(picked);
                priorities
            });
        }
        Ok((add, choice, web_seeds))
    }
}

/// The result of a selection; empty until the files are known, and without a selection.
pub(super) type Choice = Arc<OnceLock<Picked>>;

/// The addresses of the named peers. Names without an address are reported.
pub(super) async fn peers(
    report: &Report,
    named: &[HostPort],
    through_proxy: bool,
) -> Vec<SocketAddr> {
    let look_up = |peer: &HostPort| {
        let peer = peer.clone();
        async move {
            match peer.addr() {
                Some(addr) => Ok(vec![addr]),
                None if through_proxy => Err(format!(
                    "--peer {peer}: its name is not looked up, as that would go around the \
                         proxy; give its address"
                )),
                None => match tokio::net::lookup_host((peer.host.as_str(), peer.port)).await {
                    Ok(found) => Ok(found.collect()),
                    Err(error) => Err(format!("--peer {peer}: {error}")),
                },
            }
        }
    };
    let mut addresses = Vec::new();
    for found in join_all(named.iter().map(look_up)).await {
        match found {
            Ok(found) => addresses.extend(found),
            Err(message) => report.warn(&message),
        }
    }
    addresses
}
