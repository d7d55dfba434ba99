//! The objects of `--json`.

use std::time::Duration;

use dunlin_tokio::{
    dht::{NodeEvent, Status},
    dunlin_core::dht::{Cause, Contact, DhtLog, DhtStats, Failure, LookupReport},
};
use serde_json::{Map, Value, json};

/// A cause as an object.
pub(super) fn cause(cause: Cause) -> Value {
    let kind = match cause {
        Cause::NoContacts => "no_contacts",
        Cause::Dns => "dns",
        Cause::Send => "send",
        Cause::NoReplies => "no_replies",
        Cause::NotForwarded => "not_forwarded",
        Cause::PortMangled { observed } => {
            return json!({ "kind": "port_mangled", "observed": observed });
        }
        Cause::NodesGone => "nodes_gone",
        _ => "other",
    };
    json!({ "kind": kind })
}

/// An event of a node as an object.
pub(super) fn event(event: &NodeEvent) -> Value {
    let (kind, why) = match event {
        NodeEvent::Log(log) => match log {
            DhtLog::Starting { .. } => ("starting", None),
            DhtLog::Stopping => ("stopping", None),
            DhtLog::Bootstrapped { .. } => ("bootstrapped", None),
            DhtLog::Statistics { .. } => ("statistics", None),
            DhtLog::Unreachable(why) => ("unreachable", Some(*why)),
            DhtLog::Firewalled(why) => ("firewalled", Some(*why)),
            _ => ("other", None),
        },
        NodeEvent::External(_) => ("external", None),
        NodeEvent::Unresolved { .. } => ("unresolved", Some(Cause::Dns)),
        NodeEvent::Cache(_) => ("cache", None),
        NodeEvent::Failed(_) => ("failed", None),
        _ => ("other", None),
    };
    json!({
        "type": "log",
        "event": kind,
        "message": event.to_string(),
        "cause": why.map(cause),
    })
}

/// The end of a search as an object.
pub(super) fn done(report: &LookupReport) -> Value {
    let closest = |c: &Contact| json!({ "id": c.id.to_string(), "node": c.addr.to_string() });
    let (seeds, leeches) = report.swarm.unzip();
    json!({
        "type": "done",
        "contacted": report.contacted,
        "replied": report.replied,
        "peers": report.peers,
        "stores": report.stores,
        "stored": report.stored,
        "seconds": seconds(report.took),
        "failure": report.failure.map(|(failure, _)| failure.to_string()),
        "cause": report.failure.map(|(_, why)| cause(why)),
        "seeds": seeds,
        "leeches": leeches,
        "suspicious": report.suspicious,
        "closest": report.closest.iter().map(closest).collect::<Vec<_>>(),
    })
}

/// A failure as an `error` object.
pub(super) fn failed(what: &str, message: &str, why: Option<(Failure, Cause)>) -> Value {
    json!({
        "type": "error",
        "what": what,
        "message": message,
        "cause": why.map(|(_, why)| cause(why)),
    })
}

/// rTorrent's `dht_statistics` (S19), in its order; `dht` is the mode.
pub(super) fn statistics(mode: &str, throttle: &str, s: &DhtStats) -> Map<String, Value> {
    let mut map = Map::new();
    map.insert("dht".into(), mode.into());
    map.insert("active".into(), u8::from(s.active).into());
    map.insert("throttle".into(), throttle.into());
    map.extend(s.counts().map(|(key, n)| (key.into(), n.into())));
    map
}

/// The state of a node as an object.
pub(super) fn status(s: &Status) -> Value {
    let mode = if s.stats.active { "on" } else { "off" };
    let mut map = statistics(mode, "", &s.stats);
    map.insert("type".into(), "status".into());
    let local: Vec<_> = s.local.iter().map(ToString::to_string).collect();
    let more = json!({
        "id": s.id.map(|id| id.to_string()),
        "id6": s.id6.map(|id| id.to_string()),
        "local": local,
        "external": s.external.map(|ip| ip.to_string()),
        "observed_port": s.stats.observed_port,
        "uptime": seconds(s.uptime),
        "reachable": s.stats.reachable,
        "good_nodes": s.stats.good_nodes,
        "items": s.stats.items,
        "pending": s.stats.pending,
        "lookups": s.stats.lookups,
        "limited": s.stats.limited,
        "held_back": s.stats.held_back,
        "size_by_buckets": s.stats.size_by_buckets,
        "size_by_lookups": s.stats.size_by_lookups,
        "wakeups": s.calls.wakeups,
        "datagrams_in": s.calls.datagrams_in,
        "datagrams_out": s.calls.datagrams_out,
        "refused": s.calls.refused,
    });
    if let Value::Object(more) = more {
        map.extend(more);
    }
    Value::Object(map)
}

/// Seconds, rounded to milliseconds.
pub(super) fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}

/// Hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s19_the_statistics_map_has_every_key_of_rtorrents() {
        let mut stats = DhtStats {
            nodes: 40,
            peers_max: 7,
            ..DhtStats::default()
        };
        let keys = |s: &DhtStats| {
            let map = statistics("auto", "slow", s);
            let mut keys: Vec<_> = map.keys().cloned().collect();
            keys.sort();
            keys.join(" ")
        };
        assert_eq!(keys(&stats), "active dht throttle");
        stats.active = true;
        assert_eq!(
            keys(&stats),
            "active buckets bytes_read bytes_written cycle dht errors_caught errors_received \
             nodes peers peers_max queries_received queries_sent replies_received throttle torrents"
        );
        let map = statistics("auto", "slow", &stats);
        assert_eq!((&map["nodes"], &map["peers_max"]), (&json!(40), &json!(7)));
        assert_eq!(
            (&map["active"], &map["throttle"]),
            (&json!(1), &json!("slow"))
        );
    }

    #[test]
    fn causes_are_for_machines_and_sentences_for_people() {
        let port = 6881;
        let said = event(&NodeEvent::Log(DhtLog::Unreachable(Cause::PortMangled {
            observed: 40_000,
        })));
        assert_eq!(said["event"], "unreachable");
        assert_eq!(
            said["message"],
            "Warning: DHT port appears to be unreachable, no queries received."
        );
        assert_eq!(said["cause"]["kind"], "port_mangled");
        assert_eq!(said["cause"]["observed"], 40_000);
        let started = event(&NodeEvent::Log(DhtLog::Starting { port }));
        assert_eq!(started["message"], "Starting DHT server on port 6881.");
        assert_eq!(started["cause"], Value::Null);
    }
}
