//! Opening, closing, and segments that do not belong.

use super::*;

fn quiet() -> Net {
    let path = Path {
        delay_us: 10_000,
        ..Path::default()
    };
    Net::new(&TcpConfig::default(), [path; 2], 1)
}

fn run(net: &mut Net, ms: u64) {
    let until = net.now + ms * 1_000;
    while net.step(until) {}
}

#[test]
fn both_streams_end_and_the_closing_side_waits() {
    let mut net = quiet();
    run(&mut net, 100);
    assert!(net.ends.iter().all(Conn::is_open));
    assert_eq!(net.write(0, b"hello"), 5);
    net.ends[0].close();
    run(&mut net, 100);
    assert_eq!(net.read(1, 100), b"hello");
    assert!(net.ends[1].ended());
    // The other direction is still open.
    assert_eq!(net.write(1, b"bye"), 3);
    net.ends[1].close();
    run(&mut net, 100);
    assert_eq!(net.read(0, 100), b"bye");
    assert_eq!(net.ends[1].end(), Some(End::Closed));
    assert!(net.ends[0].is_waiting());
    run(&mut net, 61_000);
    assert_eq!(net.ends[0].end(), Some(End::Closed));
}

#[test]
fn a_lost_syn_and_a_lost_answer_are_sent_again() {
    let mut net = quiet();
    net.flush();
    // The answer to the SYN is lost.
    net.heap.clear();
    net.flying.clear();
    run(&mut net, 2_000);
    assert!(net.ends.iter().all(Conn::is_open));
    assert_eq!(net.ends[0].deadline(), None);
}

#[test]
fn both_sides_may_open_at_once() {
    let config = TcpConfig::default();
    let mut net = quiet();
    net.ends[1] = Conn::connect(&config, net.at(), 9, MSS);
    let now = net.at();
    net.ends[0] = Conn::connect(&config, now, 8, MSS);
    run(&mut net, 500);
    assert!(net.ends.iter().all(Conn::is_open));
    assert!(transfer(&mut net, 50_000, Duration::from_secs(5)).is_some());
}

#[test]
fn nobody_answers() {
    let mut net = quiet();
    net.paths[0].loss = 1_000;
    net.paths[1].loss = 1_000;
    run(&mut net, 130_000);
    assert_eq!(net.ends[0].end(), Some(End::TimedOut));
    assert_eq!(net.ends[1].end(), Some(End::TimedOut));
    assert_eq!(net.sent, [6, 6]);
}

#[test]
fn a_reset_is_believed_only_at_the_expected_place() {
    let mut net = quiet();
    run(&mut net, 100);
    let now = net.at();
    let next = u32::MAX - 5_000 + 1;
    for (seq, over) in [(next + 100, false), (next - 1, false), (next, true)] {
        let reset = Header::new(TcpFlags::RST, seq, 0, 0);
        net.ends[1].segment(now, &reset, &[]);
        assert_eq!(net.ends[1].end().is_some(), over, "{seq}");
    }
    assert_eq!(net.ends[1].end(), Some(End::Reset));
}

#[test]
fn a_refused_connection_is_reset_and_an_aborted_one_too() {
    let config = TcpConfig::default();
    let mut net = quiet();
    let now = net.at();
    let mut a = Conn::connect(&config, now, 500, MSS);
    let (syn, _) = a.poll(now).expect("a SYN");
    let mut b = Conn::accept(&config, now, MSS, &syn);
    b.abort();
    let (reset, _) = b.poll(now).expect("a reset");
    a.segment(now, &reset, &[]);
    assert_eq!(a.end(), Some(End::Reset));
    run(&mut net, 100);
    net.ends[0].abort();
    run(&mut net, 100);
    assert_eq!(net.ends[1].end(), Some(End::Reset));
}

#[test]
fn probes_are_answered_and_old_segments_do_not_start_a_loop() {
    let mut net = quiet();
    run(&mut net, 100);
    let heard = net.ends[0].heard();
    net.ends[0].probe();
    run(&mut net, 100);
    assert_eq!(net.ends[0].heard(), heard + 1);
    // Each end finds the other's segments unacceptable.
    let stray = Header::new(TcpFlags::ACK, 1, 1, 0);
    let sent = net.sent;
    for _ in 0..100 {
        let now = net.at();
        net.ends[0].segment(now, &stray, &[]);
        net.ends[1].segment(now, &stray, &[]);
        run(&mut net, 1);
    }
    assert!(net.sent[0] + net.sent[1] <= sent[0] + sent[1] + 4);
}

#[test]
fn a_closed_window_is_asked_about_until_it_opens() {
    let mut net = quiet();
    run(&mut net, 100);
    let mut written = 0;
    for _ in 0..100 {
        written += net.write(0, &[7; 10_000]);
        run(&mut net, 50);
    }
    assert!(net.ends[1].readable() <= 64 << 10, "the window is a limit");
    run(&mut net, 600_000);
    assert_eq!(net.ends[0].end(), None);
    let mut read = 0;
    for _ in 0..200 {
        read += net.read(1, usize::MAX).len();
        run(&mut net, 1_000);
    }
    assert_eq!(read, written);
}
