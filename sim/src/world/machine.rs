//! A host in the tree, with its timer.

use dunlin_core::Instant;

use crate::{host::Host, rng::SimRng};

/// A host, and what the world stores for it.
pub(super) struct Machine {
    pub(super) host: Box<dyn Host>,
    pub(super) rng: SimRng,
    /// When the wake-up that is in force is planned.
    pub(super) planned: Option<Instant>,
    /// When it was last woken, and how often at that instant.
    pub(super) woken: (Instant, u32),
    pub(super) on: bool,
}

impl Machine {
    pub(super) fn new(host: Box<dyn Host>, key: u64) -> Self {
        Self {
            host,
            rng: SimRng::new(key),
            planned: None,
            woken: (Instant::ORIGIN, 0),
            on: false,
        }
    }
}
