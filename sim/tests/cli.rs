//! The command, as people and scripts use it.
#![cfg(feature = "cli")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;

/// A temporary folder for one test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("cli-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> String {
        fs::write(self.0.join(name), text).expect("a file");
        self.path(name)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_string_lossy().into_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn scenario(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    folder.join(name).to_string_lossy().into_owned()
}

fn sim(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dunlin-sim"))
        .args(args)
        .output()
        .expect("it starts")
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|l| serde_json::from_str(l).expect("JSON"))
        .collect()
}

#[test]
fn run_says_what_came_true() {
    let done = sim(&["run", &scenario("02-two-homes.toml")]);
    assert_eq!(done.status.code(), Some(0), "{}", err(&done));
    assert!(out(&done).contains("holds  alice and bob connect within 2 s"));
    let json = sim(&[
        "run",
        &scenario("02-two-homes.toml"),
        "--json",
        "--seed",
        "9",
    ]);
    let json = lines(&out(&json));
    assert_eq!(
        (json[0]["seed"].as_u64(), json[0]["held"].as_bool()),
        (Some(9), Some(true))
    );
}

#[test]
fn the_json_of_a_run_has_curves_and_bytes() {
    let folder = Folder::new("json");
    let text = "duration = '20s'\n[torrent]\nsize = '256 KiB'\npiece = '32 KiB'\n\
        [[host]]\nname = 'server'\nkind = 'rendezvous'\nlead = '250ms'\n\
        [[host]]\nname = 'seed'\nkind = 'engine-seed'\n\
        [[host]]\nname = 'leech'\nkind = 'engine-leech'\npeers = 'seed'\nlink = 'dsl'\n";
    let file = folder.file("f.toml", text);
    let json = &lines(&out(&sim(&["run", &file, "--json"])))[0];
    let host = |n: usize| json["hosts"][n].clone();
    assert_eq!(
        (&host(0)["kind"], &host(0)["torrent"]),
        (&"rendezvous".into(), &Value::Null)
    );
    let leech = host(2);
    let curve = leech["torrent"]["curve"].as_array().expect("a curve");
    let points: Vec<(u64, u64)> = curve
        .iter()
        .map(|p| {
            (
                p[0].as_u64().expect("a time"),
                p[1].as_u64().expect("bytes"),
            )
        })
        .collect();
    // A point for each of the 8 pieces, in order, after the one at the start.
    assert_eq!(points.len(), 9, "{points:?}");
    assert!(
        points
            .windows(2)
            .all(|w| w[0].0 <= w[1].0 && w[0].1 < w[1].1)
    );
    let (end, all) = points[8];
    assert_eq!(all, 256 << 10);
    let completed = leech["torrent"]["completed_us"]
        .as_u64()
        .expect("it completes");
    assert!(
        completed >= end && completed < end + 100_000,
        "{completed} {end}"
    );
    assert_eq!(leech["torrent"]["downloaded"], 256 << 10);
    assert_eq!(host(1)["torrent"]["uploaded"], 256 << 10);
    // The content and some headers crossed the two links, one way each.
    let bytes = |h: &Value, way: &str| h[format!("{way}_bytes")].as_u64().expect("bytes");
    for n in [bytes(&leech, "received"), bytes(&host(1), "sent")] {
        assert!((256 << 10..300 << 10).contains(&n), "{n}");
    }
    assert!(bytes(&leech, "sent") < 40 << 10);
    assert!(leech["received_packets"].as_u64() > Some(180));
    // What the model adds is said.
    let notes = json["notes"].to_string();
    assert!(notes.contains("The core adds no delay"), "{notes}");
    assert!(
        notes.contains("server introduces its hosts 250 ms after"),
        "{notes}"
    );
}

#[test]
fn run_writes_a_page_and_captures() {
    let folder = Folder::new("report");
    let (page, captures) = (folder.path("page.html"), folder.path("captures"));
    let two = scenario("02-two-homes.toml");
    let done = sim(&[
        "run",
        &two,
        "--report",
        &page,
        "--pcap",
        &captures,
        "--pair",
        "carol,dave",
    ]);
    assert_eq!(done.status.code(), Some(0), "{}", err(&done));
    let page = fs::read_to_string(page).expect("a page");
    assert!(page.contains("carol") && page.contains("--seed 1"));
    assert!(page.contains("The core adds no delay"));
    assert!(page.contains("server introduces its hosts 100 ms after"));
    let mut names: Vec<_> = fs::read_dir(captures)
        .expect("a folder")
        .map(|e| e.expect("an entry").path())
        .collect();
    names.sort();
    assert_eq!(names.len(), 7);
    for name in names {
        let bytes = fs::read(&name).expect("a capture");
        // A section header block (pcapng §4.1).
        assert_eq!(bytes[..4], [0x0a, 0x0d, 0x0d, 0x0a], "{}", name.display());
    }
    let odd = sim(&["run", &two, "--report", "x.html", "--pair", "carol,zoe"]);
    assert_eq!(odd.status.code(), Some(2));
    assert!(err(&odd).contains("no host `zoe`"));
}

#[test]
fn what_does_not_come_true_is_exit_code_1() {
    let folder = Folder::new("fails");
    let text = "[[host]]\nname = 'a'\nkind = 'echo'\n[[expect]]\nrule = 'nat.mapped'\n";
    let file = folder.file("f.toml", text);
    let done = sim(&["run", &file]);
    assert_eq!(done.status.code(), Some(1));
    assert!(out(&done).contains("FAILS"), "{}", out(&done));
}

#[test]
fn a_wrong_file_is_refused_with_its_place() {
    let folder = Folder::new("wrong");
    let file = folder.file("f.toml", "[[router]]\nname = \"r\"\nnat = \"lunix\"\n");
    let done = sim(&["run", &file]);
    assert_eq!(done.status.code(), Some(2));
    let message = err(&done);
    assert!(
        message.contains("f.toml:3:7: there is no NAT preset `lunix`"),
        "{message}"
    );
    assert!(message.contains("did you mean `linux`?"), "{message}");
    assert_eq!(
        sim(&["run", &folder.path("none.toml")]).status.code(),
        Some(2)
    );
    fs::write(folder.path("bytes.toml"), b"a = 1\n\xff").expect("a file");
    let bytes = sim(&["run", &folder.path("bytes.toml")]);
    assert!(
        err(&bytes).contains("bytes.toml:2: this is not UTF-8"),
        "{}",
        err(&bytes)
    );
    assert_eq!(sim(&["run"]).status.code(), Some(2));
}

#[test]
fn shards_are_joined_and_what_is_wrong_with_them_is_found() {
    let folder = Folder::new("shards");
    let planted = scenario("13-planted-fault.toml");
    let parts: Vec<String> = (1..=3)
        .map(|n| {
            let shard = format!("{n}/3");
            let done = sim(&[
                "sweep", &planted, "--seeds", "0..12", "--shard", &shard, "--jobs", "1",
            ]);
            folder.file(&format!("{n}.jsonl"), &out(&done))
        })
        .collect();
    let all = sim(&["merge", &parts[0], &parts[1], &parts[2]]);
    let summary = lines(&out(&all)).pop().expect("a summary");
    assert_eq!(summary["complete"], true, "{summary}");
    assert_eq!(summary["seeds"], 12);
    // The output must be that of one machine, also with several threads.
    let whole = sim(&["sweep", &planted, "--seeds", "0..12", "--jobs", "2"]);
    let failed = lines(&out(&whole))
        .iter()
        .filter(|l| l["held"] == false)
        .count();
    assert_eq!(summary["failed"], failed as u64);
    assert_eq!(all.status.code(), Some(i32::from(failed > 0)));
    assert_eq!(all.status.code(), whole.status.code());

    let missing = sim(&["merge", &parts[0], &parts[2]]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(
        err(&missing).contains("whole shards missing: 2"),
        "{}",
        err(&missing)
    );

    let twice = sim(&["merge", &parts[0], &parts[0], &parts[1], &parts[2]]);
    assert!(
        err(&twice).contains("shards there twice: 1"),
        "{}",
        err(&twice)
    );

    let text = fs::read_to_string(&parts[1]).expect("a part");
    let trace = lines(&text)[1]["trace"]
        .as_str()
        .expect("a hash")
        .to_owned();
    let lie = folder.file("lie.jsonl", &text.replace(&trace, "0000000000000000"));
    let lies = sim(&["merge", &parts[0], &parts[1], &lie, &parts[2]]);
    assert_eq!(lies.status.code(), Some(1));
    assert!(
        err(&lies).contains("seeds with different results"),
        "{}",
        err(&lies)
    );

    let other = sim(&[
        "sweep",
        &scenario("02-two-homes.toml"),
        "--seeds",
        "0..12",
        "--shard",
        "1/3",
    ]);
    let other = folder.file("other.jsonl", &out(&other));
    let mixed = sim(&["merge", &parts[0], &other]);
    assert_eq!(mixed.status.code(), Some(2));
    assert!(err(&mixed).contains("another scenario"), "{}", err(&mixed));

    let cut = folder.file("cut.jsonl", &text[..text.len() - 10]);
    let torn = sim(&["merge", &cut]);
    assert_eq!(
        torn.status.code(),
        Some(2),
        "a line that was cut is not a result"
    );
}

#[test]
fn explain_names_the_rule() {
    let file = scenario("01-outbound-only.toml");
    let done = sim(&["explain", &file, "--from", "stranger"]);
    assert_eq!(done.status.code(), Some(0), "{}", err(&done));
    let text = out(&done);
    assert!(
        text.contains("nat.filtered") && text.contains("nat.no-mapping"),
        "{text}"
    );
    let flow = sim(&[
        "explain",
        &file,
        "--flow",
        // The stranger is the second host in the core.
        &format!("{}:0", dunlin_sim::addresses::public_v4(3)),
        "--rule",
        "nat.filtered",
    ]);
    let text = out(&flow);
    let packets = text.lines().filter(|line| line.starts_with("packet "));
    assert_eq!(packets.count(), 1, "{text}");
    assert_eq!(
        sim(&["explain", &file, "--from", "nobody"]).status.code(),
        Some(2)
    );
}

#[test]
fn the_matrix_agrees_with_the_oracle() {
    let folder = Folder::new("matrix");
    let page = folder.path("m.html");
    let types = "linux,symmetric,full-cone,restricted-cone";
    let done = sim(&[
        "matrix", "--types", types, "--report", &page, "--json", "--jobs", "1",
    ]);
    assert_eq!(done.status.code(), Some(0), "{}", err(&done));
    let lines = lines(&out(&done));
    let summary = lines.last().expect("a summary");
    assert_eq!(
        (summary["types"].as_u64(), summary["disagreements"].as_u64()),
        (Some(4), Some(0))
    );
    let cell = |l: &&Value| l["a"] == "linux" && l["b"] == "symmetric" && l["transport"] == "udp";
    let together = &lines.iter().find(cell).expect("the cell")["tried"][1];
    assert_eq!(
        (together["attempt"].as_str(), together["connected"].as_u64()),
        (Some("together"), Some(0))
    );
    let page = fs::read_to_string(page).expect("a page");
    assert!(page.contains("agree with the oracle"));
    assert_eq!(sim(&["matrix", "--types", "lunix"]).status.code(), Some(2));
}

#[test]
fn presets_are_listed_and_shown_in_full() {
    let list = out(&sim(&["presets"]));
    for name in ["linux", "cgnat-bad", "udp-blocked", "dsl", "eu-west"] {
        assert!(list.contains(name), "{name}");
    }
    assert!(out(&sim(&["presets", "linux"])).contains("udp-filtering = \"APDF\""));
    let odd = sim(&["presets", "lunix"]);
    assert_eq!(odd.status.code(), Some(2));
    assert!(err(&odd).contains("did you mean `linux`?"));
}

#[test]
fn shrink_writes_a_scenario_that_fails() {
    let folder = Folder::new("shrink");
    let small = folder.path("small.toml");
    let planted = scenario("13-planted-fault.toml");
    let sweep = lines(&out(&sim(&["sweep", &planted, "--seeds", "0..40"])));
    let failing = sweep
        .iter()
        .find(|l| l["held"] == false)
        .expect("one fails");
    let seed = failing["seed"].to_string();
    let done = sim(&["shrink", &planted, "--seed", &seed, "--out", &small]);
    assert_eq!(done.status.code(), Some(0), "{}", err(&done));
    let again = sim(&["run", &small]);
    assert_eq!(again.status.code(), Some(1), "{}", out(&again));
    let nothing = sim(&["shrink", &scenario("02-two-homes.toml")]);
    assert_eq!(nothing.status.code(), Some(1));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_dunlin-sim"))
        .args([
            "sweep",
            &scenario("13-planted-fault.toml"),
            "--seeds",
            "0..2000",
            "--jobs",
            "1",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    drop(child.stdout.take());
    let done = child.wait_with_output().expect("it ends");
    assert!(
        done.status.code().is_some_and(|c| c < 2),
        "{:?}",
        done.status
    );
    assert!(
        done.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_is_lost_is_exit_code_2() {
    let full = fs::File::options().write(true).open("/dev/full");
    let done = Command::new(env!("CARGO_BIN_EXE_dunlin-sim"))
        .args(["run", &scenario("02-two-homes.toml")])
        .stdout(full.expect("a device that is full"))
        .output()
        .expect("it starts");
    assert_eq!(done.status.code(), Some(2));
    assert!(err(&done).contains("standard output"), "{}", err(&done));
}
