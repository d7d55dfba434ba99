//! Dunlin beside other clients and the floor, in one run: `tests/bench --help`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command")]

mod check;
mod contest;
mod dht;
mod machine;
mod table;

use std::path::PathBuf;

use dunlin_tests::peers::dunlin;

const USAGE: &str = "\
usage: tests/bench [OPTION…] [NAME…]

Moves one torrent over loopback TCP, plain streams, payload in the page cache, destination on tmpfs, and prints markdown
tables. NAMEs: floor dunlin dunlin-mio libtorrent transmission rtorrent aria2 (all, if none is given).
Then asks DHT nodes as much as they can answer: floor dunlin rtorrent libtorrent.

  --size MIB      payload (1024)
  --piece LOG2    piece length, 20 = 1 MiB, 18 = 256 KiB (20)
  --runs N        of each; medians are printed (3). Of dht-idle: minutes
  --beside FILE   another build of the command dunlin, which takes part in download, seed and check as dunlin-before
  --only PART     download, seed, encryption, check, dht, dht-memory or dht-idle
  --dest DIR      where downloads go, best a tmpfs (/dev/shm)
";

/// The name of the build given by `--beside`.
const BEFORE: &str = "dunlin-before";

/// What to measure.
struct Options {
    size: u64,
    piece_log: u32,
    runs: usize,
    beside: Option<PathBuf>,
    only: Option<String>,
    dest: PathBuf,
    names: Vec<String>,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Option<Self> {
        let mut options = Self {
            size: 1024 << 20,
            piece_log: 20,
            runs: 3,
            beside: None,
            only: None,
            dest: "/dev/shm".into(),
            names: Vec::new(),
        };
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--size" => options.size = args.next()?.parse::<u64>().ok()? << 20,
                "--piece" => options.piece_log = args.next()?.parse().ok()?,
                "--runs" => options.runs = args.next()?.parse().ok().filter(|runs| *runs > 0)?,
                "--beside" => options.beside = Some(args.next()?.into()),
                "--only" => options.only = Some(args.next()?),
                "--dest" => options.dest = args.next()?.into(),
                name if !name.starts_with('-') => options.names.push(name.to_owned()),
                _ => return None,
            }
        }
        Some(options)
    }

    fn wants(&self, part: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only == part)
    }

    fn includes(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|n| n == name)
    }

    /// The builds of the command that take part in a hash check, by name.
    fn builds(&self) -> Vec<(&str, PathBuf)> {
        let before = self.beside.iter().map(|path| (BEFORE, path.clone()));
        let now = ("dunlin", dunlin::command());
        std::iter::once(now).chain(before).collect()
    }
}

fn main() -> std::process::ExitCode {
    let Some(options) = Options::parse(std::env::args().skip(1)) else {
        eprint!("{USAGE}");
        return 2.into();
    };
    let gib = options.size / (1 << 20);
    println!("{}\n", machine::describe());
    if options.wants("download") {
        println!(
            "## Download: {gib} MiB, pieces of {} KiB\n",
            (1u64 << options.piece_log) >> 10
        );
        contest::download(&options);
    }
    if options.wants("seed") {
        println!("## Seed: {gib} MiB to the floor's downloader\n");
        contest::seed(&options);
    }
    if options.wants("encryption") {
        println!("## Encryption: {gib} MiB from Dunlin to Dunlin\n");
        contest::encryption(&options);
    }
    if options.wants("check") {
        println!("## Hash check: {} MiB\n", options.size * 4 / (1 << 20));
        check::run(&options);
    }
    if options.wants("dht") {
        println!("## DHT: CPU an answered query\n");
        dht::run(&options);
    }
    if options.wants("dht-memory") {
        println!("## DHT: what a node remembers\n");
        dht::memory(&options);
    }
    if options.wants("dht-idle") {
        println!("## DHT: a node at rest\n");
        dht::idle(&options);
    }
    0.into()
}
