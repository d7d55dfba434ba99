//! What messages mean, and what is not put up with.

use core::net::SocketAddr;

use super::*;
use crate::wire::extension::{Metadata, Pex, PexFlags, ours};
use crate::wire::peer::{id, piece_header};

const A: BlockRef = BlockRef {
    piece: 0,
    begin: 0,
    len: BLOCK,
};
const B: BlockRef = BlockRef { piece: 1, ..A };

const SLOW: Reserved = Reserved([0, 0, 0, 0, 0, 0x10, 0, 0]);

fn fault_of(reserved: Reserved, bytes: &[u8]) -> Option<PeerFault> {
    let mut world = World::new(1);
    let mut end = open_with(&mut world, 8, reserved);
    end.hear(&mut world.cx(), bytes);
    assert_eq!(end.peer.is_open(), end.fault().is_none());
    end.fault()
}

fn hear(end: &mut End, world: &mut World, messages: &[Message<'_>]) {
    end.hear(&mut world.cx(), &bytes_of(messages));
}

fn rejected(end: &mut End) -> Vec<BlockRef> {
    let events = end.take_events().into_iter();
    events
        .filter_map(|e| match e {
            PeerEvent::Rejected(at) => Some(at),
            _ => None,
        })
        .collect()
}

#[test]
fn a_choke_voids_requests_unless_the_fast_extension_answers_them() {
    let mut world = World::new(1);
    for (reserved, voided) in [(SLOW, vec![A, B]), (Reserved::ours(false), vec![])] {
        let mut end = open_with(&mut world, 8, reserved);
        hear(&mut end, &mut world, &[Message::Unchoke]);
        end.peer.request(&mut world.cx(), A);
        end.peer.request(&mut world.cx(), B);
        hear(&mut end, &mut world, &[Message::Choke]);
        assert_eq!(rejected(&mut end), voided);
        // What was under way already is not hostile, and welcome.
        end.hear(&mut world.cx(), &piece_header(A));
        end.hear(&mut world.cx(), &payload(A));
        let events = end.take_events();
        assert!(matches!(events[..], [PeerEvent::Block { at: A, .. }]));
        end.events = events;
        if end.peer.is_fast() {
            hear(&mut end, &mut world, &[Message::Reject(B)]);
        }
        assert_eq!(end.peer.in_flight().count(), 0);
        assert_eq!(end.lent_after_close(), 0);
    }
}

#[test]
fn a_cancelled_block_that_comes_all_the_same_is_delivered() {
    let mut world = World::new(1);
    let mut end = open(&mut world, 8);
    end.peer.request(&mut world.cx(), A);
    end.said(&mut world.cx());
    end.peer.cancel(&mut world.cx(), A);
    end.peer.cancel(&mut world.cx(), A);
    assert_eq!(
        end.said(&mut world.cx()),
        bytes_of(&[Message::Cancel(A)]),
        "said once"
    );
    end.hear(&mut world.cx(), &piece_header(A));
    end.hear(&mut world.cx(), &payload(A));
    assert!(matches!(
        end.take_events()[..],
        [PeerEvent::Block { at: A, .. }]
    ));
    assert_eq!(end.peer.totals().unwanted, 0);
}

#[test]
fn cancelled_requests_are_remembered_up_to_a_limit() {
    let mut world = World::new(1);
    let mut end = open(&mut world, 2000);
    let nth = |piece| BlockRef { piece, ..A };
    for piece in 0..1100 {
        end.peer.request(&mut world.cx(), nth(piece));
        end.said(&mut world.cx());
        end.peer.cancel(&mut world.cx(), nth(piece));
        end.said(&mut world.cx());
    }
    for (piece, remembered) in [(1099, true), (1099 - 1023, true), (1099 - 1024, false)] {
        end.hear(&mut world.cx(), &piece_header(nth(piece)));
        end.hear(&mut world.cx(), &payload(nth(piece)));
        let delivered =
            |e: &PeerEvent| matches!(e, PeerEvent::Block { at, .. } if at.piece == piece);
        let events = end.take_events();
        assert_eq!(events.iter().any(delivered), remembered, "piece {piece}");
        end.events = events;
    }
    assert_eq!(end.peer.totals().unwanted, u64::from(BLOCK));
    assert_eq!(end.lent_after_close(), 0);
}

#[test]
fn allowed_fast_pieces_are_remembered_up_to_a_limit() {
    let mut world = World::new(1);
    let mut end = open(&mut world, 2000);
    for piece in 0..1000 {
        hear(&mut end, &mut world, &[Message::AllowedFast(piece)]);
    }
    assert_eq!(end.take_events().len(), 64);
}

#[test]
fn requests_are_answered_rejected_or_dropped_but_never_piled_up() {
    let mut world = World::new(1);
    for reserved in [Reserved::ours(false), SLOW] {
        let mut end = open_with(&mut world, 8, reserved);
        hear(&mut end, &mut world, &[Message::Request(A)]);
        assert!(end.take_events().is_empty(), "it is choked");
        end.peer.unchoke();
        end.said(&mut world.cx());
        let reqq = PeerConfig::default().reqq as usize;
        hear(&mut end, &mut world, &vec![Message::Request(A); reqq + 3]);
        assert_eq!(end.take_events().len(), reqq);
        let said = end.said(&mut world.cx());
        let rejects = if end.peer.is_fast() { 3 } else { 0 };
        assert_eq!(said, bytes_of(&vec![Message::Reject(A); rejects]));
    }
}

/// No block is larger than 16 KiB (BEP 3 allows more, and nobody serves it): a larger one would not fit into a
/// lent block.
#[test]
fn a_request_for_no_bytes_or_for_more_than_a_block_is_rejected() {
    let mut world = World::new(1);
    let mut end = open(&mut world, 8);
    end.peer.unchoke();
    end.said(&mut world.cx());
    for len in [0, BLOCK + 1, 2 * BLOCK, u32::MAX] {
        let at = BlockRef { len, ..A };
        hear(&mut end, &mut world, &[Message::Request(at)]);
        assert!(end.take_events().is_empty(), "{len} bytes");
        assert_eq!(end.said(&mut world.cx()), bytes_of(&[Message::Reject(at)]));
    }
    for len in [1, BLOCK] {
        let at = BlockRef { len, ..A };
        hear(&mut end, &mut world, &[Message::Request(at)]);
        assert_eq!(end.take_events().len(), 1, "{len} bytes");
    }
}

#[test]
fn a_choke_of_ours_spares_allowed_fast_pieces_only() {
    let mut world = World::new(1);
    let mut end = open(&mut world, 8);
    end.peer.allow_fast(0);
    end.peer.unchoke();
    hear(
        &mut end,
        &mut world,
        &[Message::Request(A), Message::Request(B)],
    );
    end.said(&mut world.cx());
    end.peer.choke(&mut end.pool);
    let expected = bytes_of(&[Message::Choke, Message::Reject(B)]);
    assert_eq!(end.said(&mut world.cx()), expected);
    let (a, b) = (end.pool.take().unwrap(), end.pool.take().unwrap());
    assert!(end.peer.send_block(A, a).is_none());
    let b = end.peer.send_block(B, b).expect("nobody waits for it");
    end.pool.give(b);
    assert_eq!(end.peer.queued_bytes(), 13 + BLOCK_LEN);
    let sent = end.write(&mut world.cx(), 1000);
    assert_eq!(sent[..13], piece_header(A));
    assert_eq!(end.peer.queued_bytes(), 13 + BLOCK_LEN - 1000);
    assert_eq!(end.pool.lent(), 1);
    end.said(&mut world.cx());
    assert_eq!((end.peer.queued_bytes(), end.pool.lent()), (0, 0));
    // A cancel comes too late for what is queued, and in time for what is not.
    hear(
        &mut end,
        &mut world,
        &[Message::Cancel(A), Message::Request(A), Message::Cancel(A)],
    );
    assert_eq!(end.said(&mut world.cx()), bytes_of(&[Message::Reject(A)]));
    assert_eq!(end.peer.asked_len(), 0);
}

#[test]
fn what_was_said_before_the_metadata_is_known_is_understood_after() {
    for (early, count, has, seed) in [
        (&[Message::HaveAll][..], 8, 8, true),
        (&[Message::HaveNone, Message::Have(3)], 8, 1, false),
        (&[Message::Bitfield(&[0xc0]), Message::Have(7)], 8, 3, false),
        (&[Message::Bitfield(&[0xc0, 0])], 9, 2, false),
    ] {
        let mut world = World::new(1);
        let mut end = open(&mut world, 0);
        hear(&mut end, &mut world, early);
        assert!(end.take_events().is_empty() && end.peer.has().is_empty());
        end.peer.set_pieces(count);
        assert!(matches!(end.take_events()[..], [PeerEvent::HasChanged]));
        assert_eq!((end.peer.has().count(), end.peer.is_seed()), (has, seed));
    }
    for bad in [
        Message::Bitfield(&[0xc0, 0]),
        Message::Bitfield(&[]),
        Message::Have(8),
    ] {
        let mut world = World::new(1);
        let mut end = open(&mut world, 0);
        hear(&mut end, &mut world, &[bad]);
        end.peer.set_pieces(8);
        end.collect();
        assert_eq!(end.fault(), Some(PeerFault::BadBitfield));
    }
}

#[test]
fn faults_name_what_was_wrong() {
    let fast = Reserved::ours(false);
    for (reserved, messages, fault) in [
        (fast, Message::Have(8), PeerFault::BadPiece(8)),
        (fast, Message::Bitfield(&[1, 2]), PeerFault::BadBitfield),
        (SLOW, Message::HaveAll, PeerFault::FastNotAgreed(14)),
        (SLOW, Message::Reject(A), PeerFault::FastNotAgreed(16)),
        (
            fast,
            Message::Request(BlockRef { piece: 9, ..A }),
            PeerFault::BadPiece(9),
        ),
    ] {
        assert_eq!(fault_of(reserved, &bytes_of(&[messages])), Some(fault));
    }
    let start = |len: u32, id: u8| [&len.to_be_bytes()[..], &[id]].concat();
    let len = u32::MAX;
    for (id, len, fault) in [
        (id::PIECE, len, PeerFault::TooLong { id: 7, len }),
        (99, len, PeerFault::TooLong { id: 99, len }),
        (id::BITFIELD, 9, PeerFault::BadBitfield),
        (id::HAVE, 14, PeerFault::BadMessage { id: 4, len: 14 }),
        (id::PIECE, 8, PeerFault::BadMessage { id: 7, len: 8 }),
    ] {
        assert_eq!(fault_of(fast, &start(len, id)), Some(fault));
        assert_eq!(fault.blame(), Blame::Peer);
    }
}

#[test]
fn handshakes_for_another_torrent_or_with_ourselves_end_it() {
    let mut world = World::new(1);
    let hello = Handshake {
        reserved: Reserved::default(),
        info_hash: InfoHash([1; 20]),
        peer_id: PeerId([2; 20]),
    };
    let ourselves = Handshake {
        info_hash: TORRENT,
        peer_id: PeerId([1; 20]),
        ..hello
    };
    for (bytes, fault) in [
        (hello.emit().to_vec(), PeerFault::WrongTorrent),
        (ourselves.emit().to_vec(), PeerFault::Ourselves),
        (b"HTTP/1.1".to_vec(), PeerFault::NotBitTorrent),
    ] {
        let cfg = PeerConfig::default();
        let mut end = End::new(Peer::outgoing(&mut world.cx(), &cfg, &local(1), None));
        end.hear(&mut world.cx(), &bytes);
        assert_eq!(end.fault(), Some(fault));
        assert!(!end.peer.wants_write() && end.peer.poll_timeout().is_none());
    }
}

#[test]
fn what_comes_with_an_incoming_handshake_waits_for_the_welcome() {
    let mut world = World::new(1);
    let cfg = PeerConfig::default();
    let mut end = End::new(Peer::incoming(&mut world.cx(), &cfg, Encryption::Preferred));
    let hello = Handshake {
        reserved: Reserved::ours(false),
        info_hash: TORRENT,
        peer_id: PeerId([2; 20]),
    };
    let mut bytes = hello.emit().to_vec();
    bytes.extend(bytes_of(&[Message::HaveAll, Message::Interested]));
    end.hear(&mut world.cx(), &bytes);
    assert!(matches!(
        end.take_events()[..],
        [PeerEvent::Handshake {
            info_hash: TORRENT,
            ..
        }]
    ));
    assert!(!end.peer.wants_write());
    end.peer.welcome(&mut world.cx(), &local(1));
    assert!(matches!(
        end.take_events()[..],
        [PeerEvent::Established, PeerEvent::Interested]
    ));
    assert!(end.peer.is_seed());
    let said = end.said(&mut world.cx());
    assert_eq!(said[..68], local(1).handshake().emit());
}

#[test]
fn extension_ids_of_the_two_sides_are_kept_apart() {
    let mut world = World::new(1);
    let mut end = open(&mut world, 8);
    assert!(!end.peer.metadata_request(0), "its ids are not known yet");
    let theirs =
        b"d1:md11:lt_donthavei30e11:ut_metadatai20e6:ut_pexi10ee13:metadata_sizei20000e4:reqqi7ee";
    let handshake = Message::Extended {
        id: 0,
        payload: theirs,
    };
    hear(&mut end, &mut world, &[handshake]);
    assert!(matches!(end.take_events()[..], [PeerEvent::Extended]));
    assert_eq!(end.peer.metadata_size(), Some(20_000));
    end.said(&mut world.cx());

    assert!(end.peer.metadata_request(1));
    end.peer.dont_have(2);
    assert!(end.peer.pex(&[], &[]));
    let expected = bytes_of(&[
        Message::Extended {
            id: 20,
            payload: &Metadata::Request(1).emit(),
        },
        Message::Extended {
            id: 30,
            payload: &[0, 0, 0, 2],
        },
        Message::Extended {
            id: 10,
            payload: &Pex::emit(&[], &[]),
        },
    ]);
    assert_eq!(end.said(&mut world.cx()), expected);

    let data = Metadata::Data {
        piece: 1,
        total: Some(20_000),
        data: b"info",
    }
    .emit();
    let answer = Message::Extended {
        id: ours::UT_METADATA,
        payload: &data,
    };
    let lost = Message::Extended {
        id: ours::LT_DONTHAVE,
        payload: &[0, 0, 0, 2],
    };
    hear(
        &mut end,
        &mut world,
        &[answer, answer, Message::HaveAll, lost, lost],
    );
    let events = end.take_events();
    assert!(
        matches!(
            &events[..],
            [
                PeerEvent::MetadataPiece { index: 1, total: Some(20_000), data },
                PeerEvent::HasAll,
                PeerEvent::DontHave(2)
            ] if data == b"info"
        ),
        "{events:?}"
    );
}

#[test]
fn an_allowed_piece_that_a_choking_peer_refuses_is_allowed_no_more() {
    let mut world = World::new(1);
    let mut end = open(&mut world, 8);
    let allowed = [Message::AllowedFast(A.piece), Message::AllowedFast(3)];
    hear(&mut end, &mut world, &allowed);
    end.peer.request(&mut world.cx(), A);
    hear(&mut end, &mut world, &[Message::Reject(A)]);
    assert_eq!(end.peer.allowed_fast(), [3]);
    // Unchoked, a refusal says nothing about what is allowed while choked.
    hear(&mut end, &mut world, &[Message::Unchoke]);
    let other = BlockRef { piece: 3, ..A };
    end.peer.request(&mut world.cx(), other);
    hear(&mut end, &mut world, &[Message::Reject(other)]);
    assert_eq!(end.peer.allowed_fast(), [3]);
}

#[test]
fn metadata_asked_for_all_at_once_is_sent_as_it_is_read() {
    let mut world = World::new(1);
    let mut end = open(&mut world, 8);
    let theirs = Message::Extended {
        id: 0,
        payload: b"d1:md11:ut_metadatai20eee",
    };
    hear(&mut end, &mut world, &[theirs]);
    end.take_events();
    end.said(&mut world.cx());
    let pieces = 1000;
    let mut asks = vec![];
    for piece in 0..pieces {
        let payload = Metadata::Request(piece).emit();
        asks.extend(bytes_of(&[Message::Extended {
            id: ours::UT_METADATA,
            payload: &payload,
        }]));
    }
    end.hear(&mut world.cx(), &asks);
    let (mut served, mut heard) = (vec![], 0);
    loop {
        for event in end.take_events() {
            match event {
                PeerEvent::MetadataRequested(piece) => {
                    served.push(piece);
                    let total = pieces * BLOCK_LEN as u32;
                    end.peer.metadata_data(piece, total, &[1; BLOCK_LEN]);
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(end.peer.queued_bytes() < 100 * 1024);
        let said = end.write(&mut world.cx(), 5000).len();
        if said == 0 {
            break;
        }
        heard += said;
    }
    assert_eq!(served, (0..pieces).collect::<Vec<_>>());
    assert!(heard > pieces as usize * BLOCK_LEN);
}

#[test]
fn pex_of_a_private_torrent_is_neither_heard_nor_said() {
    let mut world = World::new(1);
    let mut end = open(&mut world, 8);
    let peer = SocketAddr::from(([10, 9, 8, 7], 6));
    let said = Pex::emit(&[(peer, PexFlags::SEED)], &[]);
    let pex = Message::Extended {
        id: ours::UT_PEX,
        payload: &said,
    };
    hear(&mut end, &mut world, &[pex]);
    assert!(matches!(end.take_events()[..], [PeerEvent::Pex { .. }]));
    let private = Local {
        pex: false,
        ..local(1)
    };
    end.peer.send_extended(&private);
    hear(&mut end, &mut world, &[pex]);
    assert!(end.take_events().is_empty() && !end.peer.pex(&[], &[]));
}

#[test]
fn a_peer_that_asks_on_and_on_and_reads_nothing_is_ended() {
    let mut world = World::new(1);
    let ask = Metadata::Request(0).emit();
    let metadata = Message::Extended {
        id: ours::UT_METADATA,
        payload: &ask,
    };
    for message in [Message::Request(A), metadata] {
        let asks_for_metadata = matches!(message, Message::Extended { .. });
        let mut end = open(&mut world, 8);
        let theirs = Message::Extended {
            id: 0,
            payload: b"d1:md11:ut_metadatai20eee",
        };
        hear(&mut end, &mut world, &[theirs]);
        let bytes = bytes_of(&vec![message; 1000]);
        for _ in 0..100 {
            end.hear(&mut world.cx(), &bytes);
            for event in end.take_events() {
                match event {
                    PeerEvent::MetadataRequested(i) => {
                        end.peer.metadata_data(i, 20_000, &[0; 16 * 1024]);
                    }
                    closed @ PeerEvent::Closed(_) => end.events.push(closed),
                    _ => {}
                }
            }
            assert!(end.peer.queued_bytes() < 600 * 1024);
        }
        // Requests for metadata wait, and a peer that reads nothing is found by the timer.
        let expected = (!asks_for_metadata).then_some(PeerFault::ReadsNothing);
        assert_eq!(end.fault(), expected);
    }
}

quickcheck! {
    /// Law 6, in every phase, with requests in flight where there can be some.
    fn any_bytes_are_survived(phase: u8, bytes: Vec<u8>, glue: Vec<(u8, Vec<u8>)>, cut: u16) -> bool {
        let mut world = World::new(7);
        let cfg = PeerConfig::default();
        let mut end = match phase % 6 {
            0 => End::new(Peer::outgoing(&mut world.cx(), &cfg, &local(1), None)),
            1 => End::new(Peer::outgoing(&mut world.cx(), &cfg, &local(1), Encryption::Required.offer())),
            2 => End::new(Peer::incoming(&mut world.cx(), &cfg, Encryption::Preferred)),
            3 => open(&mut world, 0),
            4 => open_with(&mut world, 50, SLOW),
            _ => open(&mut world, 50),
        };
        for at in [A, B, BlockRef { len: 20, ..B }] {
            end.peer.request(&mut world.cx(), at);
        }
        // Raw bytes hardly get past the length; these have a plausible frame.
        for (id, body) in glue {
            let id = id % 22;
            let head = [&(body.len() as u32 + 1).to_be_bytes()[..], &[id]].concat();
            end.wire.extend(head.into_iter().chain(body));
        }
        end.wire.extend(bytes);
        for _ in 0..100_000 {
            let max = world.below(usize::from(cut) + 1) + 1;
            if end.read(&mut world.cx(), usize::MAX, max) == 0 && !end.peer.stalled() {
                break;
            }
            assert!(end.pool.lent() <= 4);
        }
        end.peer.set_pieces(50);
        end.lent_after_close() == 0
    }
}
