//! Sessions with each other, over loopback.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::{fs, path::PathBuf};

use common::{Content, Node, PATIENCE, config, event, within};
use dunlin_tokio::{
    Add, AddError, Content as Files, EncryptionPolicy, Error, Event, FilePriority, InfoHash,
    Limits, Session, State, StreamEncryption, What,
};
use tempfile::TempDir;

#[tokio::test]
async fn a_torrent_travels_from_one_session_to_another() {
    let content = Content::small();
    let (seeder, _shares) = Node::sharing(&content).await;
    let fetcher = Node::new().await;
    let torrent = fetcher
        .session
        .add(content.add().peers([seeder.addr]))
        .await
        .unwrap();
    let status = within(torrent.wait_complete()).await.unwrap();
    assert_eq!(status.wanted_done, content.torrent.info.total_len());
    fetcher.session.shutdown().await;
    content.assert_copied(fetcher.dir.path());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_magnet_travels_on_any_flavour_of_runtime() {
    let content = Content::small();
    let (seeder, _shares) = Node::sharing(&content).await;
    let fetcher = Node::new().await;
    let torrent = fetcher
        .session
        .add(content.magnet().peers([seeder.addr]))
        .await
        .unwrap();
    let info = within(torrent.wait_metadata()).await.unwrap();
    assert_eq!(info.raw(), content.torrent.info.raw());
    within(torrent.wait_complete()).await.unwrap();
    fetcher.session.shutdown().await;
    content.assert_copied(fetcher.dir.path());
}

#[tokio::test]
async fn encryption_policies_meet_or_refuse() {
    use EncryptionPolicy::{Allowed, Off, Preferred, Required};
    use StreamEncryption::{Full, Handshake, None as Plain};
    let content = Content::new(&[200_000]);
    for (ours, theirs, encrypted) in [
        (Required, Required, Some(Full)),
        (Preferred, Allowed, Some(Handshake)),
        (Preferred, Required, Some(Full)),
        (Required, Allowed, Some(Full)),
        (Allowed, Required, Some(Full)),
        (Off, Off, Some(Plain)),
        (Preferred, Off, Some(Plain)),
        (Required, Off, None),
        (Off, Required, None),
    ] {
        let seeder = Node::with(|c| c.engine.encryption = theirs).await;
        let shares = seeder.session.add(content.share()).await.unwrap();
        within(shares.wait_complete()).await.unwrap();
        let fetcher = Node::with(|c| c.engine.encryption = ours).await;
        let mut events = fetcher.session.events();
        let torrent = fetcher
            .session
            .add(content.add().peers([seeder.addr]))
            .await
            .unwrap();
        let met = event(&mut events, |e| match e {
            Event::Notice(n) => match n.what {
                What::Connected { .. } => true,
                What::Disconnected { .. } => encrypted.is_none(),
                _ => false,
            },
            _ => false,
        })
        .await;
        let got = match met {
            Event::Notice(notice) => match notice.what {
                What::Connected { encryption, .. } => Some(encryption),
                _ => None,
            },
            _ => None,
        };
        assert_eq!(got, encrypted, "{ours:?} to {theirs:?}");
        if encrypted.is_some() {
            within(torrent.wait_complete()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn only_what_is_selected_is_fetched() {
    let content = Content::new(&[300_000, 300_000, 300_000]);
    let (seeder, _shares) = Node::sharing(&content).await;
    let fetcher = Node::new().await;
    let add = content.magnet().peers([seeder.addr]).select(|info| {
        assert_eq!(info.files().len(), 3);
        vec![FilePriority::Skip, FilePriority::Normal, FilePriority::Skip]
    });
    let torrent = fetcher.session.add(add).await.unwrap();
    let status = within(torrent.wait_complete()).await.unwrap();
    assert!(status.wanted < status.total, "{status:?}");
    fetcher.session.shutdown().await;
    let (wanted, data) = &content.files[1];
    assert!(fs::read(fetcher.dir.path().join(wanted)).unwrap() == *data);
    for i in [0, 2] {
        let path = fetcher.dir.path().join(&content.files[i].0);
        assert!(!path.exists(), "{} was not wanted", path.display());
    }
}

#[tokio::test]
async fn a_limit_holds_and_can_be_lifted() {
    let content = Content::new(&[4 << 20]);
    let (seeder, _shares) = Node::sharing(&content).await;
    let fetcher = Node::with(|c| c.engine.limit_down = Some(0)).await;
    let mut events = fetcher.session.events();
    let torrent = fetcher
        .session
        .add(content.add().peers([seeder.addr]))
        .await
        .unwrap();
    // The limit lets no byte through, so the attempt can only stand.
    event(
        &mut events,
        |e| matches!(e, Event::Notice(n) if n.what == What::Connecting),
    )
    .await;
    assert_eq!(torrent.status().await.unwrap().downloaded, 0);
    fetcher.session.set_limits(Limits::default()).await.unwrap();
    within(torrent.wait_complete()).await.unwrap();
}

#[tokio::test]
async fn a_paused_torrent_rests_until_it_is_woken() {
    let content = Content::small();
    let (seeder, _shares) = Node::sharing(&content).await;
    let fetcher = Node::new().await;
    let torrent = fetcher
        .session
        .add(content.add().peers([seeder.addr]).paused(true))
        .await
        .unwrap();
    let mut watch = torrent.watch().await.unwrap();
    within(async { while watch.next().await.unwrap().state != State::Paused {} }).await;
    assert_eq!(torrent.status().await.unwrap().downloaded, 0);
    torrent.resume().await.unwrap();
    within(torrent.wait_complete()).await.unwrap();
    torrent.pause().await.unwrap();
    within(async { while watch.next().await.unwrap().state != State::Paused {} }).await;
}

/// What a session that was killed leaves is taken up by the next one.
#[test]
fn a_killed_session_is_resumed() {
    let content = Content::new(&[16 << 20]);
    let (dir, folder) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap()
    };
    let seeding = runtime();
    let (seeder, _shares) = seeding.block_on(Node::sharing(&content));
    let make = || {
        let mut config = config(dir.path());
        config.folder = Some(folder.path().into());
        config
    };

    // Slowed down, so that it is killed half-way; the runtime goes away under the session.
    let killed = runtime();
    let before = killed.block_on(async {
        let mut config = make();
        config.engine.limit_down = Some(8 << 20);
        let session = Session::new(config).await.unwrap();
        let add = content.magnet().peers([seeder.addr]);
        let torrent = session.add(add).await.unwrap();
        let mut watch = torrent.watch().await.unwrap();
        let status = within(async {
            loop {
                let status = watch.next().await.unwrap();
                if status.wanted_done > 2 << 20 {
                    return status;
                }
            }
        })
        .await;
        std::mem::forget(session);
        status
    });
    drop(killed);
    assert!(before.wanted_done < before.wanted, "killed too late");

    runtime().block_on(async {
        let session = Session::new(make()).await.unwrap();
        // The same magnet: the metadata is known by now, without any peer.
        let torrent = session.add(content.magnet()).await.unwrap();
        assert!(torrent.status().await.unwrap().has_metadata);
        torrent.add_peers(vec![seeder.addr]).await.unwrap();
        let status = within(torrent.wait_complete()).await.unwrap();
        // Pieces that were under way when it was killed are fetched again, the rest is not.
        assert!(
            status.downloaded < status.total,
            "{} of {} fetched again",
            status.downloaded,
            status.total
        );
        session.shutdown().await;
    });
    content.assert_copied(dir.path());
}

#[tokio::test]
async fn a_session_that_ended_well_is_resumed_without_a_byte() {
    let content = Content::small();
    let (seeder, _shares) = Node::sharing(&content).await;
    let folder = TempDir::new().unwrap();
    let fetcher = Node::with(|c| c.folder = Some(folder.path().into())).await;
    let torrent = fetcher
        .session
        .add(content.magnet().peers([seeder.addr]))
        .await
        .unwrap();
    within(torrent.wait_complete()).await.unwrap();
    fetcher.session.shutdown().await;
    assert!(matches!(torrent.status().await, Err(Error::Stopped)));

    let mut config = config(fetcher.dir.path());
    config.folder = Some(folder.path().into());
    let again = Session::new(config).await.unwrap();
    let torrent = again.add(content.magnet()).await.unwrap();
    let status = within(torrent.wait_complete()).await.unwrap();
    assert_eq!((status.downloaded, status.state), (0, State::Seeding));
    again.shutdown().await;
}

#[tokio::test]
async fn a_disk_that_cannot_be_written_is_an_error_and_woken_when_mended() {
    let content = Content::small();
    let (seeder, _shares) = Node::sharing(&content).await;
    let fetcher = Node::new().await;
    // A file stands where the torrent's folder should be.
    let blocked = fetcher.dir.path().join("content");
    fs::write(&blocked, b"in the way").unwrap();
    let torrent = fetcher
        .session
        .add(content.add().peers([seeder.addr]))
        .await
        .unwrap();
    let error = within(torrent.wait_complete()).await.unwrap_err();
    assert!(matches!(error, Error::Failed { .. }), "{error:?}");
    assert!(error.to_string().contains("content"), "{error}");

    fs::remove_file(&blocked).unwrap();
    torrent.resume().await.unwrap();
    torrent.add_peers(vec![seeder.addr]).await.unwrap();
    within(torrent.wait_complete()).await.unwrap();
    fetcher.session.shutdown().await;
    content.assert_copied(fetcher.dir.path());
}

#[tokio::test]
async fn the_same_torrent_twice_is_an_error_and_changes_nothing() {
    let content = Content::small();
    let folder = TempDir::new().unwrap();
    let node = Node::with(|c| c.folder = Some(folder.path().into())).await;
    let torrent = node.session.add(content.add()).await.unwrap();
    let error = node.session.add(content.magnet()).await.unwrap_err();
    let AddError::Duplicate { torrent: there, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(there.id(), torrent.id());
    assert!(matches!(Error::from(error), Error::Duplicate { id, .. } if id == torrent.id()));
    assert_eq!(node.session.torrents().await.unwrap().len(), 1);
    for found in [
        node.session.get(torrent.id()).await.unwrap(),
        node.session.get(torrent.info_hash()).await.unwrap(),
    ] {
        assert_eq!(found.unwrap().id(), torrent.id());
    }
    let other = node.session.get(InfoHash([0; 20])).await.unwrap();
    assert!(other.is_none());

    // Another session on the same folder runs other torrents, but not this one.
    let other = Node::with(|c| c.folder = Some(folder.path().into())).await;
    let error = other.session.add(content.add()).await.unwrap_err();
    assert!(
        matches!(error, AddError::Other(Error::Folder(_))),
        "{error:?}"
    );
    let second = Content::new(&[1000]);
    other.session.add(second.add()).await.unwrap();

    // Once it is given up, it may be taken.
    torrent.remove(Files::Keep).await.unwrap();
    other.session.add(content.add()).await.unwrap();
}

#[tokio::test]
async fn a_removed_torrent_takes_its_files_along_if_asked() {
    let content = Content::small();
    let (seeder, _shares) = Node::sharing(&content).await;
    for (how, remains) in [(Files::Keep, true), (Files::Delete, false)] {
        let fetcher = Node::new().await;
        let torrent = fetcher
            .session
            .add(content.add().peers([seeder.addr]))
            .await
            .unwrap();
        within(torrent.wait_complete()).await.unwrap();
        within(torrent.remove(how)).await.unwrap();
        assert!(matches!(torrent.status().await, Err(Error::Removed)));
        assert_eq!(fetcher.dir.path().join("content").exists(), remains);
    }
}

#[tokio::test]
async fn what_is_no_torrent_is_refused_with_name_and_reason() {
    let node = Node::new().await;
    let missing = PathBuf::from("/nowhere/at.torrent");
    let error = node.session.add(Add::file(&missing)).await.unwrap_err();
    assert!(error.to_string().starts_with("/nowhere/at.torrent: "));

    let torn = node.dir.path().join("torn.torrent");
    let content = Content::small();
    let bytes = content.torrent.to_bytes();
    fs::write(&torn, &bytes[..bytes.len() / 2]).unwrap();
    let error = node.session.add(Add::file(&torn)).await.unwrap_err();
    assert!(
        matches!(error, AddError::Other(Error::Metainfo { .. })),
        "{error:?}"
    );
    assert!(error.to_string().contains("torn.torrent"), "{error}");

    assert!(matches!(
        Add::magnet("magnet:?dn=nothing"),
        Err(Error::Magnet { .. })
    ));
    assert!(Add::bytes(b"<html>").is_err());
    // Nobody listens on the discard port of loopback.
    let url = "http://127.0.0.1:9/secret.torrent?key=hidden";
    let error = node.session.add(Add::url(url)).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("secret.torrent") && !text.contains("hidden"),
        "{text}"
    );
    assert!(node.session.torrents().await.unwrap().is_empty());
}

/// Law 3, from outside: an idle session is not woken.
#[tokio::test]
async fn an_idle_session_sleeps() {
    let content = Content::small();
    let node = Node::new().await;
    let torrent = node.session.add(content.share()).await.unwrap();
    within(torrent.wait_complete()).await.unwrap();
    let before = node.session.stats().await.unwrap();
    // Virtual time: an hour passes as fast as this process's timers let it.
    tokio::time::pause();
    tokio::time::sleep(std::time::Duration::from_secs(3600)).await;
    let after = node.session.stats().await.unwrap();
    let turns = after.turns - before.turns;
    assert!(turns < 2 * 3600, "{turns} turns in an hour");
    assert!(after.spin < 10);
}

#[tokio::test]
async fn a_dropped_session_ends_by_itself() {
    let content = Content::small();
    let (seeder, shares) = Node::sharing(&content).await;
    drop(seeder.session);
    within(async {
        while !matches!(shares.status().await, Err(Error::Stopped)) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_session_that_does_not_listen_asks_udp_trackers_all_the_same() {
    let tracker = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let url = format!("udp://{}/announce", tracker.local_addr().unwrap());
    let dir = TempDir::new().unwrap();
    let mut config = config(dir.path());
    config.listen.clear();
    let session = Session::new(config).await.unwrap();
    let add = Content::new(&[1000]).add().trackers([url]);
    session.add(add).await.unwrap();
    let mut connect = [0; 100];
    let len = within(tracker.recv(&mut connect)).await.unwrap();
    // BEP 15: the magic number, then action 0.
    assert_eq!(len, 16);
    assert_eq!(
        connect[..12],
        [0, 0, 4, 0x17, 0x27, 0x10, 0x19, 0x80, 0, 0, 0, 0]
    );
    assert!(session.status().await.unwrap().listening.is_empty());
}

#[tokio::test]
async fn trackers_say_what_is_wrong_with_them() {
    let dir = TempDir::new().unwrap();
    let session = Session::new(config(dir.path())).await.unwrap();
    // A port that was free a moment ago: nobody listens.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/announce", nobody.local_addr().unwrap());
    drop(nobody);
    let add = Content::new(&[1000]).add();
    let add = add.trackers([url.clone(), "wss://tracker.example/".into()]);
    let torrent = session.add(add).await.unwrap();
    let trackers = within(async {
        loop {
            let trackers = torrent.trackers().await.unwrap();
            if trackers.iter().any(|t| t.url == url && t.message.is_some()) {
                return trackers;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    let of = |scheme: &str| trackers.iter().find(|t| t.url.starts_with(scheme)).unwrap();
    assert!(
        of("wss").message.as_ref().unwrap().contains("wss"),
        "{trackers:?}"
    );
    assert!(of("http").next.is_some(), "it is asked again: {trackers:?}");
    torrent.scrape().await.unwrap();
}

/// Nothing answers the tracker, so there is nothing to wait for, whatever the limit is.
#[tokio::test]
async fn a_silent_tracker_does_not_hold_up_the_end() {
    let http = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let udp = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let urls = [
        format!("http://{}/announce", http.local_addr().unwrap()),
        format!("udp://{}/announce", udp.local_addr().unwrap()),
    ];
    let node = Node::with(|c| c.engine.stop_timeout = 100 * PATIENCE).await;
    let content = Content::new(&[1000]);
    node.session
        .add(content.add().trackers(urls))
        .await
        .unwrap();
    // Both have been asked, and both have this to answer.
    let _asked = within(http.accept()).await.unwrap();
    within(udp.recv(&mut [0; 100])).await.unwrap();
    within(node.session.shutdown()).await;
}

/// A session may be told to end in any state.
#[tokio::test]
async fn the_end_comes_in_every_state() {
    let content = Content::small();
    let hash = || Add::magnet("magnet:?xt=urn:btih:0123456789abcdef0123456789abcdef01234567");
    // Empty, and before its sockets are bound.
    let session = Session::new(config(content.dir.path())).await.unwrap();
    within(session.shutdown()).await;
    for paused in [false, true] {
        // Without metadata; being checked; with handles, watchers and waiters about.
        let node = Node::new().await;
        let magnet = node.session.add(hash().unwrap().paused(paused)).await;
        let magnet = magnet.unwrap();
        let shared = node.session.add(content.share().paused(paused)).await;
        let shared = shared.unwrap();
        let waiting = [
            tokio::spawn({
                let magnet = magnet.clone();
                async move { magnet.wait_metadata().await.err() }
            }),
            tokio::spawn({
                let magnet = magnet.clone();
                async move { magnet.wait_complete().await.err() }
            }),
        ];
        let mut watch = shared.watch().await.unwrap();
        let mut events = node.session.events();
        within(node.session.shutdown()).await;
        for task in waiting {
            let error = within(task).await.unwrap();
            assert!(matches!(error, Some(Error::Stopped | Error::Removed)));
        }
        within(async { while watch.next().await.is_some() {} }).await;
        within(async { while events.next().await.is_some() {} }).await;
        assert!(matches!(shared.pause().await, Err(Error::Stopped)));
        assert!(matches!(
            shared.remove(Files::Keep).await,
            Err(Error::Stopped)
        ));
    }
}

/// A call that is under way when the session goes is answered, not left hanging.
#[tokio::test]
async fn whoever_calls_while_it_ends_gets_an_answer() {
    let content = Content::small();
    let (node, shares) = Node::sharing(&content).await;
    let callers: Vec<_> = (0..200)
        .map(|i| {
            let shares = shares.clone();
            tokio::spawn(async move {
                match i % 4 {
                    0 => shares.status().await.map(drop),
                    1 => shares.recheck().await,
                    2 => shares.watch().await.map(drop),
                    _ => shares.pause().await,
                }
            })
        })
        .collect();
    drop(node.session);
    for caller in callers {
        let answer = within(caller).await.unwrap();
        assert!(matches!(
            answer,
            Ok(()) | Err(Error::Stopped | Error::Removed)
        ));
    }
    assert!(within(shares.wait_complete()).await.is_err());
}

/// The runtime goes while a session is at work: no thread may be left waiting.
#[test]
fn a_runtime_may_end_under_a_session() {
    let content = Content::small();
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let torrent = runtime.block_on(async {
            let node = Node::new().await;
            let torrent = node.session.add(content.share()).await.unwrap();
            std::mem::forget(node.session);
            torrent
        });
        drop(runtime);
        let other = tokio::runtime::Runtime::new().unwrap();
        let error = other.block_on(torrent.status()).err();
        let _ = done.send(matches!(error, Some(Error::Stopped)));
    });
    assert_eq!(ended.recv_timeout(PATIENCE), Ok(true));
}
