//! Where the `dunlin` command puts, finds and leaves files.
#![cfg(all(feature = "cli", unix))]
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::{fs, os::unix::fs::PermissionsExt, process::Output};

use common::{dunlin, noise};
use serde_json::Value;
use tempfile::TempDir;

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect()
}

#[test]
fn create_leaves_its_own_output_out() {
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join("set");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("a"), noise(1, 1000)).unwrap();
    let make = |more: &[&str]| {
        let mut command = dunlin(&["create", "--json", "--no-date", "."]);
        command.args(more).current_dir(&folder).output().unwrap()
    };
    let first = make(&[]);
    assert_eq!(code(&first), 0, "{}", stderr(&first));
    let again = make(&["--force"]);
    assert_eq!(code(&again), 0, "{}", stderr(&again));
    assert_eq!(lines(&again)[0]["files"], 1, "the torrent holds itself");
    assert_eq!(lines(&again)[0]["torrent"], lines(&first)[0]["torrent"]);
    assert!(
        stderr(&again).contains("set.torrent: left out"),
        "{}",
        stderr(&again)
    );
    // A single file cannot be left out.
    let mut command = dunlin(&["create", "a", "-o", "a", "--force"]);
    let same = command.current_dir(&folder).output().unwrap();
    assert_eq!(code(&same), 1);
    assert!(
        stderr(&same).contains("replace its own content"),
        "{}",
        stderr(&same)
    );
    assert_eq!(fs::read(folder.join("a")).unwrap(), noise(1, 1000));
}

#[test]
fn check_heeds_the_names_that_are_configured() {
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join("set");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("a:b"), noise(1, 1000)).unwrap();
    let file = dir.path().join("set.torrent");
    let mut create = dunlin(&["create", folder.to_str().unwrap(), "-o"]);
    assert_eq!(code(&create.arg(&file).output().unwrap()), 0);
    // As `get` saves it where names are those of Windows.
    fs::rename(folder.join("a:b"), folder.join("a_b")).unwrap();
    let config = dir.path().join("dunlin.toml");
    fs::write(&config, "[disk]\nnames = \"windows\"\n").unwrap();
    let check = |more: &[&str]| {
        let mut command = dunlin(&["check", file.to_str().unwrap()]);
        command
            .arg("--dir")
            .arg(dir.path())
            .args(more)
            .output()
            .unwrap()
    };
    assert_eq!(code(&check(&[])), 1, "it is not found under its own name");
    let found = check(&["--config", config.to_str().unwrap()]);
    assert_eq!(code(&found), 0, "{}", stderr(&found));
}

#[test]
fn demo_works_in_a_folder_of_its_own() {
    let dir = TempDir::new().unwrap();
    let demo = |more: &[&str]| {
        let mut command = dunlin(&["demo", "--size", "100KiB"]);
        command
            .args(more)
            .env("TMPDIR", dir.path())
            .output()
            .unwrap()
    };
    let folders = || {
        let entries = fs::read_dir(dir.path()).unwrap();
        entries.map(|e| e.unwrap().path()).collect::<Vec<_>>()
    };
    let gone = demo(&[]);
    assert_eq!(code(&gone), 0, "{}", stderr(&gone));
    assert_eq!(folders().len(), 0, "nothing is left");
    let kept = demo(&["--keep"]);
    assert_eq!(code(&kept), 0, "{}", stderr(&kept));
    let [folder] = &folders()[..] else {
        panic!("one folder: {:?}", folders());
    };
    let mode = fs::metadata(folder).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "others may look into it");
    assert!(String::from_utf8_lossy(&kept.stdout).contains(folder.to_str().unwrap()));
}
