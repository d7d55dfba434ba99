//! Drivers exchange a torrent over a link that misbehaves.

mod common;

use std::time::Duration;

use common::{Link, World, addr, torrent};

const LIMIT: Duration = Duration::from_secs(120);

/// One seed, one that fetches.
fn pair(seed: u64, ethernet: bool, v6: bool, link: Link, len: usize) -> World {
    let (info, data) = torrent(len, 64 << 10);
    let mut world = World::new(seed);
    world.link = link;
    let a = world.plain(ethernet);
    let b = world.plain(ethernet);
    world.seed(a, &info, &data);
    let id = world.leech(b, &info, &[addr(a, v6)]);
    let done = world.run_until(LIMIT, |w| w.has(b, id, &info, &data));
    let stats = world.nodes[b].driver.stats();
    assert!(done, "{stats:?}");
    world
}

#[test]
fn a_torrent_comes_over_bit_exact_on_every_medium_and_family() {
    for ethernet in [false, true] {
        for v6 in [false, true] {
            let mut world = pair(1, ethernet, v6, Link::default(), 1_000_003);
            world.audit();
        }
    }
}
