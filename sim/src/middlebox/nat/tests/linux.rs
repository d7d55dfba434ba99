//! Behaviour that was measured on Linux.

use super::{Lab, addr};
use crate::{
    middlebox::nat::{WanInput, presets::linux},
    packet::{TcpFlags, verdict::Rule},
};

const A: &str = "10.1.0.2:40000";
const B: &str = "10.1.0.3:40000";
const S1: &str = "203.0.113.101:3478";
const S1B: &str = "203.0.113.101:3479";
const S2: &str = "203.0.113.102:3478";

#[test]
fn the_port_is_kept_towards_everybody() {
    let mut lab = Lab::new(linux());
    for to in [S1, S1B, S2] {
        assert_eq!(lab.ext(A, to), addr("203.0.113.11:40000"));
    }
}

#[test]
fn only_who_was_sent_to_may_answer() {
    let mut lab = Lab::new(linux());
    let external = lab.ext(A, S1);
    assert_eq!(lab.udp_in(S1, external), (Some(addr(A)), Rule::NatMapped));
    assert_eq!(lab.udp_in(S1B, external), (None, Rule::NatFiltered));
    assert_eq!(lab.udp_in(S2, external), (None, Rule::NatFiltered));
}

#[test]
fn two_hosts_share_a_port_towards_different_servers_only() {
    let mut lab = Lab::new(linux());
    let shared = addr("203.0.113.11:40000");
    assert_eq!(lab.ext(A, S1), shared);
    assert_eq!(lab.ext(B, S2), shared);
    let (external, rule) = lab.udp_out(B, S1);
    assert_eq!(rule, Rule::NatRemapped);
    assert_ne!(external, Some(shared));
    assert_eq!(lab.udp_in(S1, shared), (Some(addr(A)), Rule::NatMapped));
    assert_eq!(lab.udp_in(S2, shared), (Some(addr(B)), Rule::NatMapped));
    let external = external.expect("passed");
    assert_eq!(lab.udp_in(S1, external), (Some(addr(B)), Rule::NatMapped));
}

#[test]
fn thirty_seconds_unanswered_and_two_minutes_answered() {
    let mut lab = Lab::new(linux());
    let external = lab.ext(A, S1);
    lab.wait(29_999);
    assert_eq!(lab.udp_in(S1, external).1, Rule::NatMapped);
    // The lifetime after the answer is still that of an unanswered flow.
    lab.wait(29_999);
    assert_eq!(lab.udp_in(S1, external).1, Rule::NatMapped);
    // Packets from outside alone keep the flow, which now lives for two minutes.
    for _ in 0..3 {
        lab.wait(119_999);
        assert_eq!(lab.udp_in(S1, external).1, Rule::NatMapped);
    }
    lab.wait(120_000);
    assert_eq!(lab.udp_in(S1, external), (None, Rule::NatExpired));
    assert_eq!(lab.ext(A, S1), external, "the same port after its end");
    lab.wait(30_000);
    assert_eq!(lab.udp_in(S1, external), (None, Rule::NatExpired));
}

#[test]
fn a_flow_younger_than_two_seconds_is_no_stream() {
    let mut lab = Lab::new(linux());
    let external = lab.ext(A, S1);
    for _ in 0..3 {
        lab.udp_in(S1, external);
        lab.udp_out(A, S1);
    }
    lab.wait(30_000);
    assert_eq!(lab.udp_in(S1, external).1, Rule::NatExpired);
}

#[test]
fn who_knocks_first_takes_the_port_where_the_wan_is_let_in() {
    let mut lab = Lab::new(crate::middlebox::nat::NatConfig {
        wan_input: WanInput::Accept,
        ..linux()
    });
    let wanted = addr("203.0.113.11:40000");
    assert_eq!(lab.udp_in(S1, wanted), (None, Rule::NatStray));
    let (external, rule) = lab.udp_out(A, S1);
    assert_eq!(rule, Rule::NatRemapped);
    assert_ne!(external, Some(wanted));
    // Repeated SYNs do not change that.
    for _ in 0..4 {
        lab.wait(29_000);
        assert_eq!(lab.udp_in(S1, wanted).1, Rule::NatStray);
        assert_eq!(lab.udp_out(A, S1).0, external);
    }
    // The flow ends when both sides are silent.
    lab.wait(30_000);
    assert_eq!(lab.ext(A, S1), wanted);
    assert_eq!(lab.udp_in(S1, wanted).0, Some(addr(A)));
}

#[test]
fn a_wan_that_drops_forgets_who_knocked() {
    let mut lab = Lab::new(linux());
    let wanted = addr("203.0.113.11:40000");
    assert_eq!(lab.udp_in(S1, wanted), (None, Rule::NatNoMapping));
    assert_eq!(lab.ext(A, S1), wanted);
}

#[test]
fn simultaneous_open_and_refusal() {
    let (syn, ack) = (TcpFlags::SYN, TcpFlags::ACK);
    let mut lab = Lab::new(linux());
    let external = addr("203.0.113.11:40000");
    assert_eq!(lab.tcp_in(S1, external, syn).1, Rule::NatUnsolicitedSyn);
    assert_eq!(lab.tcp_out(A, S1, syn).0, Some(external));
    for (out, flags) in [(false, syn), (true, syn.with(ack)), (false, syn.with(ack))] {
        let passed = match out {
            true => lab.tcp_out(A, S1, flags).0,
            false => lab.tcp_in(S1, external, flags).0,
        };
        assert!(passed.is_some(), "{flags:?}");
    }
    assert!(lab.tcp_out(A, S1, ack).0.is_some());
    lab.wait(431_999_000);
    assert_eq!(lab.tcp_in(S1, external, ack).0, Some(addr(A)));
    // A reset that answers a SYN ends the flow at once.
    assert_eq!(lab.tcp_out(A, S2, syn).0, Some(external));
    assert!(
        lab.tcp_in(S2, external, TcpFlags::RST.with(ack))
            .0
            .is_some()
    );
    assert_eq!(lab.tcp_in(S2, external, syn).0, None);
}
