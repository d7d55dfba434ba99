//! `get-peers` and `announce`.

use std::path::Path;

use dunlin_tokio::{
    DhtNode, InfoHash,
    core::{
        dht::{self, Goal, LookupReport},
        metainfo::Magnet,
    },
    system::dht::Answer,
};
use serde_json::json;

use super::{args, json as lines, one_shot, say::Voice};
use crate::{
    exit::Exit,
    input::{self, Kind},
    report::complain,
    units,
};

/// Runs `dunlin dht get-peers`.
pub(super) async fn get_peers(args: args::GetPeers) -> Exit {
    let hash = match torrent(&args.torrent) {
        Ok(hash) => hash,
        Err(message) => return refused(&args.torrent, &message, args.common.view.json),
    };
    let goal = Goal::Peers {
        hash,
        announce: None,
        scrape: args.scrape,
    };
    one_shot(&args.common, args.patience.timeout, async |node, voice| {
        let Some(report) = search(node, voice, goal, hash).await else {
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
    let hash = match torrent(&args.torrent) {
        Ok(hash) => hash,
        Err(message) => return refused(&args.torrent, &message, args.common.view.json),
    };
    one_shot(&args.common, args.patience.timeout, async |node, voice| {
        let own = node.local().first().map_or(0, std::net::SocketAddr::port);
        let announce = dht::Announce {
            port: args.peer_port.unwrap_or(own),
            implied: args.peer_port.is_none(),
            seed: args.seed,
        };
        let goal = Goal::Peers {
            hash,
            announce: Some(announce),
            scrape: false,
        };
        let Some(report) = search(node, voice, goal, hash).await else {
            return Exit::Failed;
        };
        match report.stored {
            0 => Exit::Failed,
            _ => Exit::Complete,
        }
    })
    .await
}

/// Something that is not to be searched for.
fn refused(what: &str, message: &str, as_json: bool) -> Exit {
    complain(message);
    if as_json {
        crate::report::say_json(&lines::failed(what, message, None));
    }
    Exit::Usage
}

/// The torrent that `text` names.
fn torrent(text: &str) -> Result<InfoHash, String> {
    let magnet = match input::kind(text) {
        Kind::Magnet => text.to_owned(),
        Kind::Hash => input::magnet(text),
        Kind::Url | Kind::OtherUrl => {
            return Err(format!(
                "{text}: fetch it first; the DHT is asked by info-hash, magnet or torrent file"
            ));
        }
        Kind::File => {
            let torrent =
                dunlin_tokio::read_torrent(Path::new(text)).map_err(|error| error.to_string())?;
            if torrent.info.private() {
                return Err(format!(
                    "{text}: this torrent is private: its peers come from its trackers only, \
                     and the DHT is not asked (BEP 27)"
                ));
            }
            return Ok(torrent.info.info_hash());
        }
    };
    let magnet: Magnet = magnet.parse().map_err(|error| format!("{text}: {error}"))?;
    Ok(magnet.info_hash)
}

/// Searches and prints; the report, unless the node stopped.
async fn search(node: &DhtNode, voice: &Voice, goal: Goal, hash: InfoHash) -> Option<LookupReport> {
    let mut search = node.search(goal);
    while let Some(answer) = search.next().await {
        match answer {
            Answer::Peers(peers) => {
                for peer in peers {
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
            Answer::Done(report) => {
                finished(voice, &hash.to_string(), &report);
                return Some(*report);
            }
            Answer::Full => {
                voice.error("search", "too many searches are under way");
                return None;
            }
            _ => {}
        }
    }
    None
}

/// The end of a search, said.
pub(super) fn finished(voice: &Voice, what: &str, report: &LookupReport) {
    if voice.is_json() {
        let mut done = lines::done(report);
        done["what"] = what.into();
        crate::report::say_json(&done);
    } else {
        crate::report::verbatim(&summary(report));
    }
    voice.unsuccessful(what, report);
}

/// A search in one line.
fn summary(report: &LookupReport) -> String {
    let mut text = format!(
        "{} of {} replied in {}",
        report.replied,
        units::count(report.contacted.into(), "node"),
        units::time(report.took),
    );
    if report.peers > 0 {
        text.push_str(&format!(", {}", units::count(report.peers.into(), "peer")));
    }
    if report.stores > 0 {
        text.push_str(&format!(
            ", {} of {} stored it",
            report.stored,
            units::count(report.stores.into(), "node")
        ));
    }
    if let Some((seeds, leeches)) = report.swarm {
        text.push_str(&format!(", about {seeds} seeds and {leeches} leeches"));
    }
    if report.suspicious {
        text.push_str("; the answers do not fit the size of the network: somebody may be lying");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn torrents_are_named_by_hash_or_magnet_and_urls_are_refused() {
        let hash = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(torrent(hash).unwrap().to_string(), hash);
        assert_eq!(torrent(&input::magnet(hash)).unwrap().to_string(), hash);
        assert!(torrent("https://host/a.torrent").is_err());
        assert!(torrent("magnet:?dn=x").is_err());
        assert!(torrent("/nowhere/a.torrent").is_err());
    }

    #[test]
    fn the_end_of_a_search_is_one_line() {
        let report = LookupReport {
            contacted: 20,
            replied: 1,
            peers: 1,
            stores: 8,
            stored: 7,
            took: Duration::from_millis(340),
            failure: None,
            swarm: Some((3, 4)),
            closest: Vec::new(),
            suspicious: false,
        };
        assert_eq!(
            summary(&report),
            "1 of 20 nodes replied in 0.3s, 1 peer, 7 of 8 nodes stored it, \
             about 3 seeds and 4 leeches"
        );
    }
}
