//! Trains: datagrams to one tracker that leave together.

use super::*;

impl Bench {
    /// Several announces, with paths of these lengths, whose connection id has come.
    fn waiting(paths: &[usize]) -> Self {
        let mut b = Self::new(UdpConfig::default());
        for len in paths {
            let path = "x".repeat(*len);
            b.with(|udp, cx| udp.announce(cx, tracker(), &path, request()))
                .unwrap();
        }
        let connect = b.sent().unwrap();
        assert_eq!(b.answer(connect, 0, &CONNECTION), Handled::Consumed);
        b
    }

    /// The lengths of the datagrams of all trains, and the transactions in them.
    fn trains(&mut self, max_segments: usize, room: usize) -> (Vec<Vec<usize>>, BTreeSet<[u8; 4]>) {
        let mut buf = alloc::vec![0; room];
        let (mut trains, mut transactions) = (Vec::new(), BTreeSet::new());
        while let Some(t) = self.with(|udp, cx| udp.poll_train(cx, max_segments, &mut buf)) {
            assert_eq!(t.dst, tracker());
            let each = t.segment.map_or(t.len, NonZeroUsize::get);
            let datagrams = buf[..t.len].chunks(each);
            transactions.extend(
                datagrams
                    .clone()
                    .map(|d| <[u8; 4]>::try_from(&d[12..16]).unwrap()),
            );
            trains.push(datagrams.map(<[u8]>::len).collect());
        }
        (trains, transactions)
    }
}

#[test]
fn announces_that_waited_for_one_connection_leave_as_a_train() {
    let mut b = Bench::waiting(&[10; 5]);
    let (trains, transactions) = b.trains(64, 64 << 10);
    let one = trains[0][0];
    assert_eq!(trains, [[one; 5]]);
    assert_eq!(transactions.len(), 5);
    // Each is answered for itself.
    for transaction in transactions {
        let sent = Sent {
            dst: tracker(),
            action: 1,
            transaction,
            connection: CONNECTION,
        };
        assert_eq!(b.answer(sent, 1, &PEERS), Handled::Consumed);
        assert!(b.udp.poll_event().is_some_and(|event| event.result.is_ok()));
    }
    assert_eq!(b.udp.poll_timeout(), None);
}

#[test]
fn a_train_is_no_longer_than_asked_for_or_than_there_is_room() {
    let alone = Bench::waiting(&[10]).trains(64, 64 << 10).0[0][0];
    for (most, room, lens) in [
        (1, 64 << 10, &[1, 1, 1, 1, 1][..]),
        (2, 64 << 10, &[2, 2, 1]),
        (64, 3 * alone, &[3, 2]),
        (64, 3 * alone - 1, &[2, 2, 1]),
        (0, 64 << 10, &[1, 1, 1, 1, 1]),
    ] {
        let (trains, transactions) = Bench::waiting(&[10; 5]).trains(most, room);
        let found: Vec<usize> = trains.iter().map(Vec::len).collect();
        assert_eq!(found, lens, "{most} in {room} bytes");
        assert_eq!(transactions.len(), 5);
    }
}

#[test]
fn only_the_last_of_a_train_may_be_shorter() {
    let mut b = Bench::waiting(&[10, 10, 5, 5, 12, 10]);
    let (trains, transactions) = b.trains(64, 64 << 10);
    let lens: Vec<usize> = trains.iter().map(Vec::len).collect();
    assert_eq!((lens, transactions.len()), (alloc::vec![3, 1, 2], 6));
    for train in trains {
        let (last, others) = train.split_last().unwrap();
        assert!(others.iter().all(|len| *len == train[0]) && *last <= train[0]);
    }
}

#[test]
fn a_train_leads_to_one_tracker() {
    let mut b = Bench::new(UdpConfig::default());
    let other: SocketAddr = "192.0.2.9:6969".parse().unwrap();
    for dst in [tracker(), other, "192.0.2.10:6969".parse().unwrap()] {
        b.announce(dst).unwrap();
    }
    let mut buf = [0; 1500];
    let mut to = Vec::new();
    while let Some(t) = b.with(|udp, cx| udp.poll_train(cx, 64, &mut buf)) {
        assert_eq!((t.len, t.segment), (16, None));
        to.push(t.dst.ip());
    }
    assert_eq!(to.len(), 3);
}
