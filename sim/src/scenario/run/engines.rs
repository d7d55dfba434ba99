//! Hosts that run the real engine, and their trackers.

use std::net::SocketAddr;

use dunlin_core::{
    EncryptionPolicy, Instant,
    engine::{AddTorrent, Check, Source},
};

use super::built::{Built, Shared};
use crate::{
    host::{
        disk::{DiskConfig, SimDisk},
        engine::{EngineHost, EngineSetup},
        service::{Tracker, TrackerConfig},
        stack::tcp::TcpConfig,
    },
    id::DeviceId,
    link::LinkConfig,
    rng::SimRng,
    scenario::model::{Host, Kind, Link, Scenario, links},
    world::trace,
};

/// Separates the disks' random numbers from everything else that is derived from the seed.
const PART: u64 = 0x6469_736b;

/// Adds a tracker.
pub(crate) fn add_tracker(
    built: &mut Built,
    h: &Host,
    above: DeviceId,
    link: LinkConfig,
) -> DeviceId {
    let addrs = built.plan.of(&h.name).to_vec();
    let config = TrackerConfig {
        port: h.port(),
        ..TrackerConfig::default()
    };
    let tracker = Tracker::new(&addrs, config);
    built.world.add_host(above, link, &addrs, tracker)
}

/// Adds an engine.
pub(crate) fn add(
    built: &mut Built,
    s: &Scenario,
    h: &Host,
    above: DeviceId,
    link: LinkConfig,
    shared: &Shared,
) -> DeviceId {
    let o = &h.options;
    let addrs = built.plan.of(&h.name).to_vec();
    let mut setup = EngineSetup::new(&addrs);
    setup.port = h.port();
    setup.mtu = setup.mtu.min(path_mtu(s, h));
    // RC4 would take processor time and change nothing else of interest.
    setup.engine.encryption = EncryptionPolicy::Allowed;
    setup.engine.limit_up = o.upload;
    setup.engine.limit_down = o.download;
    if o.upload_slots.is_some() {
        setup.engine.upload_slots = o.upload_slots;
    }
    setup.tcp = o.tcp.map(|algorithm| TcpConfig {
        algorithm,
        ..TcpConfig::default()
    });
    let mut disk = DiskConfig::ssd();
    if let Some(delay) = o.disk_delay {
        disk.latency = (delay, delay);
    }
    // The name is the key, so that adding a host does not change another host's disk.
    let name = trace::digest(h.name.as_bytes());
    let rng = SimRng::part(built.world.seed() ^ PART, name);
    let mut disk = SimDisk::new(disk, Box::new(rng));
    disk.expect(&shared.info, shared.content.clone());
    let mut add = AddTorrent::new(Source::Info(shared.info.clone()));
    let port_of = |name: &str| {
        s.hosts
            .iter()
            .find(|o| o.name == name)
            .map_or(0, Host::port)
    };
    for tracker in &o.trackers {
        if let Some((_, ip)) = built.plan.between(&h.name, tracker) {
            let at = SocketAddr::new(ip, port_of(tracker));
            add.trackers.push(vec![format!("http://{at}/announce")]);
        }
    }
    for peer in &o.peers {
        if let Some((_, ip)) = built.plan.between(&h.name, peer) {
            add.peers.push(SocketAddr::new(ip, port_of(peer)));
        }
    }
    if h.kind == Kind::EngineSeed {
        disk.fill(&shared.info);
        add.check = Check::Nothing;
    }
    let mut machine = EngineHost::new(setup, disk);
    machine.want(Instant::ORIGIN, add);
    built.world.add_host(above, link, &addrs, machine)
}

/// The longest packet that passes every link from a host to the core, which path MTU discovery or a
/// router that clamps TCP's segments would find out.
fn path_mtu(s: &Scenario, h: &Host) -> usize {
    let mtu = |link: &Link| {
        let config = links::config(link);
        config.up.mtu.min(config.down.mtu)
    };
    let mut least = mtu(&h.link);
    let mut above = h.behind.as_deref();
    while let Some(router) = above.and_then(|name| s.routers.iter().find(|r| r.name == name)) {
        least = least.min(mtu(&router.link));
        above = router.behind.as_deref();
    }
    usize::try_from(least).unwrap_or(usize::MAX)
}

/// The bytes of the torrent that an engine has. Counts as complete only when the disk holds it
/// correctly.
pub(crate) fn progress(built: &Built, name: &str) -> u64 {
    let host = built.world.host::<EngineHost>(built.node(name));
    let (Some(host), Some(shared)) = (host, &built.shared) else {
        return 0;
    };
    let status = host.torrent(built.world.now(), shared.info.info_hash());
    status.map_or(0, |t| {
        if t.done < t.total || host.has(&shared.info) {
            t.done
        } else {
            t.total.saturating_sub(1)
        }
    })
}
