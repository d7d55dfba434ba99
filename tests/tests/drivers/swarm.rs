//! The same script on every driver; the same story each time.

use std::collections::BTreeMap;

use dunlin_core::engine::{Check, Command};
use dunlin_tests::driver::{
    Content, Mio, Setup, Sim, Smoltcp, Spec, TestDriver, TestDriverExt, Tokio, Transcript,
};

/// Bytes per second, so that there is a middle to do something in.
const PACE: u64 = 700 << 10;

/// One seed; Anna, who is paused and resumed; Bert, who falls in with a liar, and leaves when he
/// has all; Carl, who comes late.
fn play<H: TestDriver>() -> Transcript {
    let content = Content::new(10, 1_200_000);
    let mut h = H::new(10);
    let mut t = Transcript::default();
    let (seed, seed_addr, seed_id) = h.seed(Setup::default(), &content);
    let _ = h.events(seed);
    t.follow("seed", seed, seed_id);

    // It believes that it has everything, and every piece is wrong.
    let (liar, liar_addr) = h.listen(Setup::default());
    h.put(liar, &content.corrupt());
    let trusting = Spec {
        check: Check::Nothing,
        ..Spec::default()
    };
    let lie = h.add(liar, &content, trusting);
    h.complete(liar, lie);

    let slowly = |peers: &[_]| Spec {
        down: Some(PACE),
        ..Spec::from(peers)
    };
    let (anna, anna_addr) = h.listen(Setup::default());
    let anna_id = h.add(anna, &content, slowly(&[seed_addr]));
    t.follow("anna", anna, anna_id);
    let (bert, _) = h.listen(Setup::default());
    let bert_id = h.add(bert, &content, Spec::from(&[liar_addr]));
    t.follow("bert", bert, bert_id);

    // Bert finds out by himself, and is told of somebody better.
    h.until("Bert to ban the liar", |h| {
        t.look(h);
        t.has_said("bert", "banned a peer")
    });
    assert_eq!(h.torrent(bert, bert_id).unwrap().pieces_done, 0);
    let limit = move |down| {
        move |e: &mut dunlin_core::engine::Engine, now| {
            let scope = dunlin_core::engine::Scope::Torrent(bert_id);
            e.command(
                now,
                Command::SetLimits {
                    scope,
                    down,
                    up: None,
                },
            )
            .is_ok()
        }
    };
    assert!(h.with_engine(bert, limit(Some(PACE))));
    assert!(h.with_engine(bert, move |e, now| {
        e.command(
            now,
            Command::AddPeers {
                torrent: bert_id,
                peers: vec![seed_addr],
            },
        )
        .is_ok()
    }));

    h.until("Anna to have a third", |h| {
        t.look(h);
        let status = h.torrent(anna, anna_id).unwrap();
        status.pieces_done * 3 >= status.pieces
    });
    assert!(h.with_engine(anna, move |e, now| {
        e.command(now, Command::Pause(anna_id)).is_ok()
    }));
    h.until("Anna to rest", |h| {
        t.look(h);
        t.is("anna", "paused")
    });
    let rested = h.torrent(anna, anna_id).unwrap();
    assert!(rested.pieces_done < rested.pieces, "Anna was too quick");

    // Carl comes while Anna rests.
    let (carl, _) = h.listen(Setup::default());
    let carl_id = h.add(carl, &content, slowly(&[anna_addr, seed_addr]));
    t.follow("carl", carl, carl_id);
    h.until("Carl to have something", |h| {
        t.look(h);
        h.torrent(carl, carl_id).is_some_and(|t| t.pieces_done > 1)
    });
    let resting = h.torrent(anna, anna_id).unwrap();
    assert_eq!(resting.pieces_done, rested.pieces_done, "Anna rests");
    assert_eq!(resting.peers, 0, "Anna rests");
    assert!(h.with_engine(anna, move |e, now| {
        e.command(now, Command::Resume(anna_id)).is_ok()
    }));

    h.until("Bert to be complete", |h| {
        t.look(h);
        t.is("bert", "seeding") && t.has_said("bert", "complete")
    });
    h.exact(bert, bert_id, &content);
    t.note("bert", "has every byte");
    t.leave("bert");
    h.end(bert);
    t.note("bert", "left");

    for (name, node, id) in [("anna", anna, anna_id), ("carl", carl, carl_id)] {
        h.until("the rest to be complete", |h| {
            t.look(h);
            t.is(name, "seeding") && t.has_said(name, "complete")
        });
        h.exact(node, id, &content);
    }
    t.look(&mut h);
    for name in ["anna", "carl"] {
        t.note(name, "has every byte");
    }
    let total = content.data.len() as u64;
    let uploaded = h.torrent(seed, seed_id).unwrap().uploaded;
    // Somebody had to give each byte away once; what Bert got was wrong otherwise.
    assert!(uploaded >= total, "the seed gave {uploaded}");
    t.note("seed", "gave all of it");
    for (name, node) in [("anna", anna), ("carl", carl), ("seed", seed)] {
        t.leave(name);
        h.end(node);
        t.note(name, "left");
    }
    h.end(liar);
    t
}

fn expected() -> BTreeMap<String, Vec<String>> {
    let stories = [
        ("seed", "seeding|gave all of it|left"),
        ("seed says", ""),
        (
            "anna",
            "downloading|paused|downloading|seeding|has every byte|left",
        ),
        ("anna says", "complete"),
        ("bert", "downloading|seeding|has every byte|left"),
        ("bert says", "banned a peer|complete"),
        ("carl", "downloading|seeding|has every byte|left"),
        ("carl says", "complete"),
    ];
    let lines = |story: &str| {
        let lines = story.split('|').filter(|line| !line.is_empty());
        lines.map(str::to_owned).collect()
    };
    let story = |(name, story): (&str, &str)| (name.to_owned(), lines(story));
    stories.into_iter().map(story).collect()
}

pub(crate) fn a_scripted_swarm<H: TestDriver>() {
    assert_eq!(*play::<H>().stories(), expected());
}

#[test]
fn all_tell_the_same_story() {
    let (tokio, mio, smoltcp) = (play::<Tokio>(), play::<Mio>(), play::<Smoltcp>());
    assert_eq!(tokio.stories(), smoltcp.stories());
    assert_eq!(mio.stories(), smoltcp.stories());
    assert_eq!(play::<Sim>().stories(), smoltcp.stories());
}
