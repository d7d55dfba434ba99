//! `stats`: the content of the cache, or the state of the DHT.

use std::{path::Path, time::Duration};

use dunlin_tokio::{
    dht::Status,
    dunlin_core::{
        NodeId,
        dht::{DhtStats, Saved},
    },
    system::dht_cache,
};
use serde_json::{Value, json};

use super::{Role, Running, folder, json as lines, node::screen, say::Voice};
use crate::{args::dht as args, exit::Exit, output::verbatim, settings, units};

/// The time between two looks at the state.
const TICK: Duration = Duration::from_millis(200);
/// From this number of nodes on, the table is usable.
const USABLE: u32 = 32;

/// Runs `dunlin dht stats`.
pub(super) fn stats(args: args::Stats) -> Exit {
    if args.live {
        return crate::run(live(args));
    }
    let voice = Voice::new(args.common.view);
    let settings = match settings::read(args.common.config.as_deref()) {
        Ok(settings) => settings,
        Err(message) => {
            voice.error("configuration", &message);
            return Exit::Usage;
        }
    };
    let Some(folder) = folder(&args.common, &settings) else {
        voice.error(
            "session",
            "without a session folder there is no cache: use --session DIR, or --live",
        );
        return Exit::Usage;
    };
    let path = folder.join(dht_cache::FILE);
    let Some(saved) = cached(&folder, &voice) else {
        voice.error(
            &path.display().to_string(),
            &format!(
                "{}: no DHT cache; `dunlin dht node` makes one, and --live needs none",
                path.display()
            ),
        );
        return Exit::Failed;
    };
    voice.result(
        || cache_json(&path, &saved),
        || cache_lines(&path, &saved).join("\n"),
    );
    Exit::Complete
}

/// Reads the cache without changing it.
fn cached(folder: &Path, voice: &Voice) -> Option<Saved> {
    match dht_cache::look(folder) {
        Ok(saved) => saved,
        Err(message) => {
            voice.error("cache", &message);
            None
        }
    }
}

/// The number of buckets in the table of `own` with these nodes: only its own bucket splits, when it has
/// more than 8.
fn buckets(own: Option<NodeId>, nodes: &[NodeId]) -> u32 {
    let Some(own) = own else { return 0 };
    let within = |depth| {
        nodes
            .iter()
            .filter(|id| id.common_prefix(&own) >= depth)
            .count()
    };
    (0..160).take_while(|&depth| within(depth) > 8).count() as u32 + 1
}

fn cache_json(path: &Path, saved: &Saved) -> Value {
    let (v4, v6) = families(saved);
    let mut map = lines::statistics("off", "", &DhtStats::default());
    let more = json!({
        "type": "status",
        "cache": path.display().to_string(),
        "id": saved.id.map(|id| id.to_string()),
        "id6": saved.id6.map(|id| id.to_string()),
        "nodes": v4.len() + v6.len(),
        "nodes4": v4.len(),
        "nodes6": v6.len(),
        "buckets": buckets(saved.id, &v4) + buckets(saved.id6, &v6),
        "contacts": saved.contacts.len(),
        "fresh": fresh(saved, QUARTER),
        "fresh_day": fresh(saved, DAY),
    });
    if let Value::Object(more) = more {
        map.extend(more);
    }
    Value::Object(map)
}

const QUARTER: u32 = 15 * 60;
const DAY: u32 = 86_400;

/// The number of nodes heard of within these seconds.
fn fresh(saved: &Saved, seconds: u32) -> usize {
    saved.nodes.iter().filter(|(_, age)| *age < seconds).count()
}

fn families(saved: &Saved) -> (Vec<NodeId>, Vec<NodeId>) {
    let of = |v4: bool| {
        let nodes = saved.nodes.iter().map(|(contact, _)| contact);
        let nodes = nodes.filter(|c| c.addr.is_ipv4() == v4);
        nodes.map(|c| c.id).collect()
    };
    (of(true), of(false))
}

fn cache_lines(path: &Path, saved: &Saved) -> Vec<String> {
    let (v4, v6) = families(saved);
    let id = |id: Option<NodeId>| id.map_or("none yet".into(), |id| id.to_string());
    let mut text = vec![
        format!("cache     {}", path.display()),
        format!("id        {}", id(saved.id)),
        format!(
            "nodes     {} in {}",
            v4.len(),
            units::count(buckets(saved.id, &v4).into(), "bucket")
        ),
    ];
    if saved.id6.is_some() || !v6.is_empty() {
        text.push(format!("id6       {}", id(saved.id6)));
        text.push(format!(
            "nodes6    {} in {}",
            v6.len(),
            units::count(buckets(saved.id6, &v6).into(), "bucket")
        ));
    }
    text.push(format!(
        "heard of  {} within 15 minutes, {} within a day",
        fresh(saved, QUARTER),
        fresh(saved, DAY)
    ));
    if !saved.contacts.is_empty() {
        text.push(format!(
            "to try    {}",
            units::count(saved.contacts.len() as u64, "contact")
        ));
    }
    text
}

/// Runs a node until the state of the DHT is known.
async fn live(args: args::Stats) -> Exit {
    let running = match Running::start(&args.common, Role::Visitor) {
        Ok(running) => running,
        Err(exit) => return exit,
    };
    let patience = args.patience.timeout;
    // A little longer than the work itself, which ends in time by itself.
    let whole = patience + Duration::from_secs(5);
    verbatim(&format!(
        "dunlin: taking part in the DHT until {USABLE} nodes answer, for {} at most (--timeout)",
        units::time(patience)
    ));
    let result = running.until(whole, async |node, _| {
        let end = tokio::time::Instant::now() + patience;
        loop {
            let status = node.status().await.ok()?;
            if status.stats.good_nodes >= USABLE || tokio::time::Instant::now() >= end {
                return Some(status);
            }
            tokio::time::sleep(TICK).await;
        }
    });
    match result.await {
        Ok((Some(status), voice)) => {
            voice.result(
                || lines::status(&status),
                || screen(&status, None).join("\n"),
            );
            verdict(&status)
        }
        Ok((None, voice)) => {
            voice.error("dht", "the node stopped");
            Exit::Failed
        }
        Err(exit) => exit,
    }
}

fn verdict(status: &Status) -> Exit {
    match status.stats.replies_received {
        0 => Exit::Failed,
        _ => Exit::Complete,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_those_that_only_our_own_splitting_makes() {
        let own = NodeId([0; 20]);
        let far = |n: u8| NodeId([0x80 | n; 20]);
        let near = |n: u8| NodeId([n; 20]);
        assert_eq!(buckets(None, &[far(1)]), 0);
        assert_eq!(buckets(Some(own), &[]), 1);
        let mut nodes: Vec<_> = (0..8).map(far).collect();
        assert_eq!(buckets(Some(own), &nodes), 1);
        nodes.push(near(0x40));
        assert_eq!(buckets(Some(own), &nodes), 2);
        nodes.extend((0..8).map(|n| near(0x41 + n)));
        assert_eq!(buckets(Some(own), &nodes), 3);
    }
}
