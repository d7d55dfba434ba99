//! What an engine hands a torrent, for tests without an engine.

use alloc::vec::Vec;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::conn::table::Conns;
use super::endpoints::Endpoints;
use super::io::{DhtState, Io};
use super::outbox::Outbox;
use super::setup::Setup;
use super::tracker_queries::Trackers;
use crate::throttle::Throttle;
use crate::{BlockPool, BlockRef, Caps, Config, Instant};

/// The owner of what an [`Io`] borrows.
pub(crate) struct Surroundings {
    pub(crate) now: Instant,
    rng: ChaCha8Rng,
    pub(crate) setup: Setup,
    pub(crate) endpoints: Endpoints,
    pub(crate) dht: DhtState,
    pub(crate) pool: BlockPool,
    throttle: Throttle,
    pub(crate) conns: Conns,
    pub(crate) trackers: Trackers,
    pub(crate) out: Outbox,
    picked: Vec<BlockRef>,
}

impl Surroundings {
    /// A platform that can do everything, and no DHT.
    pub(crate) fn new(config: Config) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        Self {
            now: Instant::from_micros(10),
            endpoints: Endpoints::default(),
            dht: DhtState::default(),
            pool: BlockPool::new(64),
            throttle: Throttle::new(),
            conns: Conns::default(),
            trackers: Trackers::new(&config),
            out: Outbox::new(&config),
            picked: Vec::new(),
            setup: Setup::new(config, Caps::all(), &mut rng),
            rng,
        }
    }

    pub(crate) fn io(&mut self) -> Io<'_> {
        Io {
            now: self.now,
            rng: &mut self.rng,
            setup: &self.setup,
            endpoints: &mut self.endpoints,
            dht: self.dht,
            pool: &mut self.pool,
            throttle: &mut self.throttle,
            conns: &mut self.conns,
            trackers: &mut self.trackers,
            out: &mut self.out,
            picked: &mut self.picked,
        }
    }
}
