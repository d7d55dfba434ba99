//! What a block costs the engine: a seed and a leecher in memory, plain streams, virtual time.
//!
//! The figure that does not depend on the machine is the number of instructions, for both engines and the world in
//! memory together, most of it for SHA-1. The difference of two lengths leaves out what a torrent costs once:
//!
//! ```text
//! cargo bench -p dunlin-core --bench engine --no-run      # prints where the program is
//! for mib in 16 48; do valgrind --tool=callgrind --callgrind-out-file=/dev/null PROGRAM $mib; done
//! ```

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(clippy::unwrap_used, reason = "a benchmark that unwraps nothing fails")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::Duration;

use common::{World, torrent};
use dunlin_core::engine::State;
use dunlin_core::{BLOCK_LEN, Config, EncryptionPolicy};

/// MiB that are moved, unless the command line says otherwise.
const MIB: usize = 64;

fn main() {
    let mib = std::env::args().find_map(|word| word.parse().ok());
    let len = mib.unwrap_or(MIB) << 20;
    let (info, data) = torrent(len, 1 << 20);
    let config = || Config {
        encryption: EncryptionPolicy::Off,
        ..Config::default()
    };
    let mut world = World::new(1);
    let (seed, _) = world.seed(config(), &info, &data);
    let (leech, id) = world.leech(config(), &info, &[seed]);
    let done = world.run_until(Duration::from_secs(600), |world| {
        let status = world.nodes[leech]
            .engine
            .torrent(id)
            .map(|t| t.status(world.now));
        status.is_some_and(|status| status.state == State::Seeding)
    });
    assert!(done, "the leecher has everything");
    println!("{} blocks", len / BLOCK_LEN);
}
