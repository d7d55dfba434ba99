//! Law 6: hostile bytes never panic, whichever layer they reach.

#![allow(clippy::unwrap_used, reason = "a test that unwraps nothing fails")]

mod common;

use std::time::Duration;

use common::{World, addr, torrent};
use quickcheck::{Gen, QuickCheck};

/// Damaged frames whose checksums are not verified, like those of an attacker who computes the
/// checksums.
#[test]
fn damage_that_passes_every_checksum_is_survived() {
    let (info, data) = torrent(400_000, 64 << 10);
    let mut frames = 0;
    for seed in 0..20 {
        let ethernet = seed % 2 == 0;
        let mut world = World::new(seed);
        world.unchecked = true;
        world.link.corrupt = 10 << (seed % 5);
        world.link.jitter = Duration::from_millis(1);
        let nodes: Vec<usize> = (0..3).map(|_| world.plain(ethernet)).collect();
        world.seed(0, &info, &data);
        for n in &nodes[1..] {
            let peers = [addr(0, seed % 3 == 0), addr(3 - n, seed % 3 != 0)];
            world.leech(*n, &info, &peers);
        }
        world.run(Duration::from_secs(60));
        frames += world.frames;
        // The drivers still work.
        world.link.corrupt = 0;
        world.run(Duration::from_secs(60));
        world.audit();
    }
    assert!(frames > 2_000, "{frames} frames");
}

/// Random frames.
#[test]
fn random_frames_are_survived() {
    fn survives(ethernet: bool, seed: u64, frames: Vec<Vec<u8>>) -> bool {
        let mut world = World::new(seed);
        world.unchecked = true;
        let n = world.plain(ethernet);
        world.run(Duration::from_millis(10));
        for mut frame in frames {
            // The frame passes the first checks: it is for this machine, and of a known type.
            if ethernet && frame.len() > 14 {
                frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
                frame[12] = 8;
                frame[13] &= 7;
            } else if !ethernet && frame.len() > 20 {
                frame[0] = if frame[0] & 1 == 0 { 0x45 } else { 0x60 };
                frame[16..20].copy_from_slice(&[10, 0, 0, 1]);
                frame[9] = [1, 2, 6, 17][usize::from(frame[9] % 4)];
            }
            world.nodes[n].wire.rx.push_back(frame);
        }
        world.run(Duration::from_secs(5));
        world.nodes[n].wire.rx.is_empty()
    }
    QuickCheck::new()
        .rng(Gen::new(200))
        .tests(200)
        .quickcheck(survives as fn(bool, u64, Vec<Vec<u8>>) -> bool);
}
