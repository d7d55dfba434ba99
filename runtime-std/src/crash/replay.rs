//! Tries the states that crashes of a recorded run may leave behind, and checks the promises in each.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use dunlin_core::engine::{Command, FilePriority};
use dunlin_core::op::HashJob;
use dunlin_core::{Hasher, Op, Outcome, TorrentId};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use super::machine::{Fact, Machine, World, durable};
use super::states::{Medium, SyncOf, brief};
use super::{Fault, Run, Stage, folder, seeds};
use crate::disk::Placement;
use crate::platform;
use crate::session::store::Store;

/// How many of the states are tried.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// Random states at each point, besides the systematic ones.
    pub(super) samples: usize,
    /// The distance of the points that are tried.
    pub(super) stride: usize,
    /// Of this many states, one is run to the end of its download.
    pub(super) finish: usize,
    /// The seed of the random states.
    pub(super) seed: u64,
}

/// The number of calls before the crash that a message lists.
const SHOWN: usize = 12;

/// Counts of what was tried.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) points: usize,
    pub(super) states: usize,
    pub(super) restarts: usize,
    pub(super) finished: usize,
}

/// A recorded run whose crash states are tried.
pub(super) struct Replay<'a> {
    stage: &'a Stage,
    run: &'a Run,
}

impl<'a> Replay<'a> {
    pub(super) const fn new(stage: &'a Stage, run: &'a Run) -> Self {
        Self { stage, run }
    }

    /// Tries the crash states of the run, as if the syncs of `dropped` had not been made. The error describes the first
    /// state that breaks a promise.
    pub(super) fn crashes(&self, dropped: Option<SyncOf>, plan: Plan) -> Result<Tally, String> {
        let run = self.run;
        let mut rng = ChaCha8Rng::seed_from_u64(plan.seed);
        let mut medium = Medium::new(&run.recording);
        let (mut tally, mut seen) = (Tally::default(), HashSet::new());
        for point in 0..=run.recording.steps.len() {
            if point > 0 {
                medium.step(&run.recording.steps[point - 1], dropped);
            }
            if point % plan.stride != 0 && point != run.recording.steps.len() {
                continue;
            }
            tally.points += 1;
            let known = run.facts.iter().filter(|(at, _)| *at <= point).count();
            for choice in medium.choices(plan.samples, &mut rng) {
                tally.states += 1;
                let tree = medium.tree(&choice);
                if !seen.insert((tree.digest(), known)) {
                    continue;
                }
                tally.restarts += 1;
                let finish = tally.restarts % plan.finish == 0;
                tally.finished += usize::from(finish);
                let dir = folder();
                tree.write(dir.path());
                self.mark(dir.path());
                self.verdict(dir.path(), known, finish).map_err(|what| {
                    let steps = run.recording.steps.len();
                    let last = point.saturating_sub(SHOWN);
                    let last = &run.recording.steps[last..point];
                    let last: Vec<_> = last.iter().map(brief).collect();
                    format!(
                        "{}, after {point} of {steps} calls: {what} (last: {})",
                        run.name,
                        last.join("; ")
                    )
                })?;
            }
        }
        Ok(tally)
    }

    /// Marks the files that the torrent was writing: the mark is part of their inodes.
    fn mark(&self, base: &Path) {
        let info = self.stage.content.info();
        for path in Placement::default().paths(info) {
            let path = Path::new("home/dl").join(path);
            let users = self.run.users.iter().any(|(theirs, _)| *theirs == path);
            if let (false, Ok(file)) = (users, fs::File::open(base.join(&path))) {
                platform::mark(&file, &info.info_hash().to_string());
            }
        }
    }

    /// Starts Dunlin on what a crash left in `base` after the first `known` facts, and checks the promises.
    fn verdict(&self, base: &Path, known: usize, finish: bool) -> Result<(), String> {
        let facts = || self.run.facts[..known].iter().map(|(_, fact)| fact);
        let any = |is: fn(&Fact) -> bool| facts().any(is);
        let record = self.session(base, known)?;
        let boot = match self.stage.fault {
            Some(Fault::SameBoot) => 1,
            _ => 2,
        };
        let mut world = self.stage.world(base, boot);
        if !finish {
            world.machines.truncate(1);
        }
        let id = self.stage.add(&mut world, Vec::new());
        world.until("checked", |w| w.machines[0].is_checked(id));
        let have = world.machines[0].have(id);
        for piece in have.iter() {
            if !self.is_right(&mut world.machines[0], id, piece) {
                return Err(format!("piece {piece} is believed and its bytes are wrong"));
            }
        }
        if let (Some(record), false) = (&record, any(|f| matches!(f, Fact::DeleteBegun))) {
            let claimed = durable(record, have.len());
            if let Some(piece) = claimed.iter().find(|p| !have.get(*p)) {
                return Err(format!("piece {piece} was saved as durable and is lost"));
            }
        }
        if finish {
            self.complete(&mut world, id, base)?;
        }
        drop(world);
        for (path, content) in &self.run.users {
            if fs::read(base.join(path)).ok().as_ref() != Some(content) {
                return Err(format!("{}: a file of the user was harmed", path.display()));
            }
        }
        Ok(())
    }

    /// Downloads what is missing, and compares every file with the original.
    fn complete(&self, world: &mut World, id: TorrentId, base: &Path) -> Result<(), String> {
        let now = world.now;
        let all = vec![FilePriority::Normal; self.stage.content.info().files().len()];
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
        let failures = &world.machines[0].failures;
        if !failures.is_empty() {
            return Err(format!("the disk failed: {failures:?}"));
        }
        let info = self.stage.content.info();
        for (file, path) in info.files().iter().zip(crate::paths::layout(
            info,
            None,
            crate::paths::Names::default(),
        )) {
            let at = file.offset as usize;
            let right = &self.stage.content.data[at..at + file.len as usize];
            let path = base.join("home/dl").join(path);
            if fs::read(&path).ok().as_deref() != Some(right) {
                return Err(format!("{}: complete and wrong", path.display()));
            }
        }
        Ok(())
    }

    /// Whether the bytes of a piece on the disk are right.
    fn is_right(&self, machine: &mut Machine, torrent: TorrentId, piece: u32) -> bool {
        let info = self.stage.content.info();
        let (at, len) = (info.piece_offset(piece), info.piece_size(piece).into());
        let hasher = Hasher::sha1();
        let outcome = machine.on_disk(|op| Op::Hash(HashJob::new(op, torrent, at, len, hasher)));
        match outcome {
            Outcome::Hashed(hasher) => Some(hasher.finish()) == info.piece_hash(piece),
            _ => false,
        }
    }

    /// Checks what the session folder promised. Returns the record that was saved last, if one was.
    fn session(&self, base: &Path, known: usize) -> Result<Option<Vec<u8>>, String> {
        let (mut kept, mut forgetting, mut forgotten) = (false, false, false);
        let (mut records, mut saved) = (Vec::new(), None);
        let mut tables = vec![None];
        for (_, fact) in &self.run.facts[..known] {
            match fact {
                Fact::Kept => kept = true,
                Fact::SaveBegun(record) => records.push(record),
                Fact::Saved(record) => {
                    records.retain(|r| *r == record);
                    saved = Some(record.clone());
                }
                Fact::DhtBegun(n) => tables.push(Some(*n)),
                Fact::DhtSaved(n) => {
                    tables.retain(|table| *table == Some(*n));
                }
                Fact::ForgetBegun => forgetting = true,
                Fact::Forgotten => forgotten = true,
                Fact::DeleteBegun => {}
            }
        }
        let store = Store::open(&base.join("session")).map_err(|e| e.to_string())?;
        let hash = self.stage.content.hash();
        let found = store.claim(hash).map_err(|e| e.to_string())?;
        if forgotten {
            return match (found.torrent, found.resume) {
                (None, None) => Ok(None),
                _ => Err("the torrent was forgotten and came back".into()),
            };
        }
        if !forgetting {
            if kept && found.torrent.is_none() {
                return Err(format!("the torrent is lost: {:?}", found.notes));
            }
            let fits = match &found.resume {
                Some(record) => records.contains(&record),
                None => saved.is_none(),
            };
            if !fits {
                let what = found.resume.map_or("gone", |_| "an old one");
                return Err(format!("the record is {what}: {:?}", found.notes));
            }
        }
        let id = store.load_dht().saved.and_then(|s| s.id).map(|id| id.0[0]);
        if !tables.contains(&id) {
            return Err(format!("the DHT's table is {id:?}, none of {tables:?}"));
        }
        Ok(saved.filter(|_| !forgetting))
    }
}
