//! What the contract says of the disk, and of what is kept between two lives.

use dunlin_core::OpErrorKind;
use dunlin_core::engine::{Check, Command, Event, Existing, State};
use dunlin_tests::driver::{Content, Fault, Setup, Spec, TestDriver, TestDriverExt};

/// Bytes per second at which a transfer has a middle.
const SLOW: u64 = 1 << 20;

pub(crate) fn a_disk_that_takes_nothing_is_said_and_can_be_mended<H: TestDriver>() {
    let mut h = H::new(31);
    let content = Content::new(31, 700_000);
    let (seeder, addr, _) = h.seed(Setup::default(), &content);
    let (fetcher, _) = h.listen(Setup::default());
    h.break_disk(fetcher, &content, Fault::Unwritable);
    let id = h.add(fetcher, &content, Spec::from(&[addr]));
    // A full disk where we can make one: elsewhere that takes a file system of one's own.
    h.state(fetcher, id, "the disk to fail", |state| match state {
        State::Failed(e) => !H::VIRTUAL || e.kind == OpErrorKind::NoSpace,
        _ => false,
    });
    let status = h.status(fetcher);
    assert_eq!(status.connections, 0, "a failed torrent rests");
    h.until("blocks to come home", |h| {
        h.status(fetcher).blocks_lent == 0
    });
    h.mend_disk(fetcher, &content);
    assert!(h.with_engine(fetcher, move |e, now| {
        e.command(now, Command::Resume(id)).is_ok()
    }));
    h.exact(fetcher, id, &content);
    h.end(fetcher);
    h.end(seeder);
}

pub(crate) fn files_that_vanish_under_a_seed_are_said<H: TestDriver>() {
    let mut h = H::new(32);
    let content = Content::new(32, 700_000);
    let (seeder, addr, is) = h.seed(Setup::default(), &content);
    h.break_disk(seeder, &content, Fault::Missing);
    // Files that are open may still be read: a check opens them anew.
    assert!(h.with_engine(seeder, move |e, now| {
        e.command(now, Command::Recheck(is)).is_ok()
    }));
    let (fetcher, _) = h.listen(Setup::default());
    let id = h.add(fetcher, &content, Spec::from(&[addr]));
    h.until("the loss to show", |h| {
        let status = h.torrent(seeder, is).unwrap();
        match status.state {
            State::Failed(_) => true,
            State::Downloading => status.pieces_done == 0,
            _ => false,
        }
    });
    assert_eq!(h.torrent(fetcher, id).unwrap().pieces_done, 0);
    h.end(fetcher);
    h.end(seeder);
}

pub(crate) fn a_pause_holds_until_it_is_ended<H: TestDriver>() {
    let mut h = H::new(33);
    let content = Content::new(33, 1_200_000);
    let (seeder, addr, _) = h.seed(Setup::default(), &content);
    let (fetcher, _) = h.listen(Setup::default());
    let spec = Spec {
        paused: true,
        down: Some(SLOW),
        ..Spec::from(&[addr])
    };
    let id = h.add(fetcher, &content, spec);
    let paused = |state: &State| *state == State::Paused;
    h.state(fetcher, id, "a first rest", paused);
    assert_eq!(h.effort(fetcher).read, 0, "it was added at rest");
    assert!(h.with_engine(fetcher, move |e, now| {
        e.command(now, Command::Resume(id)).is_ok()
    }));
    h.until("some pieces", |h| {
        h.torrent(fetcher, id).is_some_and(|t| t.pieces_done > 2)
    });
    assert!(h.with_engine(fetcher, move |e, now| {
        e.command(now, Command::Pause(id)).is_ok()
    }));
    h.state(fetcher, id, "a second rest", paused);
    h.until("connections to end", |h| h.status(fetcher).connections == 0);
    let rested = h.torrent(fetcher, id).unwrap();
    assert!(rested.pieces_done < rested.pieces);
    let newcomer = h.guest(|g| g.closed_addr(false));
    h.with_engine(fetcher, move |e, now| {
        e.command(
            now,
            Command::AddPeers {
                torrent: id,
                peers: vec![newcomer],
            },
        )
        .is_ok()
    });
    let read = h.effort(fetcher).read;
    h.pass(std::time::Duration::from_millis(300), |_| ());
    assert_eq!(h.effort(fetcher).read, read, "it rests");
    assert!(h.with_engine(fetcher, move |e, now| {
        e.command(now, Command::Resume(id)).is_ok()
    }));
    h.exact(fetcher, id, &content);
    let status = h.torrent(fetcher, id).unwrap();
    let twice = status.downloaded - content.data.len() as u64;
    assert!(twice <= 4 * (64 << 10), "{twice} bytes came twice");
    h.end(fetcher);
    h.end(seeder);
}

pub(crate) fn what_is_removed_is_gone<H: TestDriver>() {
    let content = Content::new(34, 700_000);
    for delete in [false, true] {
        let mut h = H::new(34);
        let (node, _, id) = h.seed(Setup::default(), &content);
        let _ = h.events(node);
        h.remove(node, id, delete);
        h.until("the removal to be told", |h| {
            h.events(node).contains(&Event::Removed(id))
        });
        assert!(h.torrent(node, id).is_none());
        assert_eq!(h.exists(node, &content), !delete);
        // Its name is free again, and nothing is remembered.
        let again = h.add(node, &content, Spec::default());
        assert_ne!(again, id);
        if delete {
            h.state(node, again, "an empty start", |s| *s == State::Downloading);
            assert_eq!(h.torrent(node, again).unwrap().pieces_done, 0);
        } else {
            h.exact(node, again, &content);
        }
        h.end(node);
    }
}

/// Ends in good order or at once, in the middle, and goes on.
fn lives_on<H: TestDriver>(kill: bool) {
    let mut h = H::new(35);
    let content = Content::new(35, 2_000_000);
    let (seeder, addr, _) = h.seed(Setup::default(), &content);
    let (fetcher, _) = h.listen(Setup::default());
    let slow = || Spec {
        down: Some(SLOW),
        ..Spec::from(&[addr])
    };
    let id = h.add(fetcher, &content, slow());
    h.until("a half", |h| {
        let status = h.torrent(fetcher, id);
        status.is_some_and(|t| t.pieces_done * 2 > t.pieces)
    });
    let before = h.torrent(fetcher, id).unwrap();
    if kill {
        h.kill(fetcher);
    } else {
        h.end(fetcher);
    }
    h.reboot(fetcher, Setup::default());
    h.addr(fetcher);
    let id = h.add(fetcher, &content, Spec::from(&[addr]));
    h.exact(fetcher, id, &content);
    let after = h.torrent(fetcher, id).unwrap();
    let total = content.data.len() as u64;
    assert!(before.pieces_done < before.pieces);
    assert!(after.downloaded < total, "{} of {total}", after.downloaded);
    if !kill {
        // Pieces that were whole are not fetched again, nor are they hashed: the record vouches.
        assert!(after.downloaded <= total - before.done);
        assert!(after.downloaded_ever >= total);
    }
    h.end(fetcher);
    h.end(seeder);
}

pub(crate) fn who_ended_well_goes_on<H: TestDriver>() {
    lives_on::<H>(false);
}

pub(crate) fn who_was_killed_goes_on<H: TestDriver>() {
    lives_on::<H>(true);
}

pub(crate) fn a_false_content_is_found_out<H: TestDriver>() {
    let mut h = H::new(36);
    let content = Content::new(36, 700_000);
    let (node, _) = h.listen(Setup::default());
    h.put(node, &content.corrupt());
    let spec = Spec {
        check: Check::All,
        ..Spec::default()
    };
    let id = h.add(node, &content, spec);
    // Where files are the user's, nothing is fetched over what may be his.
    let real = !H::VIRTUAL;
    h.state(node, id, "the check to end", |s| match s {
        State::Failed(e) => real && e.kind == OpErrorKind::Exists,
        s => !real && *s == State::Downloading,
    });
    assert_eq!(h.torrent(node, id).unwrap().pieces_done, 0);
    assert_eq!(h.bytes(node, &content), Some(content.corrupt().data));
    h.end(node);
}

pub(crate) fn who_insists_overwrites_a_false_content<H: TestDriver>() {
    let mut h = H::new(37);
    let content = Content::new(37, 700_000);
    let (seeder, addr, _) = h.seed(Setup::default(), &content);
    let (node, _) = h.listen(Setup::default());
    h.put(node, &content.corrupt());
    let spec = Spec {
        existing: Existing::Overwrite,
        ..Spec::from(&[addr])
    };
    let id = h.add(node, &content, spec);
    h.exact(node, id, &content);
    h.end(node);
    h.end(seeder);
}

pub(crate) fn two_torrents_that_want_one_path_do_not_share_it<H: TestDriver>() {
    let mut h = H::new(38);
    let content = Content::new(38, 700_000);
    let rival = content.rival();
    let (seeder, addr, _) = h.seed(Setup::default(), &content);
    let (other, there, _) = h.seed(Setup::default(), &rival);
    let (fetcher, _) = h.listen(Setup::default());
    let ours = h.add(fetcher, &content, Spec::from(&[addr]));
    let theirs = h.add(fetcher, &rival, Spec::from(&[there]));
    let real = !H::VIRTUAL;
    let refused = |kind| move |s: &State| matches!(s, State::Failed(e) if e.kind == kind);
    if real {
        let in_use = refused(OpErrorKind::InUse);
        h.state(fetcher, theirs, "the second to be refused", in_use);
    } else {
        // Each has a place of its own there.
        h.exact(fetcher, theirs, &rival);
    }
    h.exact(fetcher, ours, &content);
    if real {
        // Nor does it take what the first left behind.
        h.remove(fetcher, ours, false);
        h.until("the removal", |h| h.torrent(fetcher, ours).is_none());
        h.with_engine(fetcher, move |e, now| {
            e.command(now, Command::Resume(theirs)).is_ok()
        });
        let exists = refused(OpErrorKind::Exists);
        h.state(fetcher, theirs, "it to be refused again", exists);
        assert_eq!(h.bytes(fetcher, &content), Some(content.data.clone()));
        // What was never its own does not go with it.
        h.remove(fetcher, theirs, true);
        h.until("the removal", |h| h.torrent(fetcher, theirs).is_none());
        assert_eq!(h.bytes(fetcher, &content), Some(content.data.clone()));
    }
    for node in [fetcher, seeder, other] {
        h.end(node);
    }
}

pub(crate) fn where_nothing_may_be_written_nothing_is_fetched<H: TestDriver>() {
    let mut h = H::new(39);
    let content = Content::new(39, 700_000);
    let (seeder, addr, _) = h.seed(Setup::default(), &content);
    let (node, _) = h.listen(Setup::default());
    let spec = Spec {
        existing: Existing::ReadOnly,
        ..Spec::from(&[addr])
    };
    let id = h.add(node, &content, spec);
    h.state(node, id, "it to share nothing", |s| *s == State::Seeding);
    h.pass(std::time::Duration::from_millis(300), |_| ());
    let status = h.torrent(node, id).unwrap();
    assert_eq!((status.pieces_done, status.downloaded), (0, 0));
    assert!(!h.exists(node, &content));
    h.end(node);
    h.end(seeder);
}

pub(crate) fn files_that_are_lost_are_fetched_again<H: TestDriver>() {
    let mut h = H::new(40);
    let content = Content::new(40, 700_000);
    let (seeder, addr, _) = h.seed(Setup::default(), &content);
    let (node, _, id) = h.seed(Setup::default(), &content);
    h.break_disk(node, &content, Fault::Missing);
    assert!(h.with_engine(node, move |e, now| {
        e.command(now, Command::Recheck(id)).is_ok()
    }));
    h.state(node, id, "the loss to show", |s| *s == State::Downloading);
    if H::VIRTUAL {
        h.mend_disk(node, &content);
    }
    h.with_engine(node, move |e, now| {
        e.command(
            now,
            Command::AddPeers {
                torrent: id,
                peers: vec![addr],
            },
        )
        .is_ok()
    });
    h.exact(node, id, &content);
    h.end(node);
    h.end(seeder);
}
