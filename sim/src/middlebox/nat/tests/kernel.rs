//! What Linux 6.18 was seen to do in network namespaces, with the kernel's own timers.

use super::{Lab, addr};
use crate::{
    middlebox::{
        BoxConfig, Middlebox,
        nat::{NatConfig, OtherProtocols, presets},
    },
    packet::{
        Packet, Proto, TcpFlags,
        verdict::{Rule, Verdict},
    },
};

const A: &str = "10.1.0.2:41001";
const S: &str = "203.0.113.101:80";
const ACK: TcpFlags = TcpFlags::ACK;
const SYN: TcpFlags = TcpFlags::SYN;
const FIN: TcpFlags = TcpFlags::FIN.with(ACK);
const PUBLIC: &str = "203.0.113.11:41001";

/// A segment by its direction, flags, numbers and length.
type Step = (bool, TcpFlags, u32, u32, usize);

fn preset(name: &str) -> NatConfig {
    (presets::find(name).expect("a preset").make)()
}

fn step(lab: &mut Lab, (out, flags, seq, ack, len): Step) -> bool {
    let (from, to) = if out { (A, S) } else { (S, PUBLIC) };
    let mut packet = Packet::tcp(addr(from), addr(to), flags, seq, ack, &vec![0; len]);
    let (passed, _) = if out {
        lab.out(&mut packet)
    } else {
        lab.enter(&mut packet)
    };
    passed.is_some()
}

/// Sends these segments through `linux`, and returns how many seconds the connection then lives.
fn lives(steps: &[Step]) -> u64 {
    let mut lab = Lab::new(presets::linux());
    for one in steps {
        assert!(step(&mut lab, *one), "{one:?}");
    }
    let entry = lab.nat.entries().next().expect("a connection");
    entry.expires.saturating_since(lab.now).as_secs()
}

const OPEN: [Step; 3] = [
    (true, SYN, 1_000, 0, 0),
    (false, SYN.with(ACK), 5_000, 1_001, 0),
    (true, ACK, 1_001, 5_001, 0),
];

fn after_open(steps: &[Step]) -> u64 {
    lives(&[&OPEN[..], steps].concat())
}

#[test]
fn each_state_of_a_connection_has_a_timer_of_its_own() {
    assert_eq!(lives(&OPEN[..1]), 120, "SYN_SENT");
    assert_eq!(lives(&OPEN[..2]), 60, "SYN_RECV");
    assert_eq!(lives(&OPEN), 432_000, "ESTABLISHED");
    let fin = (false, FIN, 5_001, 1_001, 0);
    let acked = (true, ACK, 1_001, 5_002, 0);
    let answered = (true, FIN, 1_001, 5_002, 0);
    let over = (false, ACK, 5_002, 1_002, 0);
    assert_eq!(after_open(&[fin]), 120, "FIN_WAIT");
    assert_eq!(after_open(&[fin, acked]), 60, "CLOSE_WAIT");
    assert_eq!(after_open(&[fin, answered]), 30, "LAST_ACK");
    assert_eq!(after_open(&[fin, answered, over]), 120, "TIME_WAIT");
    let reset = (false, TcpFlags::RST, 5_001, 0, 0);
    assert_eq!(after_open(&[reset]), 10, "CLOSE");
}

#[test]
fn a_connection_that_stalls_lives_five_minutes() {
    let data = (true, ACK, 1_001, 5_001, 10);
    assert_eq!(after_open(&[data]), 300, "not acknowledged");
    let acked = (false, ACK, 5_001, 1_011, 0);
    assert_eq!(after_open(&[data, acked]), 432_000, "acknowledged");
    // The same acknowledgement three times more.
    let next = (true, ACK, 1_011, 5_001, 0);
    let three = [data, acked, next, next, next];
    assert_eq!(after_open(&three), 432_000, "sent three times");
    assert_eq!(
        after_open(&[&three[..], &[next]].concat()),
        300,
        "sent four times"
    );
    // Picked up in the middle, and nobody has answered.
    assert_eq!(lives(&[(true, ACK, 7, 9, 0)]), 300);
    let heard = [(true, ACK, 7, 9, 0), (false, ACK, 9, 7, 0)];
    assert_eq!(lives(&heard), 300, "the first answer is not enough");
    let talks = [&heard[..], &[(true, ACK, 7, 9, 0)]].concat();
    assert_eq!(lives(&talks), 432_000);
}

#[test]
fn boxes_that_do_not_follow_windows_do_not_know_of_a_stall() {
    let mut lab = Lab::new(NatConfig {
        tcp_windows: false,
        ..presets::linux()
    });
    for one in OPEN.iter().chain(&[(true, ACK, 1_001, 5_001, 10)]) {
        assert!(step(&mut lab, *one));
    }
    let entry = lab.nat.entries().next().expect("a connection");
    let left = entry.expires.saturating_since(lab.now);
    assert_eq!(left.as_secs(), 432_000);
}

#[test]
fn the_box_answers_inside_hosts_that_ask_its_external_address() {
    let inside = addr("10.1.0.3:40001");
    let own = addr("203.0.113.11:40000");
    let ask = |name: &str, mut packet: Packet| {
        let mut lab = Lab::new(preset(name));
        match lab.nat.outbound(lab.now, &mut packet) {
            Verdict::Answer(_, answer) => {
                assert_eq!(answer.flow().dst.ip(), inside.ip());
                assert_eq!(answer.flow().src.ip(), own.ip());
                assert!(answer.checksums_hold());
                Some(match answer.flow().proto {
                    Proto::Icmp => "icmp",
                    _ => "reset",
                })
            }
            Verdict::Drop(Rule::NatNoHairpin) => None,
            other => panic!("{name}: {other:?}"),
        }
    };
    let udp = || Packet::udp(inside, own, b"x");
    let syn = || Packet::tcp(inside, own, SYN, 5, 0, b"");
    let ping = || Packet::echo(inside.ip(), own.ip(), false, 7, 1, b"");
    for name in ["linux-accept", "openwrt"] {
        assert_eq!(ask(name, udp()), Some("icmp"), "{name}");
        assert_eq!(ask(name, syn()), Some("reset"), "{name}");
        assert_eq!(ask(name, ping()), Some("icmp"), "{name}");
    }
    assert_eq!(ask("linux-reject", syn()), Some("icmp"));
    for packet in [udp(), syn(), ping()] {
        assert_eq!(ask("linux", packet), None);
    }
}

#[test]
fn a_segment_that_does_not_belong_is_for_the_box() {
    for (name, answer) in [
        ("linux", None),
        ("linux-accept", Some(Proto::Tcp)),
        ("linux-reject", Some(Proto::Icmp)),
        ("openwrt", Some(Proto::Tcp)),
    ] {
        let mut lab = Lab::new(preset(name));
        for one in OPEN {
            assert!(step(&mut lab, one));
        }
        // A SYN from the other side of an open connection.
        let mut syn = Packet::tcp(addr(S), addr(PUBLIC), SYN, 90_000, 0, b"");
        let got = match lab.nat.inbound(lab.now, &mut syn) {
            Verdict::Answer(_, answer) => Some(answer.flow().proto),
            Verdict::Drop(Rule::NatTcpState) => None,
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(got, answer, "{name}");
        assert!(step(&mut lab, (false, ACK, 5_001, 1_001, 5)), "{name}");
    }
}

#[test]
fn an_echo_reply_that_nobody_waits_for_is_rejected_with_everything_else() {
    for (name, answered) in [
        ("linux", false),
        ("linux-accept", false),
        ("linux-reject", true),
    ] {
        let mut lab = Lab::new(preset(name));
        let (from, to) = (addr(S).ip(), addr(PUBLIC).ip());
        let mut reply = Packet::echo(from, to, true, 7, 1, b"");
        let got = match lab.nat.inbound(lab.now, &mut reply) {
            Verdict::Answer(_, answer) => answer.quoted().is_some(),
            Verdict::Drop(Rule::NatIcmpUnknown) => false,
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(got, answered, "{name}");
    }
}

#[test]
fn a_port_below_1024_that_clashes_stays_below() {
    for (port, low, high) in [
        (500, 1, 511),
        (511, 1, 511),
        (700, 600, 1_023),
        (1_023, 600, 1_023),
    ] {
        let mut lab = Lab::new(presets::linux());
        let to = "203.0.113.101:53";
        assert_eq!(lab.ext(&format!("10.1.0.2:{port}"), to).port(), port);
        let moved = lab.ext(&format!("10.1.0.3:{port}"), to).port();
        assert!(
            (low..=high).contains(&moved) && moved != port,
            "{port}: {moved}"
        );
    }
    let mut lab = Lab::new(presets::linux());
    assert_eq!(lab.ext("10.1.0.2:1024", S).port(), 1_024);
    assert!(lab.ext("10.1.0.3:1024", S).port() >= 1_024);
}

#[test]
fn identifiers_of_queries_are_any_and_timestamps_are_not_echoes() {
    let [a, b, s] = ["10.1.0.2", "10.1.0.3", "203.0.113.101"].map(|ip| ip.parse().expect("one"));
    let mut lab = Lab::new(presets::linux());
    let mut sent = |from, id| {
        let mut ping = Packet::echo(from, s, false, id, 1, b"");
        lab.out(&mut ping).0.expect("passes").port()
    };
    assert_eq!(sent(a, 77), 77);
    let moved: Vec<u16> = (0..64).map(|_| sent(b, 77)).collect();
    assert!(moved.iter().all(|id| *id != 77 && *id == moved[0]));
    let low = (100..400)
        .map(|id| (sent(a, id), sent(b, id)).1)
        .filter(|id| *id < 1_024);
    assert!(low.count() > 0, "identifiers are not ports");

    let mut lab = Lab::new(presets::linux());
    let [a4, s4, own] =
        ["10.1.0.2", "203.0.113.101", "203.0.113.11"].map(|ip| ip.parse().expect("one"));
    let mut ask = Packet::timestamp(a4, s4, false, 77, 1);
    assert_eq!(lab.out(&mut ask).0, Some(addr("203.0.113.11:77")));
    let mut echoed = Packet::echo(s, own.into(), true, 77, 1, b"");
    assert_eq!(lab.enter(&mut echoed).1, Rule::NatIcmpUnknown);
    let mut told = Packet::timestamp(s4, own, true, 77, 1);
    assert_eq!(lab.enter(&mut told).0, Some(addr("10.1.0.2:77")));
    // One that asks by the same identifier from outside does not belong to that flow.
    let mut asks = Packet::timestamp(s4, own, false, 77, 1);
    assert_eq!(lab.enter(&mut asks).1, Rule::NatIcmpUnknown);
    // Accepted, it is answered by the box.
    let mut lab = Lab::new(preset("linux-accept"));
    let mut stray = Packet::timestamp(s4, own, false, 5, 1);
    let Verdict::Answer(_, answer) = lab.nat.inbound(lab.now, &mut stray) else {
        panic!("no answer");
    };
    assert_eq!(answer.transport()[0], 14);
}

#[test]
fn other_protocols_go_by_ports_or_by_addresses() {
    let [s, own] = ["203.0.113.101:6", "203.0.113.11:5"].map(addr);
    let body = [1, 0, 0, 20, 0, 0, 0, 7, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1];
    let bytes = [&[0; 4][..], &body].concat();
    let all = [
        (Proto::Sctp, true, Some(10)),
        (Proto::UdpLite, true, None),
        (Proto::Gre, false, Some(30)),
        (Proto::Esp, false, Some(600)),
    ];
    for (proto, ports, linux) in all {
        let packet = |from, to| Packet::other(proto, from, to, &bytes);
        let [a, b] = ["10.1.0.2:5", "10.1.0.3:5"].map(addr);
        let mut lab = Lab::new(presets::linux());
        let mut first = packet(a, s);
        let passed = lab.out(&mut first);
        if let Some(life) = linux {
            let external = passed.0.expect("passes");
            assert_eq!(external.ip(), own.ip());
            assert_eq!(external.port(), if ports { 5 } else { 0 }, "{proto:?}");
            let left = lab.nat.entries().next().expect("a flow").expires;
            assert_eq!(left.saturating_since(lab.now).as_secs(), life, "{proto:?}");
            let inside = lab.enter(&mut packet(s, own)).0.expect("comes in");
            assert_eq!(inside.ip(), a.ip());
            // A second host to the same remote.
            let second = lab.out(&mut packet(b, s)).0;
            assert_eq!(second.is_some(), ports, "{proto:?}");
        } else {
            assert_eq!(passed, (None, Rule::NatProtocol));
        }
        let with = |other_protocols| {
            Lab::new(NatConfig {
                other_protocols,
                ..presets::linux()
            })
        };
        let refused = with(OtherProtocols::Drop).out(&mut packet(a, s));
        assert_eq!(refused, (None, Rule::NatProtocol));
        let mut lab = with(OtherProtocols::Addresses);
        let mut first = packet(a, s);
        assert!(lab.out(&mut first).0.is_some());
        assert_eq!(first.flow().src.port(), if ports { 5 } else { 0 }, "kept");
        assert_eq!(lab.out(&mut packet(b, s)).0, None);
    }
}

#[test]
fn a_packet_without_hops_begins_no_flow_and_keeps_one_alive() {
    let last = |from: &str, to: &str| {
        let mut bytes = Packet::udp(addr(from), addr(to), b"x").into_bytes();
        bytes[8] = 1;
        let mut packet = Packet::parse(bytes).expect("a packet");
        packet.fill_checksums();
        packet
    };
    let mut lab = Lab::new(preset("linux-sequential"));
    assert_eq!(lab.out(&mut last(A, S)), (None, Rule::HopLimit));
    assert!(lab.nat.is_empty());
    let external = lab.ext(A, S);
    lab.wait(20_000);
    assert_eq!(lab.out(&mut last(A, S)), (None, Rule::HopLimit));
    lab.wait(20_000);
    assert_eq!(lab.udp_in(S, external).0, Some(addr(A)));
}

#[test]
fn fragments_in_any_order_come_through_in_order() {
    let config = BoxConfig {
        nat: Some(presets::linux()),
        ..BoxConfig::default()
    };
    let mut one = Middlebox::new(config, &["203.0.113.11".parse().expect("one")], 1);
    let now = dunlin_core::Instant::from_micros(5);
    for (out, from, to) in [(true, A, S), (false, S, PUBLIC)] {
        let whole = Packet::udp(addr(from), addr(to), &[7; 1_800]);
        let mut parts = whole.split(1_020, 9).expect("splits");
        parts.reverse();
        let mut pass = |part: &mut Packet| match out {
            true => one.outbound(now, part),
            false => one.inbound(now, part),
        };
        assert_eq!(pass(&mut parts[0]), Verdict::Hold(Rule::BoxFragmentHeld));
        assert!(matches!(pass(&mut parts[1]), Verdict::Pass(_)));
        let rest = one.next_fragment().expect("a second one");
        assert_eq!(one.next_fragment(), None);
        for (part, offset, len) in [(&parts[1], 0, 1_020), (&rest, 1_000, 828)] {
            let fragment = part.fragment().expect("a fragment");
            assert_eq!((fragment.id, fragment.offset), (9, offset));
            assert_eq!(part.bytes().len(), len);
            assert!(part.checksums_hold());
            let end = if out {
                part.flow().src
            } else {
                part.flow().dst
            };
            let shown = if out { PUBLIC } else { A };
            assert_eq!(end.ip(), addr(shown).ip());
        }
    }
}
