//! The configuration that all torrents and connections of an engine share.

use rand_core::Rng;

use crate::peer::PeerConfig;
use crate::{Caps, Config, PeerId};

/// The configuration, the capabilities of the platform, and our identity.
pub(crate) struct Setup {
    pub(crate) config: Config,
    pub(crate) caps: Caps,
    pub(crate) peer_config: PeerConfig,
    pub(crate) peer_id: PeerId,
    /// The `key` of announces (BEP 7): it identifies us to trackers when our address changes.
    pub(crate) tracker_key: u32,
}

impl Setup {
    pub(crate) fn new(config: Config, caps: Caps, rng: &mut dyn Rng) -> Self {
        let peer_id = config.peer_id.unwrap_or_else(|| {
            let mut id = *b"-DN0100-............";
            rng.fill_bytes(&mut id[8..]);
            PeerId(id)
        });
        let connections = config.max_connections.max(1) as usize;
        Self {
            peer_config: PeerConfig {
                reqq: config.reqq,
                max_pipeline: config.max_pipeline,
                max_metadata: config.max_metadata,
                max_early: config.max_early_bitfields as usize / connections,
                max_extended: config.max_extended(),
                ..PeerConfig::default()
            },
            peer_id,
            tracker_key: rng.next_u32(),
            config,
            caps,
        }
    }
}
