//! `ping` and `sample`: queries to one node.

use std::net::SocketAddr;

use dunlin_tokio::{dht::Answer, dunlin_core::NodeId};
use serde_json::json;

use super::{json as lines, one_call, say::Voice};
use crate::{args::dht as args, exit::Exit, units};

/// Runs `dunlin dht ping`.
pub(super) async fn ping(args: args::Ping) -> Exit {
    let host = args.node.clone();
    one_call(
        &args.common,
        args.patience.timeout,
        async |node, voice| match node.ping(host.clone()).await {
            Ok(Answer::Pong {
                addr,
                id,
                rtt,
                version,
            }) => {
                voice.result(
                    || {
                        json!({
                            "type": "pong",
                            "node": addr.to_string(),
                            "id": id.to_string(),
                            "seconds": rtt.as_secs_f64(),
                            "version": lines::hex(&version),
                        })
                    },
                    || {
                        let ms = rtt.as_secs_f64() * 1000.0;
                        format!("{addr}: {id} answered in {ms:.1} ms{}", client(version))
                    },
                );
                Exit::Complete
            }
            answer => unanswered(voice, &host.to_string(), answer.ok()),
        },
    )
    .await
}

/// Runs `dunlin dht sample`.
pub(super) async fn sample(args: args::Sample) -> Exit {
    let host = args.node.clone();
    let target = match args.target.map_or_else(random_id, Ok) {
        Ok(target) => target,
        Err(error) => {
            crate::output::fail("sample", &format!("no random numbers: {error}"));
            return Exit::Failed;
        }
    };
    one_call(
        &args.common,
        args.patience.timeout,
        async |node, voice| match node.sample(host.clone(), target).await {
            Ok(Answer::Samples {
                addr,
                hashes,
                num,
                interval,
            }) => {
                let hashes: Vec<_> = hashes.iter().map(ToString::to_string).collect();
                voice.result(
                    || {
                        json!({
                            "type": "samples",
                            "node": addr.to_string(),
                            "num": num,
                            "interval": interval.as_secs(),
                            "hashes": hashes,
                        })
                    },
                    || {
                        let known = units::count(num, "torrent");
                        let next = units::time(interval);
                        let mut text = format!("{addr} knows {known}; others in {next}");
                        for hash in &hashes {
                            text.push('\n');
                            text.push_str(hash);
                        }
                        text
                    },
                );
                Exit::Complete
            }
            answer => unanswered(voice, &host.to_string(), answer.ok()),
        },
    )
    .await
}

/// Reports why there is no answer.
fn unanswered(voice: &Voice, host: &str, answer: Option<Answer>) -> Exit {
    // An address that the user gave is not repeated.
    let other = |addr: SocketAddr| match addr.to_string() {
        addr if addr == host => None,
        addr => Some(addr),
    };
    let message = match answer {
        Some(Answer::Silent(addr)) => format!(
            "{host}: no answer{}: it is gone, does not take part or does not know \
             this question, or a firewall drops UDP",
            other(addr).map_or_else(String::new, |addr| format!(" from {addr}"))
        ),
        Some(Answer::NotPublic(addr)) => format!(
            "{host}: {} is not a public address, and the public DHT does not ask it; add --local \
             if it is a node of a private network",
            other(addr).unwrap_or_else(|| "this".into())
        ),
        Some(Answer::Unresolved(reason)) => format!("{host}: {reason}"),
        Some(Answer::Full) => format!("{host}: too many questions are under way"),
        _ => format!("{host}: the node stopped"),
    };
    voice.error(host, &message);
    Exit::Failed
}

/// The client that a version names: two letters and two numbers (BEP 5, BEP 20).
fn client(version: [u8; 4]) -> String {
    let name = &version[..2];
    match name.iter().all(u8::is_ascii_alphanumeric) {
        true => format!(
            " ({}, {})",
            String::from_utf8_lossy(name),
            lines::hex(&version[2..])
        ),
        false => String::new(),
    }
}

fn random_id() -> Result<NodeId, getrandom::Error> {
    let mut id = [0; 20];
    getrandom::fill(&mut id)?;
    Ok(NodeId(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_shown_if_they_are_such() {
        assert_eq!(client(*b"LT\x02\x08"), " (LT, 0208)");
        assert_eq!(client([0; 4]), "");
    }
}
