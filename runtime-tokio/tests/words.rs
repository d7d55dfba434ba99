//! What the `dunlin` command takes, and what it says about what it cannot do.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Output, Stdio},
    time::Duration,
};

use common::{
    Content,
    command::{Seed, code, json, run, stderr, stdout, torrent_file},
    dunlin,
};
use tempfile::TempDir;

/// Options of a transfer that touches nothing outside of the test.
const APART: [&str; 4] = ["--no-session", "--no-listen", "--timeout", "60"];

/// Runs the command with `input` on its standard input.
fn run_with(args: &[&str], input: &[u8]) -> Output {
    let mut command = dunlin(args);
    command.stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

fn with_peer(args: &[&str], seed: &Seed) -> Output {
    run(&[args, &APART, &["--peer", &seed.peer]].concat())
}

#[test]
fn what_could_never_transfer_anything_is_refused() {
    for option in [
        &["--limit-down", "0"][..],
        &["--limit-up", "0"],
        &["--limit-down", "2"],
        &["--max-peers", "0"],
    ] {
        let output = run(&[&["get", "x.torrent"], option].concat());
        assert_eq!(code(&output), 2, "{option:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(option[0]), "{}", stderr(&output));
    }
    let config = TempDir::new().unwrap();
    let path = config.path().join("dunlin.toml");
    for (text, says) in [
        ("[limits]\ndown = 0\n", "dunlin.toml:2:8: limits.down: "),
        ("[limits]\nup = 2\n", "dunlin.toml:2:6: limits.up: "),
        (
            "[network]\ninterfaces = [\"nosuch0\"]\n",
            "network.interfaces nosuch0: there is no such interface",
        ),
    ] {
        fs::write(&path, text).unwrap();
        let missing = ["get", "/nowhere/x.torrent", "--no-session", "--config"];
        let output = run(&[&missing[..], &[path.to_str().unwrap()]].concat());
        let said = stderr(&output);
        assert_eq!(code(&output), 2, "{said}");
        assert!(said.contains(says), "{says} in {said}");
    }
}

#[test]
fn the_configuration_takes_the_words_of_the_command_line() {
    let config = TempDir::new().unwrap();
    let path = config.path().join("dunlin.toml");
    fs::write(&path, "[network]\nencryption = \"allowed\"\n").unwrap();
    let output = run(&["config", "--config", path.to_str().unwrap()]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    for command in ["get", "seed"] {
        let help = stdout(&run(&[command, "--help"]));
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        for default in [
            "[default: as configured, or preferred]",
            "[default: as configured, or the first free one of 6881-6889]",
        ] {
            assert!(help.contains(default), "{default} in {help}");
        }
    }
    let help = stdout(&run(&["create", "--help"]));
    assert!(help.contains("lead outside"), "{help}");
}

/// Standard output that takes nothing is an error of what only prints, as of `config`; a reader
/// that goes away is not.
#[cfg(target_os = "linux")]
#[test]
fn what_cannot_be_printed_is_an_error() {
    let content = Content::small();
    let file = torrent_file(&content);
    let file = file.to_str().unwrap();
    let dir = content.dir.path().to_str().unwrap();
    for command in [
        &["show", file][..],
        &["show", "--json", file],
        &["check", file, "--dir", dir],
        &["check", file, "--dir", dir, "--json"],
        &["config"],
    ] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full");
        let output = dunlin(command).stdout(full.unwrap()).output().unwrap();
        assert_eq!(code(&output), 1, "{command:?}");
        let said = stderr(&output);
        assert_eq!(said.matches("standard output: ").count(), 1, "{said}");
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = dunlin(command).stdout(writer).output().unwrap();
        assert_eq!(
            (code(&output), stderr(&output).as_str()),
            (0, ""),
            "{command:?}"
        );
    }
}

#[test]
fn a_message_says_what_is_missing_and_says_it_once() {
    for command in ["get", "seed", "show", "check"] {
        let output = run(&[command, ""]);
        let said = stderr(&output);
        assert_eq!(code(&output), 1, "{said}");
        assert!(said.contains("no torrent is named"), "{said}");
    }
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let output = run(&["man", "--dir", file.to_str().unwrap()]);
    assert_eq!(code(&output), 1);
    let said = stderr(&output);
    assert!(said.contains("it is not a folder"), "{said}");
    let mut ping = dunlin(&["dht", "ping", "127.0.0.1:7501", "--session"]);
    let output = ping.arg(dir.path().join("session")).output().unwrap();
    let said = stderr(&output);
    assert_eq!(said.matches("127.0.0.1:7501").count(), 1, "{said}");
    assert!(said.contains("not a public address"), "{said}");
    // A name that cannot be looked up is named in the tracker's URL alone.
    let content = Content::small();
    let torrent = torrent_file(&content);
    let out = TempDir::new().unwrap();
    for url in [
        "http://nosuchhost.invalid/announce",
        "udp://nosuchhost.invalid:1",
    ] {
        let get = [
            "get",
            torrent.to_str().unwrap(),
            "--no-listen",
            "--no-session",
        ];
        let more = ["--tracker", url, "--timeout", "20", "-d"];
        let mut command = dunlin(&[&get[..], &more].concat());
        command
            .arg(out.path())
            .stderr(Stdio::piped())
            .stdout(Stdio::null());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut lines = lines.map(Result::unwrap);
        let line = lines.find(|line| line.contains("cannot be resolved"));
        let _ = child.kill();
        let _ = child.wait();
        let line = line.expect("it is said");
        assert_eq!(line.matches("nosuchhost.invalid").count(), 1, "{line}");
        assert!(!line.contains("lookup address"), "{line}");
    }
}

#[test]
fn a_folder_is_named_by_dir_in_every_command() {
    let content = Content::small();
    let file = torrent_file(&content);
    let file = file.to_str().unwrap();
    let seed = Seed::start(Path::new(file), content.dir.path(), &["--no-check"]);
    // The last two are what older versions took.
    for option in ["-d", "--dir", "-o", "--output"] {
        let out = TempDir::new().unwrap();
        let dir = out.path().to_str().unwrap();
        let output = with_peer(&["get", file, option, dir], &seed);
        assert_eq!(code(&output), 0, "{option}: {}", stderr(&output));
        content.assert_copied(out.path());
        assert_eq!(code(&run(&["check", file, "-d", dir])), 0);
    }
    let help = stdout(&run(&["get", "--help"]));
    assert!(
        help.contains("-d, --dir") && !help.contains("--output"),
        "{help}"
    );
}

#[test]
fn a_torrent_alone_is_fetched() {
    let content = Content::small();
    let file = torrent_file(&content);
    let seed = Seed::start(&file, content.dir.path(), &["--no-check"]);
    let magnet = content.torrent.magnet().to_string();
    for torrent in [file.to_str().unwrap(), &magnet] {
        let out = TempDir::new().unwrap();
        let output = with_peer(&[torrent, "-d", out.path().to_str().unwrap()], &seed);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        content.assert_copied(out.path());
    }
}

#[test]
fn a_torrent_file_may_come_on_standard_input() {
    let content = Content::small();
    let file = torrent_file(&content);
    let seed = Seed::start(&file, content.dir.path(), &["--no-check"]);
    let out = TempDir::new().unwrap();
    let dir = out.path().to_str().unwrap();
    let bytes = content.torrent.to_bytes();
    let get = [&["get", "-", "-d", dir, "--peer", &seed.peer], &APART[..]].concat();
    let output = run_with(&get, &bytes);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    content.assert_copied(out.path());
    assert_eq!(code(&run_with(&["check", "-", "-d", dir], &bytes)), 0);
    let shown = json(&stdout(&run_with(&["show", "--json", "-"], &bytes)));
    assert_eq!(shown["name"], "content");
    for input in [&b""[..], b"nonsense"] {
        let output = run_with(&get, input);
        assert_eq!(code(&output), 1);
        assert!(
            stderr(&output).contains("standard input"),
            "{}",
            stderr(&output)
        );
    }
}

#[test]
fn a_torrent_file_may_go_to_standard_output() {
    let content = Content::small();
    let folder = content.dir.path().join("content");
    let folder = folder.to_str().unwrap();
    let made = run(&["create", folder, "-o", "-", "--no-date"]);
    assert_eq!(code(&made), 0, "{}", stderr(&made));
    let dir = content.dir.path().to_str().unwrap();
    assert_eq!(code(&run_with(&["check", "-", "-d", dir], &made.stdout)), 0);
    let output = run(&["create", folder, "-o", "-", "--json"]);
    assert_eq!(code(&output), 2);
    assert_eq!(json(&stdout(&output))["type"], "error");
}

#[test]
fn a_peer_may_be_named_by_host() {
    let content = Content::small();
    let file = torrent_file(&content);
    let seed = Seed::start(&file, content.dir.path(), &["--no-check"]);
    let out = TempDir::new().unwrap();
    let port = seed.peer.rsplit(':').next().unwrap();
    let (file, dir) = (file.to_str().unwrap(), out.path().to_str().unwrap());
    let peers = [
        "--peer",
        "nosuchhost.invalid:1",
        "--peer",
        &format!("localhost:{port}"),
    ];
    let output = run(&[&["get", file, "-d", dir], &peers[..], &APART].concat());
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    content.assert_copied(out.path());
    let said = stderr(&output);
    assert!(said.contains("--peer nosuchhost.invalid:1"), "{said}");
    // Looking a name up would go around the proxy.
    let proxy = ["--proxy", "socks5://127.0.0.1:9", "--timeout", "0.2"];
    let output = run(&[&["get", file, "--no-session"], &proxy[..], &peers[2..]].concat());
    assert!(
        stderr(&output).contains("around the proxy"),
        "{}",
        stderr(&output)
    );
    assert_eq!(code(&run(&["get", file, "--peer", "localhost"])), 2);
}

#[test]
fn a_dead_proxy_is_named() {
    // Nobody listens here any more.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = listener.local_addr().unwrap().to_string();
    drop(listener);
    let content = Content::small();
    let file = torrent_file(&content);
    let file = file.to_str().unwrap();
    let url = format!("socks5://{proxy}");
    for way in [
        &[file, "--peer", "127.0.0.1:9"][..],
        &[file, "--tracker", "http://tracker.invalid/announce"],
        &["http://tracker.invalid/x.torrent"],
    ] {
        let out = TempDir::new().unwrap();
        let dir = out.path().to_str().unwrap();
        let end = ["-d", dir, "--proxy", &url, "--no-session", "--timeout", "2"];
        let output = run(&[&["get"], way, &end].concat());
        let said = stderr(&output);
        assert!(
            said.contains(&format!("proxy {proxy}: ")),
            "{way:?}: {said}"
        );
        let warning = format!("dunlin: proxy {proxy}: ");
        let warnings = said.lines().filter(|line| line.starts_with(&warning));
        assert!(warnings.count() <= 1, "{way:?}: {said}");
        assert!(!said.contains("tracker http://tracker.invalid/announce: connection refused"));
    }
}

#[test]
fn why_the_dht_does_not_run_is_said() {
    let content = Content::small();
    let file = torrent_file(&content);
    let file = file.to_str().unwrap();
    let out = TempDir::new().unwrap();
    let dir = out.path().to_str().unwrap();
    let get = [
        "get",
        file,
        "-d",
        dir,
        "--no-session",
        "--no-listen",
        "--timeout",
        "0.2",
    ];
    for option in [
        &["--dht", "on"][..],
        &["--dht-port", "6881"],
        &["--dht-local", "--dht-node", "127.0.0.1:1"],
    ] {
        let output = run(&[&get, option].concat());
        let said = stderr(&output);
        assert!(said.contains(&format!("{} ", option[0])), "{said}");
        assert!(said.contains("no effect with --no-session"), "{said}");
    }
    for quiet in [&[][..], &["--dht", "off"]] {
        let said = stderr(&run(&[&get, quiet].concat()));
        assert!(!said.contains("no effect"), "{said}");
    }
}

#[test]
fn web_seeds_that_are_not_used_are_said() {
    let content = Content::small();
    let folder = content.dir.path().join("content");
    let file = content.dir.path().join("web.torrent");
    let (folder, file) = (folder.to_str().unwrap(), file.to_str().unwrap());
    let made = run(&["create", folder, "-o", file, "-w", "http://127.0.0.1:9/"]);
    assert_eq!(code(&made), 0, "{}", stderr(&made));
    assert!(stderr(&made).contains("--web-seed"), "{}", stderr(&made));
    let magnet = stdout(&made).lines().last().unwrap().to_owned();
    assert!(magnet.contains("&ws="), "{magnet}");
    let out = TempDir::new().unwrap();
    let dir = out.path().to_str().unwrap();
    for torrent in [file, &magnet] {
        let get = [
            "get",
            torrent,
            "-d",
            dir,
            "--no-session",
            "--no-listen",
            "--timeout",
            "0.2",
        ];
        let said = stderr(&run(&get));
        assert!(said.contains("1 web seed,"), "{said}");
    }
}

#[cfg(unix)]
#[test]
fn names_that_would_be_saved_as_others_make_no_torrent() {
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join("odd");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("plain"), "x").unwrap();
    fs::write(folder.join("new\nline"), "y").unwrap();
    let path = folder.to_str().unwrap();
    let file = dir.path().join("odd.torrent");
    let create = ["create", path, "-o", file.to_str().unwrap()];
    let output = run(&create);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("U+000A"), "{}", stderr(&output));
    assert!(!file.exists());
    fs::rename(folder.join("new\nline"), folder.join("other")).unwrap();
    let output = run(&[&create[..], &["--name", "a/b"]].concat());
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("--name"), "{}", stderr(&output));
    // Odd, and ours to keep.
    fs::write(folder.join("back\\slash: CON?"), "z").unwrap();
    let output = run(&create);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let dir = dir.path().to_str().unwrap();
    assert_eq!(code(&run(&["check", file.to_str().unwrap(), "-d", dir])), 0);
}

/// The terminal is gone: it ends as by SIGTERM, unless it was started to outlive the terminal.
#[cfg(target_os = "linux")]
#[test]
fn a_hangup_ends_like_a_termination() {
    let content = Content::small();
    let file = torrent_file(&content);
    let seed = |before: &str| {
        let dunlin = dunlin(&[]);
        let mut command = std::process::Command::new("sh");
        let script = format!("{before} exec \"$0\" \"$@\"");
        command.args(["-c", &script]).arg(dunlin.get_program());
        for (name, value) in dunlin.get_envs() {
            command.env(name, value.unwrap());
        }
        let common = [
            "--no-session",
            "--bind",
            "127.0.0.1",
            "--port",
            "0",
            "--json",
        ];
        command.args(["seed", "--no-check"]).args(common).arg(&file);
        command
            .arg("-d")
            .arg(content.dir.path())
            .stdin(Stdio::null());
        Seed::of(command, String::new())
    };
    let mut ordinary = seed("");
    ordinary.signal("HUP");
    let summary = ordinary.until(|v| v["type"] == "summary");
    assert_eq!(
        (&summary["exit"], ordinary.code()),
        (&143.into(), Some(143))
    );
    // As `nohup` does it.
    let outliving = seed("trap '' HUP;");
    let status = fs::read_to_string(format!("/proc/{}/status", outliving.id())).unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = u64::from_str_radix(mask.unwrap().trim(), 16).unwrap();
    assert_eq!(mask & 1, 1, "it is still ignored: {status}");
}

#[test]
fn nodes_that_the_public_dht_does_not_ask_are_named() {
    let began = std::time::Instant::now();
    for (args, words) in [
        (&["ping", "127.0.0.1:6881"][..], "add --local"),
        (&["ping", "localhost:6881"], "add --local"),
        (&["sample", "192.168.1.1:6881"], "add --local"),
    ] {
        let output = run(&[&["dht"], args, &["--no-session"]].concat());
        assert_eq!(code(&output), 1, "{}", stderr(&output));
        assert!(
            stderr(&output).contains(words),
            "{args:?}: {}",
            stderr(&output)
        );
    }
    assert!(began.elapsed() < Duration::from_secs(60));
    let hash = "0123456789abcdef0123456789abcdef01234567";
    let output = run(&[
        "dht",
        "get-peers",
        hash,
        "--bootstrap",
        "127.0.0.1:1",
        "--no-session",
    ]);
    assert_eq!(code(&output), 2);
    assert!(
        stderr(&output).contains("add --local"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn config_prints_every_key_and_never_replaces_a_file() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("folder/dunlin.toml");
    let path = path.to_str().unwrap();
    let config = |option: &[&str]| run(&[&["config", "--config", path], option].concat());
    assert_eq!(stdout(&config(&["--path"])).trim(), path);
    assert_eq!(code(&config(&["--init"])), 0);
    let printed = stdout(&config(&[]));
    let written = fs::read_to_string(path).unwrap();
    assert!(printed.ends_with(&written) && printed.contains(path));
    assert!(written.contains("[limits]") && written.contains("#down ="));
    fs::write(path, "[limits]\ndown = \"1 MiB\"\n").unwrap();
    let refused = config(&["--init"]);
    assert_eq!(code(&refused), 1);
    assert!(stderr(&refused).contains("stays as it is"));
    assert!(fs::read_to_string(path).unwrap().contains("1 MiB"));
    fs::write(path, "[limits]\nsideways = 1\n").unwrap();
    let wrong = config(&[]);
    assert_eq!(code(&wrong), 2);
    assert!(stderr(&wrong).contains(":2:1"), "{}", stderr(&wrong));
}

#[test]
fn pages_are_written_one_for_each_command() {
    let dir = TempDir::new().unwrap();
    let man = dir.path().join("share/man/man1");
    let output = run(&["man", "--dir", man.to_str().unwrap()]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    for page in ["dunlin.1", "dunlin-get.1", "dunlin-dht-get-peers.1"] {
        let text = fs::read_to_string(man.join(page)).unwrap();
        assert!(text.contains(".SH EXAMPLES"), "{page}");
    }
    let all = stdout(&run(&["man"]));
    assert!(all.contains(".TH dunlin-get 1"));
}

#[test]
fn a_magnet_is_shown_however_it_was_copied_and_says_what_is_ignored() {
    const LINK: &str = "magnet:///?XT=urn:btih:0123456789abcdef0123456789abcdef01234567";
    let show = |link: &str| run(&["show", "--json", link]);
    let output = show(&format!(" '{LINK}&so=0,2-4' "));
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let selected = json(&stdout(&output))["selected"].to_string();
    assert_eq!(selected, r#"[{"first":1,"last":1},{"first":3,"last":5}]"#);
    let output = show(&format!("{LINK}&so=all"));
    assert_eq!(code(&output), 0);
    assert_eq!(json(&stdout(&output))["selected"].to_string(), "[]");
    assert!(stderr(&output).contains("`so=`"), "{}", stderr(&output));
}
