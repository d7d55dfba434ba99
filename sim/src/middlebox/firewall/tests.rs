//! What a firewall lets through.

use std::{net::SocketAddr, time::Duration};

use dunlin_core::Instant;

use super::{Firewall, FirewallConfig, FirewallRule, PinholesFull, RuleAction, Way, presets};
use crate::{
    middlebox::nat::{Filtering, UnsolicitedSyn},
    packet::{
        IcmpError, Packet, Proto, TcpFlags,
        verdict::{Rule, Verdict},
    },
};

const IN: &str = "[2001:db8::2]:6881";
const P: &str = "[2001:db8:f::1]:7000";
const P2: &str = "[2001:db8:f::1]:7001";
const Q: &str = "[2001:db8:e::1]:7000";

fn addr(s: &str) -> SocketAddr {
    s.parse().expect("an endpoint")
}

fn at(millis: u64) -> Instant {
    Instant::from_micros(1_000_000 + millis * 1_000)
}

fn udp(from: &str, to: &str) -> Packet {
    Packet::udp(addr(from), addr(to), b"x")
}

fn tcp(from: &str, to: &str, flags: TcpFlags) -> Packet {
    Packet::tcp(addr(from), addr(to), flags, 1, 0, b"")
}

fn passes(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Pass(_))
}

fn with(filtering: Filtering) -> Firewall {
    Firewall::new(
        FirewallConfig {
            filtering,
            ..presets::no_inbound()
        },
        1,
    )
}

#[test]
fn filtering_is_as_defined() {
    for (filtering, same_address, stranger) in [
        (Filtering::EndpointIndependent, true, true),
        (Filtering::AddressDependent, true, false),
        (Filtering::AddressAndPortDependent, false, false),
    ] {
        let mut wall = with(filtering);
        assert!(!passes(&wall.inbound(at(0), &udp(P, IN))));
        assert!(passes(&wall.outbound(at(0), &udp(IN, P))));
        for (from, lets) in [(P, true), (P2, same_address), (Q, stranger)] {
            let verdict = wall.inbound(at(1), &udp(from, IN));
            assert_eq!(passes(&verdict), lets, "{filtering:?} {from}");
        }
        // Others are let in only as long as the flow from inside lives.
        assert!(!passes(&wall.inbound(at(200_000), &udp(Q, IN))));
        assert!(wall.is_empty());
    }
}

#[test]
fn v4_passes_by_a_firewall_for_v6() {
    let mut wall = Firewall::new(presets::home6(), 1);
    assert!(passes(
        &wall.inbound(at(0), &udp("1.2.3.4:5", "10.0.0.1:6"))
    ));
    assert!(!passes(&wall.inbound(at(0), &udp(P, IN))));
}

#[test]
fn ports_out() {
    let make = |name| (presets::find(name).expect("a preset").make)();
    let mut web = Firewall::new(make("web-only"), 1);
    let syn = |to: &str| tcp("10.0.0.2:999", to, TcpFlags::SYN);
    assert!(passes(&web.outbound(at(0), &syn("1.2.3.4:443"))));
    assert_eq!(
        web.outbound(at(0), &syn("1.2.3.4:6881")),
        Verdict::Drop(Rule::FirewallPortBlocked)
    );
    assert!(passes(
        &web.outbound(at(0), &udp("10.0.0.2:9", "1.1.1.1:53"))
    ));
    let blocked = web.outbound(at(0), &udp("10.0.0.2:9", "1.1.1.1:6881"));
    assert_eq!(blocked, Verdict::Drop(Rule::FirewallUdpBlocked));
    // A port mapping led the flow in, so it may be answered whatever the port.
    assert!(passes(
        &web.forwarded(at(0), &udp("1.1.1.1:6881", "10.0.0.2:9"))
    ));
    assert!(passes(
        &web.outbound(at(0), &udp("10.0.0.2:9", "1.1.1.1:6881"))
    ));
    let mut open = Firewall::new(make("open"), 1);
    assert!(passes(&open.inbound(at(0), &udp(P, IN))));
}

#[test]
fn unsolicited_syns() {
    let meet = |how| {
        let config = FirewallConfig {
            unsolicited_syn: how,
            ..presets::no_inbound()
        };
        let mut wall = Firewall::new(config, 1);
        let verdict = wall.inbound(at(0), &tcp(P, IN, TcpFlags::SYN));
        assert_eq!(verdict.rule(), Rule::FirewallUnsolicited);
        (wall, verdict)
    };
    assert!(matches!(meet(UnsolicitedSyn::Drop).1, Verdict::Drop(_)));
    let Verdict::Answer(_, reset) = meet(UnsolicitedSyn::Reset).1 else {
        panic!("no answer");
    };
    assert!(reset.flow().flags.has(TcpFlags::RST));
    let Verdict::Answer(_, error) = meet(UnsolicitedSyn::Icmp).1 else {
        panic!("no answer");
    };
    assert_eq!(error.quoted().map(|q| q.src), Some(addr(P)));
    // The refusal comes after six seconds unless a SYN went out.
    let (mut wall, _) = meet(UnsolicitedSyn::DelayedIcmp);
    assert_eq!(wall.next_timeout(), Some(at(6_000)));
    assert_eq!(wall.delayed(at(5_999)), None);
    assert!(wall.delayed(at(6_000)).is_some());
    let (mut wall, _) = meet(UnsolicitedSyn::DelayedIcmp);
    assert!(passes(
        &wall.outbound(at(1_000), &tcp(IN, P, TcpFlags::SYN))
    ));
    assert!(passes(&wall.inbound(at(2_000), &tcp(P, IN, TcpFlags::SYN))));
    assert_eq!((wall.next_timeout(), wall.delayed(at(9_000))), (None, None));
}

#[test]
fn errors_about_known_flows_alone() {
    let mut wall = with(Filtering::AddressAndPortDependent);
    let sent = udp(IN, P);
    let router = "2001:db8:7::7".parse().expect("an address");
    let error = Packet::icmp_error(router, IcmpError::HopLimit, &sent);
    assert!(!passes(&wall.inbound(at(0), &error)));
    assert!(passes(&wall.outbound(at(0), &sent)));
    assert!(passes(&wall.inbound(at(0), &error)));
}

#[test]
fn pinholes_open_renew_and_end() {
    let config = FirewallConfig {
        max_pinholes: 1,
        max_lease: Duration::from_secs(100),
        ..presets::no_inbound()
    };
    let mut wall = Firewall::new(config, 1);
    let day = Duration::from_secs(86_400);
    assert_eq!(
        wall.pinhole(at(0), Proto::Udp, addr(IN), day),
        Ok(at(100_000))
    );
    assert_eq!(
        wall.pinhole(at(1), Proto::Tcp, addr(IN), day),
        Err(PinholesFull)
    );
    assert_eq!(
        wall.pinhole(at(1), Proto::Udp, addr(IN), day),
        Ok(at(100_001))
    );
    assert!(passes(&wall.inbound(at(99_000), &udp(P, IN))));
    assert!(!passes(
        &wall.inbound(at(99_000), &tcp(P, IN, TcpFlags::SYN))
    ));
    assert_eq!(wall.pinholes().count(), 1);
    // The flow outlives the pinhole.
    assert!(passes(&wall.inbound(at(100_500), &udp(P, IN))));
    assert!(!passes(&wall.inbound(at(100_500), &udp(Q, IN))));
    assert!(!wall.close_pinhole(Proto::Udp, addr(IN)));
}

#[test]
fn a_full_table_takes_no_more() {
    let config = FirewallConfig {
        max_entries: 2,
        ..presets::no_inbound()
    };
    let mut wall = Firewall::new(config, 1);
    for (to, lets) in [(P, true), (P2, true), (Q, false), (P, true)] {
        assert_eq!(passes(&wall.outbound(at(0), &udp(IN, to))), lets, "{to}");
    }
    assert!(passes(&wall.outbound(at(30_000), &udp(IN, Q))));
}

/// A firewall with these rules: action, way, protocol, receiver's ports, sender's ports, stateless.
type Line = (
    RuleAction,
    Way,
    Option<Proto>,
    &'static [(u16, u16)],
    &'static [(u16, u16)],
    bool,
);

fn ruled(rules: &[Line]) -> Firewall {
    let rule = |(action, way, proto, to, from, stateless): &Line| FirewallRule {
        action: *action,
        way: *way,
        proto: *proto,
        to: to.to_vec(),
        from: from.to_vec(),
        stateless: *stateless,
    };
    let config = FirewallConfig {
        rules: rules.iter().map(rule).collect(),
        ..presets::no_inbound()
    };
    Firewall::new(config, 1)
}

#[test]
fn the_first_rule_that_fits_decides() {
    use RuleAction::{Allow, Drop, Reject};
    let (tcp_only, web) = (Some(Proto::Tcp), &[(80, 80), (443, 443)][..]);
    let mut wall = ruled(&[
        (Allow, Way::Out, tcp_only, web, &[], false),
        (
            Allow,
            Way::In,
            Some(Proto::Udp),
            &[(6881, 6889)],
            &[],
            false,
        ),
        (Reject, Way::Out, None, &[], &[], false),
        (Drop, Way::Out, None, &[], &[], false),
    ]);
    let syn = |to: &str| tcp("10.0.0.2:999", to, TcpFlags::SYN);
    assert!(passes(&wall.outbound(at(0), &syn("1.2.3.4:443"))));
    let Verdict::Answer(Rule::FirewallRule, answer) = wall.outbound(at(0), &syn("1.2.3.4:81"))
    else {
        panic!("not refused");
    };
    assert!(answer.flow().flags.has(TcpFlags::RST));
    let Verdict::Answer(Rule::FirewallRule, answer) =
        wall.outbound(at(0), &udp("10.0.0.2:9", "1.1.1.1:53"))
    else {
        panic!("not refused");
    };
    assert_eq!(answer.flow().proto, Proto::Icmp);
    // From outside, a rule lets in what the rest of the configuration does not.
    let into = |port| udp("1.1.1.1:9", &format!("10.0.0.2:{port}"));
    assert!(!passes(&wall.inbound(at(0), &into(6880))));
    assert!(passes(&wall.inbound(at(0), &into(6885))));
    // It began a flow, which may be answered in spite of the other rules.
    assert!(passes(
        &wall.outbound(at(1), &udp("10.0.0.2:6885", "1.1.1.1:9"))
    ));
}

#[test]
fn stateless_rules_look_at_each_packet_and_make_no_flow() {
    use RuleAction::{Allow, Drop};
    let udp_only = Some(Proto::Udp);
    let mut wall = ruled(&[
        (Drop, Way::In, udp_only, &[], &[(666, 666)], true),
        (Allow, Way::In, udp_only, &[], &[(53, 53)], true),
    ]);
    // DNS answers come in without a question, and leave nothing behind.
    assert!(passes(
        &wall.inbound(at(0), &udp("1.1.1.1:53", "10.0.0.2:9"))
    ));
    assert!(wall.is_empty());
    // A stateless rule overrides the table of flows.
    assert!(passes(
        &wall.outbound(at(0), &udp("10.0.0.2:9", "1.1.1.1:666"))
    ));
    let answer = wall.inbound(at(1), &udp("1.1.1.1:666", "10.0.0.2:9"));
    assert_eq!(answer, Verdict::Drop(Rule::FirewallRule));
    assert_eq!(wall.len(), 1);
}

#[test]
fn a_stranger_does_not_ask_by_the_identifier_of_an_answer() {
    let [inside, outside] = [IN, P].map(|s| addr(s).ip());
    let mut wall = Firewall::new(presets::home6(), 1);
    let asks = |from, to| Packet::echo(from, to, false, 7, 1, b"");
    let answers = |from, to| Packet::echo(from, to, true, 7, 1, b"");
    assert!(passes(&wall.outbound(at(0), &asks(inside, outside))));
    assert!(passes(&wall.inbound(at(0), &answers(outside, inside))));
    assert!(!passes(&wall.inbound(at(0), &asks(outside, inside))));
    // One that is let in is answered, and does not let others in.
    let mut open = Firewall::new(
        FirewallConfig {
            echo_in: true,
            ..presets::home6()
        },
        1,
    );
    assert!(passes(&open.inbound(at(0), &asks(outside, inside))));
    assert!(passes(&open.outbound(at(0), &answers(inside, outside))));
    assert!(!passes(&open.inbound(at(0), &answers(outside, inside))));
}

#[test]
fn rarer_protocols_pass_where_udp_may_go_anywhere() {
    let packet = |proto, from, to| Packet::other(proto, addr(from), addr(to), &[1; 20]);
    for proto in [Proto::Gre, Proto::Esp, Proto::UdpLite] {
        let mut wall = Firewall::new(presets::no_inbound(), 1);
        assert!(!passes(&wall.inbound(at(0), &packet(proto, P, IN))));
        // Linux takes its checksums for wrong.
        let goes = proto != Proto::UdpLite;
        assert_eq!(passes(&wall.outbound(at(0), &packet(proto, IN, P))), goes);
        assert_eq!(passes(&wall.inbound(at(0), &packet(proto, P, IN))), goes);
        let strict = presets::find("udp-blocked").expect("a preset");
        let mut wall = Firewall::new((strict.make)(), 1);
        let verdict = wall.outbound(at(0), &packet(proto, IN, P));
        assert_eq!(verdict, Verdict::Drop(Rule::FirewallPortBlocked));
    }
}
