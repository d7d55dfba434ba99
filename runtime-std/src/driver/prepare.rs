//! The configuration and the session folder that an engine is created with.

use std::sync::Arc;

use dunlin_core::{Caps, Config, Instant, engine::Engine};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use crate::{
    Error, Result,
    session::{setup::SessionConfig, store::Store},
};

/// The configuration of an engine, including what an earlier session saved.
#[derive(Debug)]
pub struct Prepared {
    /// The engine's configuration.
    pub config: Config,
    /// The session folder.
    pub store: Option<Arc<Store>>,
    /// A message for people.
    pub note: Option<String>,
    caps: Caps,
    seed: [u8; 32],
}

impl Prepared {
    /// Opens the session folder and loads the DHT's table from it. Blocks.
    ///
    /// # Errors
    /// [`Error::Folder`] if the session folder cannot be used or belongs to another process;
    /// [`Error::Start`] if the system provides no random numbers.
    pub fn new(session: &SessionConfig) -> Result<Self> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| Error::Start(error.to_string()))?;
        let store = match &session.folder {
            None => None,
            Some(dir) => Some(Arc::new(Store::open(dir)?)),
        };
        let (config, note) = session.for_engine_with(store.as_deref());
        Ok(Self {
            config,
            store,
            note,
            caps: session.caps(),
            seed,
        })
    }

    /// Creates the engine.
    pub(super) fn engine(self, now: Instant) -> Engine {
        let rng = Box::new(ChaCha8Rng::from_seed(self.seed));
        Engine::new(now, self.config, self.caps, rng)
    }
}
