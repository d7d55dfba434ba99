//! The power fails at every job of a disk, on a machine that downloads and saves all the while.
//!
//! Saves come every tenth of a second, and flushes run beside the writes. At any moment some pieces
//! are durable, some are verified but not durable, and a record that says which is being written.
//! After each power cut, parts of what was not flushed are lost or torn, and the machine starts
//! with another boot token.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::time::Duration;

use dunlin_core::{Bitfield, Instant};
use dunlin_sim::{
    HostCx, LinkConfig, SimRng,
    experiment::swarm::{Home, Role, Swarm, SwarmConfig},
    host::{
        disk::{DiskConfig, SimDisk},
        engine::EngineHost,
    },
    link::Rate,
};
use rand_core::Rng;

const LEN: usize = 512 << 10;
const PIECE: u32 = 32 << 10;
/// The interval at which the engine's claims are compared with the disk.
const LOOK: Duration = Duration::from_millis(20);
/// The longest time of a download with its restarts.
const LIMIT: Duration = Duration::from_secs(600);

/// A seed, and a machine whose power fails when its disk has done `jobs` jobs.
fn swarm(seed: u64) -> Swarm {
    let mut config = SwarmConfig::new(LEN);
    config.piece_len = PIECE;
    config.engine.save_interval = Duration::from_millis(100);
    let mut link = LinkConfig::cable();
    link.down.rate = Some(Rate::buffered(2_000_000, Duration::from_millis(100)));
    link.up.rate = Some(Rate::buffered(2_000_000, Duration::from_millis(100)));
    let mut leech = Home::new(Role::Leech, link.clone());
    leech.joins = Duration::from_millis(500);
    leech.disk = DiskConfig {
        flush: Duration::from_millis(60),
        ..DiskConfig::ssd()
    };
    config.homes = vec![Home::new(Role::Seed, link), leech];
    let mut swarm = Swarm::new(seed, config);
    disk(&mut swarm, SimDisk::flush_beside);
    swarm
}

/// Calls the disk of the machine whose power fails.
fn disk(swarm: &mut Swarm, act: impl FnOnce(&mut SimDisk)) {
    let victim = swarm.homes[1].0;
    let act = |host: &mut EngineHost, _: &mut HostCx<'_>| act(host.disk_mut().unwrap());
    swarm.world.call(victim, act).unwrap();
}

/// The outcome of a run.
struct Ran {
    cuts: u32,
    jobs: u64,
}

/// Runs a download whose power fails when the disk has done the numbers of jobs in `cuts`, in
/// order.
fn run(seed: u64, cuts: &[u64]) -> Ran {
    let mut swarm = swarm(seed);
    let victim = swarm.homes[1].0;
    let mut cuts = cuts.iter();
    let mut seen = None;
    let mut until = Duration::ZERO;
    loop {
        until += LOOK;
        let result = swarm.run(until);
        let host = swarm.world.host::<EngineHost>(victim).unwrap();
        let count = host.disk().unwrap().power_cuts();
        if seen != Some(count) {
            seen = Some(count);
            if let Some(jobs) = cuts.next() {
                self::disk(&mut swarm, |disk| disk.fail_power_at(*jobs));
            }
        }
        let host = swarm.world.host::<EngineHost>(victim).unwrap();
        let (disk, jobs) = (host.disk().unwrap(), host.disk().unwrap().jobs_done());
        let id = host.engine().and_then(|e| e.find(swarm.info.info_hash()));
        let have = id.and_then(|id| host.engine()?.torrent(id)?.have());
        for piece in have.into_iter().flat_map(Bitfield::iter) {
            assert!(
                disk.holds_piece(&swarm.info, piece),
                "seed {seed}, {count} cuts, {jobs} jobs: piece {piece} is believed and wrong"
            );
        }
        let now = Instant::ORIGIN + until;
        if host.seeds(now, swarm.info.info_hash()) {
            assert!(
                host.has(&swarm.info),
                "seed {seed}, {count} cuts: complete and wrong"
            );
            return Ran { cuts: count, jobs };
        }
        assert!(
            until < LIMIT,
            "seed {seed}, {count} cuts: not complete: {:?}",
            result.curves[1].last()
        );
    }
}

/// Downloads until the power has failed `wanted` times: once at every job of the first download,
/// and then at two or three random jobs of each further one.
fn cut(wanted: u32) -> u32 {
    let mut rng = SimRng::new(9);
    let mut cuts = 0;
    let whole = run(1, &[]).jobs;
    assert!(whole > 40, "only {whole} jobs");
    let mut n = 0;
    while cuts < wanted {
        let seed = 1 + n / whole;
        let mut at = vec![n % whole];
        for _ in 0..1 + rng.next_u32() % 2 {
            let last = at[at.len() - 1];
            at.push(last + 2 + u64::from(rng.next_u32()) % whole);
        }
        let step = if u64::from(wanted) < 2 * whole { 7 } else { 1 };
        n += step;
        cuts += run(seed, &at).cuts;
    }
    cuts
}

#[test]
fn a_power_cut_at_any_job_of_the_disk_is_survived() {
    let cuts = cut(30);
    assert!(cuts >= 30);
}

#[test]
#[ignore = "a thousand power cuts; `tests/run sim` runs it"]
#[allow(clippy::print_stdout, reason = "the count is part of the proof")]
fn a_thousand_power_cuts_are_survived() {
    let cuts = cut(1_000);
    println!("{cuts} power cuts survived");
}
