//! `--json`: whatever happens, the last line is a `summary`. What is printed is held against
//! `docs/JSON.md` by the command itself wherever its assertions are compiled in, as here.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::process::Output;

use common::{
    Content,
    command::{Seed, code, json, run, stderr, stdout, torrent_file},
};
use serde_json::Value;
use tempfile::TempDir;

fn objects(output: &Output) -> Vec<Value> {
    stdout(output).lines().map(json).collect()
}

/// The types that a command printed, each once, after the end was checked.
fn types(args: &[&str]) -> Vec<String> {
    let output = run(&[args, &["--json"]].concat());
    let objects = objects(&output);
    let last = objects
        .last()
        .unwrap_or_else(|| panic!("{args:?}: {}", stderr(&output)));
    let count = |kind: &str| objects.iter().filter(|v| v["type"] == kind).count();
    assert_eq!(
        (&last["type"], count("summary")),
        (&"summary".into(), 1),
        "{args:?}: {objects:?}"
    );
    assert_eq!(last["version"], 1);
    assert_eq!(last["exit"], code(&output), "{args:?}");
    assert_eq!(last["errors"], count("error"), "{args:?}: {objects:?}");
    assert!(last["seconds"].as_f64().is_some());
    if code(&output) != 0 {
        assert!(count("error") > 0, "{args:?}: {objects:?}");
    }
    let mut types: Vec<String> = objects
        .iter()
        .map(|v| v["type"].as_str().unwrap().to_owned())
        .collect();
    types.sort();
    types.dedup();
    types
}

#[test]
fn every_command_ends_with_a_summary() {
    let content = Content::small();
    let file = torrent_file(&content);
    let file = file.to_str().unwrap();
    let dir = content.dir.path().to_str().unwrap();
    let folder = content.dir.path().join("content");
    let folder = folder.to_str().unwrap();
    let out = TempDir::new().unwrap();
    let at = |name: &str| out.path().join(name).to_str().unwrap().to_owned();
    let seed = Seed::start(file.as_ref(), content.dir.path(), &["--no-check"]);
    let hash = content.torrent.info.info_hash().to_string();
    let (saved, secret) = (at("dl"), at("key"));
    let alone = ["--no-session", "--no-listen"];
    let get = [
        &["get", file, "-d", &saved, "--peer", &seed.peer],
        &alone[..],
    ]
    .concat();
    let share = [
        "seed",
        file,
        "-d",
        dir,
        "--seed-time",
        "0.05",
        "--no-session",
        "--bind",
        "127.0.0.1",
    ];
    let missing = [&["get", "/nowhere/x.torrent"], &alone[..]].concat();
    let local = [
        "--local",
        "--bind",
        "127.0.0.1",
        "--no-session",
        "--timeout",
        "0.3",
    ];
    let dht = |args: &[&'static str]| types(&[&["dht"], args, &local].concat());
    let expected = |kinds: &[&str]| {
        kinds
            .iter()
            .map(|&kind| kind.to_owned())
            .collect::<Vec<_>>()
    };

    assert_eq!(types(&get), expected(&["complete", "progress", "summary"]));
    assert!(types(&share).contains(&"complete".to_owned()));
    assert_eq!(types(&missing), expected(&["error", "summary"]));
    let made = types(&[
        "create",
        folder,
        "-o",
        &at("made.torrent"),
        "-w",
        "http://127.0.0.1:9/",
    ]);
    assert_eq!(made, expected(&["created", "notice", "summary"]));
    let again = types(&["create", folder, "-o", &at("made.torrent")]);
    assert_eq!(again, expected(&["error", "summary"]));
    assert_eq!(
        types(&["check", file, "-d", dir]),
        expected(&["checked", "summary"])
    );
    assert_eq!(
        types(&["check", "/nowhere/x.torrent"]),
        expected(&["error", "summary"])
    );
    let shown = types(&["show", file, &hash, "/nowhere/x.torrent"]);
    assert_eq!(shown, expected(&["error", "magnet", "summary", "torrent"]));
    let key = ["dht", "keygen", &secret];
    assert_eq!(types(&key), expected(&["key", "summary"]));
    assert_eq!(types(&key), expected(&["error", "summary"]));
    assert_eq!(types(&["dht", "advice"]), expected(&["advice", "summary"]));
    assert!(types(&["dht", "stats", "--session", &at("none")]).contains(&"error".to_owned()));
    assert!(dht(&["node", "--port", "0"]).contains(&"status".to_owned()));
    for search in [
        &["get-peers", "0123456789abcdef0123456789abcdef01234567"][..],
        &["announce", "0123456789abcdef0123456789abcdef01234567"],
        &["get", "0123456789abcdef0123456789abcdef01234567"],
        &["put", "value"],
        &["ping", "127.0.0.1:9"],
        &["sample", "127.0.0.1:9"],
    ] {
        assert!(dht(search).contains(&"error".to_owned()), "{search:?}");
    }
}

#[test]
fn a_command_line_that_is_wrong_ends_with_a_summary_too() {
    for args in [
        &["get"][..],
        &["get", "x", "--limit-down", "0"],
        &["get", "x", "--config", "/nowhere/dunlin.toml"],
        &["create", "/nowhere", "-o", "-"],
        &["dht", "ping"],
        &["dht", "get-peers", "https://host/x.torrent"],
    ] {
        assert_eq!(types(args), ["error", "summary"], "{args:?}");
    }
}

#[test]
fn what_a_person_asks_for_is_no_json() {
    let output = run(&["get", "--json", "--help"]);
    assert_eq!(code(&output), 0);
    assert!(stdout(&output).contains("Usage:") && !stdout(&output).contains("\"exit\""));
}
