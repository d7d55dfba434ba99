//! `get-peers` and `announce`.

use std::{collections::HashSet, net::SocketAddr, path::Path, time::Duration};

use dunlin_tokio::{
    DhtNode, DhtSearch, InfoHash,
    dht::Answer,
    dunlin_core::{
        dht::{self, Goal, LookupReport},
        metainfo::{Magnet, MagnetError, MutableKey},
        net::Ports,
    },
};
use serde_json::json;

use super::{one_shot, say::Voice};
use crate::{
    args::dht as args,
    exit::Exit,
    input::{self, Kind},
    output::fail,
};

/// Runs `dunlin dht get-peers`.
pub(super) async fn get_peers(args: args::GetPeers) -> Exit {
    let (named, timeout) = (&args.torrent, args.patience.timeout);
    with_torrent(&args.common, named, timeout, async |node, voice, hash| {
        let mut goals = vec![peers(hash, None, false)];
        if args.scrape {
            // A node answers with peers or with an estimate (BEP 33), so both are searched for.
            goals.push(peers(hash, None, true));
        }
        let Some(report) = search(node, voice, goals, hash).await else {
            return Exit::Failed;
        };
        match (&report.failure, report.peers) {
            (Some(_), 0) => Exit::Failed,
            (None, 0) => Exit::Incomplete,
            _ => Exit::Complete,
        }
    })
    .await
}

/// Runs `dunlin dht announce`.
pub(super) async fn announce(args: args::Announce) -> Exit {
    let (named, timeout) = (&args.torrent, args.patience.timeout);
    with_torrent(&args.common, named, timeout, async |node, voice, hash| {
        let own = node.local().first().map_or(0, std::net::SocketAddr::port);
        let announce = dht::Announce {
            ports: Ports::both(args.peer_port.unwrap_or(own)),
            implied: args.peer_port.is_none(),
            seed: args.seed,
        };
        let goals = vec![peers(hash, Some(announce), false)];
        let Some(report) = search(node, voice, goals, hash).await else {
            return Exit::Failed;
        };
        match report.stored {
            0 => Exit::Failed,
            _ => Exit::Complete,
        }
    })
    .await
}

/// Starts a node, and runs `work` with the torrent that `named` stands for.
async fn with_torrent(
    common: &args::Common,
    named: &str,
    timeout: Duration,
    work: impl AsyncFnOnce(&DhtNode, &Voice, InfoHash) -> Exit,
) -> Exit {
    let known = match torrent(named) {
        Ok(known) => known,
        Err(message) => {
            fail(named, &message);
            return Exit::Usage;
        }
    };
    one_shot(common, timeout, async |node, voice| {
        match look_up(node, voice, known).await {
            Ok(hash) => work(node, voice, hash).await,
            Err(exit) => exit,
        }
    })
    .await
}

/// The way in which a torrent is named.
enum Named {
    Torrent(InfoHash),
    /// By the key of an item that holds its info-hash (BEP 46).
    Key(MutableKey),
}

/// The info-hash of a torrent; asks the DHT if it is named by a key.
async fn look_up(node: &DhtNode, voice: &Voice, named: Named) -> Result<InfoHash, Exit> {
    let MutableKey { key, salt } = match named {
        Named::Torrent(hash) => return Ok(hash),
        Named::Key(key) => key,
    };
    let target = dht::item::mutable_target(&key, &salt).to_string();
    let goal = Goal::Mutable { key, salt };
    let Some((found, report)) = super::item::search(node, voice, goal).await else {
        return Err(Exit::Failed);
    };
    let Some(found) = found else {
        voice.finished(&target, &report);
        voice.error(&target, "no node knows the item that the magnet link names");
        return Err(Exit::Incomplete);
    };
    dht::item::read_pointer(&found.value).ok_or_else(|| {
        voice.error(
            &target,
            "the item that the magnet link names is not that of a torrent",
        );
        Exit::Incomplete
    })
}

/// Parses the name of a torrent.
fn torrent(text: &str) -> Result<Named, String> {
    let magnet = match input::kind(text) {
        Kind::Magnet => text.to_owned(),
        Kind::Hash => input::magnet(text),
        Kind::Url | Kind::OtherUrl => {
            return Err(format!(
                "{text}: fetch it first; the DHT is asked by info-hash, magnet or torrent file"
            ));
        }
        Kind::File if !Path::new(text).exists() => return Err(input::nothing(text)),
        Kind::File | Kind::Stdin => {
            let torrent = input::read(text).map_err(|error| error.to_string())?;
            if torrent.info.private() {
                return Err(format!(
                    "{text}: this torrent is private: its peers come from its trackers only, \
                     and the DHT is not asked (BEP 27)"
                ));
            }
            return Ok(Named::Torrent(torrent.info.info_hash()));
        }
    };
    let magnet: Magnet = magnet.parse().map_err(|error| format!("{text}: {error}"))?;
    match (magnet.info_hash, magnet.key) {
        (Some(hash), _) => Ok(Named::Torrent(hash)),
        (None, Some(key)) => Ok(Named::Key(key)),
        (None, None) => Err(format!("{text}: {}", MagnetError::NoHash)),
    }
}

const fn peers(hash: InfoHash, announce: Option<dht::Announce>, scrape: bool) -> Goal {
    Goal::Peers {
        hash,
        announce,
        scrape,
    }
}

/// Searches for all `goals` at once, and prints every peer once. Returns a report of all searches, or
/// `None` if the node stopped.
async fn search(
    node: &DhtNode,
    voice: &Voice,
    goals: Vec<Goal>,
    hash: InfoHash,
) -> Option<LookupReport> {
    let searches: Vec<_> = goals.into_iter().map(|goal| node.search(goal)).collect();
    let mut found = HashSet::new();
    let mut whole: Option<LookupReport> = None;
    for search in searches {
        let report = follow(search, voice, hash, &mut found).await?;
        match &mut whole {
            None => whole = Some(report),
            Some(whole) => join(whole, report),
        }
    }
    let mut whole = whole?;
    whole.peers = u32::try_from(found.len()).unwrap_or(u32::MAX);
    voice.finished(&hash.to_string(), &whole);
    Some(whole)
}

/// Adds the report of a second search for the same torrent.
fn join(whole: &mut LookupReport, other: LookupReport) {
    whole.contacted = whole.contacted.max(other.contacted);
    whole.replied = whole.replied.max(other.replied);
    whole.took = whole.took.max(other.took);
    whole.swarm = whole.swarm.or(other.swarm);
    whole.suspicious |= other.suspicious;
    if other.failure.is_none() {
        whole.failure = None;
    }
}

/// Prints the peers of one search that are not among those `found`. Returns its report.
async fn follow(
    mut search: DhtSearch,
    voice: &Voice,
    hash: InfoHash,
    found: &mut HashSet<SocketAddr>,
) -> Option<LookupReport> {
    while let Some(answer) = search.next().await {
        match answer {
            Answer::Peers(peers) => {
                for peer in peers {
                    if !found.insert(peer) {
                        continue;
                    }
                    voice.result(
                        || {
                            json!({
                                "type": "peer",
                                "torrent": hash.to_string(),
                                "peer": peer.to_string(),
                            })
                        },
                        || peer.to_string(),
                    );
                }
            }
            Answer::Done(report) => return Some(*report),
            Answer::Full => {
                voice.error("search", "too many searches are under way");
                return None;
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn torrents_are_named_by_hash_or_magnet_and_urls_are_refused() {
        let hash = "0123456789abcdef0123456789abcdef01234567";
        for text in [hash, &input::magnet(hash)] {
            assert!(matches!(torrent(text), Ok(Named::Torrent(h)) if h.to_string() == hash));
        }
        let key = format!("magnet:?xs=urn:btpk:{}", "5a".repeat(32));
        assert!(matches!(torrent(&key), Ok(Named::Key(key)) if key.key == [0x5a; 32]));
        assert!(torrent("https://host/a.torrent").is_err());
        assert!(torrent("magnet:?dn=x").is_err());
        assert!(torrent("/nowhere/a.torrent").is_err());
    }
}
