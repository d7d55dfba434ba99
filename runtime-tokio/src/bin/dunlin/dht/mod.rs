//! `dunlin dht`: the DHT without torrents.

mod advice;
mod ask;
mod item;
mod json;
mod node;
mod say;
mod search;
mod stats;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use dunlin_tokio::{
    DhtNode,
    dht::{NodeConfig, NodeEvent},
    dunlin_core::dht::{DhtConfig, ReadOnly},
    has_ipv6,
    system::{config::Settings, routers::routers},
};
use tokio::sync::mpsc;

use self::say::Voice;
use crate::{
    args::dht::{self as args, Command, Common},
    exit::Exit,
    settings,
    signals::Signals,
};

/// Runs `dunlin dht`.
pub(crate) fn dht(dht: args::Dht) -> Exit {
    match dht.command {
        Command::Node(args) => crate::run(node::node(args)),
        Command::GetPeers(args) => crate::run(search::get_peers(args)),
        Command::Announce(args) => crate::run(search::announce(args)),
        Command::Get(args) => crate::run(item::get(args)),
        Command::Put(args) => crate::run(item::put(args)),
        Command::Keygen(args) => item::keygen(&args),
        Command::Sample(args) => crate::run(ask::sample(args)),
        Command::Ping(args) => crate::run(ask::ping(args)),
        Command::Stats(args) => stats::stats(args),
        Command::Advice(args) => advice::advice(&args),
    }
}

/// The role of the node that a command starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// It takes part in the DHT, and owns the cache.
    Resident,
    /// It sends queries for a short time. It does not answer any, so that nobody relies on it.
    Visitor,
    /// It queries one node that the user named, and no other.
    Caller,
}

/// The configuration of the node, from `common` and the configuration file.
fn config(common: &Common, role: Role) -> Result<NodeConfig, String> {
    let settings = settings::read(common.config.as_deref())?;
    if let Some(why) =
        settings::not_asked("--bootstrap", &common.bootstrap, common.local, "--local")
    {
        return Err(why);
    }
    let port = match role {
        Role::Resident => common.port.unwrap_or_else(|| settings.dht_port()),
        Role::Visitor | Role::Caller => common.port.unwrap_or(0),
    };
    let calls = role == Role::Caller;
    let config = NodeConfig {
        listen: listen(&common.bind, port)?,
        dht: DhtConfig {
            local: common.local,
            read_only: match role {
                Role::Resident if !settings.dht.read_only => ReadOnly::Never,
                _ => ReadOnly::Always,
            },
            new_remote_budget: settings.dht.new_remote_budget,
            ..DhtConfig::default()
        },
        folder: folder(common, &settings).filter(|_| !calls),
        guest: role != Role::Resident,
        bootstrap: match common.bootstrap.is_empty() {
            _ if calls => Vec::new(),
            true => settings.dht.add_node.clone(),
            false => common.bootstrap.clone(),
        },
        routers: match (common.local, common.bootstrap.is_empty()) {
            (false, true) if !calls => settings.dht.routers.clone().unwrap_or_else(routers),
            _ => Vec::new(),
        },
        limit_up: settings.dht.limit_up.or(settings.up),
        ..NodeConfig::default()
    };
    Ok(config)
}

/// The folder that keeps the nodes. Nodes of a private network are not kept unless a folder is named.
fn folder(common: &Common, settings: &Settings) -> Option<std::path::PathBuf> {
    match (&common.session, common.no_session || common.local) {
        (Some(folder), _) => Some(folder.clone()),
        (None, true) => None,
        (None, false) => Some(settings.session.clone()),
    }
}

fn listen(bind: &[IpAddr], port: u16) -> Result<Vec<SocketAddr>, String> {
    let mut addresses: Vec<IpAddr> = bind.to_vec();
    if addresses.is_empty() {
        addresses.push(Ipv4Addr::UNSPECIFIED.into());
        if has_ipv6() {
            addresses.push(Ipv6Addr::UNSPECIFIED.into());
        }
    }
    if addresses.iter().filter(|ip| ip.is_ipv4()).count() > 1
        || addresses.iter().filter(|ip| ip.is_ipv6()).count() > 1
    {
        return Err("--bind: one address per family, no more".into());
    }
    let place = |ip| SocketAddr::new(ip, port);
    Ok(addresses.into_iter().map(place).collect())
}

/// A node that was started for a command.
struct Running {
    node: DhtNode,
    events: mpsc::Receiver<NodeEvent>,
    voice: Voice,
}

impl Running {
    /// Starts the node, or reports why it cannot be started.
    fn start(common: &Common, role: Role) -> Result<Self, Exit> {
        let voice = Voice::new(common.view);
        let config = config(common, role).map_err(|message| {
            voice.error("configuration", &message);
            Exit::Usage
        })?;
        Self::with(config, voice)
    }

    fn with(config: NodeConfig, voice: Voice) -> Result<Self, Exit> {
        if let Some(folder) = &config.folder
            && let Err(error) = std::fs::create_dir_all(folder)
        {
            voice.error("session", &format!("{}: {error}", folder.display()));
            return Err(Exit::Failed);
        }
        match DhtNode::start(config) {
            Ok((node, events)) => Ok(Self {
                node,
                events,
                voice,
            }),
            Err(error) => {
                voice.error("dht", &format!("DHT error: {error}"));
                Err(Exit::Failed)
            }
        }
    }

    /// Runs `work` until it is done, the time is up, or a signal arrives; then stops the node.
    async fn until<T>(
        mut self,
        timeout: Duration,
        work: impl AsyncFnOnce(&DhtNode, &Voice) -> T,
    ) -> Result<(T, Voice), Exit> {
        let mut signals = match Signals::new() {
            Ok(signals) => signals,
            Err(error) => {
                self.voice.error("signals", &error.to_string());
                return Err(Exit::Failed);
            }
        };
        let result = {
            let work = work(&self.node, &self.voice);
            let mut work = std::pin::pin!(work);
            let mut late = std::pin::pin!(tokio::time::sleep(timeout));
            loop {
                tokio::select! {
                    biased;
                    result = &mut work => break Ok(result),
                    Some(event) = self.events.recv() => self.voice.event(&event),
                    exit = signals.next() => break Err(exit),
                    () = &mut late => {
                        let seconds = timeout.as_secs_f64();
                        self.voice.error("timeout", &format!("not done within {seconds} s"));
                        break Err(Exit::Incomplete);
                    }
                }
            }
        };
        finish(self.node, &mut self.events, &self.voice).await;
        result.map(|result| (result, self.voice))
    }
}

/// Stops a node and reports its last events.
async fn finish(node: DhtNode, events: &mut mpsc::Receiver<NodeEvent>, voice: &Voice) {
    node.shutdown().await;
    while let Some(event) = events.recv().await {
        voice.event(&event);
    }
}

/// Starts a node for `work`, which returns the exit code.
async fn one_shot(
    common: &Common,
    timeout: Duration,
    work: impl AsyncFnOnce(&DhtNode, &Voice) -> Exit,
) -> Exit {
    briefly(common, Role::Visitor, timeout, work).await
}

/// The same for `work` that queries one node only.
async fn one_call(
    common: &Common,
    timeout: Duration,
    work: impl AsyncFnOnce(&DhtNode, &Voice) -> Exit,
) -> Exit {
    briefly(common, Role::Caller, timeout, work).await
}

async fn briefly(
    common: &Common,
    role: Role,
    timeout: Duration,
    work: impl AsyncFnOnce(&DhtNode, &Voice) -> Exit,
) -> Exit {
    let running = match Running::start(common, role) {
        Ok(running) => running,
        Err(exit) => return exit,
    };
    match running.until(timeout, work).await {
        Ok((exit, _)) | Err(exit) => exit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_of_each_family() {
        let v4 = IpAddr::from([127, 0, 0, 1]);
        let v6 = IpAddr::from(Ipv6Addr::LOCALHOST);
        let both = listen(&[v4, v6], 7).unwrap();
        assert_eq!(both, [SocketAddr::new(v4, 7), SocketAddr::new(v6, 7)]);
        assert!(listen(&[v4, v4], 7).is_err());
        assert!(listen(&[], 7).unwrap().contains(&([0, 0, 0, 0], 7).into()));
    }
}
