//! Where bytes land, and what wrong guesses cost.

use super::*;

/// The lengths of the slices a read would be given; takes nothing.
fn shape(end: &mut End, world: &mut World, limit: usize) -> Vec<usize> {
    let mut bufs = heapless::Vec::new();
    end.peer.read_bufs(&mut end.pool, limit, &mut bufs);
    let shape = bufs.iter().map(|b| b.len()).collect();
    drop(bufs);
    end.peer
        .handle_read(&mut world.cx(), &mut end.pool, 0, &knows);
    shape
}

fn request(end: &mut End, world: &mut World, wanted: &[BlockRef]) {
    for at in wanted {
        end.peer.request(&mut world.cx(), *at);
    }
}

fn piece(at: BlockRef) -> Vec<u8> {
    let data = payload(at);
    bytes_of(&[Message::Piece {
        piece: at.piece,
        begin: at.begin,
        data: &data,
    }])
}

/// The blocks reported, checked and given back.
fn blocks(end: &mut End) -> Vec<BlockRef> {
    let mut got = vec![];
    for event in end.take_events() {
        if let PeerEvent::Block { at, block } = event {
            assert!(block[..at.len as usize] == payload(at), "{at:?} is wrong");
            end.pool.give(block);
            got.push(at);
        }
    }
    got
}

#[test]
fn reads_ahead_double_while_full_and_halve_when_short() {
    let mut world = World::new(1);
    let mut end = open(&mut world, 64);
    let wanted: Vec<_> = (0..40).map(|p| at(p, 0, BLOCK)).collect();
    request(&mut end, &mut world, &wanted);
    end.wire
        .extend(wanted[..31].iter().flat_map(|at| piece(*at)));
    let one = 13 + BLOCK_LEN;
    for depth in [1, 2, 4, 8, 16] {
        assert_eq!(
            end.read(&mut world.cx(), usize::MAX, usize::MAX),
            depth * one
        );
    }
    assert_eq!(blocks(&mut end), wanted[..31]);
    // Nine requests are left, so the tail is lent as well.
    assert_eq!(shape(&mut end, &mut world, usize::MAX).len(), 2 * 9 + 1);
    assert_eq!(end.pool.lent(), 0);
    end.hear(&mut world.cx(), &piece(wanted[31]));
    assert_eq!(blocks(&mut end), wanted[31..32]);
    request(&mut end, &mut world, &wanted[..20]);
    assert_eq!(shape(&mut end, &mut world, usize::MAX).len(), 2 * 4);
    assert_eq!(
        shape(&mut end, &mut world, 20_000),
        [13, BLOCK_LEN, 13, 3590]
    );
    assert_eq!(end.lent_after_close(), 0);
}

#[test]
fn a_peer_in_the_middle_of_a_block_holds_just_that_block() {
    let mut world = World::new(1);
    let mut end = open(&mut world, 64);
    let wanted: Vec<_> = (0..8).map(|p| at(p, 0, BLOCK)).collect();
    request(&mut end, &mut world, &wanted);
    let bytes = piece(wanted[0]);
    end.hear(&mut world.cx(), &bytes[..7]);
    assert_eq!(end.pool.lent(), 0, "half a header needs no block");
    assert_eq!(shape(&mut end, &mut world, usize::MAX)[0], 6);
    end.hear(&mut world.cx(), &bytes[7..1000]);
    assert_eq!(end.pool.lent(), 1);
    assert_eq!(
        shape(&mut end, &mut world, usize::MAX)[0],
        BLOCK_LEN + 13 - 1000
    );
    assert_eq!(end.peer.in_flight().next(), Some(wanted[0]));
    assert_eq!(end.peer.in_flight().count(), 8);
    assert_eq!(end.lent_after_close(), 0);
}

#[test]
fn talk_between_pieces_and_any_order_of_lengths_cost_no_byte() {
    let mut world = World::new(1);
    let (a, b, c) = (at(0, 0, BLOCK), at(1, 0, 100), at(2, BLOCK, BLOCK));
    for order in [[a, b, c], [b, a, c], [c, b, a], [b, c, a]] {
        for talk in [&[][..], &[Message::Have(9)], &[Message::KeepAlive; 3]] {
            let mut end = open(&mut world, 64);
            // Full reads first, so that the lists are long.
            let warm: Vec<_> = (10..17).map(|p| at(p, 0, BLOCK)).collect();
            request(&mut end, &mut world, &warm);
            request(&mut end, &mut world, &[a, b, c]);
            let bytes: Vec<_> = warm.iter().flat_map(|at| piece(*at)).collect();
            end.hear(&mut world.cx(), &bytes);
            assert_eq!(blocks(&mut end), warm);
            let mut bytes = vec![];
            for at in order {
                bytes.extend(bytes_of(talk));
                bytes.extend(piece(at));
            }
            bytes.extend(bytes_of(&[Message::Have(11)]));
            end.hear(&mut world.cx(), &bytes);
            assert_eq!(blocks(&mut end), order);
            assert!(end.peer.has().get(11));
            assert_eq!(end.peer.in_flight().count(), 0);
            assert_eq!(end.lent_after_close(), 0);
        }
    }
}

#[test]
fn unwanted_payload_is_dropped_without_a_block() {
    let mut world = World::new(1);
    let mut end = open(&mut world, 64);
    end.pool = BlockPool::new(0);
    let mut bytes = piece(at(3, 0, BLOCK));
    bytes.extend(bytes_of(&[Message::Have(5)]));
    end.hear(&mut world.cx(), &bytes);
    let events = end.take_events();
    assert!(
        matches!(
            events[..],
            [PeerEvent::Unwanted { len: BLOCK }, PeerEvent::Have(5)]
        ),
        "{events:?}"
    );
    assert_eq!(end.peer.totals().unwanted, u64::from(BLOCK));
}

#[test]
fn too_much_unwanted_payload_ends_the_connection() {
    let mut world = World::new(1);
    let mut end = open(&mut world, 64);
    let bytes = piece(at(3, 0, BLOCK));
    let mut sent = 0;
    while end.fault().is_none() {
        end.hear(&mut world.cx(), &bytes);
        sent += 1;
        assert!(sent < 2000);
    }
    assert_eq!(end.fault(), Some(PeerFault::Unsolicited));
}

#[test]
fn a_dry_pool_pauses_reading_and_loses_nothing() {
    let mut world = World::new(1);
    let mut end = open(&mut world, 64);
    end.pool = BlockPool::new(1);
    let (a, b) = (at(0, 0, BLOCK), at(1, 0, BLOCK));
    request(&mut end, &mut world, &[a, b]);
    // The guess is wrong, and the only block is lent for it.
    let mut bytes = bytes_of(&[Message::Have(9)]);
    bytes.extend(piece(a));
    end.wire.extend(bytes);
    end.wire.extend(piece(b));
    end.read(&mut world.cx(), usize::MAX, usize::MAX);
    assert!(end.peer.stalled());
    assert_eq!(end.pool.lent(), 0);
    assert!(shape(&mut end, &mut world, usize::MAX).is_empty());
    assert!(!end.peer.stalled(), "reading of 0 bytes took it up");
    end.read(&mut world.cx(), usize::MAX, usize::MAX);
    let kept = end.take_events();
    assert!(matches!(
        kept[..],
        [PeerEvent::Have(9), PeerEvent::Block { .. }]
    ));
    assert!(
        shape(&mut end, &mut world, usize::MAX).is_empty(),
        "the owner holds the only block"
    );
    end.events = kept;
    assert_eq!(blocks(&mut end), [a]);
    while !end.wire.is_empty() {
        end.read(&mut world.cx(), usize::MAX, usize::MAX);
    }
    assert_eq!(blocks(&mut end), [b]);
    assert_eq!(end.lent_after_close(), 0);
}

/// A block that tests ask for and get: few, so that the two meet, and of several lengths.
fn some_block(n: u16) -> BlockRef {
    let n = u32::from(n) % 24;
    at(n, 0, if n.is_multiple_of(3) { 100 + n } else { BLOCK })
}

/// One message of a stream.
fn message(kind: u8, n: u16) -> Vec<u8> {
    match kind % 12 {
        0 | 8.. => piece(some_block(n)),
        1 => bytes_of(&[Message::Have(u32::from(n) % 64)]),
        2 => bytes_of(&[Message::KeepAlive]),
        3 => bytes_of(&[Message::Unknown { id: 200 }]),
        4 => bytes_of(&[Message::Bitfield(&[n as u8; 8])]),
        5 => bytes_of(&[Message::Extended {
            id: 9,
            payload: &vec![0; usize::from(n) % 5000],
        }]),
        6 => bytes_of(&[Message::Choke]),
        7 => bytes_of(&[Message::Unchoke]),
    }
}

quickcheck! {
    /// Law 7: the same stream means the same, however it is cut.
    fn cuts_do_not_matter(stream: Vec<(u8, u16)>, requested: Vec<u16>, seed: u64) -> bool {
        let bytes: Vec<u8> = stream.iter().flat_map(|&(kind, n)| message(kind, n)).collect();
        let outcome = |cut: usize, depth: usize| {
            let mut world = World::new(seed);
            let mut end = open(&mut world, 64);
            for &n in &requested {
                end.peer.request(&mut world.cx(), some_block(n));
            }
            end.pool = BlockPool::new(depth);
            end.wire.extend(&bytes);
            let mut seen = vec![];
            for _ in 0..1_000_000 {
                if end.wire.is_empty() && !end.peer.stalled() {
                    break;
                }
                let max = world.below(cut) + 1;
                end.read(&mut world.cx(), usize::MAX, max);
                for event in end.take_events() {
                    match event {
                        PeerEvent::Block { at, block } => {
                            assert!(block[..at.len as usize] == payload(at), "{at:?} is wrong");
                            seen.push(alloc::format!("{at:?}"));
                            end.pool.give(block);
                        }
                        other => seen.push(alloc::format!("{other:?}")),
                    }
                }
            }
            assert_eq!(end.lent_after_close(), 0);
            seen
        };
        let whole = outcome(usize::MAX, 64);
        whole == outcome(1000, 64) && whole == outcome(40_000, 2) && whole == outcome(1 << 20, 1)
    }
}
