//! Random swarms under random trouble. When the trouble ends, everybody has everything, bit for
//! bit; at a stop every block is home, every op answered, and every counter says what is so.

#![allow(clippy::unwrap_used, reason = "a test that unwraps nothing fails")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::commands::Commands;
use common::{World, add, torrent};
use dunlin_core::engine::{AddTorrent, Check, Event, FilePriority, Scope, Source};
use dunlin_core::metainfo::Info;
use dunlin_core::{Config, EncryptionPolicy, OpErrorKind, TorrentId};
use quickcheck::{Arbitrary, Gen};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Seeds that found something.
const FOUND: [u64; 3] = [138, 3920, 3937];
const HOUR: Duration = Duration::from_secs(3600);

/// A number below `n`.
fn below(rng: &mut ChaCha8Rng, n: u32) -> u32 {
    rng.next_u32() % n.max(1)
}

fn pick<T: Copy>(rng: &mut ChaCha8Rng, of: &[T]) -> T {
    of[below(rng, of.len() as u32) as usize]
}

fn config(rng: &mut ChaCha8Rng) -> Config {
    Config {
        encryption: pick(
            rng,
            &[EncryptionPolicy::Allowed, EncryptionPolicy::Preferred],
        ),
        max_blocks: pick(rng, &[3, 6, 20, 512]),
        max_jobs: pick(rng, &[1, 3, 64]),
        write_run: pick(rng, &[1, 4, 16]),
        max_half_open: pick(rng, &[1, 2, 50]),
        max_connections: pick(rng, &[3, 10, 500]),
        max_connections_per_torrent: pick(rng, &[2, 5, 100]),
        max_pipeline: pick(rng, &[2, 20, 2000]),
        reqq: pick(rng, &[4, 500]),
        upload_slots: pick(rng, &[None, Some(1), Some(3)]),
        limit_up: pick(rng, &[None, None, Some(60_000)]),
        limit_down: pick(rng, &[None, None, Some(80_000)]),
        boot: pick(rng, &[None, Some([7; 16])]),
        pex: below(rng, 2) == 0,
        save_interval: Duration::from_secs(1 + u64::from(below(rng, 60))),
        ..Config::default()
    }
}

/// A case: a swarm, and the trouble it gets into. The same seed always makes the same one.
#[derive(Clone, Debug)]
struct Case {
    seed: u64,
    len: usize,
    piece_len: u32,
    members: Vec<Member>,
    /// One more node, whose data is bad, and which does not know.
    liar: bool,
    steps: Vec<Step>,
}

/// A node of the swarm. The first has everything.
#[derive(Clone, Debug)]
struct Member {
    config: Config,
    disk_delay: Duration,
    /// It knows nothing but the info-hash.
    magnet: bool,
}

/// After some time, something happens to a member (modulo their number). A member whose torrent is gone is started anew
/// instead.
#[derive(Clone, Debug)]
struct Step {
    after: Duration,
    member: usize,
    trouble: Trouble,
}

#[derive(Clone, Debug)]
enum Trouble {
    Pause,
    Resume,
    CutStreams,
    DiskFull,
    DiskWorks,
    Recheck,
    LimitTorrent(Option<u64>),
    LimitAll(Option<u64>),
    SetPriority(FilePriority),
    Stream { sequential: bool, piece: u32 },
    Remove,
    Shutdown,
    Restart,
    SaveAll,
}

impl Trouble {
    fn draw(rng: &mut ChaCha8Rng) -> Self {
        let n = below(rng, 1_000_000);
        match below(rng, 16) {
            0 | 1 => Self::Pause,
            2 | 3 => Self::Resume,
            4 => Self::CutStreams,
            5 => Self::DiskFull,
            6 => Self::DiskWorks,
            7 => Self::Recheck,
            8 => Self::LimitTorrent(pick(rng, &[None, Some(0), Some(50_000)])),
            9 => Self::LimitAll(pick(rng, &[None, Some(0), Some(50_000)])),
            10 => Self::SetPriority(pick(rng, &[FilePriority::Skip, FilePriority::High])),
            11 => Self::Stream {
                sequential: n.is_multiple_of(2),
                piece: n % 7,
            },
            12 => Self::Remove,
            13 => Self::Shutdown,
            14 => Self::Restart,
            _ => Self::SaveAll,
        }
    }
}

impl Case {
    fn new(seed: u64) -> Self {
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        let len = 1 + below(rng, 700_000) as usize;
        let piece_len = pick(rng, &[16 << 10, 32 << 10, 64 << 10]);
        let members: Vec<Member> = (0..2 + below(rng, 4))
            .map(|n| Member {
                config: config(rng),
                disk_delay: Duration::from_millis(pick(rng, &[0, 1, 30, 300])),
                magnet: n > 0 && below(rng, 3) == 0,
            })
            .collect();
        let liar = below(rng, 4) == 0;
        let mut has_torrent = vec![true; members.len()];
        let steps = (0..below(rng, 25))
            .map(|_| {
                let ms = pick(rng, &[0, 1, 7, 50, 300, 3000, 40_000]);
                let after = Duration::from_millis(u64::from(below(rng, ms + 1)));
                let member = below(rng, members.len() as u32) as usize;
                let trouble = match has_torrent[member] {
                    true => Trouble::draw(rng),
                    false => Trouble::Restart,
                };
                has_torrent[member] = !matches!(trouble, Trouble::Remove | Trouble::Shutdown);
                Step {
                    after,
                    member,
                    trouble,
                }
            })
            .collect();
        Self {
            seed,
            len,
            piece_len,
            members,
            liar,
            steps,
        }
    }

    /// Whether all ends well, or what does not.
    fn run(&self) -> Result<(), String> {
        let end = std::panic::catch_unwind(|| Run::new(self).run(&self.steps));
        end.unwrap_or_else(|_| Err("it panics".into()))
    }

    /// The simplest case that shrinking this one leads to and that still fails.
    fn shrunk(mut self) -> Self {
        // Bounds the time: a case takes up to some seconds.
        let mut tries = 500;
        while let Some(simpler) = self.shrink().take(tries).find(|case| {
            tries -= 1;
            case.run().is_err()
        }) {
            self = simpler;
        }
        self
    }
}

impl Arbitrary for Case {
    fn arbitrary(g: &mut Gen) -> Self {
        Self::new(u64::arbitrary(g))
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        let this = self.clone();
        let with = move |change: &dyn Fn(&mut Self)| {
            let mut case = this.clone();
            change(&mut case);
            case
        };
        let mut simpler: Vec<Self> = Vec::new();
        // Half of the steps, then all but one of them.
        let (n, half) = (self.steps.len(), self.steps.len() / 2);
        if n > 1 {
            simpler.push(with(&|case| case.steps.truncate(half)));
            simpler.push(with(&|case| drop(case.steps.drain(..half))));
        }
        for i in 0..n {
            simpler.push(with(&|case| {
                case.steps.remove(i);
            }));
        }
        if self.liar {
            simpler.push(with(&|case| case.liar = false));
        }
        if self.members.len() > 2 {
            simpler.push(with(&|case| drop(case.members.pop())));
        }
        for i in 0..self.members.len() {
            let member = &self.members[i];
            if member.config != Config::default() {
                simpler.push(with(&|case| case.members[i].config = Config::default()));
            }
            if member.magnet {
                simpler.push(with(&|case| case.members[i].magnet = false));
            }
            if !member.disk_delay.is_zero() {
                simpler.push(with(&|case| case.members[i].disk_delay = Duration::ZERO));
            }
        }
        if self.len > 1 {
            simpler.push(with(&|case| case.len = case.len.div_ceil(2)));
        }
        for i in 0..n {
            if !self.steps[i].after.is_zero() {
                simpler.push(with(&|case| case.steps[i].after = Duration::ZERO));
                simpler.push(with(&|case| case.steps[i].after /= 2));
            }
        }
        Box::new(simpler.into_iter())
    }
}

/// A case under way.
struct Run {
    w: World,
    info: Arc<Info>,
    data: Vec<u8>,
    members: Vec<Running>,
}

struct Running {
    node: usize,
    config: Config,
    id: Option<TorrentId>,
    magnet: bool,
}

impl Run {
    fn new(case: &Case) -> Self {
        let (info, data) = torrent(case.len, case.piece_len);
        let mut this = Self {
            w: World::new(case.seed),
            info,
            data,
            members: Vec::new(),
        };
        for (n, member) in case.members.iter().enumerate() {
            let node = this.w.node(member.config.clone());
            this.w.nodes[node].disk_delay = member.disk_delay;
            if n == 0 {
                this.w.put(node, &this.info, this.data.clone());
            }
            this.members.push(Running {
                node,
                config: member.config.clone(),
                id: None,
                magnet: member.magnet,
            });
        }
        if case.liar {
            this.add_liar();
        }
        for m in 0..this.members.len() {
            this.add(m);
        }
        this
    }

    /// A node whose data is bad, and which does not know.
    fn add_liar(&mut self) {
        let mut bad = self.data.clone();
        bad.iter_mut().step_by(9_001).for_each(|b| *b ^= 1);
        let node = self.w.node(Config::default());
        self.w.put(node, &self.info, bad);
        let trusting = AddTorrent {
            check: Check::Nothing,
            ..add(Source::Info(self.info.clone()))
        };
        self.w.nodes[node].engine.add(self.w.now, trusting).unwrap();
    }

    fn add(&mut self, m: usize) {
        let node = self.members[m].node;
        let source = if self.members[m].magnet {
            Source::Hash {
                info_hash: self.info.info_hash(),
                name: None,
            }
        } else {
            Source::Info(self.info.clone())
        };
        let resume = self.w.nodes[node].saved.values().next_back().cloned();
        let peers = self.w.nodes.iter().map(|n| n.addr).collect();
        let torrent = AddTorrent {
            peers,
            resume,
            ..add(source)
        };
        self.members[m].id = self.w.nodes[node].engine.add(self.w.now, torrent).ok();
    }

    fn restart(&mut self, m: usize) {
        let (node, config) = (self.members[m].node, self.members[m].config.clone());
        self.w.restart(node, config);
        self.add(m);
    }

    fn disturb(&mut self, step: &Step) {
        let m = step.member % self.members.len();
        let (node, Some(id)) = (self.members[m].node, self.members[m].id) else {
            return self.restart(m);
        };
        let now = self.w.now;
        let engine = &mut self.w.nodes[node].engine;
        match step.trouble {
            Trouble::Pause => {
                engine.pause(now, id);
            }
            Trouble::Resume => {
                engine.resume(now, id);
            }
            Trouble::CutStreams => self.w.cut(node),
            Trouble::DiskFull => self.w.nodes[node].disk_error = Some(OpErrorKind::NoSpace),
            Trouble::DiskWorks => self.w.nodes[node].disk_error = None,
            Trouble::Recheck => {
                engine.recheck(now, id);
            }
            Trouble::LimitTorrent(limit) => {
                engine.set_limits(now, Scope::Torrent(id), limit, limit);
            }
            Trouble::LimitAll(limit) => {
                engine.set_limits(now, Scope::Global, limit, limit);
            }
            Trouble::SetPriority(priority) => {
                engine.set_priorities(now, id, &[priority]);
            }
            Trouble::Stream { sequential, piece } => {
                engine.set_sequential(now, id, sequential);
                engine.set_deadline(now, id, piece, Some(now + Duration::from_secs(1)));
            }
            Trouble::Remove => {
                engine.remove(now, id, false);
                self.members[m].id = None;
            }
            Trouble::Shutdown => {
                engine.shutdown(now);
                self.members[m].id = None;
            }
            Trouble::Restart => self.restart(m),
            Trouble::SaveAll => engine.save_all(now),
        }
    }

    fn calm(&mut self) {
        for m in 0..self.members.len() {
            let node = self.members[m].node;
            self.w.nodes[node].disk_error = None;
            if self.members[m].id.is_none() {
                self.restart(m);
            }
            let now = self.w.now;
            let id = self.members[m].id.unwrap();
            let engine = &mut self.w.nodes[node].engine;
            engine.set_limits(now, Scope::Torrent(id), None, None);
            engine.set_limits(now, Scope::Global, None, None);
            engine.set_priorities(now, id, &[FilePriority::Normal]);
            engine.resume(now, id);
        }
    }

    fn audit(&self) -> Result<(), String> {
        for (n, node) in self.w.nodes.iter().enumerate() {
            node.engine
                .audit()
                .map_err(|e| format!("node {n} at {:?}: {e}", self.w.now))?;
        }
        Ok(())
    }

    fn run(&mut self, steps: &[Step]) -> Result<(), String> {
        for step in steps {
            self.w.run(step.after);
            self.audit()?;
            self.disturb(step);
            self.audit()?;
        }
        self.calm();
        let start = self.w.now;
        let done = {
            let members: Vec<_> = self
                .members
                .iter()
                .map(|m| (m.node, m.id.unwrap()))
                .collect();
            let data = &self.data;
            self.w
                .run_until(HOUR, |w| members.iter().all(|(n, id)| w.has(*n, *id, data)))
        };
        self.audit()?;
        if !done {
            let left: Vec<String> = self
                .members
                .iter()
                .map(|m| {
                    let e = &self.w.nodes[m.node].engine;
                    format!(
                        "node {} {:?}\n{:?}\n{:?}\n{:?}\n{:?}",
                        m.node,
                        self.w.nodes[m.node]
                            .events
                            .iter()
                            .rev()
                            .take(5)
                            .collect::<Vec<_>>(),
                        m.config,
                        e.torrent(m.id.unwrap()).map(|t| t.status(self.w.now)),
                        e.torrent(m.id.unwrap()).unwrap().peers(self.w.now),
                        e.status(self.w.now)
                    )
                })
                .collect();
            return Err(format!("not done: {left:#?}"));
        }
        let took = self.w.now.saturating_since(start);
        if took > Duration::from_secs(600) {
            return Err(format!("it took {took:?}"));
        }
        self.stop()
    }

    /// Everything comes to an end.
    fn stop(&mut self) -> Result<(), String> {
        for n in 0..self.w.nodes.len() {
            self.w.nodes[n].engine.shutdown(self.w.now);
        }
        self.w.run(Duration::from_secs(60));
        self.audit()?;
        for (n, node) in self.w.nodes.iter().enumerate() {
            let s = node.engine.status(self.w.now);
            if !node.events.contains(&Event::Stopped) {
                return Err(format!("node {n} does not stop: {s:?} {:?}", node.open_ops));
            }
            if !node.open_ops.is_empty() {
                return Err(format!("node {n} forgets ops: {:?}", node.open_ops));
            }
            if (s.blocks_lent, s.connections, s.half_open, s.jobs) != (0, 0, 0, 0) {
                return Err(format!("node {n} is not empty: {s:?}"));
            }
        }
        Ok(())
    }
}

#[test]
fn every_swarm_ends_well_once_the_trouble_ends() {
    let number = |name| std::env::var(name).ok().and_then(|s| s.parse().ok());
    let (first, cases, found) = match number("CHAOS_SEED") {
        // One case; or many, for a long run.
        Some(seed) => (seed, 1, &[][..]),
        None => (
            number("CHAOS_FIRST").unwrap_or(0),
            number("CHAOS_CASES").unwrap_or(30),
            &FOUND[..],
        ),
    };
    let seeds = (first..first + cases).chain(found.iter().copied());
    let bad: Vec<u64> = seeds
        .filter(|seed| Case::new(*seed).run().is_err())
        .collect();
    if let Some(seed) = bad.first() {
        let case = Case::new(*seed).shrunk();
        let why = case.run().unwrap_err();
        panic!(
            "{} of {cases} failed, seeds {bad:?}; the first one, shrunk: {case:#?}\n{why}",
            bad.len()
        );
    }
}
