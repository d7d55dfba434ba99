//! The requirements of RFC 4787 (UDP), RFC 5382 (TCP) and RFC 5508 (ICMP), and the options that
//! violate them.

use std::net::{IpAddr, SocketAddr};

use super::{Lab, addr};
use crate::{
    middlebox::{
        conntrack::Timeouts,
        nat::{
            Clash, Filtering, Fragments, Hairpin, Mapping, NatConfig, PortPolicy, UnsolicitedSyn,
            WanInput, presets,
        },
    },
    packet::{
        IcmpError, Packet, TcpFlags,
        verdict::{Rule, Verdict},
    },
};

const A: &str = "10.1.0.2:40000";
const B: &str = "10.1.0.3:40000";
const S: &str = "192.0.2.1:3478";
const T: &str = "192.0.2.2:3478";
const SYN: TcpFlags = TcpFlags::SYN;

fn preset(name: &str) -> NatConfig {
    (presets::find(name).expect("a preset").make)()
}

fn lab(name: &str) -> Lab {
    Lab::new(preset(name))
}

#[test]
fn rfc4787_req1_mapping_is_endpoint_independent() {
    let mut lab = lab("rfc4787");
    assert_eq!(lab.ext(A, S), lab.ext(A, T));
    assert_ne!(lab.ext(B, S), lab.ext(A, S));
}

#[test]
fn rfc4787_req3_ports_are_not_overloaded_and_keep_their_parity() {
    let mut lab = lab("parity");
    let (a, b) = (lab.ext(A, S), lab.ext(B, T));
    assert_eq!(a, addr("203.0.113.11:40000"));
    assert!(b != a && b.port().is_multiple_of(2));
    let odd = lab.ext("10.1.0.4:40001", S);
    let odd_clash = lab.ext("10.1.0.5:40001", S);
    assert!(odd.port() == 40_001 && odd_clash.port() % 2 == 1 && odd != odd_clash);
}

#[test]
fn rfc4787_req5_udp_lives_two_minutes_at_least() {
    let mut lab = lab("rfc4787");
    let external = lab.ext(A, S);
    lab.wait(299_999);
    assert_eq!(lab.udp_in(S, external).1, Rule::NatMapped);
}

#[test]
fn rfc4787_req6_what_goes_out_refreshes_and_what_comes_in_need_not() {
    let mut lab = lab("outbound-refresh");
    let external = lab.ext(A, S);
    for _ in 0..3 {
        lab.wait(20_000);
        lab.udp_out(A, S);
    }
    for _ in 0..2 {
        lab.wait(14_000);
        assert_eq!(lab.udp_in(S, external).1, Rule::NatMapped);
    }
    lab.wait(2_000);
    assert_eq!(lab.udp_in(S, external).1, Rule::NatExpired);
}

#[test]
fn strangers_do_not_keep_a_mapping_that_only_the_inside_keeps() {
    let mut lab = Lab::new(NatConfig {
        timeouts: Timeouts {
            inbound_refresh: false,
            ..presets::linux().timeouts
        },
        ..preset("full-cone")
    });
    let external = lab.ext(A, S);
    lab.wait(20_000);
    assert_eq!(lab.udp_in(T, external).1, Rule::NatReusedMapping);
    lab.wait(10_000);
    assert_eq!(lab.udp_in(T, external).1, Rule::NatExpired);
    assert!(lab.nat.is_empty());
}

#[test]
fn rfc4787_req9_hairpinning_shows_the_external_sender() {
    let mut lab = lab("hairpin-external");
    let (a, b) = (lab.ext(A, S), lab.ext(B, S));
    let mut packet = Packet::udp(addr(A), b, b"hi");
    // B has not sent to A's external endpoint yet, so B's filtering drops the packet.
    let verdict = lab.nat.outbound(lab.now, &mut packet);
    assert_eq!(verdict, Verdict::Drop(Rule::NatFiltered));
    let mut packet = Packet::udp(addr(B), a, b"hi");
    let verdict = lab.nat.outbound(lab.now, &mut packet);
    assert_eq!(verdict, Verdict::Hairpin(Rule::NatHairpin));
    assert_eq!((packet.flow().src, packet.flow().dst), (b, addr(A)));
    assert!(packet.checksums_hold());
    let mut back = Packet::udp(addr(A), b, b"ho");
    let verdict = lab.nat.outbound(lab.now, &mut back);
    assert_eq!(verdict, Verdict::Hairpin(Rule::NatHairpin));
    assert_eq!((back.flow().src, back.flow().dst), (a, addr(B)));
    // An error is translated the same way (RFC 5508 REQ-7).
    let mut error = Packet::icmp_error(addr(B).ip(), IcmpError::PortUnreachable, &back);
    let verdict = lab.nat.outbound(lab.now, &mut error);
    assert_eq!(verdict, Verdict::Hairpin(Rule::NatIcmp));
    let quoted = error.quoted().expect("an error");
    assert_eq!((quoted.src, quoted.dst), (addr(A), b));
    assert_eq!(
        (error.flow().src.ip(), error.flow().dst.ip()),
        (b.ip(), addr(A).ip())
    );
    assert!(error.checksums_hold());
}

#[test]
fn hairpinning_with_the_internal_sender_or_none() {
    let mut inner = lab("hairpin-internal");
    let b = inner.ext(B, S);
    let mut packet = Packet::udp(addr(A), b, b"hi");
    let verdict = inner.nat.outbound(inner.now, &mut packet);
    assert_eq!(verdict, Verdict::Hairpin(Rule::NatHairpin));
    assert_eq!((packet.flow().src, packet.flow().dst), (addr(A), addr(B)));
    let mut none = lab("linux");
    let b = none.ext(B, S);
    let verdict = none
        .nat
        .outbound(none.now, &mut Packet::udp(addr(A), b, b"hi"));
    assert_eq!(verdict, Verdict::Drop(Rule::NatNoHairpin));
    let mut unmapped = Packet::udp(addr(A), addr("203.0.113.11:9"), b"hi");
    let verdict = inner.nat.outbound(inner.now, &mut unmapped);
    assert_eq!(verdict, Verdict::Drop(Rule::NatNoMapping));
}

#[test]
fn rfc4787_req10_an_alg_only_meddles_where_it_is_told_to() {
    for (name, meddles) in [("alg", true), ("port-restricted", false)] {
        let mut lab = lab(name);
        lab.ext(B, S);
        let mut data = b"x".to_vec();
        data.extend_from_slice(&[10, 1, 0, 2, 0x9c, 0x40]);
        data.extend_from_slice(&[10, 1, 0, 2, 1]);
        let mut packet = Packet::udp(addr(A), addr(S), &data);
        let external = lab.out(&mut packet).0.expect("passes");
        assert_ne!(external.port(), 40_000, "B has it");
        let mut expected = data.clone();
        if meddles {
            expected[1..5].copy_from_slice(&[203, 0, 113, 11]);
            expected[5..7].copy_from_slice(&external.port().to_be_bytes());
            expected[7..11].copy_from_slice(&[203, 0, 113, 11]);
        }
        assert_eq!(packet.payload(), expected);
    }
}

#[test]
fn rfc5508_errors_pass_translated_and_do_not_end_the_mapping() {
    let mut lab = lab("linux-hash");
    let mut sent = Packet::udp(addr(A), addr(S), b"out");
    let external = lab.out(&mut sent).0.expect("passes");
    let router = IpAddr::from([198, 51, 100, 1]);
    let mut error = Packet::icmp_error(router, IcmpError::HopLimit, &sent);
    assert_eq!(lab.enter(&mut error).1, Rule::NatIcmp);
    assert_eq!(error.flow().dst.ip(), addr(A).ip());
    assert_eq!(error.flow().src.ip(), router);
    assert_eq!(
        error.quoted().map(|q| (q.src, q.dst)),
        Some((addr(A), addr(S)))
    );
    assert_eq!(
        lab.udp_in(S, external).1,
        Rule::NatMapped,
        "the mapping lives"
    );
    // In the other direction, a packet that came in is refused inside.
    let mut came = Packet::udp(addr(S), external, b"in");
    lab.enter(&mut came);
    let mut error = Packet::icmp_error(addr(A).ip(), IcmpError::PortUnreachable, &came);
    assert_eq!(
        lab.out(&mut error),
        (Some(SocketAddr::new(external.ip(), 0)), Rule::NatIcmp)
    );
    assert_eq!(
        error.quoted().map(|q| (q.src, q.dst)),
        Some((addr(S), external))
    );
    // The error quotes an unknown flow.
    let stranger = Packet::udp(external, addr(T), b"");
    let mut error = Packet::icmp_error(router, IcmpError::HopLimit, &stranger);
    assert_eq!(lab.enter(&mut error), (None, Rule::NatIcmpUnknown));
    // An error does not prolong the flow.
    lab.wait(29_000);
    let mut error = Packet::icmp_error(router, IcmpError::HopLimit, &sent);
    assert_eq!(lab.enter(&mut error).1, Rule::NatIcmp);
    lab.wait(1_000);
    assert_eq!(lab.udp_in(S, external).1, Rule::NatExpired);
}

#[test]
fn rfc5508_errors_stop_where_the_box_says_so() {
    let mut lab = lab("cgnat-bad");
    let mut sent = Packet::udp(addr(A), addr(S), b"out");
    lab.out(&mut sent);
    let mut error = Packet::icmp_error(addr(S).ip(), IcmpError::PortUnreachable, &sent);
    assert_eq!(lab.enter(&mut error), (None, Rule::NatIcmpBlocked));
}

#[test]
fn rfc5508_echoes_are_flows_by_their_identifier() {
    let mut lab = lab("linux");
    let (a, b, s) = (addr(A).ip(), addr(B).ip(), addr(S).ip());
    let mut ids = Vec::new();
    for from in [a, b] {
        let mut ask = Packet::echo(from, s, false, 77, 1, b"ping");
        assert_eq!(
            lab.out(&mut ask).0.map(|e| e.ip()),
            Some(IpAddr::from([203, 0, 113, 11]))
        );
        ids.push(ask.flow().src.port());
        let to = ask.flow().src.ip();
        let mut reply = Packet::echo(s, to, true, ask.flow().src.port(), 1, b"ping");
        let got = lab.enter(&mut reply).0;
        assert_eq!(got, Some(SocketAddr::new(from, 77)));
    }
    assert!(ids[0] == 77 && ids[1] != 77);
    let public = IpAddr::from([203, 0, 113, 11]);
    let mut unasked = Packet::echo(addr(T).ip(), public, true, 77, 1, b"");
    assert_eq!(lab.enter(&mut unasked), (None, Rule::NatIcmpUnknown));
    let mut ping = Packet::echo(s, public, false, 77, 1, b"");
    assert_eq!(lab.enter(&mut ping), (None, Rule::NatIcmpUnknown));
}

#[test]
fn rfc4787_req14_fragments_follow_the_first() {
    let mut lab = lab("linux-hash");
    let external = lab.ext(A, S);
    let whole = Packet::udp(addr(S), external, &[5; 100]);
    let mut parts = whole.split(60, 4).expect("splits");
    // A fragment that overtakes the first one is not known.
    let mut early = parts[1].clone();
    assert_eq!(lab.enter(&mut early), (None, Rule::NatFragment));
    for part in &mut parts {
        assert_eq!(lab.enter(part).0.map(|a| a.ip()), Some(addr(A).ip()));
    }
    let whole = Packet::udp(addr(A), addr(S), &[5; 100]);
    for part in &mut whole.split(60, 5).expect("splits") {
        assert_eq!(lab.out(part).0.map(|a| a.ip()), Some(external.ip()));
    }
    // Two datagrams at once, and one that was sent again.
    let mut both = Vec::new();
    for id in [6, 7, 6] {
        both.push(whole.split(60, id).expect("splits"));
    }
    for n in 0..both[0].len() {
        for parts in &mut both {
            assert!(lab.out(&mut parts[n]).0.is_some());
        }
    }
    let mut strict = Lab::new(NatConfig {
        fragments: Fragments::Drop,
        ..presets::linux()
    });
    for part in &mut whole.split(60, 5).expect("splits") {
        assert_eq!(strict.out(part), (None, Rule::NatFragment));
    }
}

#[test]
fn rfc5382_req2_simultaneous_open_connects_through_two_boxes() {
    let mut near = lab("linux");
    let mut far = Lab::new(presets::linux());
    let public = ["198.51.100.9".parse().expect("an address")];
    far.nat = crate::middlebox::nat::Nat::new(presets::linux(), &public, 3);
    let (a, b) = ("10.1.0.2:40000", "10.2.0.2:41000");
    let (ea, eb) = ("203.0.113.11:40000", "198.51.100.9:41000");
    let ack = TcpFlags::ACK;
    assert!(near.tcp_out(a, eb, SYN).0.is_some());
    assert!(far.tcp_out(b, ea, SYN).0.is_some());
    for flags in [SYN, SYN.with(ack), ack] {
        if flags != SYN {
            assert_eq!(near.tcp_out(a, eb, flags).0, Some(addr(ea)));
            assert_eq!(far.tcp_out(b, ea, flags).0, Some(addr(eb)));
        }
        assert_eq!(near.tcp_in(eb, addr(ea), flags).0, Some(addr(a)));
        assert_eq!(far.tcp_in(ea, addr(eb), flags).0, Some(addr(b)));
    }
}

#[test]
fn rfc5382_req4_a_syn_is_refused_after_six_seconds_unless_one_goes_out() {
    let external = addr("203.0.113.11:40000");
    let mut quiet = lab("tcp-delayed");
    assert_eq!(
        quiet.tcp_in(S, external, SYN),
        (None, Rule::NatUnsolicitedSyn)
    );
    assert_eq!(
        quiet.tcp_in(S, external, SYN),
        (None, Rule::NatUnsolicitedSyn),
        "a retry"
    );
    assert_eq!(
        quiet.nat.next_timeout(),
        Some(quiet.now + std::time::Duration::from_secs(6))
    );
    quiet.wait(5_999);
    assert_eq!(quiet.nat.delayed(quiet.now), None);
    quiet.wait(1);
    let error = quiet.nat.delayed(quiet.now).expect("due");
    assert_eq!(error.quoted().map(|q| q.src), Some(addr(S)));
    assert!(error.checksums_hold());
    assert_eq!(
        quiet.nat.delayed(quiet.now),
        None,
        "a retry is refused once"
    );
    let mut crossed = lab("tcp-delayed");
    crossed.tcp_in(S, external, SYN);
    crossed.wait(3_000);
    assert_eq!(crossed.tcp_out(A, S, SYN).0, Some(external));
    crossed.wait(3_000);
    assert_eq!(
        (crossed.nat.next_timeout(), crossed.nat.delayed(crossed.now)),
        (None, None)
    );
    assert_eq!(crossed.tcp_in(S, external, SYN).0, Some(addr(A)));
}

#[test]
fn unsolicited_syns_and_datagrams_are_met_as_configured() {
    let meet = |unsolicited_syn, wan_input, tcp: bool| {
        let mut lab = Lab::new(NatConfig {
            unsolicited_syn,
            wan_input,
            ..presets::linux()
        });
        let to = addr("203.0.113.11:40000");
        let mut packet = match tcp {
            true => Packet::tcp(addr(S), to, SYN, 7, 0, b""),
            false => Packet::udp(addr(S), to, b""),
        };
        let verdict = lab.nat.inbound(lab.now, &mut packet);
        match verdict {
            Verdict::Answer(_, answer) => match answer.quoted() {
                Some(quoted) => {
                    assert_eq!((quoted.src, quoted.dst), (addr(S), to));
                    "error"
                }
                None => {
                    assert_eq!(answer.tcp_numbers(), Some((0, 8)));
                    "reset"
                }
            },
            Verdict::Drop(_) => "silence",
            other => panic!("{other:?}"),
        }
    };
    use UnsolicitedSyn as How;
    assert_eq!(meet(How::Drop, WanInput::Drop, true), "silence");
    assert_eq!(meet(How::Reset, WanInput::Drop, true), "reset");
    assert_eq!(meet(How::Icmp, WanInput::Drop, true), "error");
    assert_eq!(meet(How::DelayedIcmp, WanInput::Drop, true), "silence");
    // The box's own stack answers.
    assert_eq!(meet(How::Drop, WanInput::Accept, true), "reset");
    assert_eq!(meet(How::Drop, WanInput::Drop, false), "silence");
    assert_eq!(meet(How::Drop, WanInput::Reject, false), "error");
    assert_eq!(meet(How::Drop, WanInput::Accept, false), "error");
}

#[test]
fn rfc5382_req5_an_open_connection_lives_two_hours_and_four_minutes() {
    let mut lab = lab("rfc4787");
    let external = lab.tcp_out(A, S, SYN).0.expect("passes");
    lab.tcp_in(S, external, SYN.with(TcpFlags::ACK));
    lab.tcp_out(A, S, TcpFlags::ACK);
    lab.wait(7_439_999);
    assert!(lab.tcp_in(S, external, TcpFlags::ACK).0.is_some());
    lab.wait(7_440_000);
    assert_eq!(lab.tcp_in(S, external, TcpFlags::ACK).1, Rule::NatExpired);
    // A connection that is opening lives for four minutes.
    let external = lab.tcp_out(A, T, SYN).0.expect("passes");
    lab.wait(239_999);
    assert!(lab.tcp_in(T, external, SYN.with(TcpFlags::ACK)).0.is_some());
}

#[test]
fn tcp_timers_follow_the_state_down_as_well_as_up() {
    let mut lab = lab("linux");
    let fin = TcpFlags::FIN.with(TcpFlags::ACK);
    let external = lab.tcp_out(A, S, SYN).0.expect("passes");
    lab.tcp_in(S, external, SYN.with(TcpFlags::ACK));
    lab.tcp_out(A, S, TcpFlags::ACK);
    lab.wait(1_000);
    lab.tcp_out(A, S, fin);
    lab.wait(119_999);
    assert!(lab.tcp_in(S, external, fin).0.is_some());
    lab.wait(1_000);
    assert!(lab.tcp_in(S, external, TcpFlags::RST).0.is_some());
    lab.wait(10_000);
    assert_eq!(lab.tcp_in(S, external, TcpFlags::ACK).1, Rule::NatExpired);
    assert!(lab.nat.is_empty());
}

#[test]
fn loose_or_not() {
    let ack = TcpFlags::ACK;
    let mut loose = lab("linux");
    assert_eq!(loose.tcp_out(A, S, ack).0, Some(addr("203.0.113.11:40000")));
    // A connection that was picked up does not live for five days until it is answered.
    loose.wait(300_000);
    assert_eq!(loose.tcp_in(S, addr("203.0.113.11:40000"), ack).0, None);
    assert_eq!(lab("rfc4787").tcp_out(A, S, ack), (None, Rule::NatTcpState));
    assert_eq!(
        loose.tcp_out(A, S, TcpFlags::FIN),
        (None, Rule::NatTcpState)
    );
}

#[test]
fn udp_and_tcp_are_translated_each_in_its_own_way() {
    let mut lab = lab("udp-cone-tcp-symmetric");
    assert_eq!(lab.ext(A, S), lab.ext(A, T));
    assert_ne!(lab.tcp_out(A, S, SYN).0, lab.tcp_out(A, T, SYN).0);
    let external = lab.ext(A, S);
    assert!(lab.udp_in("192.0.2.77:1", external).0.is_some());
    let tcp = lab.tcp_out(A, S, SYN).0.expect("passes");
    assert_eq!(
        lab.tcp_in("192.0.2.77:1", tcp, SYN),
        (None, Rule::NatFiltered)
    );
}

#[test]
fn two_endpoints_speak_through_one_mapping_at_a_time() {
    // With APDM mapping and EIF filtering, S sends to the endpoint that was created for T.
    let mut lab = Lab::new(presets::with(
        Mapping::AddressAndPortDependent,
        Filtering::EndpointIndependent,
        PortPolicy::Random,
        Clash::Random,
    ));
    let for_t = lab.ext(A, T);
    let for_s = lab.ext(A, S);
    assert_eq!(lab.udp_in(S, for_t), (None, Rule::NatClash));
    let stranger = "192.0.2.3:3478";
    assert_eq!(lab.udp_in(stranger, for_t).1, Rule::NatReusedMapping);
    // The answer leaves from the endpoint at which the packet came in.
    assert_eq!(lab.ext(A, stranger), for_t);
    assert_eq!(lab.udp_in(S, for_s), (Some(addr(A)), Rule::NatMapped));
}

#[test]
fn strangers_keep_a_mapping_where_what_comes_in_refreshes() {
    let mut lab = lab("eim-eif-random");
    let external = lab.ext(A, S);
    lab.wait(20_000);
    assert_eq!(lab.udp_in(T, external).1, Rule::NatReusedMapping);
    lab.wait(20_000);
    // The flow that created the mapping is over, but the mapping is not.
    assert_eq!(lab.ext(A, "192.0.2.3:3478"), external);
    assert_eq!((lab.nat.len(), lab.nat.stats().expired), (2, 1));
}

#[test]
fn who_came_by_a_port_mapping_vouches_for_nobody() {
    let mut lab = lab("restricted-cone");
    let external = lab.ext(A, S);
    let minute = Some(std::time::Duration::from_secs(60));
    let (udp, port) = (crate::packet::Proto::Udp, external.port());
    lab.nat
        .forward(lab.now, udp, port, addr(A), minute)
        .expect("free");
    assert_eq!(lab.udp_in(T, external).1, Rule::NatForwarded);
    lab.nat.unforward(lab.now, udp, external);
    assert_eq!(lab.udp_in(T, external).1, Rule::NatMapped);
    assert_eq!(
        lab.udp_in("192.0.2.2:1", external),
        (None, Rule::NatFiltered)
    );
    assert_eq!(
        lab.udp_in("192.0.2.1:1", external).1,
        Rule::NatReusedMapping
    );
}

#[test]
fn ttl_is_taken_and_runs_out() {
    let mut lab = lab("linux");
    let mut packet = Packet::udp(addr(A), addr(S), b"");
    let ttl = packet.ttl();
    lab.out(&mut packet);
    assert_eq!(packet.ttl(), ttl - 1);
    while packet.ttl() > 1 {
        packet.hop();
    }
    packet.set_src(addr(A));
    assert_eq!(lab.out(&mut packet), (None, Rule::HopLimit));
    let mut keeps = Lab::new(NatConfig {
        decrement_ttl: false,
        hairpin: Hairpin::None,
        ..presets::linux()
    });
    assert!(keeps.out(&mut packet).0.is_some() && packet.ttl() == 1);
}
