//! Tests of durability: every state that a crash may leave behind is tried.
//!
//! A real engine downloads through the real disk and session code, whose calls are recorded (see
//! `platform::trace`). After every call the power may fail. The states that POSIX allows on the medium at
//! that point (see `states`) are created in a folder, and Dunlin is started on each as after a reboot:
//!
//! - No piece with wrong bytes is believed.
//! - What a saved record calls durable exists.
//! - A torrent file that was saved exists; the record is the last one saved or a later one, and so is the
//!   DHT's table; what was removed stays removed.
//! - Files of the user are unchanged.
//! - A restart completes the download, bit for bit (for a sample of the states).
//!
//! One of the runs flushes its files with their file system. Finally each kind of sync is left out of the
//! recording, which has to be noticed: this proves that each sync is necessary, and that the replay would
//! find a missing one.

mod machine;
mod replay;
mod states;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use dunlin_core::engine::{Command, FilePriority, State};
use dunlin_core::{Bitfield, Instant, TorrentId};
use tempfile::TempDir;

use self::machine::{Content, Fact, Machine, Start, Watch, World};
use self::replay::{Plan, Replay, Tally};
use self::states::{Medium, SyncOf};
use crate::platform::trace::Recording;

/// A deliberate fault, besides syncs that are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Records claim that everything verified is durable.
    EarlyClaim,
    /// The restart believes that the machine was not rebooted.
    SameBoot,
}

/// What happened in a scenario, and what was promised when.
struct Run {
    name: &'static str,
    recording: Recording,
    facts: Vec<(usize, Fact)>,
    /// Files of the user: path below the base, and content.
    users: Vec<(PathBuf, Vec<u8>)>,
}

/// The content and the folders of a scenario.
struct Stage {
    content: Content,
    seed: TempDir,
    fault: Option<Fault>,
}

/// A temporary folder, in memory if possible: a thousand states are written to it.
fn folder() -> TempDir {
    let shm = Path::new("/dev/shm");
    if shm.is_dir() {
        return tempfile::tempdir_in(shm)
            .or_else(|_| tempfile::tempdir())
            .unwrap();
    }
    tempfile::tempdir().unwrap()
}

impl Stage {
    fn new(fault: Option<Fault>) -> Self {
        let (content, seed) = (Content::new(), folder());
        content.write(&seed.path().join("home/dl"));
        Self {
            content,
            seed,
            fault,
        }
    }

    /// A machine that has the whole torrent.
    fn seed(&self, now: Instant) -> Machine {
        let start = Start {
            base: self.seed.path(),
            boot: 1,
            session: false,
            number: 1,
        };
        let mut machine = Machine::new(now, &start, &self.content);
        machine.add(now, &self.content, Machine::torrent(&self.content));
        machine
    }

    /// A machine on `base`, and another one that has the whole torrent.
    fn world(&self, base: &Path, boot: u8) -> World {
        let mut world = World::new(Vec::new());
        let now = world.now;
        world.machines = vec![self.leech(now, base, boot), self.seed(now)];
        world
    }

    fn leech(&self, now: Instant, base: &Path, boot: u8) -> Machine {
        let start = Start {
            base,
            boot,
            session: true,
            number: 2,
        };
        let mut machine = Machine::new(now, &start, &self.content);
        machine.claims_early = self.fault == Some(Fault::EarlyClaim);
        machine
    }

    fn add(&self, world: &mut World, priorities: Vec<FilePriority>) -> TorrentId {
        let mut add = Machine::torrent(&self.content);
        add.peers = vec![([10, 0, 0, 1], 6881).into()];
        add.priorities = priorities;
        world.machines[0].add(world.now, &self.content, add)
    }

    /// A first selection: two files that share pieces with others are left out.
    fn some(&self) -> Vec<FilePriority> {
        let wanted = |path: &str| match path {
            "two.bin" | "four.bin" => FilePriority::Skip,
            _ => FilePriority::Normal,
        };
        let files = self.content.info().files().iter();
        files.map(|f| wanted(f.path.last().unwrap())).collect()
    }

    fn record(
        &self,
        name: &'static str,
        users: &[&str],
        play: impl FnOnce(&Self, &mut World, &Path),
    ) -> Run {
        let dir = folder();
        let base = dir.path();
        fs::create_dir(base.join("home")).unwrap();
        let mut own = Vec::new();
        for path in users {
            fs::create_dir_all(base.join(path).parent().unwrap()).unwrap();
            fs::write(base.join(path), path).unwrap();
            own.push((path.into(), path.as_bytes().to_vec()));
        }
        // The recording begins here and includes the session folder.
        let watch = Watch::new(base);
        let mut world = self.world(base, 1);
        world.machines[0].watch = Some(watch);
        play(self, &mut world, base);
        let machine = &mut world.machines[0];
        assert_eq!(machine.failures, [""; 0], "{name}");
        let watch = machine.watch.take().unwrap();
        let recording = watch.recorder.recording();
        // The recording is complete; otherwise what follows would prove nothing.
        let mut medium = Medium::new(&recording);
        recording.steps.iter().for_each(|s| medium.step(s, None));
        medium.whole().assert_is(base);
        Run {
            name,
            recording,
            facts: watch.facts,
            users: own,
        }
    }

    /// A download into a folder that does not exist yet, with a stop and a restart, until it seeds.
    fn download(&self) -> Run {
        self.record("download", &["home/notes.txt"], |stage, world, base| {
            let id = stage.add(world, Vec::new());
            world.until("at four pieces", |w| pieces(w, id) >= 4);
            world.machines[0].save_dht(1);
            let id = stage.restart(world, base, Leave::Stop, Vec::new());
            world.until("complete", |w| seeds(w, id));
            world.machines[0].save_dht(2);
            stop(world, id);
        })
    }

    /// A download whose files are flushed with their file system.
    fn whole(&self) -> Run {
        self.record("whole", &["home/notes.txt"], |stage, world, _| {
            world.machines[0].disk.many_are(2);
            let id = stage.add(world, Vec::new());
            world.until("complete", |w| seeds(w, id));
            stop(world, id);
        })
    }

    /// A download with files left out at first, next to files of the user.
    fn selection(&self) -> Run {
        let users = ["home/dl/own.txt", "home/dl/t.d/a/own.txt"];
        self.record("selection", &users, |stage, world, _| {
            let id = stage.add(world, stage.some());
            world.until("complete as far as wanted", |w| seeds(w, id));
            world.until("saved", |w| !w.machines[0].engine.has_output());
            for _ in 0..20 {
                world.tick();
            }
            let now = world.now;
            let all = vec![FilePriority::Normal; stage.content.info().files().len()];
            world.machines[0]
                .engine
                .command(
                    now,
                    Command::SetPriorities {
                        torrent: id,
                        priorities: all,
                    },
                )
                .unwrap();
            world.until("complete", |w| seeds(w, id));
            stop(world, id);
        })
    }

    /// A download that is killed without a reboot, paused, checked and removed.
    fn killed(&self) -> Run {
        self.record("killed", &["home/dl/own.txt"], |stage, world, base| {
            let id = stage.add(world, Vec::new());
            world.until("at five pieces", |w| pieces(w, id) >= 5);
            let id = stage.restart(world, base, Leave::Kill, Vec::new());
            world.until("at seven pieces", |w| pieces(w, id) >= 7);
            let now = world.now;
            world.machines[0]
                .engine
                .command(now, Command::Pause(id))
                .unwrap();
            world.until("paused", |w| {
                w.machines[0].state(w.now, id) == Some(State::Paused)
            });
            world.rest(0);
            let now = world.now;
            world.machines[0]
                .engine
                .command(now, Command::Resume(id))
                .unwrap();
            world.until("complete", |w| seeds(w, id));
            let now = world.now;
            world.machines[0]
                .engine
                .command(now, Command::Recheck(id))
                .unwrap();
            world.until("checked", |w| seeds(w, id));
            world.rest(0);
            let now = world.now;
            world.machines[0]
                .engine
                .command(
                    now,
                    Command::Remove {
                        torrent: id,
                        delete: true,
                    },
                )
                .unwrap();
            let gone = |w: &mut World| w.machines[0].engine.torrents().next().is_none();
            world.until("removed", gone);
            world.machines[0].forget();
        })
    }

    fn runs(&self) -> [Run; 4] {
        [
            self.download(),
            self.selection(),
            self.killed(),
            self.whole(),
        ]
    }

    /// Replaces the first machine by a new process, without a reboot.
    fn restart(
        &self,
        world: &mut World,
        base: &Path,
        leave: Leave,
        priorities: Vec<FilePriority>,
    ) -> TorrentId {
        if leave == Leave::Stop {
            let id = world.machines[0].engine.torrents().next().unwrap();
            stop(world, id);
        }
        let mut old = world.machines.remove(0);
        assert_eq!(old.failures, [""; 0]);
        let watch = old.watch.take();
        drop(old);
        world.machines.clear();
        let now = world.now;
        world.machines = vec![self.leech(now, base, 1), self.seed(now)];
        world.machines[0].watch = watch;
        self.add(world, priorities)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leave {
    Stop,
    Kill,
}

fn pieces(world: &World, id: TorrentId) -> u32 {
    world.machines[0]
        .engine
        .torrent(id)
        .and_then(|t| t.have())
        .map_or(0, Bitfield::count)
}

fn seeds(world: &World, id: TorrentId) -> bool {
    world.machines[0].state(world.now, id) == Some(State::Seeding)
}

fn stop(world: &mut World, _: TorrentId) {
    world.machines[0]
        .engine
        .command(world.now, Command::Shutdown)
        .unwrap();
    let gone = |w: &mut World| w.machines[0].engine.torrents().next().is_none();
    world.until("stopped", gone);
}

const QUICK: Plan = Plan {
    samples: 2,
    stride: 5,
    finish: 60,
    seed: 1,
};
const LONG: Plan = Plan {
    samples: 60,
    stride: 1,
    finish: 200,
    seed: 2,
};

#[allow(clippy::print_stdout, reason = "counts are part of the proof")]
fn nothing_is_found(plan: Plan) {
    let stage = Stage::new(None);
    let mut all = Tally::default();
    for run in stage.runs() {
        let tally = Replay::new(&stage, &run).crashes(None, plan).unwrap();
        println!(
            "{}: {} calls, {tally:?}",
            run.name,
            run.recording.steps.len()
        );
        all.points += tally.points;
        all.states += tally.states;
        all.restarts += tally.restarts;
        all.finished += tally.finished;
    }
    println!("in all: {all:?}");
    assert!(all.restarts > 300 && all.finished > 3, "{all:?}");
}

#[test]
fn no_crash_loses_or_believes_what_it_must_not() {
    nothing_is_found(QUICK);
}

#[test]
#[ignore = "tens of thousands of restarts; `tests/run crash` runs it"]
fn no_crash_at_any_call_loses_or_believes_what_it_must_not() {
    nothing_is_found(LONG);
}

#[test]
#[allow(clippy::print_stdout, reason = "the table is part of the proof")]
fn every_sync_is_necessary() {
    let stage = Stage::new(None);
    let runs = stage.runs();
    let plan = Plan {
        finish: usize::MAX,
        stride: 3,
        ..QUICK
    };
    for run in &runs {
        Replay::new(&stage, run).crashes(None, plan).unwrap();
    }
    let mut missed = Vec::new();
    let mut table = BTreeMap::new();
    for sync in SyncOf::ALL {
        let found = runs
            .iter()
            .find_map(|run| Replay::new(&stage, run).crashes(Some(sync), plan).err());
        match found {
            Some(what) => drop(table.insert(sync, what)),
            None => missed.push(sync),
        }
    }
    table
        .iter()
        .for_each(|(sync, what)| println!("without {sync:?}: {what}"));
    assert_eq!(missed, [], "left out and not noticed");
}

#[test]
#[allow(clippy::print_stdout, reason = "the table is part of the proof")]
fn claims_that_come_too_early_are_noticed() {
    for fault in [Fault::EarlyClaim, Fault::SameBoot] {
        let stage = Stage::new(Some(fault));
        let run = stage.download();
        let found = Replay::new(&stage, &run).crashes(None, QUICK).unwrap_err();
        println!("{fault:?}: {found}");
    }
}
