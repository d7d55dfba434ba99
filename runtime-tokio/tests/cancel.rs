//! Every future of the session's API may be dropped at any of its awaits: nothing is left half done.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::{
    fs,
    future::poll_fn,
    path::Path,
    pin::pin,
    task::Poll,
    time::{Duration, Instant},
};

use common::{Content, Node, PATIENCE, config, within};
use dunlin_tokio::{
    Add, AddError, Content as Files, FilePriority, InfoHash, Limits, Session, Torrent,
    dunlin_core::DhtMode,
};
use tempfile::TempDir;

/// No call awaits more often than this.
const MOST_AWAITS: usize = 100;

/// Polls a future until it has been pending `times` times, then drops it; what it came to if it was ready before.
async fn cut_off<T>(future: impl Future<Output = T>, times: usize) -> Option<T> {
    let mut future = pin!(future);
    let mut left = times;
    within(poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => {
            left -= 1;
            match left {
                0 => Poll::Ready(None),
                _ => Poll::Pending,
            }
        }
    }))
    .await
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether a session folder holds anything of a torrent.
fn remembers(folder: &Path, info_hash: InfoHash) -> bool {
    let name = info_hash.to_string();
    let entries = fs::read_dir(folder).unwrap().flatten();
    let mut names = entries.map(|entry| entry.file_name().to_string_lossy().to_lowercase());
    names.any(|file| file.contains(&name))
}

async fn session(folder: &Path, dir: &Path) -> Session {
    let mut config = config(dir);
    config.folder = Some(folder.into());
    Session::new(config).await.unwrap()
}

/// The torrent, whether it is there already or not.
async fn have(session: &Session, add: Add) -> Torrent {
    match within(session.add(add)).await {
        Ok(torrent) | Err(AddError::Duplicate { torrent, .. }) => torrent,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn adding_may_be_dropped_anywhere_and_leaves_no_claim() {
    let content = Content::small();
    let hash = content.torrent.info.info_hash();
    let (folder, dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let file = dir.path().join("content.torrent");
    fs::write(&file, content.torrent.to_bytes()).unwrap();
    let session = session(folder.path(), dir.path()).await;
    let adds: [(&str, &dyn Fn() -> Add); 3] = [
        ("torrent", &|| content.add()),
        ("magnet", &|| content.magnet()),
        ("file", &|| Add::file(&file)),
    ];
    for (kind, add) in adds {
        let mut through = false;
        for times in 1..MOST_AWAITS {
            through = cut_off(session.add(add()), times).await.is_some();
            // Whether or not it was added: it can be had, given up, and had by another session.
            let torrent = have(&session, add()).await;
            within(torrent.remove(Files::Keep)).await.unwrap();
            assert!(!remembers(folder.path(), hash), "{kind}, {times}");
            if through {
                break;
            }
        }
        assert!(through, "{kind} awaits more often");
    }
    within(session.shutdown()).await.unwrap();
}

#[tokio::test]
async fn removing_may_be_dropped_anywhere_and_forgets_the_record() {
    let content = Content::small();
    let hash = content.torrent.info.info_hash();
    let (folder, dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let session = session(folder.path(), dir.path()).await;
    for times in 1..MOST_AWAITS {
        let torrent = within(session.add(content.add())).await.unwrap();
        assert!(remembers(folder.path(), hash));
        let through = cut_off(torrent.remove(Files::Keep), times).await.is_some();
        eventually("the torrent to be gone", async || {
            session.get(hash).await.unwrap().is_none()
        })
        .await;
        eventually("the record to be gone", async || {
            !remembers(folder.path(), hash)
        })
        .await;
        if through {
            within(session.shutdown()).await.unwrap();
            return;
        }
    }
    panic!("it awaits more often");
}

#[tokio::test]
async fn starting_and_ending_a_session_may_be_dropped_anywhere() {
    let (folder, dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let config = || {
        let mut config = config(dir.path());
        config.folder = Some(folder.path().into());
        config
    };
    let mut through = false;
    for times in 1..MOST_AWAITS {
        through = cut_off(Session::new(config()), times).await.is_some();
        if through {
            break;
        }
    }
    assert!(through);
    for times in 1..MOST_AWAITS {
        let session = within(Session::new(config())).await.unwrap();
        let through = cut_off(session.shutdown(), times).await.is_some();
        // Asked again, it says what the session came to.
        assert!(within(session.shutdown()).await.is_some());
        if through {
            return;
        }
    }
    panic!("it awaits more often");
}

#[tokio::test]
async fn every_other_call_may_be_dropped_anywhere() {
    let content = Content::small();
    let (node, torrent) = Node::sharing(&content).await;
    let session = &node.session;
    macro_rules! cut_off_each {
        ($($call:expr;)*) => { $({
            let mut through = false;
            for times in 1..MOST_AWAITS {
                through = cut_off($call, times).await.is_some();
                if through {
                    break;
                }
            }
            assert!(through, stringify!($call));
        })* };
    }
    cut_off_each! {
        session.status();
        session.stats();
        session.torrents();
        session.get(torrent.id());
        session.set_limits(Limits::default());
        session.dht();
        session.set_dht(DhtMode::Off);
        session.add_dht_node("127.0.0.1:1".into());
        session.with_engine(|_, _| ());
        torrent.status();
        torrent.watch();
        torrent.info();
        torrent.files();
        torrent.peers();
        torrent.trackers();
        torrent.scrape();
        torrent.pause();
        torrent.resume();
        torrent.set_priorities(vec![FilePriority::Normal]);
        torrent.set_sequential(false);
        torrent.set_limits(Limits::default());
        torrent.add_peers(Vec::new());
        torrent.add_trackers(Vec::new());
        torrent.set_tracker_enabled("http://127.0.0.1/".into(), false);
        torrent.reannounce();
        torrent.recheck();
        torrent.wait_metadata();
        torrent.wait_complete();
    }
    let ended = within(session.shutdown()).await.unwrap();
    assert_eq!((ended.engine.torrents, ended.engine.blocks_lent), (0, 0));
}
