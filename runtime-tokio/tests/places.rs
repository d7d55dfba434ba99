//! Where the `dunlin` command puts, finds and leaves files.
#![cfg(all(feature = "cli", unix))]
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Output, Stdio},
};

use common::{Content, dunlin, noise};
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

/// Ends with the test, whatever comes of it.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A seed of `content`, and its address.
fn seed(content: &Content, torrent: &Path) -> (Killed, String) {
    // Nobody else is given it so soon.
    let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = free.local_addr().unwrap().port().to_string();
    drop(free);
    let mut command = dunlin(&["seed", torrent.to_str().unwrap(), "--port", &port]);
    command.args([
        "--bind",
        "127.0.0.1",
        "--no-session",
        "--no-check",
        "--json",
        "--dir",
    ]);
    let child = command
        .arg(content.dir.path())
        .stdout(Stdio::piped())
        .spawn();
    let mut seed = Killed(child.unwrap());
    let mut lines = BufReader::new(seed.0.stdout.take().unwrap()).lines();
    while !lines
        .next()
        .expect("it runs")
        .unwrap()
        .contains("\"seeding\"")
    {}
    // The peer may go on sending; what it sends from here on is not read.
    std::thread::spawn(move || lines.count());
    (seed, format!("127.0.0.1:{port}"))
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
    let object = |output: &Output, name: &str| {
        let mut found = lines(output).into_iter().filter(|o| o["type"] == name);
        found
            .next()
            .unwrap_or_else(|| panic!("no {name}: {:?}", lines(output)))
    };
    let (before, after) = (object(&first, "created"), object(&again, "created"));
    assert_eq!(after["files"], 1, "the torrent holds itself");
    assert_eq!(after["torrent"], before["torrent"]);
    let said = object(&again, "notice");
    let message = said["message"].as_str().unwrap();
    assert!(message.contains("set.torrent: left out"), "{message}");
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

#[test]
fn a_session_remembers_where_a_torrent_is() {
    let content = Content::small();
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("content.torrent");
    fs::write(&file, content.torrent.to_bytes()).unwrap();
    let (torrent, session) = (file.to_str().unwrap(), dir.path().join("session"));
    let saved = dir.path().join("saved");
    {
        let (_seed, peer) = seed(&content, &file);
        let mut get = dunlin(&["get", torrent, "--no-listen", "--peer", &peer, "--session"]);
        let got = get.arg(&session).arg("-o").arg(&saved).output().unwrap();
        assert_eq!(code(&got), 0, "{}", stderr(&got));
    }
    // In another folder, and without anybody to fetch it from.
    let elsewhere = dir.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    for command in [
        &["seed", "--seed-time", "0"][..],
        &["get", "--timeout", "50"],
    ] {
        let mut command = dunlin(command);
        command
            .args([torrent, "--no-listen", "--json", "--session"])
            .arg(&session);
        let shared = command.current_dir(&elsewhere).output().unwrap();
        assert_eq!(code(&shared), 0, "{}", stderr(&shared));
        let said = lines(&shared);
        let complete = said.iter().find(|l| l["type"] == "complete").unwrap();
        let expected = saved.join("content");
        assert_eq!(complete["path"], expected.to_str().unwrap());
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    }
    // A folder that is named has precedence.
    let mut named = dunlin(&[
        "seed",
        torrent,
        "--no-listen",
        "--seed-time",
        "0",
        "--session",
    ]);
    named.arg(&session).arg("--dir").arg(content.dir.path());
    let named = named.output().unwrap();
    assert_eq!(code(&named), 0, "{}", stderr(&named));
    assert!(!stderr(&named).contains("where it was saved before"));
}

#[test]
fn a_place_is_remembered_only_where_the_torrent_was_found() {
    let content = Content::small();
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("content.torrent");
    fs::write(&file, content.torrent.to_bytes()).unwrap();
    let session = dir.path().join("session");
    let seed = |from: &Path| {
        let mut seed = dunlin(&["seed", file.to_str().unwrap(), "--no-listen", "--json"]);
        seed.args(["--seed-time", "0", "--session"]).arg(&session);
        let out = seed.current_dir(from).output().unwrap();
        let said = lines(&out);
        let paths = said.iter().filter(|l| l["type"] == "complete");
        paths.map(|l| l["path"].as_str().unwrap().to_owned()).next()
    };
    let (wrong, moved) = (dir.path().join("wrong"), dir.path().join("moved"));
    fs::create_dir(&wrong).unwrap();
    fs::create_dir(&moved).unwrap();
    assert_eq!(seed(&wrong), None, "it is not there");
    assert!(seed(content.dir.path()).is_some(), "it is here");
    let remembered = seed(&wrong).unwrap();
    assert_eq!(Path::new(&remembered), content.dir.path().join("content"));
    // Moved by hand: it is where the command runs.
    fs::rename(content.dir.path().join("content"), moved.join("content")).unwrap();
    assert!(seed(&moved).is_some(), "it was moved here");
    assert_eq!(
        seed(&wrong).map(Into::into),
        Some(moved.join("content")),
        "the new place is remembered"
    );
}

/// What `command` said, and its exit code.
fn ended(command: &mut std::process::Command) -> (i32, String) {
    let output = command.output().unwrap();
    (code(&output), stderr(&output))
}

#[test]
fn get_and_seed_wait_for_a_disk_error_to_go_away() {
    let content = Content::small();
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("content.torrent");
    fs::write(&file, content.torrent.to_bytes()).unwrap();
    let (_seed, peer) = seed(&content, &file);
    // The system reports a cycle of links, which is not among the errors that have a kind.
    let in_circles = |place: &Path| place.join("content");
    let begin = |command: &[&str], dir: &str, place: &Path| {
        fs::create_dir(place).unwrap();
        std::os::unix::fs::symlink("content", in_circles(place)).unwrap();
        let mut command = dunlin(command);
        command.args([file.to_str().unwrap(), "--no-listen", "--no-session"]);
        command.arg(dir).arg(place);
        Killed(
            command
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap(),
        )
    };
    let (saved, shared) = (dir.path().join("saved"), dir.path().join("shared"));
    let arguments = ["get", "--json", "--timeout", "300", "--peer", &peer];
    let mut get = begin(&arguments, "--output", &saved);
    let mut seed = begin(&["seed", "--seed-time", "0"], "--dir", &shared);

    let mut lines = BufReader::new(get.0.stdout.take().unwrap()).lines();
    let mut disk = || {
        let parsed = lines.by_ref().map(|l| serde_json::from_str(&l.unwrap()));
        let mut parsed = parsed.map(|l: Result<Value, _>| l.unwrap());
        parsed.find(|l| matches!(l["type"].as_str(), Some("disk" | "error")))
    };
    let waits = disk().expect("it ended without a word");
    assert_eq!(
        (&waits["type"], &waits["waiting"]),
        (&"disk".into(), &true.into())
    );
    let mut said = BufReader::new(seed.0.stderr.take().unwrap()).lines();
    let mut says = |what: &str| said.any(|l| l.unwrap().contains(what));
    assert!(says("tried again every 30 s"), "it ended without a word");

    fs::remove_file(in_circles(&saved)).unwrap();
    fs::remove_file(in_circles(&shared)).unwrap();
    for (path, data) in &content.files {
        let copy = shared.join(path);
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::write(copy, data).unwrap();
    }
    let works = disk().expect("it ended without a word");
    assert_eq!(
        (&works["type"], &works["waiting"]),
        (&"disk".into(), &false.into())
    );
    assert!(disk().is_none(), "more of it");
    assert_eq!(get.0.wait().unwrap().code(), Some(0));
    content.assert_copied(&saved);
    assert!(says("the disk works again"), "it ended without a word");
    assert_eq!(seed.0.wait().unwrap().code(), Some(0));
}

#[test]
fn a_place_that_cannot_be_used_is_refused_at_once() {
    let content = Content::small();
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("content.torrent");
    fs::write(&file, content.torrent.to_bytes()).unwrap();
    fs::write(dir.path().join("file"), "the user's").unwrap();
    let (empty, odd) = (dir.path().join("empty"), dir.path().join("odd"));
    fs::create_dir(&empty).unwrap();
    // A folder where a file has to be.
    fs::create_dir_all(odd.join("content/file00")).unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let nowhere = at("nowhere");
    for (command, place, says) in [
        ("get", at("file"), "file: it is not a folder"),
        ("get", at("file/below"), "file is not a folder"),
        ("get", "/proc/nothing".into(), "/proc/nothing: "),
        ("get", at("odd"), "not a regular file"),
        ("seed", at("file"), "file: it is not a folder"),
        ("seed", nowhere.clone(), "nowhere: "),
        ("seed", at("empty"), "nothing of it is in"),
        ("seed", at("odd"), "not a regular file"),
    ] {
        let mut command = dunlin(&[command, file.to_str().unwrap(), "--dir", &place]);
        let (code, said) = ended(command.args(["--no-listen", "--no-session"]));
        assert_eq!(code, 1, "{place}: {said}");
        assert!(said.contains(says), "{says} in {said}");
        assert!(said.contains("--dir"), "{said}");
        assert!(!said.contains("tried again"), "{said}");
        assert!(!said.contains("--overwrite"), "{said}");
    }
    assert!(!Path::new(&nowhere).exists() && fs::read_dir(&empty).unwrap().count() == 0);
    assert_eq!(fs::read(dir.path().join("file")).unwrap(), b"the user's");
}

#[test]
fn a_place_that_is_gone_is_not_replaced_by_the_current_folder() {
    let content = Content::small();
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("content.torrent");
    fs::write(&file, content.torrent.to_bytes()).unwrap();
    let (session, here) = (dir.path().join("session"), dir.path().join("here"));
    let (disk, aside) = (dir.path().join("disk"), dir.path().join("aside"));
    fs::create_dir(&here).unwrap();
    let (_seed, peer) = seed(&content, &file);
    let run = |command: &[&str]| {
        let mut command = dunlin(command);
        command.args([file.to_str().unwrap(), "--no-listen", "--dht", "disable"]);
        command.arg("--session").arg(&session);
        ended(command.current_dir(&here))
    };
    let saved = disk.join("saved");
    let got = run(&["get", "--peer", &peer, "-d", saved.to_str().unwrap()]);
    assert_eq!(got.0, 0, "{}", got.1);
    fs::rename(&disk, &aside).unwrap();
    for command in [&["get", "--peer", &peer][..], &["seed", "--seed-time", "0"]] {
        let (code, said) = run(command);
        assert_eq!(code, 1, "{said}");
        for part in [saved.to_str().unwrap(), "is gone", "mount", "--dir"] {
            assert!(said.contains(part), "{part} in {said}");
        }
    }
    assert_eq!(
        fs::read_dir(&here).unwrap().count(),
        0,
        "it was fetched again"
    );
    assert!(!disk.exists(), "its folder was made again");
    fs::rename(&aside, &disk).unwrap();
    let shared = run(&["seed", "--seed-time", "0"]);
    assert_eq!(shared.0, 0, "{}", shared.1);
    content.assert_copied(&saved);
}

#[test]
fn create_leaves_out_what_links_lead_to_outside() {
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join("share");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("own"), noise(1, 1000)).unwrap();
    fs::write(dir.path().join("secret"), noise(2, 1000)).unwrap();
    std::os::unix::fs::symlink("../secret", folder.join("out")).unwrap();
    std::os::unix::fs::symlink("own", folder.join("in")).unwrap();
    let file = dir.path().join("share.torrent");
    let mut create = dunlin(&["create", "--json", folder.to_str().unwrap(), "-o"]);
    let made = create.arg(&file).output().unwrap();
    assert_eq!(code(&made), 0, "{}", stderr(&made));
    let said = stderr(&made);
    let line = "share/out: left out: a symbolic link leads outside the folder";
    assert!(said.contains(line), "{said}");
    let made = lines(&made);
    let made = made.iter().find(|o| o["type"] == "created").unwrap();
    assert_eq!(made["files"], 2, "the link inside is followed");
    // And so it can be shared.
    let mut seed = dunlin(&["seed", "--seed-time", "0", "--no-listen", "--no-session"]);
    let (code, said) = ended(seed.arg(&file).arg("--dir").arg(dir.path()));
    assert_eq!(code, 0, "{said}");
}

#[test]
fn create_says_why_a_file_could_not_be_shared() {
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join("set");
    let deep = folder.join("d/".repeat(32));
    fs::create_dir_all(&deep).unwrap();
    let create = |more: &[&str]| {
        let mut command = dunlin(&["create", folder.to_str().unwrap()]);
        ended(command.args(more).current_dir(dir.path()))
    };
    for i in 0..10 {
        fs::write(deep.join(format!("deep{i}")), "x").unwrap();
    }
    let (code, said) = create(&[]);
    assert_eq!(code, 1, "{said}");
    for part in [
        "deep7: too deep: at most 31 folders",
        "; and 2 more",
        "further up",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert!(
        !said.contains("deep8") && !said.contains("rename"),
        "{said}"
    );
    fs::remove_dir_all(folder.join("d")).unwrap();
    for (name, says) in [
        ("a\nb", "U+000A (line break)"),
        ("a\tb", "U+0009 (tab)"),
        ("a\u{1b}b", "U+001B (escape)"),
        ("a\u{202e}b", "U+202E (turns the direction of writing)"),
    ] {
        fs::write(folder.join(name), "x").unwrap();
        let (code, said) = create(&[]);
        assert_eq!(code, 1, "{said}");
        assert!(said.contains(says) && said.contains("rename"), "{said}");
        fs::remove_file(folder.join(name)).unwrap();
    }
    assert!(!dir.path().join("set.torrent").exists());
    let mut root = dunlin(&["create", "/"]);
    let (code, said) = ended(root.current_dir(dir.path()));
    assert!(code == 1 && said.contains("--name"), "{said}");
}

#[test]
fn files_in_the_way_are_not_waited_for() {
    let content = Content::small();
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("content.torrent");
    fs::write(&file, content.torrent.to_bytes()).unwrap();
    fs::create_dir(dir.path().join("content")).unwrap();
    fs::write(dir.path().join("content/file00"), "the user's").unwrap();
    let mut get = dunlin(&["get", file.to_str().unwrap(), "--no-listen", "--no-session"]);
    let got = get.current_dir(dir.path()).output().unwrap();
    assert_eq!(code(&got), 1, "{}", stderr(&got));
    assert!(!stderr(&got).contains("tried again"), "{}", stderr(&got));
    assert!(stderr(&got).contains("--overwrite"), "{}", stderr(&got));
    // Where a folder has to be, or where another torrent writes, overwriting does not help.
    let held = dir.path().join("content/file00");
    let lock = fs::File::open(&held).unwrap();
    lock.lock().unwrap();
    let get = |more: &[&str]| {
        let mut get = dunlin(&["get", file.to_str().unwrap(), "--no-listen", "--no-session"]);
        ended(get.args(more).current_dir(dir.path()))
    };
    for more in [&[][..], &["--overwrite"]] {
        let (code, said) = get(more);
        assert!(code == 1 && said.contains("is writing it; wait"), "{said}");
        assert!(!said.contains("--overwrite"), "{said}");
    }
    drop(lock);
    fs::remove_dir_all(dir.path().join("content")).unwrap();
    fs::write(dir.path().join("content"), "the user's").unwrap();
    for more in [&[][..], &["--overwrite"]] {
        let (code, said) = get(more);
        assert!(code == 1 && said.contains("move them away"), "{said}");
        assert!(!said.contains("--overwrite"), "{said}");
    }
}
