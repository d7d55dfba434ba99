//! Captures of the simulator as tshark reads them: nothing malformed, every checksum right, drops explained.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use dunlin_core::Instant;
use dunlin_sim::{
    Action, BoxConfig, DeviceId, LinkConfig, Packet, Proto, Rule, Scripted, TcpFlags, World,
    middlebox::{firewall, nat},
};

fn at(ms: u32) -> Instant {
    Instant::ORIGIN + Duration::from_millis(1) * ms
}

fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// Answers datagrams with themselves, a SYN with a SYN and ACK, an echo request with its reply.
fn server() -> Scripted {
    Scripted::new().replying(|packet| {
        let flow = packet.flow();
        match flow.proto {
            Proto::Udp => Some(Packet::udp(flow.dst, flow.src, packet.payload())),
            Proto::Tcp => {
                let (seq, _) = packet.tcp_numbers()?;
                let flags = TcpFlags::SYN.with(TcpFlags::ACK);
                let opens = flow.flags == TcpFlags::SYN;
                opens.then(|| {
                    Packet::tcp(flow.dst, flow.src, flags, 9_000, seq.wrapping_add(1), b"")
                })
            }
            Proto::Icmp => {
                let (id, request) = (flow.src.port(), packet.is_icmp_reply() == Some(false));
                request.then(|| {
                    Packet::echo(flow.dst.ip(), flow.src.ip(), true, id, 1, packet.payload())
                })
            }
            _ => None,
        }
    })
}

/// A home behind a NAT and a firewall that speaks to a server by everything that there is, and is spoken to
/// without having asked.
fn scene() -> (World, DeviceId) {
    let mut world = World::new(1);
    let core = world.core();
    let config = BoxConfig {
        nat: Some(nat::presets::linux()),
        firewall: Some(firewall::presets::home6()),
        ..BoxConfig::default()
    };
    let own: Vec<IpAddr> = ["20.0.0.1:0", "[2a00:1::1]:0"]
        .map(|a| addr(a).ip())
        .to_vec();
    let router = world.add_router(core, LinkConfig::dsl(), config, &own);
    world.set_name(router, "home");
    let inside = ["192.168.1.2:0", "[2a00:1::2]:0"].map(|a| addr(a).ip());
    let mut host = Scripted::new();
    for (n, (from, to)) in [
        ("192.168.1.2:5000", "20.1.0.1:80"),
        ("[2a00:1::2]:5000", "[2a00:9::1]:80"),
    ]
    .into_iter()
    .enumerate()
    {
        let (from, to, ms) = (addr(from), addr(to), 1 + n as u32);
        // A name server's port, or tshark takes what follows for something else's protocol.
        for len in [0, 1, 2, 3, 500] {
            host.plan(
                at(ms),
                Packet::udp(from, SocketAddr::new(to.ip(), 40_000), &vec![7; len]),
            );
        }
        host.plan(at(ms), Packet::tcp(from, to, TcpFlags::SYN, 100, 0, b""));
        host.plan(
            at(ms + 100),
            Packet::tcp(from, to, TcpFlags::ACK, 101, 9_001, b""),
        );
        host.plan(
            at(ms + 101),
            Packet::tcp(
                from,
                to,
                TcpFlags::ACK.with(TcpFlags::PSH),
                101,
                9_001,
                b"GET",
            ),
        );
        host.plan(
            at(ms),
            Packet::echo(from.ip(), to.ip(), false, 77, 1, b"ping"),
        );
        // Nobody is there, and this fills a packet of the LAN, which is too long for the line.
        let full = if from.is_ipv4() { 1_472 } else { 1_452 };
        let nobody = if from.is_ipv4() {
            "20.7.7.7:9"
        } else {
            "[2a00:7::7]:9"
        };
        host.plan(at(ms + 200), Packet::udp(from, addr(nobody), b"anybody?"));
        host.plan(at(ms + 300), Packet::udp(from, to, &vec![7; full]));
        let mut spent = Packet::udp(from, to, b"spent");
        while spent.ttl() > 2 {
            spent.hop();
        }
        host.plan(at(ms + 400), spent);
    }
    let host = world.add_host(router, LinkConfig::lan(), &inside, host);
    world.set_name(host, "host");
    let mut far = server();
    for (from, to) in [
        ("20.1.0.1:666", "20.0.0.1:5555"),
        ("[2a00:9::1]:666", "[2a00:1::2]:5555"),
    ] {
        far.plan(at(50), Packet::udp(addr(from), addr(to), b"let me in"));
        far.plan(
            at(51),
            Packet::tcp(addr(from), addr(to), TcpFlags::SYN, 1, 0, b""),
        );
    }
    let addrs = ["20.1.0.1:0", "[2a00:9::1]:0"].map(|a| addr(a).ip());
    let far = world.add_host(core, LinkConfig::fibre(), &addrs, far);
    world.set_name(far, "server");
    world.at(at(500), Action::Cut(far));
    world.at(
        at(510),
        Action::Do(Box::new(move |world| {
            let packet = Packet::udp(addr("20.1.0.1:1"), addr("20.0.0.1:5000"), b"cut");
            world.call(far, |_: &mut Scripted, cx| cx.send(packet));
        })),
    );
    for node in [host, router, core, far] {
        world.capture(node);
    }
    world.start();
    world.run_until(at(2_000));
    (world, host)
}

fn tshark(file: &Path, args: &[&str]) -> Vec<String> {
    let checks = [
        "ip.check_checksum:TRUE",
        "tcp.check_checksum:TRUE",
        "udp.check_checksum:TRUE",
    ];
    let mut command = Command::new("tshark");
    command.arg("-n").arg("-r").arg(file).args(args);
    for check in checks {
        command.args(["-o", check]);
    }
    let output = command
        .output()
        .expect("tshark runs; tests/run installs it");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaints: Vec<String> = String::from_utf8_lossy(&output.stderr)
        .lines()
        .filter(|line| !line.starts_with("Running as user \"root\""))
        .map(str::to_owned)
        .collect();
    assert!(
        output.status.success() && complaints.is_empty(),
        "{args:?}: {complaints:?}"
    );
    text.lines().map(str::to_owned).collect()
}

#[test]
fn captures_open_without_complaint() {
    let (world, host) = scene();
    assert_eq!(
        world.trace().count_at(host, Rule::Delivered),
        20,
        "{:?}",
        world.trace().counters().collect::<Vec<_>>()
    );
    let folder = tempfile::tempdir().expect("a folder");
    let captures = world.captures();
    let names: Vec<&str> = captures.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["host", "home", "core", "server"]);
    for (name, bytes) in &captures {
        let file = folder.path().join(format!("{name}.pcapng"));
        std::fs::write(&file, bytes).expect("it is written");
        let count = |filter: &str| tshark(&file, &["-Y", filter]).len();
        let all = tshark(&file, &["-T", "fields", "-e", "frame.time_epoch"]);
        assert!(all.len() >= 20, "{name}: {}", all.len());
        assert!(
            all.is_sorted_by_key(|t| t.parse::<f64>().map_or(u64::MAX, |t| (t * 1e6) as u64)),
            "{name}"
        );
        assert_eq!(
            count("_ws.malformed || _ws.short || _ws.unreassembled"),
            0,
            "{name}"
        );
        let bad = "ip.checksum.status == Bad || udp.checksum.status == Bad || tcp.checksum.status == Bad \
                   || icmp.checksum.status == Bad || icmpv6.checksum.status == Bad";
        assert_eq!(count(bad), 0, "{name}");
        for (protocol, least) in [
            ("udp && ip", 5),
            ("udp && ipv6", 5),
            ("tcp && ip", 3),
            ("tcp && ipv6", 3),
        ] {
            assert!(count(protocol) >= least, "{name} {protocol}");
        }
        assert_eq!(
            count("icmp.type == 8 && !icmp.type == 3"),
            count("icmp.type == 0"),
            "{name}"
        );
        assert_eq!(
            count("icmpv6.type == 128"),
            count("icmpv6.type == 129"),
            "{name}"
        );
        let interfaces = tshark(&file, &["-T", "fields", "-e", "frame.interface_name"]);
        let expected = if name == "home" {
            vec!["home.lan", "home.wan"]
        } else {
            vec![&**name]
        };
        let mut seen = interfaces;
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, expected);
    }
    let commented = |name: &str, comment: &str| {
        let filter = format!("frame.comment contains \"dropped: {comment}: \"");
        tshark(
            &folder.path().join(format!("{name}.pcapng")),
            &["-Y", &filter],
        )
        .len()
    };
    let drops = [
        ("home", "link.too-big", 2),
        ("core", "route.none", 2),
        ("core", "route.hop-limit", 2),
        ("server", "link.down", 1),
    ];
    for (name, comment, times) in drops {
        assert_eq!(commented(name, comment), times, "{name} {comment}");
    }
    assert!(
        commented("home", "nat.") + commented("home", "firewall.") == 0,
        "a rule has its whole name"
    );
    let unasked = commented("home", "nat.no-mapping")
        + commented("home", "nat.unsolicited-syn")
        + commented("home", "firewall.unsolicited");
    assert!(unasked >= 3, "{unasked}");
}
