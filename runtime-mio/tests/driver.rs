//! Drivers with each other, over loopback.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener},
    time::{Duration, Instant},
};

use common::{Content, Node, PATIENCE, config, until};
use dunlin_mio::{Add, Driver, Error, Event, FilePriority, Limits, State, What};
use tempfile::TempDir;

#[test]
fn a_torrent_travels_from_one_driver_to_another_over_ipv4_and_ipv6() {
    let content = Content::small();
    for ip in [
        IpAddr::from(Ipv4Addr::LOCALHOST),
        Ipv6Addr::LOCALHOST.into(),
    ] {
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
fn a_magnet_travels_too_and_a_selection_is_kept_to() {
    let content = Content::new(&[300_000, 300_000, 300_000]);
    let (seeder, _) = Node::sharing(&content);
    let fetcher = Node::new();
    let add = content.magnet().peers([seeder.addr]).select(|info| {
        assert_eq!(info.files().len(), 3);
        vec![FilePriority::Skip, FilePriority::Normal, FilePriority::Skip]
    });
    let torrent = fetcher.handle.add(add).unwrap();
    let status = fetcher.wait_complete(torrent);
    assert!(status.wanted < status.total, "{status:?}");
    let info = fetcher
        .handle
        .with_engine(move |engine, _| engine.torrent(torrent).and_then(|t| t.info().cloned()));
    assert_eq!(info.unwrap().unwrap().raw(), content.torrent.info.raw());
    let (dir, _) = fetcher.stop();
    let (wanted, data) = &content.files[1];
    assert!(std::fs::read(dir.path().join(wanted)).unwrap() == *data);
    assert!(!dir.path().join(&content.files[0].0).exists());
}

/// The ten lines of the documentation, with a peer.
#[test]
fn run_returns_when_the_callback_stops_it() {
    let content = Content::small();
    let (seeder, _) = Node::sharing(&content);
    let dir = TempDir::new().unwrap();
    let mut driver = Driver::new(config(dir.path())).unwrap();
    let add = content.magnet().peers([seeder.addr]);
    driver.control().add(add).unwrap();
    let mut last = None;
    driver
        .run(|event, ctl| {
            if let Event::Changed { torrent, .. } = event
                && ctl
                    .status(torrent)
                    .is_some_and(|t| t.state == State::Seeding)
            {
                ctl.stop();
            }
            last = Some(event);
        })
        .unwrap();
    assert_eq!(last, Some(Event::Stopped), "and nothing comes after it");
    content.assert_copied(dir.path());
}

/// A driver that was turned by hand and is kept after its end.
#[test]
fn handles_do_not_wait_for_a_driver_that_has_ended() {
    let dir = TempDir::new().unwrap();
    let mut config = config(dir.path());
    config.commands = 1;
    let mut driver = Driver::new(config).unwrap();
    let handle = driver.handle();
    let before = {
        let handle = handle.clone();
        // More than fit into the queue.
        let ask = move || std::iter::repeat_with(|| handle.engine_status()).find(Result::is_err);
        std::thread::spawn(ask)
    };
    driver.control().stop();
    while driver.turn(None, |_, _| ()).unwrap() {}
    let (told, answers) = std::sync::mpsc::channel();
    for _ in 0..3 {
        let (handle, told) = (handle.clone(), told.clone());
        std::thread::spawn(move || drop(told.send(handle.engine_status())));
    }
    for _ in 0..3 {
        let answer = answers.recv_timeout(PATIENCE).expect("an answer");
        assert!(matches!(answer, Err(Error::Stopped)), "{answer:?}");
    }
    until("the thread that asked all the time", || {
        before.is_finished().then_some(())
    });
    let last = before.join().unwrap();
    assert!(matches!(last, Some(Err(Error::Stopped))), "{last:?}");
    // On the loop's own thread as well: no loop runs there any more.
    assert!(matches!(handle.engine_status(), Err(Error::Stopped)));
    assert!(!driver.turn(None, |_, _| ()).unwrap());
}

#[test]
fn commands_come_from_any_thread_and_are_answered() {
    let content = Content::small();
    let (seeder, _) = Node::sharing(&content);
    let fetcher = Node::new();
    let add = content.add().peers([seeder.addr]).paused(true);
    let id = fetcher.handle.add(add).unwrap();
    let error = fetcher.handle.add(content.magnet()).unwrap_err();
    assert!(matches!(error, Error::Duplicate { id: other, .. } if other == id));
    fetcher.wait(id, "at rest", |t| t.state == State::Paused);
    let handles: Vec<_> = (0..8).map(|_| fetcher.handle.clone()).collect();
    std::thread::scope(|scope| {
        for handle in handles {
            scope.spawn(move || {
                for _ in 0..50 {
                    assert_eq!(handle.status(id).unwrap().downloaded, 0);
                }
            });
        }
    });
    fetcher.handle.resume(id).unwrap();
    fetcher.wait_complete(id);
    fetcher.handle.remove(id, true).unwrap();
    fetcher.event("the removal", |e| *e == Event::Removed(id));
    assert!(!fetcher.dir.path().join("content").exists());
    assert!(matches!(fetcher.handle.pause(id), Err(Error::Removed)));
    let handle = fetcher.handle.clone();
    fetcher.stop();
    assert!(matches!(handle.status(id), Err(Error::Stopped)));
}

#[test]
fn a_handle_does_not_wait_for_its_own_thread() {
    let dir = TempDir::new().unwrap();
    let mut driver = Driver::new(config(dir.path())).unwrap();
    let handle = driver.handle();
    assert!(driver.turn(Some(Duration::ZERO), |_, _| ()).unwrap());
    let error = handle.stop().unwrap_err();
    assert!(matches!(error, Error::Deadlock { .. }), "{error}");
    let error = driver
        .control()
        .add(Add::url("http://127.0.0.1:9/a.torrent"));
    assert!(matches!(error, Err(Error::Deadlock { .. })));
    // What the message says to do works.
    driver.control().stop();
    while driver.turn(None, |_, _| ()).unwrap() {}
    assert!(!driver.turn(None, |_, _| ()).unwrap(), "still stopped");
}

/// A call that is under way when the driver goes is answered, not left hanging.
#[test]
fn whoever_calls_while_it_ends_gets_an_answer() {
    let content = Content::small();
    let (node, id) = Node::sharing(&content);
    let callers: Vec<_> = (0..16)
        .map(|i| {
            let handle = node.handle.clone();
            std::thread::spawn(move || {
                loop {
                    let answer = match i % 3 {
                        0 => handle.status(id).map(drop),
                        1 => handle.pause(id),
                        _ => handle.resume(id),
                    };
                    match answer {
                        Err(Error::Stopped) => return,
                        Ok(()) | Err(Error::Removed) => {}
                        Err(other) => panic!("{other}"),
                    }
                }
            })
        })
        .collect();
    node.stop();
    for caller in callers {
        until("an answer", || caller.is_finished().then_some(()));
        caller.join().unwrap();
    }
}

/// Law 1 is asserted by [`Node::stop`]: every op is answered, every block comes home.
#[test]
fn it_stops_in_the_middle_of_a_download() {
    let content = Content::new(&[32 << 20]);
    let (seeder, _) = Node::sharing(&content);
    let fetcher = Node::new();
    let add = content.add().peers([seeder.addr]).limits(Limits {
        down: Some(4 << 20),
        up: None,
    });
    let torrent = fetcher.handle.add(add).unwrap();
    let begun = |t: &dunlin_mio::TorrentStatus| t.done > 0;
    let status = fetcher.wait(torrent, "the first piece", begun);
    assert!(status.done < status.total, "too late");
    let (_dir, stats) = fetcher.stop();
    assert!(stats.read_bytes < content.torrent.info.total_len());
    seeder.stop();
}

#[test]
fn it_stops_in_every_state() {
    let content = Content::small();
    // Empty, and before its sockets are bound.
    let dir = TempDir::new().unwrap();
    let mut driver = Driver::new(config(dir.path())).unwrap();
    driver.control().stop();
    driver.run(|_, _| ()).unwrap();
    for paused in [false, true] {
        // Without metadata, and being checked.
        let node = Node::new();
        let hash = "magnet:?xt=urn:btih:0123456789abcdef0123456789abcdef01234567";
        let magnet = Add::magnet(hash).unwrap();
        node.handle.add(magnet.paused(paused)).unwrap();
        node.handle.add(content.share().paused(paused)).unwrap();
        node.stop();
    }
}

#[test]
fn a_port_in_use_is_told_of_and_all_goes_on() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let dir = TempDir::new().unwrap();
    let mut config = config(dir.path());
    config.session.listen = vec![address];
    let driver = Driver::new(config).unwrap();
    let mut said = None;
    driver
        .run(|event, ctl| {
            if let Event::Notice(notice) = event
                && let What::Bind { message } = notice.what
            {
                said = Some(message);
                ctl.stop();
            }
        })
        .unwrap();
    let said = said.unwrap();
    assert!(said.starts_with(&address.to_string()), "{said}");
}

/// Law 3, from outside: an idle driver waits, and is not woken.
#[test]
fn an_idle_driver_sleeps() {
    let content = Content::small();
    let dir = TempDir::new().unwrap();
    let mut driver = Driver::new(config(dir.path())).unwrap();
    driver.control().add(content.share()).unwrap();
    let mut complete = false;
    while !complete {
        let seeding = |event, ctl: &mut dunlin_mio::Control<'_>| {
            if let Event::Changed { torrent, .. } = event {
                complete |= ctl
                    .status(torrent)
                    .is_some_and(|t| t.state == State::Seeding);
            }
        };
        assert!(driver.turn(Some(PATIENCE), seeding).unwrap());
    }
    // The turns that the completion still caused are over when one waits for its limit.
    let span = Duration::from_secs(2);
    let mut turns = |limit: Duration| {
        let (before, end) = (driver.control().stats().turns, Instant::now() + limit);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            driver.turn(Some(left), |_, _| ()).unwrap();
            // Asking costs no turn.
            let _ = driver.control().engine_status();
        }
        driver.control().stats().turns - before
    };
    turns(span / 2);
    let turns = turns(span);
    assert!(turns <= 6, "{turns} turns in {span:?} of rest");
    let stats = driver.control().stats();
    assert!(stats.spin < 10, "{stats:?}");
}

#[test]
fn what_is_no_torrent_is_refused_with_name_and_reason() {
    let node = Node::new();
    let error = node.handle.add(Add::file("/nowhere/at.torrent"));
    let error = error.unwrap_err().to_string();
    assert!(error.starts_with("/nowhere/at.torrent: "), "{error}");
    // Nobody listens on the discard port of loopback.
    let url = "http://127.0.0.1:9/secret.torrent?key=hidden";
    let text = node.handle.add(Add::url(url)).unwrap_err().to_string();
    assert!(
        text.contains("secret.torrent") && !text.contains("hidden"),
        "{text}"
    );
    assert_eq!(node.handle.engine_status().unwrap().torrents, 0);
    node.stop();
}
