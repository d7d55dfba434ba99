//! Timers, forgotten requests and the depth of the pipeline, in virtual time.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn request(end: &mut End, world: &mut World, piece: u32) {
    end.peer.request(&mut world.cx(), at(piece, 0, BLOCK));
}

/// A peer of which only the header of a block has arrived, and that block.
fn begun() -> (World, End, BlockRef) {
    let mut world = World::new(1);
    let mut end = open(&mut world, 8);
    request(&mut end, &mut world, 0);
    let whole = at(0, 0, BLOCK);
    end.hear(&mut world.cx(), &crate::wire::peer::piece_header(whole));
    (world, end, whole)
}

fn answer(end: &mut End, world: &mut World, piece: u32) {
    let at = at(piece, 0, BLOCK);
    let data = payload(at);
    let bytes = bytes_of(&[Message::Piece {
        piece,
        begin: 0,
        data: &data,
    }]);
    end.hear(&mut world.cx(), &bytes);
    give_blocks_back(end);
}

fn give_blocks_back(end: &mut End) -> usize {
    let mut got = 0;
    for event in end.take_events() {
        match event {
            PeerEvent::Block { block, .. } => {
                end.pool.give(block);
                got += 1;
            }
            other => end.events.push(other),
        }
    }
    got
}

fn rejected(end: &mut End) -> Vec<u32> {
    let events = end.take_events().into_iter();
    events
        .filter_map(|e| match e {
            PeerEvent::Rejected(at) => Some(at.piece),
            _ => None,
        })
        .collect()
}

/// Lets timers act until `until`, as a driver would; law 3 on the way.
fn run_until(end: &mut End, world: &mut World, until: Instant) {
    let mut wakeups = 0;
    while let Some(at) = end.peer.poll_timeout().filter(|at| *at <= until) {
        world.now = world.now.max(at);
        end.peer.handle_timeout(&mut world.cx());
        end.collect();
        assert!(
            end.peer.poll_timeout().is_none_or(|next| next > world.now),
            "it spins"
        );
        wakeups += 1;
        assert!(wakeups < 100, "it hardly sleeps");
    }
    world.now = until;
}

#[test]
fn a_handshake_that_does_not_come_is_given_up() {
    for incoming in [false, true] {
        let mut world = World::new(1);
        let cfg = PeerConfig::default();
        let mut end = End::new(if incoming {
            Peer::incoming(&mut world.cx(), &cfg, Encryption::Preferred)
        } else {
            Peer::outgoing(&mut world.cx(), &cfg, &local(1), None)
        });
        let start = world.now;
        run_until(&mut end, &mut world, start + 29 * SECOND);
        assert_eq!(end.fault(), None);
        run_until(&mut end, &mut world, start + 31 * SECOND);
        assert_eq!(end.fault(), Some(PeerFault::HandshakeTimeout));
    }
}

#[test]
fn silence_is_broken_by_keepalives_and_ends_with_the_idle_timeout() {
    let mut world = World::new(1);
    let mut end = open(&mut world, 8);
    let start = world.now;
    run_until(&mut end, &mut world, start + 99 * SECOND);
    assert!(!end.peer.wants_write());
    run_until(&mut end, &mut world, start + 101 * SECOND);
    assert_eq!(end.said(&mut world.cx()), [0; 4]);
    end.hear(&mut world.cx(), &[0; 4]);
    run_until(&mut end, &mut world, start + 339 * SECOND);
    assert_eq!(end.fault(), None, "its keep-alive came at 101 s");
    run_until(&mut end, &mut world, start + 342 * SECOND);
    assert_eq!(end.fault(), Some(PeerFault::Idle));
}

#[test]
fn a_peer_that_reads_nothing_for_long_is_ended_unless_we_hold_it() {
    for held in [false, true] {
        let mut world = World::new(1);
        let mut end = open(&mut world, 8);
        if held {
            end.peer.hold_writing();
        }
        for _ in 0..2 {
            assert_eq!(end.fault(), None);
            let until = world.now + 110 * SECOND;
            run_until(&mut end, &mut world, until);
            end.hear(&mut world.cx(), &[0; 4]);
            assert_eq!(end.fault(), None);
            assert_eq!(end.peer.queued_bytes(), 4, "keep-alives pile up");
        }
        let until = world.now + 110 * SECOND;
        run_until(&mut end, &mut world, until);
        assert_eq!(end.fault(), (!held).then_some(PeerFault::ReadsNothing));
    }
}

#[test]
fn a_peer_that_is_offered_bytes_after_a_pause_of_ours_has_to_take_them() {
    let mut world = World::new(1);
    let mut end = open(&mut world, 8);
    end.peer.hold_writing();
    for _ in 0..4 {
        let until = world.now + 110 * SECOND;
        run_until(&mut end, &mut world, until);
        end.hear(&mut world.cx(), &[0; 4]);
        // The limit lets it go on; the peer takes nothing.
        let mut bufs = heapless::Vec::new();
        end.peer.write_bufs(usize::MAX, &mut bufs);
    }
    assert_eq!(end.fault(), Some(PeerFault::ReadsNothing));
}

#[test]
fn a_snub_gives_the_requests_up_and_asks_for_one_at_a_time() {
    let mut world = World::new(1);
    let mut end = open(&mut world, 8);
    for piece in 0..5 {
        request(&mut end, &mut world, piece);
    }
    end.said(&mut world.cx());
    let start = world.now;
    run_until(&mut end, &mut world, start + 59 * SECOND);
    assert!(rejected(&mut end).is_empty() && !end.peer.is_snubbed());
    run_until(&mut end, &mut world, start + 60 * SECOND);
    assert_eq!(rejected(&mut end), [0, 1, 2, 3, 4]);
    assert!(end.peer.is_snubbed());
    assert_eq!(end.peer.request_room(world.now), 1);
    // Late is better than never, and mends everything.
    answer(&mut end, &mut world, 3);
    assert!(!end.peer.is_snubbed() && end.peer.request_room(world.now) > 1);
    assert_eq!(end.peer.totals().unwanted, 0);
}

#[test]
fn a_block_that_drips_is_given_up_and_ends_the_connection_at_last() {
    for dead in [true, false] {
        let mut world = World::new(1);
        let mut end = open(&mut world, 8);
        request(&mut end, &mut world, 0);
        request(&mut end, &mut world, 1);
        end.said(&mut world.cx());
        let (whole, start) = (at(0, 0, BLOCK), world.now);
        end.hear(&mut world.cx(), &crate::wire::peer::piece_header(whole));
        let data = payload(whole);
        let mut given_up = Vec::new();
        for second in 1..250 {
            run_until(&mut end, &mut world, start + SECOND * second);
            given_up.extend(rejected(&mut end).into_iter().map(|piece| (second, piece)));
            if !dead && second < 200 {
                end.hear(&mut world.cx(), &data[second as usize..][..1]);
            }
            end.said(&mut world.cx());
        }
        given_up.sort_unstable();
        assert_eq!(
            given_up,
            [(60, 0), (60, 1)],
            "the next one does not wait for it"
        );
        assert!(end.fault().is_some() || !end.peer.is_open());
        assert_eq!(end.lent_after_close(), 0);
    }
}

/// A machine that was suspended is such a driver.
#[test]
fn a_driver_that_comes_late_gives_a_block_up_before_the_connection() {
    let (mut world, mut end, whole) = begun();
    end.said(&mut world.cx());
    world.now += 500 * SECOND;
    end.hear(&mut world.cx(), &payload(whole)[..1]);
    end.peer.handle_timeout(&mut world.cx());
    let next = end.peer.poll_timeout().unwrap();
    assert!(next > world.now, "it spins");
    assert_eq!(rejected(&mut end), [0]);
    assert!(end.peer.is_open());
    let late = world.now + 60 * SECOND;
    run_until(&mut end, &mut world, late);
    assert_eq!(end.fault(), Some(PeerFault::TooSlow));
    assert_eq!(end.lent_after_close(), 0);
}

#[test]
fn nothing_is_said_after_a_block_that_drips_has_ended_the_connection() {
    let (mut world, mut end, whole) = begun();
    let start = world.now;
    run_until(&mut end, &mut world, start + 61 * SECOND);
    assert_eq!(rejected(&mut end), [0]);
    // The driver comes late: this one is overdue by then as well.
    request(&mut end, &mut world, 1);
    end.said(&mut world.cx());
    world.now = start + 500 * SECOND;
    end.hear(&mut world.cx(), &payload(whole)[..1]);
    world.now += SECOND;
    end.peer.handle_timeout(&mut world.cx());
    end.collect();
    assert_eq!(end.fault(), Some(PeerFault::TooSlow));
    assert_eq!(end.events.len(), 1);
    assert_eq!(end.lent_after_close(), 0);
}

#[test]
fn a_block_that_was_given_up_is_welcome_and_not_asked_for_twice() {
    let (mut world, mut end, whole) = begun();
    let start = world.now;
    run_until(&mut end, &mut world, start + 61 * SECOND);
    assert_eq!(rejected(&mut end), [0]);
    assert!(end.peer.is_snubbed());
    // Nobody else has it: the owner asks the same peer again.
    request(&mut end, &mut world, 0);
    end.said(&mut world.cx());
    end.hear(&mut world.cx(), &payload(whole));
    assert_eq!(give_blocks_back(&mut end), 1);
    assert_eq!(
        end.said(&mut world.cx()),
        bytes_of(&[Message::Cancel(whole)])
    );
    assert_eq!(end.peer.in_flight().count(), 0);
    assert!(!end.peer.is_snubbed());
}

#[test]
fn one_block_a_minute_does_not_keep_a_whole_pipeline() {
    let mut world = World::new(1);
    let mut end = open(&mut world, 64);
    for piece in 0..16 {
        request(&mut end, &mut world, piece);
    }
    let start = world.now;
    let mut given_up = Vec::new();
    for (n, piece) in [(1, 0), (2, 1), (3, 2)] {
        run_until(&mut end, &mut world, start + SECOND * 50 * n);
        given_up.extend(rejected(&mut end));
        answer(&mut end, &mut world, piece);
    }
    assert_eq!(given_up, (2..16).collect::<Vec<_>>());
    assert!(end.peer.is_open());
}

#[test]
fn a_peer_that_refuses_what_it_was_asked_for_is_not_asked_every_round_trip() {
    let mut world = World::new(1);
    let mut end = open(&mut world, 8);
    end.hear(&mut world.cx(), &bytes_of(&[Message::Unchoke]));
    let start = world.now;
    let (mut asked, mut piece) = (0, 0);
    while world.now < start + 60 * SECOND {
        let until = world.now + Duration::from_millis(50);
        run_until(&mut end, &mut world, until);
        for _ in 0..end.peer.request_room(world.now) {
            request(&mut end, &mut world, piece);
            asked += 1;
            let no = Message::Reject(at(piece, 0, BLOCK));
            end.hear(&mut world.cx(), &bytes_of(&[no]));
            piece = (piece + 1) % 8;
        }
        end.said(&mut world.cx());
    }
    assert!(asked <= 6 * 16, "asked {asked} times in a minute");
    // The first block it sends puts it right.
    end.peer.request(&mut world.cx(), at(0, 0, BLOCK));
    answer(&mut end, &mut world, 0);
    assert!(end.peer.request_room(world.now) > 0);
}

#[test]
fn forgotten_requests_are_noticed_while_later_ones_are_answered() {
    let mut world = World::new(1);
    let mut end = open(&mut world, 64);
    for piece in 0..10 {
        request(&mut end, &mut world, piece);
    }
    // It dropped 3, 4 and 5, and goes on slowly.
    for piece in [0, 1, 2, 6, 7, 8, 9] {
        world.now += SECOND;
        answer(&mut end, &mut world, piece);
    }
    let mut given_up = vec![];
    for piece in 10..30 {
        request(&mut end, &mut world, piece);
        let until = world.now + SECOND;
        run_until(&mut end, &mut world, until);
        answer(&mut end, &mut world, piece);
        given_up.extend(rejected(&mut end));
    }
    assert_eq!(given_up, [3, 4, 5]);
    assert_eq!(end.peer.in_flight().count(), 0);
    assert!(!end.peer.is_snubbed());
}

#[test]
fn a_pause_of_ours_is_not_held_against_the_peer() {
    let mut world = World::new(1);
    let mut end = open(&mut world, 8);
    request(&mut end, &mut world, 0);
    for _ in 0..30 {
        end.read(&mut world.cx(), 0, 0);
        let until = world.now + 30 * SECOND;
        run_until(&mut end, &mut world, until);
        end.said(&mut world.cx());
    }
    assert!(end.peer.is_open() && !end.peer.is_snubbed());
    assert_eq!(end.peer.in_flight().count(), 1);
}

/// A seeder across a link: requests take half a round trip there, blocks queue for the link and
/// take the other half back.
struct Link {
    /// Round trip.
    delay: Duration,
    /// Time one block takes on the link.
    block: Duration,
    /// The seeder answers only at multiples of this.
    pulse: Option<Duration>,
    /// Most requests it queues.
    reqq: Option<u32>,
}

impl Link {
    /// Runs for `seconds`; returns the blocks of the last one and the most requests in flight.
    fn run(&self, seconds: u64) -> (usize, usize) {
        let mut world = World::new(1);
        let mut end = open(&mut world, 1 << 20);
        let reqq = alloc::format!("d4:reqqi{}ee", self.reqq.unwrap_or(0));
        let theirs = Message::Extended {
            id: 0,
            payload: reqq.as_bytes(),
        };
        if self.reqq.is_some() {
            end.hear(&mut world.cx(), &bytes_of(&[theirs]));
        }
        end.hear(&mut world.cx(), &bytes_of(&[Message::Unchoke]));
        let (step, start) = (Duration::from_millis(1), world.now);
        let (mut next, mut free, mut deepest, mut last) = (0, start, 0, 0);
        let mut coming: VecDeque<(Instant, u32)> = VecDeque::new();
        let data = bytes_of(&[Message::Piece {
            piece: 0,
            begin: 0,
            data: &[0; BLOCK_LEN],
        }]);
        while world.now < start + seconds as u32 * SECOND {
            world.now += step;
            let until = world.now;
            run_until(&mut end, &mut world, until);
            while let Some((_, piece)) = coming.front().filter(|(due, _)| *due <= world.now) {
                let header = crate::wire::peer::piece_header(at(*piece, 0, BLOCK));
                coming.pop_front();
                end.wire.extend(header);
                end.wire.extend(&data[13..]);
            }
            while !end.wire.is_empty() {
                end.read(&mut world.cx(), usize::MAX, usize::MAX);
                let got = give_blocks_back(&mut end);
                if world.now > start + (seconds as u32 - 1) * SECOND {
                    last += got;
                }
            }
            for _ in 0..end.peer.request_room(world.now) {
                let mut arrives = world.now + self.delay / 2;
                if let Some(pulse) = self.pulse {
                    let pulse = pulse.as_micros() as u64;
                    let at = arrives.as_micros().div_ceil(pulse) * pulse;
                    arrives = Instant::from_micros(at);
                }
                free = free.max(arrives) + self.block;
                coming.push_back((free + self.delay / 2, next));
                request(&mut end, &mut world, next);
                next += 1;
            }
            deepest = deepest.max(end.peer.in_flight_len());
            end.said(&mut world.cx());
        }
        assert!(
            end.take_events()
                .iter()
                .all(|e| !matches!(e, PeerEvent::Closed(_)))
        );
        (last, deepest)
    }
}

#[test]
fn the_pipeline_fills_a_long_link() {
    // 16 MB/s over 200 ms: 200 blocks are on the way.
    let link = Link {
        delay: Duration::from_millis(200),
        block: SECOND / 1000,
        pulse: None,
        reqq: Some(2000),
    };
    let (rate, _) = link.run(8);
    assert!(rate > 970, "{rate} of 1000 blocks a second");
}

#[test]
fn the_pipeline_of_a_slow_peer_stays_short() {
    // 80 KB/s: five blocks a second.
    let link = Link {
        delay: Duration::from_millis(50),
        block: SECOND / 5,
        pulse: None,
        reqq: Some(2000),
    };
    let (rate, deepest) = link.run(30);
    assert!(rate >= 4, "{rate} of 5 blocks a second");
    assert!(deepest < 60, "{deepest} requests in flight");
}

#[test]
fn a_seeder_that_answers_in_pulses_gets_its_queue_filled() {
    // Transmission 3 answers what it has queued every 500 ms.
    let link = Link {
        delay: Duration::from_millis(2),
        block: SECOND / 10_000,
        pulse: Some(SECOND / 2),
        reqq: Some(512),
    };
    let (rate, deepest) = link.run(15);
    assert_eq!(deepest, 512);
    assert!(rate >= 900, "{rate} of 1024 blocks a second");
}

#[test]
fn no_more_is_asked_than_the_peer_queues() {
    for (reqq, most) in [(None, 250), (Some(7), 7), (Some(0), 1)] {
        let link = Link {
            delay: Duration::from_millis(100),
            block: SECOND / 10_000,
            pulse: None,
            reqq,
        };
        let (rate, deepest) = link.run(5);
        assert_eq!(deepest, most);
        assert!(rate > 0);
    }
}
