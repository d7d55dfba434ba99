//! Drivers with each other, over loopback.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::net::{Ipv4Addr, Ipv6Addr};

use common::{Content, Node};

#[test]
fn a_torrent_travels_from_one_driver_to_another_over_ipv4_and_ipv6() {
    let content = Content::small();
    for ip in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
        let ip: std::net::IpAddr = ip;
        let seeder = Node::on(ip);
        let shares = seeder.handle.add(content.share()).unwrap();
        seeder.wait_complete(shares);
        let fetcher = Node::on(ip);
        let add = content.add().peers([seeder.addr]);
        let torrent = fetcher.handle.add(add).unwrap();
        let status = fetcher.wait_complete(torrent);
        assert_eq!(status.wanted_done, content.torrent.info.total_len());
        let (dir, stats) = fetcher.stop();
        content.assert_copied(dir.path());
        assert!(stats.read_bytes > content.torrent.info.total_len());
        seeder.stop();
    }
}

#[test]
fn a_magnet_travels_too() {
    let content = Content::small();
    let (seeder, _) = Node::sharing(&content);
    let fetcher = Node::new();
    let add = content.magnet().peers([seeder.addr]);
    let torrent = fetcher.handle.add(add).unwrap();
    fetcher.wait_complete(torrent);
    let info = fetcher
        .handle
        .with_engine(move |engine, _| engine.info(torrent))
        .unwrap();
    assert_eq!(info.unwrap().raw(), content.torrent.info.raw());
    let (dir, _) = fetcher.stop();
    content.assert_copied(dir.path());
}
