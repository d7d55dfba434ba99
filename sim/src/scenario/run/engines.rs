//! Hosts that run the real engine, and their trackers.

use std::{net::SocketAddr, time::Duration};

use dunlin_core::{
    EncryptionPolicy, Instant,
    dht::DhtMode,
    engine::{AddTorrent, Check, Source},
};

use super::{
    TorrentResult,
    built::{Built, Shared, at},
    services::bootstrap,
};
use crate::{
    host::{
        disk::{DiskConfig, SimDisk},
        engine::{EngineHost, EngineSetup, Progress},
        service::{Tracker, TrackerConfig},
        stack::tcp::TcpConfig,
    },
    id::DeviceId,
    link::LinkConfig,
    report::units,
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
    let servers = o.dns.iter();
    let servers = servers.filter_map(|name| Some(built.plan.between(&h.name, name)?.1));
    setup.dns = servers.collect();
    let nodes: Vec<SocketAddr> = bootstrap(built, s, h).collect();
    if !nodes.is_empty() {
        setup.engine.dht = DhtMode::On;
        setup.engine.dht_routers = nodes.into_iter().map(Into::into).collect();
    }
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
    for url in &o.tracker_urls {
        add.trackers.push(vec![url.clone()]);
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
    let mut machine = EngineHost::new(setup, disk).lifetime(o.lifetime);
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

/// The progress of an engine; `None` for other hosts.
fn progress<'a>(built: &'a Built, name: &str) -> Option<&'a Progress> {
    let host = built.world.host::<EngineHost>(built.node(name))?;
    host.progress(built.shared.as_ref()?.info.info_hash())
}

/// The bytes of the torrent that an engine has verified.
pub(crate) fn done(built: &Built, name: &str) -> u64 {
    progress(built, name).map_or(0, Progress::done)
}

/// When an engine completed the torrent. Counts only when the disk held it correctly then.
pub(crate) fn completed(built: &Built, name: &str) -> Option<Duration> {
    let progress = progress(built, name).filter(|p| p.is_exact())?;
    Some(progress.completed()?.saturating_since(at(Duration::ZERO)))
}

/// What an engine has got so far, in words.
pub(crate) fn describe(built: &Built, name: &str) -> String {
    let wrong = progress(built, name).is_some_and(|p| p.completed().is_some() && !p.is_exact());
    if let Some(when) = completed(built, name) {
        return format!("{name} after {}", units::exact(when));
    }
    if wrong {
        return format!("{name} completes with wrong content");
    }
    let size = built.shared.as_ref().map_or(0, |s| s.info.total_len());
    let share = done(built, name) * 1_000 / size.max(1);
    format!("{name} has {}.{} %", share / 10, share % 10)
}

/// What an engine did.
pub(crate) fn result(built: &Built, name: &str) -> TorrentResult {
    let host = built.world.host::<EngineHost>(built.node(name));
    let status = host.zip(built.shared.as_ref()).and_then(|(host, shared)| {
        let hash = shared.info.info_hash();
        host.torrent(built.world.now(), hash)
    });
    let points = progress(built, name).map_or(&[][..], Progress::points);
    let since = |then: &Instant| then.saturating_since(at(Duration::ZERO));
    TorrentResult {
        completed: completed(built, name),
        curve: points.iter().map(|(at, done)| (since(at), *done)).collect(),
        downloaded: status.as_ref().map_or(0, |s| s.downloaded),
        uploaded: status.as_ref().map_or(0, |s| s.uploaded),
    }
}
