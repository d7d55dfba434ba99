//! The DHT of a session, over loopback: a trackerless magnet, the cache, a magnet that names a key.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::{path::Path, time::Duration};

use common::{Content, Node, within};
use dunlin_tokio::{
    Add, SessionConfig, TrackerUse,
    dunlin_core::{
        DhtMode, InfoHash,
        dht::{DhtConfig, Goal, item},
        engine::Command,
        metainfo::HostPort,
        tracker::DHT_URL,
    },
};

/// A DHT of loopback addresses.
fn dht(config: &mut SessionConfig, dir: &Path, mode: DhtMode, routers: &[std::net::SocketAddr]) {
    config.folder = Some(dir.join("session"));
    config.engine.dht = mode;
    config.engine.dht_routers = routers.iter().map(|a| HostPort::from(*a)).collect();
    config.engine.dht_config = DhtConfig {
        local: true,
        ..DhtConfig::default()
    };
}

async fn node(mode: DhtMode, routers: &[std::net::SocketAddr]) -> Node {
    Node::with(|config| {
        let dir = config.dir.clone();
        dht(config, &dir, mode, routers);
    })
    .await
}

async fn wait_for(what: &str, mut done: impl AsyncFnMut() -> bool) {
    within(async {
        while !done().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(!what.is_empty());
}

async fn nodes_known(node: &Node) -> u32 {
    node.session
        .dht()
        .await
        .unwrap()
        .map_or(0, |s| s.stats.nodes)
}

/// As the example of the documentation, with a router of our own.
#[tokio::test]
async fn a_magnet_without_trackers_completes_without_a_session_folder() {
    let router = node(DhtMode::On, &[]).await;
    let content = Content::small();
    let without_folder = |config: &mut SessionConfig| {
        let dir = config.dir.clone();
        dht(config, &dir, DhtMode::Auto, &[router.addr]);
        config.folder = None;
        config.dht_without_folder = SessionConfig::default().dht_without_folder;
    };
    let seeder = Node::with(without_folder).await;
    let shared = seeder.session.add(content.share()).await.unwrap();
    within(shared.wait_complete()).await.unwrap();
    let leech = Node::with(without_folder).await;
    let torrent = leech.session.add(content.magnet()).await.unwrap();
    within(torrent.wait_complete()).await.unwrap();
    content.assert_copied(leech.dir.path());
}

#[tokio::test]
async fn a_magnet_without_trackers_completes_and_the_table_is_kept() {
    let router = node(DhtMode::On, &[]).await;
    let content = Content::small();
    let seeder = node(DhtMode::Auto, &[router.addr]).await;
    let shared = seeder.session.add(content.share()).await.unwrap();
    within(shared.wait_complete()).await.unwrap();
    wait_for("the announce", async || {
        let found = router.session.dht().await.unwrap().unwrap();
        found.stats.torrents == 1
    })
    .await;

    let leech = node(DhtMode::Auto, &[router.addr]).await;
    let torrent = leech.session.add(content.magnet()).await.unwrap();
    within(torrent.wait_complete()).await.unwrap();
    content.assert_copied(leech.dir.path());
    let trackers = torrent.trackers().await.unwrap();
    assert_eq!(
        (trackers[0].url.as_str(), trackers[0].used),
        (DHT_URL, TrackerUse::Enabled)
    );
    torrent
        .set_tracker_enabled(DHT_URL.into(), false)
        .await
        .unwrap();
    let trackers = torrent.trackers().await.unwrap();
    assert_eq!(trackers[0].used, TrackerUse::Disabled);

    let dir = leech.dir;
    within(leech.session.shutdown()).await.unwrap();
    let cache = dir.path().join("session").join("rtorrent.dht_cache");
    assert!(cache.is_file());

    // The next session knows the router without being told.
    let again = Node::with(|config| self::dht(config, dir.path(), DhtMode::On, &[])).await;
    wait_for("the node from the cache", async || {
        nodes_known(&again).await > 0
    })
    .await;
}

#[tokio::test]
async fn a_port_of_its_own_is_bound_and_freed() {
    let router = node(DhtMode::On, &[]).await;
    let probe = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = probe.local_addr().unwrap().port();
    let own = Node::with(|config| {
        let dir = config.dir.clone();
        dht(config, &dir, DhtMode::On, &[router.addr]);
        config.engine.dht_port = Some(port);
    })
    .await;
    // It is in use: the mode is off now.
    wait_for("the error", async || {
        own.session.dht().await.unwrap().unwrap().mode == DhtMode::Off
    })
    .await;
    drop(probe);
    own.session.set_dht(DhtMode::On).await.unwrap();
    wait_for("a node", async || nodes_known(&own).await > 0).await;
    let status = own.session.dht().await.unwrap().unwrap();
    assert_eq!(status.port, Some(port));
    own.session.set_dht(DhtMode::Off).await.unwrap();
    wait_for("the port", async || {
        std::net::UdpSocket::bind(("127.0.0.1", port)).is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_magnet_that_names_a_key_becomes_the_torrent_it_points_to() {
    let router = node(DhtMode::On, &[]).await;
    let content = Content::small();
    let seeder = node(DhtMode::On, &[router.addr]).await;
    let shared = seeder.session.add(content.share()).await.unwrap();
    within(shared.wait_complete()).await.unwrap();
    wait_for("a node", async || nodes_known(&seeder).await > 0).await;
    let info_hash: InfoHash = content.torrent.info.info_hash();
    let (secret, value) = ([7; 32], item::pointer(info_hash));
    let key = item::public_key(&secret);
    let sig = item::sign(&secret, b"", 1, &value).unwrap();
    let put = Goal::PutMutable {
        value,
        key,
        salt: Vec::new(),
        seq: 1,
        cas: None,
        sig,
    };
    let begun = seeder
        .session
        .with_engine(move |engine, now| engine.command(now, Command::Search(put)));
    begun.await.unwrap().unwrap();
    wait_for("the item", async || {
        router.session.dht().await.unwrap().unwrap().stats.items == 1
    })
    .await;

    let leech = node(DhtMode::Auto, &[router.addr]).await;
    let hex: String = key.iter().map(|b| format!("{b:02x}")).collect();
    let link = format!("magnet:?xs=urn:btpk:{hex}");
    let add = Add::magnet(&link).unwrap();
    let torrent = within(leech.session.add(add)).await.unwrap();
    assert_eq!(torrent.info_hash(), info_hash);
    within(torrent.wait_complete()).await.unwrap();
    content.assert_copied(leech.dir.path());

    // Where there is no DHT, it says so at once.
    let without = Node::new().await;
    let refused = within(without.session.add(Add::magnet(&link).unwrap())).await;
    let words = refused.unwrap_err().to_string();
    assert!(words.contains("it is off"), "{words}");
}
