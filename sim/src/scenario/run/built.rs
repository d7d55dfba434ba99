//! The world of a scenario, and the devices that its names refer to.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use dunlin_core::{Instant, metainfo::Info};

use crate::{
    experiment::swarm::torrent,
    id::DeviceId,
    link::region::Region,
    scenario::model::{Scenario, plan::Plan},
    world::World,
};

/// The world of a scenario.
pub(crate) struct Built {
    pub(crate) world: World,
    pub(crate) nodes: BTreeMap<String, DeviceId>,
    pub(crate) plan: Plan,
    /// The torrent that engines exchange.
    pub(crate) shared: Option<Shared>,
}

impl Built {
    pub(crate) fn node(&self, name: &str) -> DeviceId {
        // Names were checked when the scenario was read.
        self.nodes.get(name).copied().unwrap_or(DeviceId::CORE)
    }

    pub(crate) fn named(&mut self, id: DeviceId, name: &str, region: Option<&str>) {
        self.world.set_name(id, name);
        if let Some(region) = region.and_then(Region::by_name) {
            self.world.set_region(id, region);
        }
        self.nodes.insert(name.into(), id);
    }

    /// The endpoints between which `from` sends to `to`.
    pub(crate) fn ends(&self, from: (&str, u16), to: (&str, u16)) -> (SocketAddr, SocketAddr) {
        let unspecified = std::net::Ipv4Addr::UNSPECIFIED.into();
        // The plan has checked that they exist.
        let pair = self.plan.between(from.0, to.0);
        let (a, b) = pair.unwrap_or((unspecified, unspecified));
        (SocketAddr::new(a, from.1), SocketAddr::new(b, to.1))
    }
}

/// The torrent that the engines of a scenario share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) info: Arc<Info>,
    pub(crate) content: Arc<[u8]>,
}

impl Shared {
    /// The torrent of a scenario; `None` when it has no engines.
    pub(crate) fn new(s: &Scenario, seed: u64) -> Option<Self> {
        s.hosts.iter().any(|h| h.kind.is_engine()).then(|| {
            // The bounds of both were checked when the scenario was read.
            let size = usize::try_from(s.torrent.size).unwrap_or(1);
            let piece = u32::try_from(s.torrent.piece).unwrap_or(64 << 10);
            let (info, content) = torrent(seed, size, piece);
            Self { info, content }
        })
    }
}

/// The world's time for a time of the scenario.
pub(crate) fn at(time: Duration) -> Instant {
    Instant::ORIGIN + time
}
