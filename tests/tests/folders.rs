//! One session folder for both std drivers: what one leaves, the other goes on from.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::{fs, path::Path};

use dunlin_core::OpErrorKind;
use dunlin_core::engine::{Check, Event, State};
use dunlin_mio::{Control, Driver};
use dunlin_std::{session::add::Add, session::setup::SessionConfig};
use dunlin_tests::payload::{Payload, Torrent};
use dunlin_tokio::Session;

const LEN: u64 = 3 << 20;

fn config(folder: &Path, payload: &Payload) -> SessionConfig {
    SessionConfig {
        listen: Vec::new(),
        folder: Some(folder.into()),
        dir: payload.root.clone(),
        ..SessionConfig::default().without_dht()
    }
}

/// Adds the torrent and stays until it is clear whether all of it is there.
fn with_mio(config: SessionConfig, torrent: &Torrent, check: Check) -> bool {
    let mut driver = Driver::new(config).unwrap();
    let add = Add::file(&torrent.path).check(check);
    driver.control().add(add).unwrap();
    let mut complete = None;
    driver
        .run(|event, ctl: &mut Control<'_>| {
            if let Event::Changed { torrent, .. } = event
                && let Some(status) = ctl.status(torrent)
                && let Some(verdict) = verdict(status.state)
            {
                complete = Some(verdict);
                ctl.stop();
            }
        })
        .unwrap();
    complete.unwrap()
}

/// The same with tokio.
fn with_tokio(config: SessionConfig, torrent: &Torrent, check: Check) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let session = Session::new(config).await.unwrap();
        let add = Add::file(&torrent.path).check(check);
        let added = session.add(add).await.unwrap();
        let mut watch = added.watch().await.unwrap();
        let complete = loop {
            let status = watch.next().await.unwrap();
            if let Some(verdict) = verdict(status.state) {
                break verdict;
            }
        };
        session.shutdown().await;
        complete
    })
}

/// Whether all is there, once the files have been looked at.
fn verdict(state: State) -> Option<bool> {
    match state {
        State::Seeding => Some(true),
        State::Downloading => Some(false),
        // No record vouches for the file, and what is wrong in it may be the user's.
        State::Failed(error) if error.kind == OpErrorKind::Exists => Some(false),
        State::Failed(error) => panic!("{error}"),
        _ => None,
    }
}

/// Changes a byte of the payload such that only hashing can tell.
fn damage(payload: &Payload) {
    let path = payload.root.join(&payload.name);
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[0] ^= 1;
    fs::write(&path, bytes).unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(time).unwrap();
}

#[test]
fn what_one_driver_has_verified_the_other_believes() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("payload");
    fs::create_dir(&root).unwrap();
    let payload = Payload::single(&root, "content.bin", 7, LEN);
    let torrent = payload.torrent(17, &[]);
    let folder = |name: &str| config(&dir.path().join(name), &payload);
    assert!(with_tokio(folder("one"), &torrent, Check::All));
    assert!(with_mio(folder("other"), &torrent, Check::All));
    damage(&payload);
    // The record says that it is whole, and nothing about the file says otherwise.
    assert!(with_mio(folder("one"), &torrent, Check::Doubted));
    assert!(with_tokio(folder("other"), &torrent, Check::Doubted));
    // Without a record, or without trust, it is seen that it is not.
    assert!(!with_mio(folder("new"), &torrent, Check::Doubted));
    assert!(!with_tokio(folder("other"), &torrent, Check::All));
}
