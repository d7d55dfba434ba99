//! What a driver remembers in its session folder.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{Content, Node};
use dunlin_mio::{Error, Event, Limits, State, TorrentStatus};
use tempfile::TempDir;

#[test]
fn a_driver_that_ended_well_is_resumed_without_a_byte() {
    let content = Content::small();
    let (seeder, _) = Node::sharing(&content);
    let folder = TempDir::new().unwrap();
    let fetcher = Node::with(|c| c.session.folder = Some(folder.path().into()));
    let add = content.magnet().peers([seeder.addr]);
    let torrent = fetcher.handle.add(add).unwrap();
    fetcher.wait_complete(torrent);
    let (dir, _) = fetcher.stop();
    seeder.stop();

    // The same magnet: the metadata is known by now, without any peer.
    let again = Node::at(dir, |c| c.session.folder = Some(folder.path().into()));
    let torrent = again.handle.add(content.magnet()).unwrap();
    let status = again.wait_complete(torrent);
    assert_eq!((status.downloaded, status.done), (0, status.total));
    again.stop();
}

#[test]
fn a_download_that_was_interrupted_goes_on() {
    let content = Content::new(&[16 << 20]);
    let (seeder, _) = Node::sharing(&content);
    let folder = TempDir::new().unwrap();
    let fetcher = Node::with(|c| c.session.folder = Some(folder.path().into()));
    let add = content.add().peers([seeder.addr]).limits(Limits {
        down: Some(8 << 20),
        up: None,
    });
    let torrent = fetcher.handle.add(add).unwrap();
    let some = |t: &TorrentStatus| t.done > 2 << 20;
    let before = fetcher.wait(torrent, "two MiB", some);
    assert!(before.done < before.total, "too late");
    let (dir, _) = fetcher.stop();

    let again = Node::at(dir, |c| c.session.folder = Some(folder.path().into()));
    let add = content.add().peers([seeder.addr]);
    let torrent = again.handle.add(add).unwrap();
    let status = again.wait_complete(torrent);
    let fetched = status.total - before.done;
    assert!(
        status.downloaded <= fetched,
        "{} of {fetched} missing bytes fetched",
        status.downloaded
    );
    let (dir, _) = again.stop();
    content.assert_copied(dir.path());
}

#[test]
fn a_torrent_belongs_to_one_driver_until_it_is_removed() {
    let content = Content::small();
    let folder = TempDir::new().unwrap();
    let node = || Node::with(|c| c.session.folder = Some(folder.path().into()));
    let (one, other) = (node(), node());
    let torrent = one.handle.add(content.add()).unwrap();
    let error = other.handle.add(content.add()).unwrap_err();
    assert!(matches!(error, Error::Folder(_)), "{error:?}");
    // In a place of its own: its files have the same names.
    let elsewhere = TempDir::new().unwrap();
    let small = Content::new(&[1000]).add().dir(elsewhere.path());
    other.handle.add(small).unwrap();

    // When its removal is told of, it may be taken, by anybody.
    one.handle.remove(torrent, false).unwrap();
    one.event("the removal", |e| *e == Event::Removed(torrent));
    let torrent = other.handle.add(content.add()).unwrap();
    other.wait(torrent, "a state", |t| t.state == State::Downloading);
    other.handle.remove(torrent, false).unwrap();
    // A stop right behind a removal still forgets it.
    let (_dir, _) = other.stop();
    let left = std::fs::read_dir(folder.path()).unwrap();
    let hash = content.torrent.info.info_hash().to_string();
    let ours = |name: &str| name.starts_with(&hash);
    let left: Vec<_> = left
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| ours(name))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    one.stop();
}
