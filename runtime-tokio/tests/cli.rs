//! The `dunlin` command, as a shell sees it.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Output, Stdio},
};

use common::{
    Content,
    command::{Seed, code, json, run, stderr, stdout, torrent_file},
    dunlin, noise,
};
use dunlin_tokio::dunlin_core::{hash::sha1, metainfo::Builder};
use serde_json::Value;
use tempfile::TempDir;

#[test]
fn wrong_usage_is_code_2() {
    for args in [
        &["get"][..],
        &["frobnicate"],
        &["get", "x", "--limit-down", "fast"],
        &["get", "x", "--encryption", "maybe"],
        &["get", "x", "--select", "3-1"],
        &["get", "x", "--dht", "maybe"],
        &["get", "x", "--dht-node", "host:0"],
        &["get", "x", "--proxy", "ftp://host:1"],
        &["get", "x", "--config", "/nowhere/dunlin.toml"],
        &["get", "x", "--tracker", "nonsense"],
        &["get", "x", "--bind", "192.0.2.1"],
        &["get", "x", "--bind", "nosuchinterface0"],
        &["create", "x", "--tracker", "ftp://host/announce"],
        &["create", "x", "--web-seed", "udp://host:1"],
        &["create", "x", "--piece-size", "100"],
        &["create", "x", "--piece-size", "48KiB"],
    ] {
        let output = run(args);
        assert_eq!(code(&output), 2, "{args:?}: {}", stderr(&output));
        assert!(!output.stderr.is_empty() && output.stdout.is_empty());
    }
}

#[test]
fn help_completions_and_the_manual_are_data() {
    for args in [
        &["--help"][..],
        &["get", "--help"],
        &["man"],
        &["completions", "bash"],
        &["completions", "fish"],
    ] {
        let output = run(args);
        assert_eq!(code(&output), 0, "{args:?}");
        assert!(output.stdout.len() > 200, "{args:?}");
        assert!(output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn create_show_and_check_agree() {
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join("set");
    fs::create_dir_all(folder.join("sub")).unwrap();
    fs::write(folder.join("a"), noise(1, 100_000)).unwrap();
    fs::write(folder.join("sub/b"), noise(2, 50_000)).unwrap();
    let file = dir.path().join("set.torrent");
    let (folder, file) = (folder.to_str().unwrap(), file.to_str().unwrap());
    let make = [
        "create",
        folder,
        "-o",
        file,
        "--tracker",
        "udp://tracker.example:6969",
        "--piece-size",
        "32KiB",
        "--comment",
        "for a test",
        "--private",
        "--json",
    ];
    let made = run(&make);
    assert_eq!(code(&made), 0, "{}", stderr(&made));
    let made = json(&stdout(&made));
    assert_eq!(made["pieces"], 5);
    assert_eq!(code(&run(&make)), 1, "not twice without --force");

    let shown = json(&stdout(&run(&["show", "--json", file])));
    assert_eq!(shown["torrent"], made["torrent"]);
    assert_eq!(shown["private"], true);
    assert_eq!(shown["trackers"][0][0], "udp://tracker.example:6969");
    assert_eq!(shown["files"][1]["path"], "sub/b");
    let text = stdout(&run(&["show", file]));
    assert!(
        text.contains("for a test") && text.contains("sub/b"),
        "{text}"
    );

    let dir_arg = dir.path().to_str().unwrap();
    let check = ["check", file, "--dir", dir_arg, "--json"];
    let good = run(&check);
    assert_eq!(code(&good), 0);
    assert_eq!(json(&stdout(&good))["complete"], true);
    // One byte is enough.
    let spoiled = dir.path().join("set/a");
    let mut data = fs::read(&spoiled).unwrap();
    data[40_000] ^= 1;
    fs::write(&spoiled, data).unwrap();
    let bad = run(&check);
    assert_eq!(code(&bad), 3);
    let bad = json(&stdout(&bad));
    assert_eq!(
        (&bad["complete"], &bad["pieces_good"]),
        (&false.into(), &4.into())
    );
    fs::remove_dir_all(folder).unwrap();
    assert_eq!(code(&run(&check)), 1);
}

#[test]
fn bad_input_is_named_and_does_not_touch_the_others() {
    let content = Content::small();
    let file = torrent_file(&content);
    let seed = Seed::start(&file, content.dir.path(), &["--no-check"]);
    let out = TempDir::new().unwrap();
    let torn = out.path().join("torn.torrent");
    fs::write(&torn, &content.torrent.to_bytes()[..100]).unwrap();
    let output = run(&[
        "get",
        "/nowhere/missing.torrent",
        torn.to_str().unwrap(),
        "magnet:?xt=urn:btih:tooshort",
        file.to_str().unwrap(),
        "-o",
        out.path().to_str().unwrap(),
        "--peer",
        &seed.peer,
        "--no-listen",
        "--no-session",
        "--timeout",
        "60",
        "--json",
    ]);
    assert_eq!(code(&output), 3, "{}", stderr(&output));
    let errors = stderr(&output);
    for name in ["/nowhere/missing.torrent", "torn.torrent", "tooshort"] {
        assert!(errors.contains(name), "{name} in {errors}");
    }
    content.assert_copied(out.path());
    let lines: Vec<Value> = stdout(&output).lines().map(json).collect();
    let of = |kind: &str| lines.iter().filter(|v| v["type"] == kind).count();
    assert_eq!((of("error"), of("complete"), of("summary")), (3, 1, 1));
    let summary = lines.last().unwrap();
    assert_eq!(summary["exit"], 3);
    assert_eq!(summary["downloaded"], content.torrent.info.total_len());
}

#[test]
fn without_a_peer_time_runs_out() {
    let out = TempDir::new().unwrap();
    let output = run(&[
        "get",
        "0123456789abcdef0123456789abcdef01234567",
        "-o",
        out.path().to_str().unwrap(),
        "--no-listen",
        "--no-session",
        "--timeout",
        "0.2",
    ]);
    assert_eq!(code(&output), 3);
    assert!(stderr(&output).contains("in time"), "{}", stderr(&output));
}

/// SIGTERM and SIGINT stop cleanly, and the same command goes on.
#[cfg(unix)]
#[test]
fn an_interrupted_get_is_resumed_by_the_same_command() {
    let content = Content::new(&[8 << 20]);
    let file = torrent_file(&content);
    let seed = Seed::start(&file, content.dir.path(), &["--no-check"]);
    let (out, session) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let get = |limit: &str| {
        let mut command = dunlin(&["get", file.to_str().unwrap(), "--json", "--no-listen"]);
        command.args(["--limit-down", limit, "--peer", &seed.peer]);
        command.arg("-o").arg(out.path());
        command.arg("--session").arg(session.path());
        command.args(["--dht", "disable"]);
        command.stdout(Stdio::piped());
        command
    };
    for (signal, expected) in [("TERM", 143), ("INT", 130)] {
        let mut child = get("4MiB").spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let start = loop {
            let value = json(&lines.next().unwrap().unwrap());
            if value["downloaded"].as_u64().is_some_and(|n| n > 0) {
                break value;
            }
        };
        assert_ne!(start["state"], "seeding", "too fast to be interrupted");
        let kill = Command::new("kill")
            .args(["-s", signal, &child.id().to_string()])
            .status();
        assert!(kill.unwrap().success());
        let last = lines.last().unwrap().unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(expected));
        let summary = json(&last);
        assert_eq!(summary["exit"], expected);
    }
    let output = get("1GiB").output().unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let text = stdout(&output);
    let summary = json(text.lines().last().unwrap());
    assert!(
        summary["downloaded"].as_u64().unwrap() < content.torrent.info.total_len(),
        "nothing was kept: {summary}"
    );
    content.assert_copied(out.path());
}

#[test]
fn the_demonstration_works() {
    let output = run(&["demo", "--size", "3MiB"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stdout(&output).contains("Every byte is equal"));
}

/// A download of `content` from `seed` into `out`, with more arguments.
fn get(file: &Path, seed: &Seed, out: &Path, more: &[&str]) -> Output {
    let mut command = dunlin(&["get", file.to_str().unwrap(), "--no-listen", "--no-session"]);
    command.args(["--peer", &seed.peer]).arg("-o").arg(out);
    command.args(more).output().unwrap()
}

#[test]
fn a_selection_that_fits_nothing_is_an_error() {
    let content = Content::small();
    let file = torrent_file(&content);
    let seed = Seed::start(&file, content.dir.path(), &["--no-check"]);
    let out = TempDir::new().unwrap();
    let magnet = content.torrent.magnet().to_string();
    for source in [file.as_path(), Path::new(&magnet)] {
        let output = get(source, &seed, out.path(), &["-s", "9,*.iso"]);
        assert_eq!(code(&output), 1, "{}", stderr(&output));
        assert!(
            stderr(&output).contains("--select 9,*.iso"),
            "{}",
            stderr(&output)
        );
    }
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
    // One part of it is enough, and the other is mentioned.
    let output = get(&file, &seed, out.path(), &["-s", "2,9"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(
        stderr(&output).contains("--select 9"),
        "{}",
        stderr(&output)
    );
    assert!(out.path().join("content/file01").exists());
}

/// A server that never answers holds up neither the others nor the time limit.
#[test]
fn a_silent_server_keeps_nobody_waiting() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let content = Content::small();
    let file = torrent_file(&content);
    let seed = Seed::start(&file, content.dir.path(), &["--no-check"]);
    let out = TempDir::new().unwrap();
    let url = format!("http://{address}/x.torrent");
    let tracker = format!("http://{address}/announce");
    let began = std::time::Instant::now();
    let more = [&url, "--tracker", &tracker, "--timeout", "3"];
    let output = get(&file, &seed, out.path(), &more);
    assert!(began.elapsed() < std::time::Duration::from_secs(20));
    assert_eq!(code(&output), 3, "{}", stderr(&output));
    assert!(stderr(&output).contains(&url), "{}", stderr(&output));
    content.assert_copied(out.path());
}

#[test]
fn a_ratio_that_is_not_reached_in_time_is_said() {
    let content = Content::new(&[1000]);
    let file = torrent_file(&content);
    let seed = Seed::start(&file, content.dir.path(), &["--no-check"]);
    let out = TempDir::new().unwrap();
    let more = ["--seed-ratio", "1", "--timeout", "0.5"];
    let output = get(&file, &seed, out.path(), &more);
    assert_eq!(code(&output), 3, "{}", stderr(&output));
    assert!(stderr(&output).contains("ratio"), "{}", stderr(&output));
    content.assert_copied(out.path());
}

#[test]
fn sharing_ends_after_a_time_given_or_configured() {
    let content = Content::new(&[1000]);
    let file = torrent_file(&content);
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("config.toml");
    let dir = content.dir.path().to_str().unwrap();
    let text = format!("[folders]\ndownloads = {dir:?}\n[seeding]\ntime = \"50ms\"\n");
    fs::write(&config, text).unwrap();
    let (file, config) = (file.to_str().unwrap(), config.to_str().unwrap());
    let common = ["--no-session", "--bind", "127.0.0.1", "--dht", "disable"];
    let seed = |more: &[&str]| run(&[&["seed", file], &common[..], more].concat());
    let output = seed(&["--config", config]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let output = seed(&["--dir", dir, "--seed-time", "0.05", "--seed-ratio", "9"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
}

#[test]
fn the_same_torrent_twice_is_taken_once() {
    let content = Content::small();
    let file = torrent_file(&content);
    let seed = Seed::start(&file, content.dir.path(), &["--no-check"]);
    let out = TempDir::new().unwrap();
    let output = get(&file, &seed, out.path(), &[file.to_str().unwrap()]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stderr(&output).contains("twice"));
    content.assert_copied(out.path());
}

/// The second of two commands names what is in its way, and what to do; the first goes on.
#[test]
fn two_commands_cannot_run_one_torrent() {
    let content = Content::new(&[8 << 20]);
    let file = torrent_file(&content);
    let seed = Seed::start(&file, content.dir.path(), &["--no-check"]);
    let (out, session) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let get = || {
        let mut command = dunlin(&["get", file.to_str().unwrap(), "--json", "--no-listen"]);
        command.args(["--peer", &seed.peer, "--limit-down", "8MiB"]);
        command.arg("-o").arg(out.path());
        command.arg("--session").arg(session.path());
        command.args(["--dht", "disable"]);
        command
    };
    let mut first = get().stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(first.stdout.take().unwrap()).lines();
    assert_eq!(json(&lines.next().unwrap().unwrap())["type"], "progress");
    let second = get().output().unwrap();
    assert_eq!(code(&second), 1);
    let message = stderr(&second);
    for part in [file.to_str().unwrap(), "another dunlin", "--session"] {
        assert!(message.contains(part), "{part} in {message}");
    }
    assert_eq!(json(&lines.last().unwrap().unwrap())["exit"], 0);
    assert_eq!(first.wait().unwrap().code(), Some(0));
    content.assert_copied(out.path());
}

/// Names that would steer the terminal, or reach out of the folder, do neither.
#[test]
fn hostile_names_stay_harmless() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("data"), noise(3, 40_000)).unwrap();
    let file = dir.path().join("hostile.torrent");
    let name = "../x\u{1b}[31m\u{202e}gpj.exe";
    // Made by others: `create` refuses such a name.
    let mut draft = Builder::file(name, 40_000);
    draft.piece_len = Some(64 << 10);
    let draft = draft.draft().unwrap();
    let torrent = draft.finish(&[sha1(&noise(3, 40_000))]).unwrap();
    fs::write(&file, torrent.to_bytes()).unwrap();
    // It looks the same in JSON, on the terminal and on the disk.
    let safe = ".._x_[31m_gpj.exe";
    let text = stdout(&run(&["show", "--json", file.to_str().unwrap()]));
    assert_eq!(json(&text)["name"], safe);
    let shown = stdout(&run(&["show", file.to_str().unwrap()]));
    for text in [text, shown] {
        assert!(text.contains(safe), "{text:?}");
        assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text:?}");
    }
    let out = TempDir::new().unwrap();
    let (file, inside) = (file.to_str().unwrap(), out.path().to_str().unwrap());
    let checked = run(&["check", file, "--dir", inside, "--json"]);
    let checked = json(&stdout(&checked));
    let place = Path::new(checked["files"][0]["path"].as_str().unwrap());
    assert_eq!(place, out.path().join(safe));
    fs::copy(dir.path().join("data"), place).unwrap();
    // What is reported as complete exists, under its name on this disk.
    let got = run(&[
        "get",
        file,
        "-o",
        inside,
        "--no-listen",
        "--no-session",
        "--json",
    ]);
    assert_eq!(code(&got), 0, "{}", stderr(&got));
    let text = stdout(&got);
    let complete = text.lines().map(json).find(|v| v["type"] == "complete");
    assert_eq!(complete.unwrap()["path"], checked["files"][0]["path"]);
}

#[test]
fn what_cannot_be_fetched_says_why() {
    for (source, reason) in [
        ("ftp://host/a.torrent", "http://"),
        ("file:///a.torrent", "http://"),
        ("/", "directory"),
    ] {
        for command in ["show", "get"] {
            let mut command = dunlin(&[command, source]);
            if command.get_args().next() == Some("get".as_ref()) {
                command.arg("--no-session");
            }
            let output = command.output().unwrap();
            assert_eq!(code(&output), 1);
            let message = stderr(&output);
            assert!(
                message.contains(source) && message.contains(reason),
                "{message}"
            );
        }
    }
}

#[test]
fn what_the_user_has_is_left_alone_unless_told_otherwise() {
    let content = Content::new(&[300_000, 77]);
    let file = torrent_file(&content);
    let seed = Seed::start(&file, content.dir.path(), &["--no-check"]);
    let out = TempDir::new().unwrap();
    let own = out.path().join("content/file00");
    fs::create_dir(out.path().join("content")).unwrap();
    // Longer than the torrent's, too.
    let mine = noise(99, 300_500);
    fs::write(&own, &mine).unwrap();
    let output = get(&file, &seed, out.path(), &[]);
    let said = stderr(&output);
    assert_eq!(code(&output), 1, "{said}");
    for part in ["content/file00", "500 bytes too long", "--overwrite"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert_eq!(fs::read(&own).unwrap(), mine);
    assert!(!out.path().join("content/file01").exists());
    // To share what is there, nothing is fetched either.
    let dir = out.path().to_str().unwrap();
    let more = ["--seed-time", "0.2", "--no-session", "--dht", "disable"];
    let output = run(&[
        &["seed", file.to_str().unwrap(), "--dir", dir][..],
        &["--bind", "127.0.0.1", "--peer", &seed.peer],
        &more,
    ]
    .concat());
    assert!(stderr(&output).contains("is in"), "{}", stderr(&output));
    assert_eq!(fs::read(&own).unwrap(), mine);
    let output = get(&file, &seed, out.path(), &["--overwrite"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    content.assert_copied(out.path());
}

#[test]
fn a_file_of_which_one_piece_is_the_torrents_is_left_alone() {
    let content = Content::new(&[300_000]);
    let file = torrent_file(&content);
    let seed = Seed::start(&file, content.dir.path(), &["--no-check"]);
    let out = TempDir::new().unwrap();
    let output = get(&file, &seed, out.path(), &[]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let path = out.path().join(&content.files[0].0);
    let mut mine = fs::read(&path).unwrap();
    mine[200_000..].fill(0x55);
    fs::write(&path, &mine).unwrap();
    let output = get(&file, &seed, out.path(), &[]);
    let said = stderr(&output);
    assert_eq!(code(&output), 1, "{said}");
    assert!(said.contains("part of it is not this torrent's"), "{said}");
    assert!(fs::read(&path).unwrap() == mine);
    let output = get(&file, &seed, out.path(), &["--overwrite"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    content.assert_copied(out.path());
}

#[test]
fn a_tail_is_named_by_check_and_get_and_cut_on_request() {
    let content = Content::new(&[300_000, 77]);
    let file = torrent_file(&content);
    let seed = Seed::start(&file, content.dir.path(), &["--no-check"]);
    let out = TempDir::new().unwrap();
    let output = get(&file, &seed, out.path(), &[]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let path = out.path().join("content/file00");
    let mut data = fs::read(&path).unwrap();
    data.extend([7; 11]);
    fs::write(&path, &data).unwrap();
    let dir = out.path().to_str().unwrap();
    let check = ["check", file.to_str().unwrap(), "--dir", dir];
    let output = run(&check);
    assert_ne!(code(&output), 0);
    assert!(
        stdout(&output).contains("11 bytes too long"),
        "{}",
        stdout(&output)
    );
    // The rest may be somebody's content: the file is truncated only on request.
    let output = get(&file, &seed, out.path(), &[]);
    let said = stderr(&output);
    assert_eq!(code(&output), 1, "{said}");
    for part in ["content/file00", "11 bytes too long", "--overwrite"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert!(fs::read(&path).unwrap() == data);
    let output = get(&file, &seed, out.path(), &["--overwrite"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stderr(&output).contains("file00"), "{}", stderr(&output));
    content.assert_copied(out.path());
    assert_eq!(code(&run(&check)), 0);
}

#[test]
fn two_torrents_of_one_name_in_one_command_do_not_harm_each_other() {
    let (one, two) = (Content::new(&[300_000]), Content::new(&[200_000, 100_000]));
    let files = [torrent_file(&one), torrent_file(&two)];
    let seeds = [
        Seed::start(&files[0], one.dir.path(), &["--no-check"]),
        Seed::start(&files[1], two.dir.path(), &["--no-check"]),
    ];
    let out = TempDir::new().unwrap();
    let more = [files[1].to_str().unwrap(), "--peer", &seeds[1].peer];
    let output = get(&files[0], &seeds[0], out.path(), &more);
    let said = stderr(&output);
    assert_eq!(code(&output), 3, "{said}");
    assert!(said.contains("content/file00"), "{said}");
    let kept = fs::read(out.path().join("content/file00")).unwrap();
    assert!(kept == one.files[0].1 || kept == two.files[0].1);
}

/// Two commands that are told the same port: the second listens on the next one, and says so.
#[test]
fn a_port_in_use_makes_way_for_the_next() {
    let content = Content::small();
    let file = torrent_file(&content);
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let output = dunlin(&["seed", "--no-check", "--no-session", "--seed-time", "0"])
        .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--dir"])
        .arg(content.dir.path())
        .arg(&file)
        .output()
        .unwrap();
    let said = stderr(&output);
    let line = format!("dunlin: port {port} is in use: listening on ");
    let instead = said.lines().find_map(|l| l.strip_prefix(&line));
    let instead = instead.unwrap_or_else(|| panic!("{said}"));
    let instead: u16 = instead.trim_end_matches(" instead").parse().unwrap();
    assert!(instead > port, "{said}");
    assert!(!said.contains("cannot listen"), "{said}");
}
