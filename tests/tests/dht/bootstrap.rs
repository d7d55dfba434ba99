//! Getting into the network: rTorrent by Dunlin, Dunlin by rTorrent, by a node's address and by the cache file.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use dunlin_tests::krpc;
use dunlin_tests::lab::{Family, Proc};
use dunlin_tests::peers::dunlin;
use dunlin_tests::peers::rtorrent::Rtorrent;
use dunlin_tests::wait::until;

use crate::{ENOUGH, Net};

/// rTorrent goes round every minute until it knows 32 nodes; the first round is to do.
const PATIENCE: Duration = Duration::from_secs(45);
/// The file that both keep in their session folder.
const CACHE: &str = "rtorrent.dht_cache";

/// Starts Dunlin with a session folder and nodes to begin with, and waits until it can name nodes to others.
fn start_dunlin(net: &Net, session: &Path, nodes: &[SocketAddr]) -> (Proc, SocketAddr) {
    let (at, probe) = (net.listen(), net.listen());
    let process = dunlin::node(&net.lab, at, nodes, session);
    until("Dunlin to know nodes", PATIENCE, || {
        (krpc::closest(&net.lab, probe, at)? >= ENOUGH).then_some(())
    });
    (process, at)
}

/// The same with rTorrent.
fn start_rtorrent(net: &Net, session: &Path, nodes: &[SocketAddr]) -> (Rtorrent, SocketAddr) {
    let at = net.listen();
    let rtorrent = Rtorrent::node(&net.lab, at, session, nodes);
    until("rTorrent to know nodes", PATIENCE, || {
        let known = usize::try_from(rtorrent.dht("nodes")?).ok()?;
        (known >= ENOUGH && rtorrent.dht("replies_received")? > 0).then_some(())
    });
    (rtorrent, at)
}

#[test]
fn rtorrent_by_the_address_of_dunlin() {
    let net = Net::new(Family::V4);
    let (_dunlin, at) = start_dunlin(&net, &net.lab.folder("session"), net.cloud.nodes());
    start_rtorrent(&net, &net.lab.folder("rt-session"), &[at]);
}

#[test]
fn rtorrent_by_the_cache_of_dunlin() {
    let net = Net::new(Family::V4);
    let (ours, theirs) = (net.lab.folder("session"), net.lab.folder("rt-session"));
    let (mut dunlin, _) = start_dunlin(&net, &ours, net.cloud.nodes());
    dunlin.terminate();
    fs::copy(ours.join(CACHE), theirs.join(CACHE)).expect("Dunlin's cache");
    start_rtorrent(&net, &theirs, &[]);
}

#[test]
fn dunlin_by_the_address_of_rtorrent() {
    let net = Net::new(Family::V4);
    let session = net.lab.folder("rt-session");
    let (_rtorrent, at) = start_rtorrent(&net, &session, net.cloud.nodes());
    start_dunlin(&net, &net.lab.folder("session"), &[at]);
}

#[test]
fn dunlin_by_the_cache_of_rtorrent() {
    let net = Net::new(Family::V4);
    let (ours, theirs) = (net.lab.folder("session"), net.lab.folder("rt-session"));
    let (rtorrent, _) = start_rtorrent(&net, &theirs, net.cloud.nodes());
    rtorrent.shut_down();
    fs::copy(theirs.join(CACHE), ours.join(CACHE)).expect("rTorrent's cache");
    start_dunlin(&net, &ours, &[]);
}
