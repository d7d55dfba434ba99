//! miniupnpd in a network namespace.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use dunlin_tests::lab::Lab;

use crate::asked::{Ask, CLIENTS, GATEWAY};

/// How long an answer may take: the daemon tries one port after the other.
const PATIENCE: Duration = Duration::from_secs(3);

const RULES: &str = "
table inet filter {
  chain miniupnpd { }
  chain prerouting_miniupnpd { }
  chain postrouting_miniupnpd { }
  chain forward { type filter hook forward priority 0; policy drop; iifname \"lan\" accept; jump miniupnpd; }
  chain prerouting { type nat hook prerouting priority -100; jump prerouting_miniupnpd; }
  chain postrouting { type nat hook postrouting priority 100; oifname \"wan\" ip saddr 10.1.0.0/24 snat ip to 5.5.5.11; jump postrouting_miniupnpd; }
}
";

fn run(lab: &Lab, program: &str, args: &[&str]) {
    let mut child = lab.spawn(program, args);
    let status = child.wait(Duration::from_secs(20));
    assert!(status.success(), "{program} {args:?}: {}", child.log());
}

/// The answers to each request.
pub(crate) fn answers(asked: &[(&'static str, Ask)]) -> Vec<Vec<Vec<u8>>> {
    let (router, home, outside) = (Lab::bare(), Lab::bare(), Lab::bare());
    router.wire("lan", "10.1.0.1/24", &home, "10.1.0.2/24");
    router.wire("wan", "5.5.5.11/24", &outside, "5.5.5.101/24");
    run(&home, "ip", &["addr", "add", "10.1.0.3/24", "dev", "lan"]);
    for lab in [&router, &home] {
        run(lab, "ip", &["route", "add", "239.0.0.0/8", "dev", "lan"]);
    }
    let path = |name: &str| router.path().join(name).to_string_lossy().into_owned();
    fs::write(path("rules"), RULES).expect("a file");
    run(&router, "nft", &["-f", &path("rules")]);
    let conf = format!(
        "ext_ifname=wan\next_ip=5.5.5.11\nlistening_ip=lan\nport=5000\nenable_natpmp=yes\n\
         enable_upnp=yes\nsecure_mode=yes\nsystem_uptime=yes\nmin_lifetime=120\n\
         max_lifetime=86400\nlease_file={}\nuuid=00000000-0000-0000-0000-000000000001\n\
         deny 0-1023 0.0.0.0/0 0-65535\n",
        path("leases")
    );
    fs::write(path("leases"), "").expect("a file");
    fs::write(path("conf"), conf).expect("a file");
    let args = ["-d", "-f", &path("conf"), "-P", &path("pid")];
    let mut daemon = router.spawn("miniupnpd", &args);
    home.inside(|| {
        let end = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect((GATEWAY_ADDRESS, 5_000)).is_err() {
            assert!(daemon.running() && Instant::now() < end, "{}", daemon.log());
            thread::sleep(Duration::from_millis(50));
        }
    });
    let answers = home.inside(|| asked.iter().map(|(_, ask)| answer(ask)).collect());
    assert!(daemon.running(), "{}", daemon.log());
    daemon.kill();
    answers
}

const GATEWAY_ADDRESS: std::net::Ipv4Addr =
    std::net::Ipv4Addr::new(GATEWAY[0], GATEWAY[1], GATEWAY[2], GATEWAY[3]);

fn answer(ask: &Ask) -> Vec<Vec<u8>> {
    match ask {
        Ask::Control(client, data) => datagram(*client, (GATEWAY, 5_351).into(), data, false),
        Ask::Search(text) => {
            let group = ([239, 255, 255, 250], 1_900).into();
            datagram(0, group, text.as_bytes(), true)
        }
        Ask::Http(text) => {
            let mut stream = TcpStream::connect((GATEWAY_ADDRESS, 5_000)).expect("it listens");
            stream.set_read_timeout(Some(PATIENCE)).expect("a time");
            stream.write_all(text.as_bytes()).expect("it reads");
            let mut all = Vec::new();
            // A connection that is reset after the answer has brought the answer.
            let _ = stream.read_to_end(&mut all);
            vec![all]
        }
    }
}

/// Sends a datagram, and returns the answer or, with `many`, all of them.
fn datagram(client: usize, to: SocketAddr, data: &[u8], many: bool) -> Vec<Vec<u8>> {
    let socket = UdpSocket::bind((std::net::Ipv4Addr::from(CLIENTS[client]), 0)).expect("a port");
    let patience = if many {
        Duration::from_secs(1)
    } else {
        PATIENCE
    };
    socket.set_read_timeout(Some(patience)).expect("a time");
    socket.send_to(data, to).expect("a route");
    let (mut all, mut buf) = (Vec::new(), [0; 2_000]);
    while let Ok((len, _)) = socket.recv_from(&mut buf) {
        all.push(buf[..len].to_vec());
        if !many {
            break;
        }
    }
    all
}
