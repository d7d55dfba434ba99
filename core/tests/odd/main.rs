//! Odd torrent files, magnets, tracker answers and peer messages: what Dunlin makes of each, and
//! the column of `docs/ODD-FILES.md` that says so.
//!
//! `tests/odd-files` asks libtorrent, Transmission and webtorrent about the same bytes and writes
//! that page. The rule: Dunlin accepts what two of the three accept, unless it is unsafe.

#![allow(clippy::unwrap_used, reason = "a test that unwraps nothing fails")]

#[path = "../common/mod.rs"]
mod common;

mod bencode;
mod magnets;
mod peers;
mod torrents;
mod trackers;

use std::collections::BTreeMap;

/// The page, as it was generated last.
const PAGE: &str = include_str!("../../../docs/ODD-FILES.md");

/// What is odd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Area {
    /// A torrent file.
    Torrent,
    /// A magnet link.
    Magnet,
    /// The body of an HTTP tracker's answer to an announce.
    Tracker,
    /// What a peer that has everything says after its handshake; the torrent is [`peers::info`].
    Peer,
}

impl Area {
    const fn name(self) -> &'static str {
        match self {
            Self::Torrent => "torrent",
            Self::Magnet => "magnet",
            Self::Tracker => "tracker",
            Self::Peer => "peer",
        }
    }
}

/// One odd thing, made the same way every time.
struct Shape {
    area: Area,
    /// What is odd about it.
    name: &'static str,
    bytes: Vec<u8>,
    /// What Dunlin makes of it: "accepts" and how, or "refuses".
    dunlin: &'static str,
    /// Why Dunlin does what others do not; empty where nothing needs a reason.
    why: &'static str,
}

fn shapes() -> Vec<Shape> {
    let mut all = torrents::shapes();
    all.extend(magnets::shapes());
    all.extend(trackers::shapes());
    all.extend(peers::shapes());
    all
}

/// What Dunlin makes of it in fact.
fn verdict(shape: &Shape) -> String {
    match shape.area {
        Area::Torrent => torrents::verdict(&shape.bytes),
        Area::Magnet => magnets::verdict(&shape.bytes),
        Area::Tracker => trackers::verdict(&shape.bytes),
        Area::Peer => peers::verdict(&shape.bytes),
    }
}

/// Rows of the page: area and name, then the cells.
fn rows() -> BTreeMap<(String, String), Vec<String>> {
    let mut rows = BTreeMap::new();
    let mut area = String::new();
    for line in PAGE.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            area = title.to_owned();
        } else if let Some(row) = line.strip_prefix("| ") {
            let cells: Vec<String> = row
                .split(" | ")
                .map(|c| c.trim_end_matches(" |").to_owned())
                .collect();
            if cells[0] != "shape" && !cells[0].starts_with("--") {
                rows.insert((area.clone(), cells[0].clone()), cells[1..].to_vec());
            }
        }
    }
    rows
}

fn accepts(verdict: &str) -> bool {
    verdict.starts_with("accepts")
}

#[test]
fn dunlin_makes_of_every_shape_what_the_table_says() {
    let rows = rows();
    let all = shapes();
    for shape in &all {
        assert_eq!(
            verdict(shape),
            shape.dunlin,
            "{:?}: {}",
            shape.area,
            shape.name
        );
        let key = (shape.area.name().to_owned(), shape.name.to_owned());
        let row = rows
            .get(&key)
            .unwrap_or_else(|| panic!("{key:?} is missing: run tests/odd-files"));
        assert_eq!(row[3], shape.dunlin, "{key:?}: run tests/odd-files");
        assert_eq!(
            row.get(4).map_or("", String::as_str),
            shape.why,
            "{key:?}: run tests/odd-files"
        );
    }
    assert_eq!(
        rows.len(),
        all.len(),
        "a row of the table belongs to no shape"
    );
}

#[test]
fn what_two_of_three_accept_is_accepted_unless_a_reason_is_given() {
    for (key, row) in rows() {
        let others = row[..3].iter().filter(|v| accepts(v)).count();
        let reason = row.get(4).map_or("", String::as_str);
        if (others >= 2) != accepts(&row[3]) {
            assert!(!reason.is_empty(), "{key:?}: {row:?} needs a reason");
        }
    }
}

/// Writes every shape and an index of them into the folder that `ODD_FILES` names.
#[test]
#[ignore = "for tests/odd-files, which sets ODD_FILES"]
fn write_the_shapes() {
    let folder = std::path::PathBuf::from(std::env::var_os("ODD_FILES").unwrap());
    let mut index = String::new();
    for (i, shape) in shapes().iter().enumerate() {
        let file = format!("{i:03}.{}", shape.area.name());
        std::fs::write(folder.join(&file), &shape.bytes).unwrap();
        let line = [
            &file,
            shape.area.name(),
            shape.name,
            &verdict(shape),
            shape.why,
        ]
        .join("\t");
        index.push_str(&line);
        index.push('\n');
    }
    std::fs::write(folder.join("peer.info"), peers::info().raw()).unwrap();
    std::fs::write(folder.join("index"), index).unwrap();
}
