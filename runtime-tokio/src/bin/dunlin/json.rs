//! The objects of `--json`.

use std::time::Duration;

use dunlin_tokio::{InfoHash, Level, Notice, State, TorrentStatus};
use serde_json::{Value, json};

use crate::schema::VERSION;

/// The explanation for `--help`.
pub(crate) const HELP: &str = "\
Print one JSON object a line on standard output (docs/JSON.md has every key). Every object
has `type`:

  progress  one torrent, twice a second while anything moves, and when its state changes:
            torrent (info-hash), name, state (metadata, opening, checking, downloading,
            seeding, paused, failed, stopping), total, wanted, done (bytes; of the wanted
            files), pieces, pieces_done, downloaded, uploaded (payload bytes of this run),
            wasted (bytes that failed a check or came twice), rate_down, rate_up (bytes
            per second), peers, seeds, known (addresses)
  complete  one torrent has all that is wanted: torrent, name, path, seconds
  disk      the disk failed one torrent, which waits for it, or works again: torrent, name,
            waiting (true or false), message
  notice    with --verbose, and for warnings: level (detail, info, warning, error),
            torrent, peer, message
  error     something was not done: what (as on the command line, or a name), message
  summary   the last line, always: version (of docs/JSON.md), exit (the exit code), seconds,
            errors (number), downloaded, uploaded, wasted (bytes of this run), torrents
            (their last progress objects)";

/// The name of a state.
pub(crate) fn state(state: &State) -> &'static str {
    match state {
        State::Metadata => "metadata",
        State::Opening => "opening",
        State::Checking { .. } => "checking",
        State::Downloading => "downloading",
        State::Seeding => "seeding",
        State::Paused => "paused",
        State::Failed(_) => "failed",
        State::Stopping => "stopping",
        _ => "other",
    }
}

pub(crate) fn progress(s: &TorrentStatus) -> Value {
    json!({
        "type": "progress",
        "torrent": s.info_hash.to_string(),
        "name": s.name,
        "state": state(&s.state),
        "total": s.total,
        "wanted": s.wanted,
        "done": s.wanted_done,
        "pieces": s.pieces,
        "pieces_done": s.pieces_done,
        "downloaded": s.downloaded,
        "uploaded": s.uploaded,
        "wasted": s.wasted,
        "rate_down": s.rate_down,
        "rate_up": s.rate_up,
        "peers": s.peers,
        "seeds": s.seeds,
        "known": s.known,
    })
}

pub(crate) fn complete(s: &TorrentStatus, path: &str, after: Duration) -> Value {
    json!({
        "type": "complete",
        "torrent": s.info_hash.to_string(),
        "name": s.name,
        "path": path,
        "seconds": seconds(after),
    })
}

pub(crate) fn disk(s: &TorrentStatus, waiting: bool, message: &str) -> Value {
    json!({
        "type": "disk",
        "torrent": s.info_hash.to_string(),
        "name": s.name,
        "waiting": waiting,
        "message": message,
    })
}

pub(crate) fn notice(n: &Notice, torrent: Option<InfoHash>) -> Value {
    json!({
        "type": "notice",
        "level": match n.level {
            Level::Detail => "detail",
            Level::Info => "info",
            Level::Warning => "warning",
            Level::Error => "error",
        },
        "torrent": torrent.map(|hash| hash.to_string()),
        "peer": n.peer.map(|peer| peer.to_string()),
        "message": n.what.to_string(),
    })
}

pub(crate) fn error(what: &str, message: &str) -> Value {
    json!({ "type": "error", "what": what, "message": message })
}

/// A warning of the command itself as an object.
pub(crate) fn warning(message: &str) -> Value {
    json!({
        "type": "notice",
        "level": "warning",
        "torrent": null,
        "peer": null,
        "message": message,
    })
}

/// The last object of a command that printed this number of `errors`.
pub(crate) fn summary(exit: u8, after: Duration, errors: usize) -> Value {
    json!({
        "type": "summary",
        "version": VERSION,
        "exit": exit,
        "seconds": seconds(after),
        "errors": errors,
    })
}

/// The last object of a command that ran `torrents`.
pub(crate) fn summary_of(
    exit: u8,
    after: Duration,
    errors: usize,
    torrents: &[&TorrentStatus],
) -> Value {
    let sum = |f: fn(&TorrentStatus) -> u64| torrents.iter().map(|s| f(s)).sum::<u64>();
    let mut summary = summary(exit, after, errors);
    summary["downloaded"] = sum(|s| s.downloaded).into();
    summary["uploaded"] = sum(|s| s.uploaded).into();
    summary["wasted"] = sum(|s| s.wasted).into();
    summary["torrents"] = torrents.iter().map(|s| progress(s)).collect();
    summary
}

/// Seconds, rounded to milliseconds.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}
