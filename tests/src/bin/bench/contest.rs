//! One torrent, moved by one client after the other, round by round.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dunlin_tests::lab::{Family, Lab, Proc};
use dunlin_tests::payload::{Payload, Torrent};
use dunlin_tests::peers::{Client, Crypto, Job, Role, Source, dunlin, libtorrent};
use dunlin_tests::tracker::{self, Opentracker, Tracker};
use dunlin_tests::usage;
use dunlin_tests::wait::until;

use crate::table::{Sample, Table};
use crate::{BEFORE, Options, machine};

/// Beyond this a run is given up: Transmission takes a minute or two per GiB.
const LIMIT: Duration = Duration::from_secs(300);
/// Starting, checking and announcing.
const PATIENCE: Duration = Duration::from_secs(120);
/// Where clients listen, each on an address of its own.
const PORT: u16 = 6881;

/// The interpreter with the newest libtorrent at hand; `tests/bench` names it.
pub(crate) fn python() -> String {
    std::env::var("BENCH_PYTHON").unwrap_or_else(|_| libtorrent::DEBIAN_PYTHON.to_owned())
}

/// The program that lies beside this one.
pub(crate) fn sibling(name: &str) -> PathBuf {
    std::env::current_exe()
        .expect("this program")
        .with_file_name(name)
}

/// A client in one of the two roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contestant {
    Floor,
    /// libtorrent by the interpreter of [`python`].
    Libtorrent,
    /// The build that `--beside` names.
    Before,
    Other(&'static str, Client),
}

impl Contestant {
    const ALL: [Self; 8] = [
        Self::Floor,
        Self::Other("dunlin", Client::Dunlin),
        Self::Before,
        Self::Other("dunlin-mio", Client::DunlinMio),
        Self::Libtorrent,
        Self::Other("rtorrent", Client::Rtorrent),
        Self::Other("aria2", Client::Aria2),
        Self::Other("transmission", Client::Transmission),
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Libtorrent => "libtorrent",
            Self::Before => BEFORE,
            Self::Other(name, _) => name,
        }
    }
}

/// The stage of a contest: lab, payload, torrent, tracker.
struct Stage<'a> {
    lab: Lab,
    options: &'a Options,
    payload: Payload,
    torrent: Torrent,
    tracker: Opentracker,
    /// What all clients are told about encryption.
    crypto: Crypto,
}

impl<'a> Stage<'a> {
    fn build(options: &'a Options) -> Self {
        let lab = Lab::new();
        let payload = Payload::single(&lab.folder("payload"), "payload.bin", 5, options.size);
        // Written back now, and still cached: nothing is flushed while clients are timed.
        fs::File::open(payload.root.join(&payload.name))
            .and_then(|f| f.sync_all())
            .expect("room");
        let address = tracker::address_for(&lab, Family::V4);
        let torrent = payload.torrent(options.piece_log, &[tracker::http_url(address)]);
        let tracker = Opentracker::start(&lab, address, &[&torrent]);
        Self {
            lab,
            options,
            payload,
            torrent,
            tracker,
            crypto: Crypto::Off,
        }
    }

    fn job(&self, role: Role, dir: &Path, marker: Option<PathBuf>) -> Job {
        let listen = SocketAddr::new(self.lab.address(Family::V4), PORT);
        Job {
            listen,
            crypto: self.crypto,
            role,
            source: Source::File(self.torrent.clone()),
            dir: dir.to_owned(),
            marker,
            dht: None,
        }
    }

    fn contestants(&self) -> impl Iterator<Item = Contestant> + '_ {
        Contestant::ALL.into_iter().filter(|c| match c {
            Contestant::Before => self.options.beside.is_some(),
            _ => self.options.includes(c.name()),
        })
    }

    /// Starts the build that `--beside` names.
    fn before(&self, job: &Job) -> Proc {
        let program = self.options.beside.as_deref().expect("a program");
        let session = self.lab.folder("session");
        dunlin::spawn_build(&self.lab, program, job, &session, &[])
    }

    /// Starts a seed that is ready: checked, and known to the tracker.
    fn seed(&self, contestant: Contestant) -> Seed {
        let job = self.job(Role::Seed, &self.payload.root, None);
        let torrent = self.torrent.path.to_string_lossy();
        let dir = self.payload.root.to_string_lossy();
        let process = match contestant {
            Contestant::Floor => {
                let process = self.lab.spawn(
                    sibling("floor"),
                    &["seed", &torrent, &dir, &job.listen.to_string()],
                );
                until("the floor to listen", PATIENCE, || {
                    process.log().contains("listening").then_some(())
                });
                return Seed {
                    process,
                    listen: job.listen,
                };
            }
            Contestant::Libtorrent => {
                let mut description = libtorrent::description(&job);
                description["seed_mode"] = true.into();
                libtorrent::spawn(&self.lab, &python(), &description)
            }
            Contestant::Before => self.before(&job),
            Contestant::Other(_, client) => client.start(&self.lab, &job).into_process(),
        };
        self.tracker
            .wait_for_seed(&self.lab, &self.torrent, PATIENCE);
        Seed {
            process,
            listen: job.listen,
        }
    }

    /// Starts a downloader; says what to wait for.
    fn start(&self, contestant: Contestant, seed: &Seed, dir: &Path) -> (Proc, Option<PathBuf>) {
        let torrent = self.torrent.path.to_string_lossy();
        match contestant {
            Contestant::Floor => {
                let args = [
                    "get",
                    &torrent,
                    &dir.to_string_lossy(),
                    &seed.listen.to_string(),
                ];
                (self.lab.spawn(sibling("floor"), &args), None)
            }
            Contestant::Libtorrent => {
                let mut description = libtorrent::description(&self.job(Role::Download, dir, None));
                description["exit_when_done"] = true.into();
                (libtorrent::spawn(&self.lab, &python(), &description), None)
            }
            Contestant::Before => (self.before(&self.job(Role::Download, dir, None)), None),
            Contestant::Other(_, client) => {
                // Those that end once they are complete need no marker.
                let daemon = !matches!(client, Client::Aria2 | Client::Dunlin | Client::DunlinMio);
                let marker = daemon.then(|| dir.join("complete"));
                let job = self.job(Role::Download, dir, marker.clone());
                (client.start(&self.lab, &job).into_process(), marker)
            }
        }
    }

    /// Times one download; `None` if it ended incomplete.
    fn time(&self, contestant: Contestant, seed: &Seed) -> Option<Sample> {
        let dir = tempfile::Builder::new()
            .prefix("dunlin-bench-")
            .tempdir_in(&self.options.dest)
            .expect("room");
        machine::settle();
        let (busy, wire, theirs) = (
            usage::busy(),
            usage::loopback(seed.process.pid()),
            seed.cpu(),
        );
        let began = Instant::now();
        let (mut process, marker) = self.start(contestant, seed, dir.path());
        let (mut first, mut last, mut anon) = (None, None, 0);
        until(&format!("{} to complete", contestant.name()), LIMIT, || {
            let moved = usage::loopback(seed.process.pid()) - wire;
            if moved > 256 << 10 {
                first.get_or_insert_with(|| began.elapsed());
            }
            if moved >= self.options.size {
                last.get_or_insert_with(|| began.elapsed());
            }
            anon = anon.max(usage::memory(process.pid(), "RssAnon"));
            match &marker {
                Some(marker) => marker.exists().then_some(()),
                None => process.exited().then_some(()),
            }
        });
        let wall = began.elapsed();
        let used = if marker.is_some() {
            process.kill()
        } else {
            process.reap()
        };
        let other = seed.cpu() - theirs;
        let noise = (usage::busy() - busy)
            .saturating_sub(used.user + used.sys + other)
            .div_f64(wall.as_secs_f64());
        let _ = marker.map(fs::remove_file);
        if !self.payload.has_size(dir.path()) {
            eprintln!("{} ended incomplete", contestant.name());
            return None;
        }
        let line = last
            .unwrap_or(wall)
            .saturating_sub(first.unwrap_or_default());
        let sample = Sample {
            wall,
            line,
            user: used.user,
            sys: used.sys,
            other,
            rss: used.peak_rss,
            anon,
            noise,
        };
        eprintln!("{} {sample:?}", contestant.name());
        Some(sample)
    }
}

/// A running seed.
struct Seed {
    process: Proc,
    listen: SocketAddr,
}

impl Seed {
    fn cpu(&self) -> Duration {
        let (user, sys) = usage::cpu(self.process.pid());
        user + sys
    }
}

/// Every client downloads from the same libtorrent.
pub(crate) fn download(options: &Options) {
    let stage = Stage::build(options);
    let seed = stage.seed(Contestant::Libtorrent);
    let mut table = Table::default();
    // Not counted: the first contestant pays for memory that the machine has not touched yet.
    stage.time(Contestant::Floor, &seed);
    for _ in 0..options.runs {
        for contestant in stage.contestants() {
            if let Some(sample) = stage.time(contestant, &seed) {
                table.add(contestant.name(), sample);
            }
        }
    }
    table.print("downloader", "seed");
}

/// Dunlin downloads from Dunlin: in plaintext, with encrypted handshakes, and under RC4.
pub(crate) fn encryption(options: &Options) {
    let mut stage = Stage::build(options);
    let dunlin = Contestant::Other("dunlin", Client::Dunlin);
    let mut table = Table::default();
    for crypto in [Crypto::Off, Crypto::Preferred, Crypto::Required] {
        stage.crypto = crypto;
        let seed = stage.seed(dunlin);
        // Not counted: the first download finds a seed that has not read its files yet.
        stage.time(dunlin, &seed);
        for _ in 0..options.runs {
            if let Some(sample) = stage.time(dunlin, &seed) {
                table.add(crypto.option(), sample);
            }
        }
    }
    table.print("encryption", "seed");
}

/// The floor downloads from every client.
pub(crate) fn seed(options: &Options) {
    let stage = Stage::build(options);
    let mut table = Table::default();
    for contestant in stage.contestants() {
        let seed = stage.seed(contestant);
        if contestant.name() != "transmission" {
            // Not counted: the first download finds a seed that has not read its files yet.
            stage.time(Contestant::Floor, &seed);
        }
        // Transmission's pace makes one run minutes long.
        let runs = if contestant.name() == "transmission" {
            1
        } else {
            options.runs
        };
        for _ in 0..runs {
            let (user, sys) = usage::cpu(seed.process.pid());
            let Some(sample) = stage.time(Contestant::Floor, &seed) else {
                continue;
            };
            let (user_after, sys_after) = usage::cpu(seed.process.pid());
            table.add(
                contestant.name(),
                Sample {
                    user: user_after - user,
                    sys: sys_after - sys,
                    other: sample.user + sample.sys,
                    rss: usage::memory(seed.process.pid(), "VmHWM"),
                    anon: usage::memory(seed.process.pid(), "RssAnon"),
                    ..sample
                },
            );
        }
    }
    table.print("seed", "downloader");
}
