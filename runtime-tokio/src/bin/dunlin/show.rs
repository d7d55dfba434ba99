//! `show`: what a torrent file or a magnet link contains.

use dunlin_tokio::{
    Error,
    dunlin_core::metainfo::{FileKind, Magnet, Torrent},
};
use serde_json::{Value, json};

use crate::{
    args,
    exit::Exit,
    input::{self, Kind},
    output::{complain, fail, say, say_json},
    units,
};

/// Runs `dunlin show`.
pub(crate) fn show(args: &args::Show) -> Exit {
    let mut done = 0;
    for text in &args.torrents {
        match describe(text, args.json) {
            Ok(Shown::Lines(lines)) => {
                lines.iter().for_each(|line| say(line));
                done += 1;
            }
            Ok(Shown::Json(value)) => {
                say_json(&value);
                done += 1;
            }
            Err(message) => fail(text, &message),
        }
    }
    Exit::of(done, args.torrents.len())
}

enum Shown {
    Lines(Vec<String>),
    Json(Value),
}

fn describe(text: &str, as_json: bool) -> Result<Shown, String> {
    let magnet = match input::kind(text) {
        Kind::Magnet => text.to_owned(),
        Kind::Hash => input::magnet(text),
        Kind::Url => {
            return Err(format!(
                "{text}: fetch it first; show reads files and magnets"
            ));
        }
        Kind::OtherUrl => return Err(format!("{text}: {}", input::OTHER_URL)),
        Kind::File | Kind::Stdin => {
            let torrent = input::read(text).map_err(message)?;
            return Ok(match as_json {
                true => Shown::Json(torrent_json(&torrent)),
                false => Shown::Lines(torrent_lines(&torrent)),
            });
        }
    };
    let (magnet, warnings) = Magnet::read(&magnet).map_err(|error| format!("{text}: {error}"))?;
    for warning in warnings {
        complain(&format!("{text}: {warning}"));
    }
    Ok(match as_json {
        true => Shown::Json(magnet_json(&magnet)),
        false => Shown::Lines(magnet_lines(&magnet)),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn message(error: Error) -> String {
    error.to_string()
}

fn field(lines: &mut Vec<String>, name: &str, value: impl AsRef<str>) {
    lines.push(format!("{name:<12} {}", value.as_ref()));
}

fn torrent_lines(torrent: &Torrent) -> Vec<String> {
    let info = &torrent.info;
    let mut lines = Vec::new();
    let pieces = format!(
        "{} of {}",
        info.piece_count(),
        units::size(info.piece_len().into())
    );
    field(&mut lines, "name", info.name());
    field(&mut lines, "info-hash", info.info_hash().to_string());
    field(
        &mut lines,
        "size",
        format!(
            "{} ({} bytes)",
            units::size(info.total_len()),
            info.total_len()
        ),
    );
    field(&mut lines, "pieces", pieces);
    if info.private() {
        field(
            &mut lines,
            "private",
            "yes: peers come from its trackers only",
        );
    }
    for (i, tier) in torrent.trackers.iter().enumerate() {
        for url in tier {
            field(&mut lines, "tracker", format!("{}: {url}", i + 1));
        }
    }
    for url in &torrent.web_seeds {
        field(&mut lines, "web seed", url);
    }
    for (name, text) in [
        ("comment", &torrent.comment),
        ("made by", &torrent.created_by),
    ] {
        if let Some(text) = text {
            field(&mut lines, name, text);
        }
    }
    field(&mut lines, "magnet", torrent.magnet().to_string());
    lines.push(String::new());
    for (i, file) in info.files().iter().enumerate() {
        let kind = match &file.kind {
            FileKind::Padding => continue,
            FileKind::Symlink(target) => format!(" -> {}", target.join("/")),
            FileKind::Regular => String::new(),
        };
        let path = file.path.join("/") + &kind;
        lines.push(format!(
            "{:>6} {:>10}  {path}",
            i + 1,
            units::size(file.len)
        ));
    }
    lines
}

fn torrent_json(torrent: &Torrent) -> Value {
    let info = &torrent.info;
    let files: Vec<Value> = info
        .files()
        .iter()
        .enumerate()
        .map(|(i, file)| {
            json!({
                "number": i + 1,
                "path": file.path.join("/"),
                "length": file.len,
                "kind": match &file.kind {
                    FileKind::Regular => "file",
                    FileKind::Padding => "padding",
                    FileKind::Symlink(_) => "link",
                },
            })
        })
        .collect();
    json!({
        "type": "torrent",
        "name": info.name(),
        "torrent": info.info_hash().to_string(),
        "total": info.total_len(),
        "piece_length": info.piece_len(),
        "pieces": info.piece_count(),
        "private": info.private(),
        "hybrid": info.hybrid(),
        "trackers": torrent.trackers,
        "web_seeds": torrent.web_seeds,
        "comment": torrent.comment,
        "created_by": torrent.created_by,
        "creation_date": torrent.creation_date,
        "magnet": torrent.magnet().to_string(),
        "files": files,
    })
}

fn magnet_lines(magnet: &Magnet) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(name) = &magnet.name {
        field(&mut lines, "name", name);
    }
    if let Some(hash) = magnet.info_hash {
        field(&mut lines, "info-hash", hash.to_string());
    }
    if let Some(key) = &magnet.key {
        field(&mut lines, "key", hex(&key.key));
        if !key.salt.is_empty() {
            field(&mut lines, "salt", hex(&key.salt));
        }
    }
    for url in &magnet.trackers {
        field(&mut lines, "tracker", url);
    }
    for peer in &magnet.peers {
        field(&mut lines, "peer", peer.to_string());
    }
    for url in &magnet.web_seeds {
        field(&mut lines, "web seed", url);
    }
    for range in &magnet.select {
        // Magnets count files from 0, the command from 1.
        let (first, last) = (u64::from(*range.start()) + 1, u64::from(*range.end()) + 1);
        field(&mut lines, "selected", format!("{first}-{last}"));
    }
    lines
}

fn magnet_json(magnet: &Magnet) -> Value {
    // Magnets count files from 0, the command from 1.
    let number = |file: &u32| u64::from(*file) + 1;
    let selected = (magnet.select.iter())
        .map(|range| json!({"first": number(range.start()), "last": number(range.end())}));
    json!({
        "type": "magnet",
        "name": magnet.name,
        "torrent": magnet.info_hash.map(|hash| hash.to_string()),
        "key": magnet.key.as_ref().map(|key| hex(&key.key)),
        "salt": magnet.key.as_ref().map(|key| hex(&key.salt)),
        "trackers": magnet.trackers,
        "peers": magnet.peers.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "web_seeds": magnet.web_seeds,
        "selected": selected.collect::<Vec<_>>(),
    })
}
