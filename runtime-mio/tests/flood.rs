//! A peer that sends without end takes its turn like any other.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::{
    io::Write,
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use common::{Content, Node, until};
use dunlin_mio::InfoHash;

/// BEP 3: the handshake, in plain text.
fn handshake(hash: InfoHash, who: u8) -> Vec<u8> {
    let mut bytes = b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0".to_vec();
    bytes.extend(hash.0);
    bytes.extend(b"-XX0000-floods-much");
    bytes.push(b'0' + who);
    bytes
}

/// Sends keep-alives, which are legal however many there are, as fast as they are taken.
fn flood(to: SocketAddr, hash: InfoHash, who: u8, sent: &AtomicU64, stop: &AtomicBool) {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.write_all(&handshake(hash, who)).unwrap();
    // A peer that does not read would be let go.
    let mut back = stream.try_clone().unwrap();
    std::thread::spawn(move || std::io::copy(&mut back, &mut std::io::sink()));
    let keep_alives = [0; 1 << 16];
    while !stop.load(Ordering::Relaxed) {
        stream.write_all(&keep_alives).unwrap();
        sent.fetch_add(keep_alives.len() as u64, Ordering::Relaxed);
    }
}

#[test]
fn a_peer_that_floods_does_not_starve_another() {
    let content = Content::small();
    let (seeder, _) = Node::sharing(&content);
    let (stop, sent) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let hash = content.torrent.info.info_hash();
    let flooders: Vec<_> = (0..2)
        .map(|who| {
            let (to, sent, stop) = (seeder.addr, Arc::clone(&sent), Arc::clone(&stop));
            std::thread::spawn(move || flood(to, hash, who, &sent, &stop))
        })
        .collect();
    let flooded = |least| move |sent: &AtomicU64| sent.load(Ordering::Relaxed) >= least;
    until("the flood", || flooded(16 << 20)(&sent).then_some(()));

    let fetcher = Node::new();
    let add = content.add().peers([seeder.addr]);
    let torrent = fetcher.handle.add(add).unwrap();
    fetcher.wait_complete(torrent);
    // Nor is the flooder: it goes on being read.
    let so_far = sent.load(Ordering::Relaxed);
    until("more of the flood", || {
        flooded(so_far + (16 << 20))(&sent).then_some(())
    });
    stop.store(true, Ordering::Relaxed);
    for flooder in flooders {
        flooder.join().unwrap();
    }
    let (dir, _) = fetcher.stop();
    content.assert_copied(dir.path());
    seeder.stop();
}
