//! A DHT node over a plain UDP socket, with nothing but the engine's machine:
//! `cargo run -p dunlin-dht --example dht_node -- router.example:6881`
#![allow(clippy::print_stdout, reason = "an example")]

use std::net::{ToSocketAddrs, UdpSocket};
use std::time::{Duration, Instant as Clock};

use dunlin_core::dht::{Dht, DhtConfig};
use dunlin_core::{Cx, Ecn, Instant, Machine, RecvMeta, SocketId};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

fn main() -> std::io::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:6881")?;
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(std::io::Error::other)?;
    let (mut rng, mut buf, start) = (ChaCha8Rng::from_seed(seed), [0; 1501], Clock::now());
    let now = || Instant::from_micros(start.elapsed().as_micros() as u64 + 1);

    let mut cx = Cx {
        now: now(),
        rng: &mut rng,
    };
    let mut dht = Dht::new(&mut cx, DhtConfig::default());
    dht.start(&mut cx, 6881);
    for router in std::env::args().skip(1) {
        router
            .to_socket_addrs()?
            .for_each(|addr| dht.add_contact(&mut cx, addr));
    }
    loop {
        while let Some(transmit) = dht.poll_transmit(&mut cx, &mut buf) {
            if socket.send_to(&buf[..transmit.len], transmit.dst).is_err() {
                dht.send_failed(&mut cx, transmit.dst);
            }
        }
        while let Some(event) = dht.poll_event() {
            println!("{event:?}");
        }
        let wait = dht.poll_timeout().map(|at| at.saturating_since(now()));
        socket.set_read_timeout(wait.map(|wait| wait.max(Duration::from_millis(1))))?;
        let came = socket.recv_from(&mut buf);
        cx.now = now();
        if let Ok((len, from)) = came {
            let meta = RecvMeta {
                socket: SocketId::V4,
                from,
                local: None,
                ecn: Ecn::NotEct,
            };
            let _ = dht.handle_datagram(&mut cx, &meta, &buf[..len]);
        }
        dht.handle_timeout(&mut cx);
    }
}
