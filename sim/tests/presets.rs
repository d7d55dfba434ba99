//! A scenario for each preset of NATs and firewalls, with the outcome that its source states.
//!
//! The numbers and verdicts here are those of the documents and measurements that the presets name
//! as their sources, and are not computed from the presets. What connects to what is the table of
//! punches over Linux 6.18 in network namespaces, by mapping and filtering.

use std::{fmt::Write as _, net::Ipv4Addr, time::Duration};

use dunlin_core::Instant;
use dunlin_sim::{
    BoxConfig, Middlebox, Packet, TcpFlags, Verdict,
    middlebox::{
        firewall,
        nat::{Nat, presets},
    },
    scenario::{RunOptions, Scenario, run},
};

/// What a source says about a box.
#[derive(Clone, Copy, Debug)]
enum Stated {
    /// UDP holes can be punched to a host behind this other box, or cannot.
    Udp(&'static str, bool),
    /// The same over TCP.
    Tcp(&'static str, bool),
    /// The same when the host behind the other box begins two seconds earlier, so that its first
    /// packet meets a box that knows nothing of it: over UDP, over TCP.
    UdpCold(&'static str, bool),
    TcpCold(&'static str, bool),
    /// The port is kept, and after a datagram to a server these are let in through it: the server
    /// from another port, a stranger.
    Admits(bool, bool),
    /// The internal port is not the external one.
    MovesPort,
    /// Two hosts inside connect by their external endpoints, over UDP and over TCP.
    Hairpin(bool, bool),
    /// What becomes of a SYN that nobody inside asked for.
    Syn(Refusal),
    /// How many seconds a UDP flow lives that was not answered.
    First(u64),
    /// How many seconds a UDP flow lives that was answered after its third second.
    Stream(u64),
    /// How many seconds an open TCP connection lives without traffic.
    Established(u64),
    /// How many ports a host gets for UDP at most.
    Ports(u64),
    /// The number of flows in the table: new ones are dropped, or old ones make room.
    Drops(u64),
    Evicts(u64),
}
use Refusal::{Icmp, IcmpAfter6s, Reset, Silence};
use Stated::{
    Admits, Drops, Established, Evicts, First, Hairpin, MovesPort, Ports, Stream, Syn, Tcp,
    TcpCold, Udp, UdpCold,
};

/// How a SYN is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Silence,
    Reset,
    Icmp,
    IcmpAfter6s,
}

const PR: &str = "port-restricted";
const FC: &str = "full-cone";
const RC: &str = "restricted-cone";
const SYM: &str = "symmetric";

/// What the sources say, for each NAT that stands for a device or a behaviour.
#[rustfmt::skip]
const NATS: &[(&str, &[Stated])] = &[
    // Measured on Linux.
    ("linux", &[Admits(false, false), First(30), Stream(120), Established(432_000), UdpCold(PR, true), TcpCold(PR, true), Udp(SYM, false), Hairpin(false, false), Syn(Silence)]),
    ("linux-accept", &[UdpCold(PR, false), Udp(PR, true), Syn(Reset), First(30)]),
    ("linux-reject", &[UdpCold(PR, true), TcpCold(PR, true), Syn(Icmp), First(30)]),
    ("linux-random", &[Udp(PR, false), Udp(RC, true), Udp(FC, true), First(30)]),
    ("linux-hash", &[MovesPort, Udp(PR, true)]),
    ("linux-hash-adm", &[Udp(PR, false), Udp(FC, true)]),
    ("linux-hash-apdm", &[Udp(PR, false), Udp(FC, true)]),
    ("linux-sequential", &[Udp(PR, false), Udp(FC, true)]),
    ("linux-block", &[MovesPort, Udp(PR, true)]),
    ("linux-eif", &[Admits(true, true), Udp(SYM, true)]),
    ("linux-adf", &[Admits(true, false), Udp(SYM, true)]),
    ("linux-hairpin", &[Hairpin(true, false), Admits(true, true)]),
    // sysctl-nf-conntrack.conf; zone wan rejects, and handle_reject resets TCP.
    ("openwrt", &[First(60), Stream(180), Established(7_440), Admits(false, false), UdpCold(PR, true), Syn(Reset)]),
    // pf.h, pf_lb.c and pf.conf(5).
    ("pf", &[First(60), Established(86_400), MovesPort, Udp(PR, false), Udp(FC, true)]),
    ("pf-eim", &[First(60), MovesPort, Udp(PR, true), Tcp(PR, false)]),
    ("pf-static", &[First(60), Stream(60), Established(86_400), Admits(false, false), Udp(PR, true), Tcp(PR, true), Udp(SYM, false)]),
    // RFC 6888 and the guesses.
    ("cgnat-good", &[First(300), Ports(512), Hairpin(true, true), Udp(SYM, true)]),
    ("cgnat-bad", &[First(30), Udp(PR, false), Udp(FC, true)]),
    ("cgnat-hash", &[MovesPort, Udp(PR, true), Udp(SYM, false)]),
    // The user guide.
    ("cloud", &[First(350), Established(350), Udp(PR, false), Udp(FC, true), Syn(Silence)]),
    ("voip-helper", &[Admits(true, false), Udp(SYM, true)]),
    ("fritzbox", &[Admits(false, false), First(300), Evicts(7_000)]),
    ("tiny", &[Admits(false, false), Drops(1_024)]),
    ("tiny-evict", &[Admits(false, false), Evicts(1_024)]),
    ("tiny-crash", &[Admits(false, false)]),
    ("slow", &[Admits(false, false), Drops(8_192)]),
    // RFC 3489 section 5.
    ("full-cone", &[Admits(true, true), Udp(SYM, true)]),
    ("restricted-cone", &[Admits(true, false), Udp(SYM, true)]),
    ("port-restricted", &[Admits(false, false), Udp(PR, true), Udp(SYM, false), TcpCold(PR, true)]),
    ("symmetric", &[Udp(PR, false), Udp(SYM, false), Udp(RC, true), Udp(FC, true)]),
    // RFC 4787 sections 4 to 6.
    ("symmetric-sequential", &[Udp(PR, false), Udp(RC, true)]),
    ("symmetric-down", &[Udp(PR, false), Udp(RC, true)]),
    ("adm", &[Udp(PR, false), Udp(RC, true)]),
    ("parity", &[Admits(false, false), Udp(PR, true)]),
    ("sequential", &[MovesPort, Udp(PR, true)]),
    ("non-preserving", &[MovesPort, Udp(PR, true)]),
    ("block", &[MovesPort, Ports(64), Udp(PR, true)]),
    ("rfc4787", &[Admits(true, false), First(300), Stream(300), Established(7_440), Hairpin(true, true), TcpCold(PR, true), Syn(IcmpAfter6s)]),
    ("rfc7857", &[First(300), Established(7_440), Hairpin(true, true), Udp(SYM, true), MovesPort]),
    ("hairpin-internal", &[Hairpin(true, false), Admits(true, true)]),
    ("hairpin-external", &[Hairpin(true, true), Admits(false, false)]),
    ("outbound-refresh", &[Admits(false, false), First(30)]),
    ("udp-cone-tcp-symmetric", &[Admits(true, true), Udp(PR, true), Tcp(PR, false)]),
    // RFC 5382 section 4.3.
    ("tcp-reset", &[Admits(false, false), Syn(Reset), Tcp(PR, true)]),
    ("tcp-delayed", &[Admits(false, false), Syn(IcmpAfter6s), TcpCold(PR, true)]),
    ("alg", &[Admits(false, false), Udp(PR, true)]),
];

/// Runs a scenario, and describes the expectations that did not hold.
fn failures(text: &str) -> Vec<String> {
    let s = Scenario::parse(text, "preset.toml").unwrap_or_else(|e| panic!("{e}\n{text}"));
    let result = run(&s, s.seed, &RunOptions::default());
    assert!(
        result.stuck.is_none() && !result.outcomes.is_empty(),
        "{text}"
    );
    let failed = result.outcomes.iter().filter(|o| !o.held);
    failed.map(|o| format!("{o:?}")).collect()
}

/// Two hosts, each behind the box whose keys are given, that punch holes.
fn punch(kind: &str, a: &str, b: &str, cold: bool, connects: bool) -> String {
    let later = if cold { "told-after = \"2s\"" } else { "" };
    let verb = if connects {
        "connected"
    } else {
        "not-connected"
    };
    format!(
        r#"
duration = "20s"
[[router]]
name = "left"
{a}
[[router]]
name = "right"
{b}
[[host]]
name = "meeting"
kind = "rendezvous"
[[host]]
name = "alice"
behind = "left"
kind = "{kind}"
to = "bob"
via = "meeting"
{later}
[[host]]
name = "bob"
behind = "right"
kind = "{kind}"
to = "alice"
via = "meeting"
[[expect]]
{verb} = ["alice", "bob"]
"#
    )
}

/// Two hosts behind one box that punch holes.
fn hairpin(name: &str, kind: &str, connects: bool) -> String {
    let verb = if connects {
        "connected"
    } else {
        "not-connected"
    };
    let host = |me: &str, peer: &str, port: u16| {
        format!(
            "[[host]]\nname = \"{me}\"\nbehind = \"box\"\nkind = \"{kind}\"\nport = {port}\n\
             to = \"{peer}\"\nvia = \"meeting\"\nadvertise = \"never\"\n"
        )
    };
    format!(
        "duration = \"20s\"\n[[router]]\nname = \"box\"\nnat = \"{name}\"\n\
         [[host]]\nname = \"meeting\"\nkind = \"rendezvous\"\n{}{}\
         [[expect]]\n{verb} = [\"alice\", \"bob\"]\n",
        host("alice", "bob", 40_000),
        host("bob", "alice", 40_001)
    )
}

/// A host behind the box, and a server and a stranger outside. Each event is the time, the sender,
/// its port, the receiver and its port.
fn exchange(
    keys: &str,
    events: &[(u64, &str, u16, &str, u16)],
    arrive: &[(&str, usize)],
) -> String {
    let last = events.iter().map(|e| e.0).max().unwrap_or(0);
    let mut text = format!(
        "duration = \"{}s\"\n[[router]]\nname = \"box\"\n{keys}\n\
         [[host]]\nname = \"inside\"\nbehind = \"box\"\nkind = \"manual\"\n",
        last + 5
    );
    for name in ["server", "stranger"] {
        let _ = write!(text, "[[host]]\nname = \"{name}\"\nkind = \"manual\"\n");
    }
    for (at, from, port, to, to_port) in events {
        let _ = write!(
            text,
            "[[event]]\nat = \"{at}s\"\nsend = \"{from}\"\nport = {port}\nto = \"{to}\"\n\
             to-port = {to_port}\n"
        );
    }
    for (from, count) in arrive {
        let _ = write!(
            text,
            "[[expect]]\ndelivered = [\"{from}\", \"inside\"]\nexactly = {count}\n"
        );
    }
    text
}

/// A host behind the box, whose one datagram is answered after this many seconds.
fn answered_after(name: &str, seconds: u64, arrives: bool) -> String {
    format!(
        r#"
duration = "{}s"
[[router]]
name = "box"
nat = "{name}"
[[host]]
name = "inside"
behind = "box"
kind = "manual"
[[host]]
name = "server"
kind = "echo"
reply-after = "{seconds}s"
[[event]]
at = "1s"
send = "inside"
to = "server"
[[expect]]
delivered = ["server", "inside"]
exactly = {}
"#,
        seconds + 5,
        u8::from(arrives)
    )
}

/// A host behind the box that opens this many flows in ten seconds, each of its own port.
fn flood(name: &str, flows: u64, expect: &str) -> String {
    format!(
        r#"
duration = "12s"
[[router]]
name = "box"
nat = "{name}"
[[host]]
name = "inside"
behind = "box"
kind = "flood"
flows = {}
to = "server"
stop = "10s"
[[host]]
name = "server"
kind = "manual"
{expect}
"#,
        flows / 10
    )
}

/// Whether an answer comes in over a TCP connection on which nothing passed for so long.
fn outlives(name: &str, silence: u64) -> bool {
    let preset = presets::find(name).expect("a preset");
    let mut nat = Nat::new((preset.make)(), &[Ipv4Addr::new(203, 0, 113, 1)], 1);
    let (inside, server) = (
        ([10, 0, 0, 2], 40_000).into(),
        ([198, 51, 100, 1], 80).into(),
    );
    let mut now = Instant::ORIGIN;
    let mut send = |flags, seq, ack| {
        let mut packet = Packet::tcp(inside, server, flags, seq, ack, b"");
        assert!(matches!(nat.outbound(now, &mut packet), Verdict::Pass(_)));
        packet.flow().src
    };
    let external = send(TcpFlags::SYN, 100, 0);
    let receive = |nat: &mut Nat, now, flags, seq, data: &[u8]| {
        let mut packet = Packet::tcp(server, external, flags, seq, 101, data);
        matches!(nat.inbound(now, &mut packet), Verdict::Pass(_))
    };
    let syn_ack = TcpFlags::SYN.with(TcpFlags::ACK);
    assert!(receive(&mut nat, now, syn_ack, 500, b""), "{name}");
    let mut ack = Packet::tcp(inside, server, TcpFlags::ACK, 101, 501, b"");
    assert!(matches!(nat.outbound(now, &mut ack), Verdict::Pass(_)));
    now += Duration::from_secs(silence);
    receive(&mut nat, now, TcpFlags::ACK, 501, b"late")
}

/// What a box with the address 203.0.113.1, or in front of that host, answers to a SYN from outside.
fn refusal(config: BoxConfig) -> Refusal {
    let here = Ipv4Addr::new(203, 0, 113, 1);
    let mut tested = Middlebox::new(config, &[here], 1);
    let (from, now) = (([198, 51, 100, 1], 80).into(), Instant::ORIGIN);
    let mut syn = Packet::tcp(from, (here, 6_881).into(), TcpFlags::SYN, 1, 0, b"");
    match tested.inbound(now, &mut syn) {
        Verdict::Answer(_, answer) if answer.flow().flags.has(TcpFlags::RST) => Reset,
        Verdict::Answer(..) => Icmp,
        Verdict::Drop(_) => match tested.next_timeout() {
            None => Silence,
            Some(at) => {
                assert_eq!(at, now + Duration::from_secs(6));
                assert!(tested.delayed(at).is_some());
                IcmpAfter6s
            }
        },
        other => panic!("{other:?}"),
    }
}

/// The scenarios that show whether a NAT does as stated.
fn scenarios(name: &str, stated: Stated) -> Vec<String> {
    let keys = format!("nat = \"{name}\"");
    let other = |name: &str| format!("nat = \"{name}\"");
    match stated {
        Udp(peer, yes) => vec![punch("udp-punch", &keys, &other(peer), false, yes)],
        Tcp(peer, yes) => vec![punch("tcp-punch", &keys, &other(peer), false, yes)],
        UdpCold(peer, yes) => vec![punch("udp-punch", &keys, &other(peer), true, yes)],
        TcpCold(peer, yes) => vec![punch("tcp-punch", &keys, &other(peer), true, yes)],
        Hairpin(udp, tcp) => vec![
            hairpin(name, "udp-punch", udp),
            hairpin(name, "tcp-punch", tcp),
        ],
        Admits(by_address, anyone) => vec![exchange(
            &keys,
            &[
                (1, "inside", 40_000, "server", 7_000),
                (2, "server", 7_000, "box", 40_000),
                (3, "server", 7_001, "box", 40_000),
                (4, "stranger", 7_000, "box", 40_000),
            ],
            &[
                ("server", 1 + usize::from(by_address)),
                ("stranger", anyone.into()),
            ],
        )],
        MovesPort => vec![exchange(
            &keys,
            &[
                (1, "inside", 40_000, "server", 7_000),
                (2, "server", 7_000, "box", 40_000),
            ],
            &[("server", 0)],
        )],
        First(limit) => vec![
            answered_after(name, limit - 1, true),
            answered_after(name, limit + 1, false),
        ],
        Stream(limit) => [(limit - 1, 3), (limit + 1, 2)]
            .map(|(silence, arrive)| {
                exchange(
                    &keys,
                    &[
                        (1, "inside", 40_000, "server", 7_000),
                        (2, "server", 7_000, "box", 40_000),
                        (6, "inside", 40_000, "server", 7_000),
                        (7, "server", 7_000, "box", 40_000),
                        (7 + silence, "server", 7_000, "box", 40_000),
                    ],
                    &[("server", arrive)],
                )
            })
            .into(),
        Ports(count) => {
            let expect =
                format!("[[expect]]\ndelivered = [\"inside\", \"server\"]\nexactly = {count}");
            vec![flood(name, count * 2, &expect)]
        }
        Drops(count) => {
            let flows = (count / 10 + 10) * 10;
            let expect =
                format!("[[expect]]\ndelivered = [\"inside\", \"server\"]\nexactly = {count}");
            vec![flood(name, flows, &expect)]
        }
        Evicts(count) => {
            let flows = (count / 10 + 10) * 10;
            let expect = "[[expect]]\nrule = \"nat.table-full\"\nexactly = 0";
            vec![flood(name, flows, expect)]
        }
        // These are asked of the box itself.
        Established(_) | Syn(_) => Vec::new(),
    }
}

fn check(name: &str, stated: &[Stated], wrong: &mut String) {
    for &one in stated {
        for text in scenarios(name, one) {
            for failure in failures(&text) {
                let _ = writeln!(wrong, "{name}: {one:?}: {failure}");
            }
        }
        if let Established(limit) = one
            && (outlives(name, limit - 1), outlives(name, limit + 1)) != (true, false)
        {
            let _ = writeln!(wrong, "{name}: {one:?}");
        }
        if let Syn(expected) = one {
            let preset = presets::find(name).expect("a preset");
            let given = refusal(BoxConfig {
                nat: Some((preset.make)()),
                ..BoxConfig::default()
            });
            if given != expected {
                let _ = writeln!(wrong, "{name}: {given:?} in place of {one:?}");
            }
        }
    }
}

#[test]
fn every_nat_does_what_its_source_states() {
    let named = presets::all().len() - presets::grid().len();
    let names: Vec<&str> = presets::all()[..named].iter().map(|p| p.name).collect();
    let listed: Vec<&str> = NATS.iter().map(|(name, _)| *name).collect();
    assert_eq!(listed, names, "each preset is listed, in the same order");
    let mut wrong = String::new();
    for (name, stated) in NATS {
        assert!(!stated.is_empty(), "{name}");
        check(name, stated, &mut wrong);
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// A name of the grid says its mapping, filtering and ports, and RFC 4787 what they mean.
#[test]
fn the_grid_is_what_its_names_say() {
    let mut wrong = String::new();
    for preset in presets::grid() {
        let parts: Vec<&str> = preset.name.split('-').collect();
        let [mapping, filtering, ports] = parts[..] else {
            panic!("{}", preset.name);
        };
        let mut stated = vec![Udp(PR, mapping == "eim"), Udp(FC, true)];
        stated.push(match ports {
            "preserve" => Admits(filtering != "apdf", filtering == "eif"),
            _ => MovesPort,
        });
        if mapping == "eim" {
            stated.push(Udp(SYM, filtering != "apdf"));
        }
        check(preset.name, &stated, &mut wrong);
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// pf.conf(5) on `static-port`, and `pf_get_sport`: a state conflicts with one to the same remote
/// endpoint only.
#[test]
fn hosts_behind_pf_with_static_port_conflict_at_one_remote_endpoint_only() {
    let text = |second: &str| {
        let hosts = ["one", "two"].map(|name| {
            format!("[[host]]\nname = \"{name}\"\nbehind = \"box\"\nkind = \"manual\"\n")
        });
        format!(
            "duration = \"5s\"\n[[router]]\nname = \"box\"\nnat = \"pf-static\"\n{}{}\
             [[host]]\nname = \"server\"\nkind = \"manual\"\n\
             [[host]]\nname = \"other\"\nkind = \"manual\"\n\
             [[event]]\nat = \"1s\"\nsend = \"one\"\nto = \"server\"\n\
             [[event]]\nat = \"2s\"\nsend = \"two\"\nto = \"{second}\"\n\
             [[expect]]\ndelivered = [\"one\", \"server\"]\nexactly = 1\n",
            hosts[0], hosts[1]
        )
    };
    let apart = "[[expect]]\ndelivered = [\"two\", \"other\"]\nexactly = 1\n";
    assert_eq!(failures(&(text("other") + apart)), [""; 0]);
    let clash = "[[expect]]\nrule = \"nat.no-port\"\nat = \"box\"\nexactly = 1\n";
    assert_eq!(failures(&(text("server") + clash)), [""; 0]);
}

/// RFC 4787 REQ-6: a mapping that only packets from inside refresh ends while the server talks.
#[test]
fn packets_from_outside_refresh_mappings_unless_the_preset_says_otherwise() {
    let events: Vec<_> = [(1, "inside", 40_000, "server", 7_000)]
        .into_iter()
        .chain([2, 22, 42, 62].map(|at| (at, "server", 7_000, "box", 40_000)))
        .collect();
    for (name, arrive) in [("outbound-refresh", 2), (PR, 4)] {
        let text = exchange(&format!("nat = \"{name}\""), &events, &[("server", arrive)]);
        assert_eq!(failures(&text), [""; 0], "{name}");
    }
}

/// A router that restarts when its table is full forgets its flows; one that is slow delays.
#[test]
fn full_tables_restart_or_delay() {
    let crash = "[[expect]]\nrule = \"nat.rebooted\"\nat = \"box\"\nat-least = 1\n";
    assert_eq!(failures(&flood("tiny-crash", 1_100, crash)), [""; 0]);
    // Over a third of 8192 flows, the answer to a ping is not there half a second later.
    let ping = |flows: u32, arrive: u8| {
        format!(
            r#"
duration = "8500ms"
[[router]]
name = "box"
nat = "slow"
[[host]]
name = "inside"
behind = "box"
kind = "flood"
flows = {flows}
to = "server"
[[host]]
name = "caller"
behind = "box"
kind = "manual"
[[host]]
name = "server"
kind = "manual"
[[host]]
name = "echo"
kind = "echo"
[[event]]
at = "8s"
send = "caller"
to = "echo"
[[expect]]
delivered = ["echo", "caller"]
exactly = {arrive}
"#
        )
    };
    assert_eq!(failures(&ping(300, 1)), [""; 0]);
    assert_eq!(failures(&ping(800, 0)), [""; 0]);
}

/// RFC 4787 section 7: a gateway that rewrites what looks like the sender's endpoint.
#[test]
fn an_application_level_gateway_rewrites_the_senders_endpoint() {
    let sent = |name| {
        let preset = presets::find(name).expect("a preset");
        let mut nat = Nat::new((preset.make)(), &[Ipv4Addr::new(203, 0, 113, 1)], 1);
        let (inside, server) = (
            ([10, 0, 0, 2], 40_000).into(),
            ([198, 51, 100, 1], 80).into(),
        );
        let mut packet = Packet::udp(inside, server, &[10, 0, 0, 2, 0x9c, 0x40]);
        assert!(matches!(
            nat.outbound(Instant::ORIGIN, &mut packet),
            Verdict::Pass(_)
        ));
        packet.payload().to_vec()
    };
    assert_eq!(sent("alg"), [203, 0, 113, 1, 0x9c, 0x40]);
    assert_eq!(sent(PR), [10, 0, 0, 2, 0x9c, 0x40]);
}

/// A host behind a firewall, which has the address that a stranger sends to.
fn walled(preset: &str, ip: &str, spoke: bool, stranger: usize) -> String {
    let first = if spoke {
        "[[event]]\nat = \"1s\"\nsend = \"inside\"\nto = \"server\"\n"
    } else {
        ""
    };
    let host = |name: &str, behind: &str| {
        format!("[[host]]\nname = \"{name}\"\nkind = \"manual\"\nip = \"{ip}\"\n{behind}\n")
    };
    format!(
        "duration = \"5s\"\n[[router]]\nname = \"wall\"\nfirewall = \"{preset}\"\n{}{}{}{first}\
         [[event]]\nat = \"2s\"\nsend = \"stranger\"\nto = \"inside\"\n\
         [[expect]]\ndelivered = [\"stranger\", \"inside\"]\nexactly = {stranger}\n",
        host("inside", "behind = \"wall\""),
        host("server", ""),
        host("stranger", "")
    )
}

#[test]
fn every_firewall_does_what_its_source_states() {
    let wall = |name: &str| format!("firewall = \"{name}\"");
    let linux = "nat = \"linux\"";
    let both = |name: &str, udp: bool, tcp: bool| {
        vec![
            punch("udp-punch", &wall(name), linux, false, udp),
            punch("tcp-punch", &wall(name), linux, false, tcp),
        ]
    };
    let mut stated: Vec<(&str, Vec<String>)> = vec![
        // RFC 6092: IPv6 only, and nothing that was not asked for.
        (
            "home6",
            vec![
                walled("home6", "v6", true, 0),
                walled("home6", "v4", true, 1),
            ],
        ),
        (
            "no-inbound",
            vec![
                walled("no-inbound", "v4", true, 0),
                walled("no-inbound", "v6", true, 0),
            ],
        ),
        ("udp-blocked", both("udp-blocked", false, true)),
        ("web-only", both("web-only", false, false)),
        ("open", vec![walled("open", "v4", false, 1)]),
        // Endpoint-independent filtering: after the first packet out, anyone.
        (
            "simple6",
            vec![
                walled("simple6", "v6", false, 0),
                walled("simple6", "v6", true, 1),
            ],
        ),
        ("no-inbound-reset", both("no-inbound-reset", true, true)),
    ];
    stated[1].1.extend(both("no-inbound", true, true));
    let names: Vec<&str> = firewall::presets::all().iter().map(|p| p.name).collect();
    assert_eq!(stated.iter().map(|(n, _)| *n).collect::<Vec<_>>(), names);
    for preset in firewall::presets::all() {
        let answer = match preset.name {
            // They leave IPv4 alone, or let everything in.
            "home6" | "simple6" | "open" => continue,
            "no-inbound-reset" => Reset,
            _ => Silence,
        };
        let given = refusal(BoxConfig {
            firewall: Some((preset.make)()),
            ..BoxConfig::default()
        });
        assert_eq!(given, answer, "{}", preset.name);
    }
    let mut wrong = String::new();
    for (name, texts) in &stated {
        for text in texts {
            for failure in failures(text) {
                let _ = writeln!(wrong, "{name}: {failure}");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
