//! Mistakes that are passed over, and how long.

use super::*;
use crate::wire::extension::ours;
use crate::wire::peer::{MAX_EXTENDED_LEN, id};

/// An extended message of this number.
fn extended(number: u8, payload: &[u8]) -> Vec<u8> {
    bytes_of(&[Message::Extended {
        id: number,
        payload,
    }])
}

/// How many mistakes were passed over, and the other events.
fn forgiven(end: &mut End) -> (usize, Vec<PeerEvent>) {
    let (slips, others): (Vec<_>, Vec<_>) = end
        .take_events()
        .into_iter()
        .partition(|event| matches!(event, PeerEvent::Forgiven));
    (slips.len(), others)
}

/// What is junk and does no harm.
fn junk() -> Vec<Vec<u8>> {
    let long = vec![b'y'; 40_000];
    let claim = [b"d1:v40000:", &long[..], b"e"].concat();
    vec![
        extended(ours::HANDSHAKE, b"junk"),
        extended(ours::HANDSHAKE, b""),
        extended(ours::HANDSHAKE, b"le"),
        extended(ours::HANDSHAKE, &claim),
        extended(ours::HANDSHAKE, &vec![b'l'; 30_000]),
        extended(ours::UT_METADATA, b""),
        extended(ours::UT_METADATA, b"i1e"),
        extended(ours::UT_METADATA, &long),
        extended(ours::UT_PEX, b"d5:added"),
        extended(ours::UT_PEX, &long),
        extended(ours::LT_DONTHAVE, &[0, 0, 1]),
        // No number at all.
        vec![0, 0, 0, 1, id::EXTENDED],
        vec![0, 0, 0, 4, id::PORT, 1, 2, 3],
    ]
}

#[test]
fn junk_in_what_blocks_do_without_is_counted_and_the_connection_lives() {
    for message in junk() {
        // In one piece, and byte by byte.
        for step in [usize::MAX, 1, 2047] {
            let mut world = World::new(1);
            let mut end = open(&mut world, 8);
            for bytes in message.chunks(step.min(message.len())) {
                end.hear(&mut world.cx(), bytes);
            }
            let (slips, others) = forgiven(&mut end);
            assert_eq!((slips, others.len()), (1, 0), "{others:?}");
            end.hear(&mut world.cx(), &bytes_of(&[Message::Have(3)]));
            let (slips, others) = forgiven(&mut end);
            assert!(slips == 0 && matches!(others[..], [PeerEvent::Have(3)]));
        }
    }
}

#[test]
fn what_is_junk_for_nobody_is_not_counted() {
    let mut world = World::new(1);
    let mut end = open(&mut world, 8);
    let unknown = extended(77, b"whatever");
    let long = vec![b' '; MAX_EXTENDED_LEN as usize - 20];
    let handshake = [
        alloc::format!("d1:v{}:", long.len()).as_bytes(),
        &long[..],
        b"e",
    ]
    .concat();
    end.hear(&mut world.cx(), &unknown);
    end.hear(&mut world.cx(), &extended(ours::HANDSHAKE, &handshake));
    let (slips, others) = forgiven(&mut end);
    assert!(slips == 0 && matches!(others[..], [PeerEvent::Extended]));
}

#[test]
fn whoever_says_nothing_but_junk_goes() {
    let alone = [
        vec![0; 4],
        extended(77, b""),
        bytes_of(&[Message::Unknown { id: 99 }]),
    ];
    for message in junk() {
        let mut world = World::new(1);
        let mut end = open(&mut world, 8);
        let mut sent = 0;
        while end.peer.is_open() {
            assert!(sent < 100, "{message:?}");
            sent += 1;
            end.hear(&mut world.cx(), &message);
            // Words without meaning do not make up for it.
            alone
                .iter()
                .for_each(|other| end.hear(&mut world.cx(), other));
        }
        end.collect();
        let id = message[4];
        assert_eq!((end.fault(), sent), (Some(PeerFault::OnlyJunk(id)), 65));
    }
}

#[test]
fn a_peer_that_errs_between_messages_that_make_sense_may_stay() {
    let mut world = World::new(1);
    let mut end = open(&mut world, 8);
    for _ in 0..1000 {
        end.hear(&mut world.cx(), &extended(ours::UT_PEX, b"junk"));
        end.hear(&mut world.cx(), &bytes_of(&[Message::Have(3)]));
    }
    assert!(end.peer.is_open());
    assert_eq!(forgiven(&mut end).0, 1000);
}

#[test]
fn spare_bits_of_a_bitfield_are_cleared() {
    for early in [true, false] {
        let mut world = World::new(1);
        let mut end = open(&mut world, if early { 0 } else { 9 });
        let bits = bytes_of(&[Message::Bitfield(&[0x0f, 0xff])]);
        end.hear(&mut world.cx(), &bits);
        end.peer.set_pieces(9);
        end.collect();
        let (slips, others) = forgiven(&mut end);
        assert!(matches!(others[..], [PeerEvent::HasChanged]));
        assert_eq!((slips, end.peer.has().count()), (usize::from(!early), 5));
        assert_eq!(end.peer.has().len(), 9);
    }
}
