//! What the picker does in the situations it was made for.

use alloc::vec::Vec;

use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use super::{pick::STALLED, *};
use crate::Cx;
use core::time::Duration;

const BLOCK: u32 = BLOCK_LEN as u32;
const FAST: PickHint<'_> = PickHint {
    choked_allowed: None,
    suggested: &[],
    fast: true,
    max_new_pieces: None,
};
const SLOW: PickHint<'_> = PickHint {
    fast: false,
    ..FAST
};

struct Bench {
    picker: Picker,
    rng: ChaCha8Rng,
    now: Instant,
    seed: Bitfield,
    states: Vec<PickState>,
}

impl Bench {
    /// `pieces` pieces of `blocks` blocks, and eight peers who have them all.
    fn new(pieces: u32, blocks: u32) -> Self {
        let total = u64::from(pieces) * u64::from(blocks * BLOCK);
        Self {
            picker: Picker::with_sizes(total, blocks * BLOCK, Bitfield::new(pieces)),
            rng: ChaCha8Rng::seed_from_u64(7),
            now: Instant::from_micros(1),
            seed: Bitfield::full(pieces),
            states: alloc::vec![PickState::default(); 8],
        }
    }

    fn pick(&mut self, peer: PeerKey, hint: PickHint<'_>, count: u32) -> Vec<BlockRef> {
        let mut out = Vec::new();
        let mut cx = Cx {
            now: self.now,
            rng: &mut self.rng,
        };
        let state = &mut self.states[peer as usize];
        self.picker
            .pick(&mut cx, peer, state, &self.seed, hint, count, &mut out);
        self.picker.check();
        out
    }

    fn pieces(&mut self, peer: PeerKey, hint: PickHint<'_>, count: u32) -> Vec<u32> {
        let mut pieces: Vec<_> = self
            .pick(peer, hint, count)
            .iter()
            .map(|b| b.piece)
            .collect();
        pieces.dedup();
        pieces
    }
}

#[test]
fn fast_peers_fill_pieces_alone_and_slow_ones_together() {
    let mut bench = Bench::new(50, 8);
    let (a, b) = (bench.pieces(0, FAST, 4), bench.pieces(1, FAST, 4));
    assert!(a.len() == 1 && b.len() == 1 && a != b);
    assert_eq!(bench.pieces(0, FAST, 4), a);
    let shared = bench.pieces(2, SLOW, 2);
    assert!(shared != a && shared != b);
    assert_eq!(bench.pieces(3, SLOW, 2), shared);
    assert_eq!(
        bench.pieces(4, FAST, 4),
        shared,
        "finish what is begun first"
    );
}

#[test]
fn a_fast_peers_piece_is_shared_when_it_goes() {
    let mut bench = Bench::new(50, 8);
    let asked = bench.pick(0, FAST, 4);
    for at in &asked[1..] {
        bench.picker.aborted(*at, 0);
    }
    bench.picker.peer_gone(0, &mut bench.states[0]);
    assert_eq!(bench.pieces(1, SLOW, 7), [asked[0].piece]);
}

#[test]
fn a_fast_peers_piece_is_shared_when_it_becomes_slow() {
    let mut bench = Bench::new(50, 8);
    let own = bench.pieces(0, FAST, 2);
    assert_ne!(bench.pieces(1, SLOW, 2), own);
    assert_eq!(bench.pieces(0, SLOW, 2), own);
    // The other slow peer is on a piece of its own; a third one finishes what is begun.
    let helped = bench.pieces(2, SLOW, 16);
    assert!(helped.contains(&own[0]), "{helped:?}");
}

#[test]
fn a_peer_does_not_go_on_with_its_piece_when_another_fills_it_anew() {
    let mut bench = Bench::new(2, 4);
    let now = bench.now;
    bench.picker.set_priority(1, Priority::Skip);
    for at in bench.pick(0, SLOW, 4) {
        let _ = bench.picker.received(now, at, 0);
    }
    bench.picker.failed(0);
    assert_eq!(bench.pieces(1, FAST, 1), [0]);
    bench.picker.set_priority(1, Priority::Normal);
    assert_eq!(bench.pieces(0, FAST, 1), [1]);
}

#[test]
fn a_peer_does_not_go_on_with_its_piece_once_that_is_skipped() {
    for hint in [FAST, SLOW] {
        let mut bench = Bench::new(2, 4);
        let own = bench.pieces(0, hint, 2);
        bench.picker.set_priority(own[0], Priority::Skip);
        assert_eq!(bench.pieces(0, hint, 1), [1 - own[0]]);
    }
}

#[test]
fn a_piece_that_several_made_wrong_is_fetched_by_one_alone() {
    let mut bench = Bench::new(1, 4);
    let now = bench.now;
    for (peer, blocks) in [(0, 2), (1, 2)] {
        for at in bench.pick(peer, SLOW, blocks) {
            let _ = bench.picker.received(now, at, peer);
        }
    }
    bench.picker.doubt(0);
    bench.picker.failed(0);
    let first = bench.pick(1, SLOW, 2);
    assert_eq!(first.len(), 2);
    assert!(bench.pick(0, FAST, 4).is_empty(), "it is another's");
    assert_eq!(bench.pick(1, SLOW, 4).len(), 2);
    // Stuck with it, or gone, the other is let in.
    bench.now += STALLED + Duration::from_secs(1);
    assert_eq!(bench.pick(0, FAST, 4).len(), 4);
    bench.picker.failed(0);
    assert_eq!(bench.pick(2, SLOW, 4).len(), 4);
    for at in first {
        bench.picker.aborted(at, 2);
    }
    assert_eq!(bench.pick(3, SLOW, 2).len(), 2);
}

#[test]
fn a_slow_peer_does_not_hold_the_last_blocks() {
    let mut bench = Bench::new(1, 4);
    let slow = bench.pick(0, SLOW, 2);
    let fast = bench.pick(1, FAST, 8);
    assert_eq!(fast.len(), 4, "two free ones and the slow peer's two");
    assert!(slow.iter().all(|b| fast.contains(b)));
    assert!(bench.picker.in_endgame());
    assert_eq!(
        bench.pick(2, SLOW, 8),
        slow,
        "a slow peer helps only the slow"
    );
    assert_eq!(bench.pick(3, FAST, 8).len(), 2, "three are asked at most");
    let now = bench.now;
    let fresh = Received::Fresh {
        piece_complete: false,
    };
    assert_eq!(bench.picker.received(now, slow[0], 1), fresh);
    let others: Vec<_> = bench.picker.also_requested(slow[0]).collect();
    assert_eq!(others, [0, 2]);
    for peer in others {
        bench.picker.aborted(slow[0], peer);
    }
    assert_eq!(bench.picker.also_requested(slow[0]).count(), 0);
    assert_eq!(bench.picker.received(now, slow[0], 0), Received::Duplicate);
    let senders: Vec<_> = bench.picker.contributors(0).map(|(_, s)| s).collect();
    assert_eq!(senders.iter().filter(|s| **s == Some(1)).count(), 1);
}

#[test]
fn a_large_piece_ends_although_one_holder_stalls() {
    // 64 MiB: more blocks than one search looks at.
    for (holder, helper) in [(FAST, FAST), (FAST, SLOW), (SLOW, FAST), (SLOW, SLOW)] {
        let mut bench = Bench::new(1, 4096);
        let asked = bench.pick(0, holder, 4096);
        assert_eq!(asked.len(), 4096);
        let (stuck, sent) = asked.split_at(4000);
        let now = bench.now;
        for at in sent {
            let _ = bench.picker.received(now, *at, 0);
        }
        bench.now += STALLED + Duration::from_secs(1);
        let mut helped = Vec::new();
        for _ in 0..100 {
            for at in bench.pick(1, helper, 50) {
                let now = bench.now;
                let _ = bench.picker.received(now, at, 1);
                bench.picker.aborted(at, 0);
                helped.push(at);
            }
        }
        // A piece that moves again is not stalled any more.
        bench.now += STALLED + Duration::from_secs(1);
        for _ in 0..4 {
            helped.extend(bench.pick(1, helper, 4096));
        }
        helped.sort_unstable_by_key(|at| at.begin);
        helped.dedup();
        assert_eq!(helped, stuck, "{holder:?} {helper:?}");
    }
}

#[test]
fn who_found_nothing_to_take_over_is_asked_again_once_a_piece_stalls() {
    let mut bench = Bench::new(1, 4);
    let stuck = bench.pick(0, FAST, 4);
    assert!(bench.pick(1, SLOW, 4).is_empty());
    bench.now += STALLED + Duration::from_secs(1);
    assert_eq!(bench.pick(1, SLOW, 4), stuck);
}

#[test]
fn at_the_end_a_slow_peer_is_asked_for_what_a_fast_one_does_not_go_on_with() {
    let mut b = Bench::new(1, 4);
    let asked = b.pick(0, FAST, 4);
    assert_eq!(asked.len(), 4);
    b.now += Duration::from_millis(1_500);
    assert_eq!(b.pick(1, SLOW, 4), []);
    let _ = b.picker.received(b.now, asked[0], 0);
    b.now += Duration::from_millis(1_500);
    assert_eq!(b.pick(2, SLOW, 4), []);
    b.now += Duration::from_secs(1);
    assert_eq!(b.pick(3, SLOW, 4), asked[1..]);
}

#[test]
fn a_stalled_piece_is_helped_long_before_the_end() {
    let mut bench = Bench::new(50, 4);
    let stuck = bench.pick(0, SLOW, 4);
    assert!(!bench.pick(1, FAST, 4).iter().any(|b| stuck.contains(b)));
    bench.now += STALLED + Duration::from_secs(1);
    let helped = bench.pick(1, FAST, 12);
    assert!(stuck.iter().all(|b| helped.contains(b)), "{helped:?}");
}

#[test]
fn deadlines_come_first_and_late_ones_are_asked_twice() {
    let mut bench = Bench::new(50, 4);
    let soon = bench.now + Duration::from_secs(60);
    bench
        .picker
        .set_deadline(9, Some(soon + Duration::from_secs(1)));
    bench.picker.set_deadline(5, Some(soon));
    bench.picker.set_priority(20, Priority::High);
    assert_eq!(bench.pieces(0, SLOW, 8), [5, 9]);
    assert_eq!(bench.pieces(1, FAST, 4), [20]);
    bench.now = soon;
    assert_eq!(bench.pieces(2, FAST, 8), [5, 9]);
    bench.picker.verified(5);
    bench.picker.set_deadline(9, None);
    assert!(bench.pieces(3, FAST, 4).iter().all(|p| ![5, 9].contains(p)));
}

#[test]
fn sequential_goes_in_order_from_where_it_should() {
    let mut bench = Bench::new(40, 1);
    bench.picker.set_sequential(Some(Sequential {
        from: 30,
        window: u32::MAX,
    }));
    assert_eq!(bench.pieces(0, FAST, 10), (30..40).collect::<Vec<_>>());
    assert!(bench.pieces(0, FAST, 1)[0] < 30);
    // A window: in order within three pieces of the first missing one, which moves.
    let mut bench = Bench::new(40, 1);
    bench
        .picker
        .set_sequential(Some(Sequential { from: 0, window: 3 }));
    assert_eq!(bench.pieces(0, FAST, 3), [0, 1, 2]);
    assert!(bench.pieces(0, FAST, 1)[0] > 2);
    bench.picker.verified(0);
    bench.picker.failed(1);
    assert_eq!(bench.pieces(0, FAST, 1), [1]);
}

#[test]
fn a_choked_peer_gets_allowed_pieces_only_and_suggestions_are_taken_up() {
    let mut bench = Bench::new(40, 2);
    let choked = PickHint {
        choked_allowed: Some(&[17, 99]),
        ..FAST
    };
    assert_eq!(bench.pieces(0, choked, 10), [17]);
    assert!(bench.pieces(0, choked, 10).is_empty());
    let suggest = PickHint {
        suggested: &[3],
        ..FAST
    };
    assert_eq!(bench.pieces(1, suggest, 2), [3]);
}

#[test]
fn a_suggestion_costs_no_priority() {
    let mut bench = Bench::new(50, 4);
    bench.picker.set_priority(3, Priority::High);
    let suggested = PickHint {
        suggested: &[7],
        ..FAST
    };
    assert_eq!(bench.pieces(0, suggested, 4), [3]);
    assert_eq!(bench.pieces(0, suggested, 4), [7]);
}

#[test]
fn no_more_new_pieces_than_allowed() {
    let mut bench = Bench::new(40, 2);
    let hint = PickHint {
        max_new_pieces: Some(2),
        ..FAST
    };
    assert_eq!(bench.pick(0, hint, 10).len(), 4);
}

#[test]
fn what_an_earlier_session_wrote_is_not_asked_for() {
    let mut bench = Bench::new(3, 4);
    let mut blocks = Bitfield::new(4);
    blocks.set(0);
    blocks.set(3);
    let now = bench.now;
    assert!(!bench.picker.restore_partial(now, 1, &blocks));
    assert!(!bench.picker.restore_partial(now, 2, &Bitfield::new(3)));
    assert_eq!(bench.picker.bytes_left(), 10 * u64::from(BLOCK));
    let saved: Vec<_> = bench
        .picker
        .partials()
        .map(|p| (p.piece(), p.to_bitfield()))
        .collect();
    assert_eq!(saved, [(1, blocks)]);
    let asked = bench.pick(0, FAST, 2);
    assert_eq!(
        asked.iter().map(|b| b.begin / BLOCK).collect::<Vec<_>>(),
        [1, 2]
    );
    assert!(
        bench
            .picker
            .contributors(1)
            .all(|(_, sender)| sender.is_none())
    );
    assert!(bench.picker.restore_partial(now, 0, &Bitfield::full(4)));
}

#[test]
fn the_table_of_partial_pieces_is_bounded() {
    let pieces = MAX_PARTIALS as u32 + 100;
    let mut bench = Bench::new(pieces, 2);
    let mut one = Bitfield::new(2);
    one.set(0);
    let now = bench.now;
    for piece in 0..pieces {
        bench.picker.restore_partial(now, piece, &one);
    }
    assert_eq!(bench.picker.partial_count() as usize, MAX_PARTIALS);
    // A peer without any of them still gets a piece, and one of them gives way.
    let mut has = Bitfield::new(pieces);
    has.set(pieces - 1);
    bench.picker.peer_joined(&has);
    bench.seed = has;
    assert_eq!(bench.pieces(0, FAST, 2), [pieces - 1]);
    assert_eq!(bench.picker.partial_count() as usize, MAX_PARTIALS);
    let evicted = bench.picker.poll_evicted();
    assert!(evicted.is_some_and(|p| bench.picker.partial(p).is_none()));
    bench.picker.check();
}

#[test]
fn nonsense_is_refused() {
    let mut bench = Bench::new(3, 2);
    let now = bench.now;
    for (piece, begin, len) in [
        (3, 0, BLOCK),
        (u32::MAX, u32::MAX, u32::MAX),
        (0, 1, BLOCK),
        (0, 0, BLOCK - 1),
        (0, 2 * BLOCK, BLOCK),
    ] {
        let at = BlockRef { piece, begin, len };
        assert_eq!(bench.picker.received(now, at, 0), Received::Unwanted);
        bench.picker.aborted(at, 0);
    }
    bench.picker.set_priority(2, Priority::Skip);
    let at = BlockRef {
        piece: 2,
        begin: 0,
        len: BLOCK,
    };
    assert_eq!(bench.picker.received(now, at, 0), Received::Unwanted);
    bench.picker.verified(77);
    bench.picker.failed(77);
    bench.picker.set_priority(77, Priority::High);
    bench.picker.set_deadline(77, Some(now));
    bench.picker.check();
}

#[test]
fn availability_costs_what_changed_in_whatever_order_it_is_told() {
    const PIECES: u32 = 1_000_000;
    let mut bench = Bench::new(PIECES, 1);
    let mut has = Bitfield::new(PIECES);
    bench.picker.peer_joined(&has);
    // The first pick sorts everything, and a piece that a seed lacks has it sorted once more.
    has.fill();
    bench.picker.peer_joined(&has);
    has.clear(7);
    bench.picker.peer_lost(7, &has);
    bench.pick(0, SLOW, 1);
    let before = bench.picker.availability_work();
    let mut messages = 0;
    for round in 0..1000 {
        bench.picker.peer_reset(&mut has, true);
        for piece in [5, 77_777, 999_999 - round] {
            assert!(has.clear(piece));
            bench.picker.peer_lost(piece, &has);
        }
        assert!(has.set(5));
        bench.picker.peer_has(5, &has);
        bench.picker.peer_reset(&mut has, round % 3 == 0);
        if has.clear(9) {
            bench.picker.peer_lost(9, &has);
        }
        assert!(has.set(9));
        bench.picker.peer_has(9, &has);
        bench.picker.peer_reset(&mut has, false);
        assert!(has.set(round));
        bench.picker.peer_has(round, &has);
        messages += 10;
        if round % 100 == 0 {
            bench.pick(1, FAST, 1);
        }
    }
    let work = bench.picker.availability_work() - before;
    assert!(
        work < 4 * messages,
        "{work} entries for {messages} messages"
    );
    bench.picker.check();
}

#[test]
fn two_clients_begin_with_different_pieces() {
    let firsts: Vec<_> = (0..20)
        .map(|seed| {
            let mut bench = Bench::new(1000, 1);
            bench.rng = ChaCha8Rng::seed_from_u64(seed);
            bench.pieces(0, FAST, 1)[0]
        })
        .collect();
    let mut distinct = firsts.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert!(distinct.len() > 17, "{firsts:?}");
}

#[test]
fn a_piece_that_nobody_has_does_not_keep_the_others_from_ending() {
    let mut bench = Bench::new(3, 4);
    bench.seed.clear(2);
    bench.picker.peer_joined(&bench.seed.clone());
    let stuck = bench.pick(0, SLOW, 8);
    assert_eq!(bench.pick(1, FAST, 8), []);
    bench.now += STALLED + Duration::from_secs(1);
    assert_eq!(bench.pick(1, FAST, 8).len(), stuck.len());
}

/// Two pieces are begun: one that many leechers have, and one that only the seed has. The seed is
/// asked for what is rare: the rest of the rare one, then a new one.
#[test]
fn a_seed_is_asked_for_a_new_piece_before_a_common_one_that_is_begun() {
    let mut bench = Bench::new(20, 8);
    let mut common = Bitfield::new(20);
    common.set(3);
    bench.picker.peer_joined(&bench.seed.clone());
    for _ in 0..5 {
        bench.picker.peer_joined(&common);
    }
    let seed = core::mem::replace(&mut bench.seed, common);
    assert_eq!(bench.pieces(1, SLOW, 2), [3]);
    bench.seed = seed;
    // More than the first few pieces, which are random.
    let begun = bench.pieces(2, SLOW, 8 * 3 + 4);
    assert_eq!(begun.len(), 4);
    let rest = bench.pieces(0, SLOW, 8);
    assert_eq!(rest[0], begun[3], "{begun:?} {rest:?}");
    assert!(!rest.contains(&3), "{rest:?}");
    // Once nothing rarer is left, the common one is finished.
    let all = bench.pieces(0, SLOW, 20 * 8);
    let place = all.iter().position(|piece| *piece == 3);
    assert!(place >= Some(14), "{all:?}");
}
