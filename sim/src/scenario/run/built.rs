//! The world of a scenario, and what its parts are called there.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use dunlin_core::{Instant, metainfo::Info};

use crate::{
    experiment::swarm::torrent,
    id::DeviceId,
    link::region::Region,
    scenario::model::{Scenario, plan::Plan},
    world::World,
};

/// A scenario's world, and who is who in it.
pub(crate) struct Built {
    pub(crate) world: World,
    pub(crate) nodes: BTreeMap<String, DeviceId>,
    pub(crate) plan: Plan,
    /// What engines exchange.
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

    /// Where `from` sends from, and to, when it speaks to `to`.
    pub(crate) fn ends(&self, from: (&str, u16), to: (&str, u16)) -> (SocketAddr, SocketAddr) {
        let unspecified = std::net::Ipv4Addr::UNSPECIFIED.into();
        // Checked by the plan.
        let pair = self.plan.between(from.0, to.0);
        let (a, b) = pair.unwrap_or((unspecified, unspecified));
        (SocketAddr::new(a, from.1), SocketAddr::new(b, to.1))
    }
}

/// What the engines of a scenario share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) info: Arc<Info>,
    pub(crate) content: Arc<[u8]>,
}

impl Shared {
    /// The torrent of a scenario; none if nobody exchanges it.
    pub(crate) fn new(s: &Scenario, seed: u64) -> Option<Self> {
        s.hosts.iter().any(|h| h.kind.is_engine()).then(|| {
            // Both were checked to be within bounds when the scenario was read.
            let size = usize::try_from(s.torrent.size).unwrap_or(1);
            let piece = u32::try_from(s.torrent.piece).unwrap_or(64 << 10);
            let (info, content) = torrent(seed, size, piece);
            Self { info, content }
        })
    }
}

/// A time of the scenario as the world has it.
pub(crate) fn at(time: Duration) -> Instant {
    Instant::ORIGIN + time
}
