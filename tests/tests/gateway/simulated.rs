//! The simulated gateway with the profile of miniupnpd.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use dunlin_core::Instant;
use dunlin_sim::{
    BoxConfig, GatewayConfig, Host, HostCx, LinkConfig, Packet, World,
    host::{
        gateway::{Gateway, GatewayProfile},
        stack::{MTU, TcpClient},
    },
    middlebox::nat::presets,
};

use crate::asked::{Ask, CLIENTS, GATEWAY, WAN};

/// A machine that keeps what it gets.
#[derive(Default)]
struct Client {
    got: Vec<Packet>,
    tcp: Option<(SocketAddr, TcpClient)>,
    answer: Option<Vec<u8>>,
}

impl Client {
    fn run(&mut self, cx: &mut HostCx<'_>) {
        if let Some((_, tcp)) = &mut self.tcp
            && let Some(answer) = tcp.run(cx)
        {
            self.answer = Some(answer);
        }
    }
}

impl Host for Client {
    fn packet(&mut self, cx: &mut HostCx<'_>, packet: Packet) {
        match &mut self.tcp {
            Some((local, tcp)) if *local == packet.flow().dst => {
                tcp.arrive(packet);
                self.run(cx);
            }
            _ => self.got.push(packet),
        }
    }

    fn wake(&mut self, cx: &mut HostCx<'_>) {
        self.run(cx);
    }

    fn next_wake(&self) -> Option<Instant> {
        self.tcp.as_ref().and_then(|(_, tcp)| tcp.next_wake())
    }
}

/// The answers to each request.
pub(crate) fn answers(asked: &[(&'static str, Ask)]) -> Vec<Vec<Vec<u8>>> {
    let mut world = World::new(1);
    let lan: IpAddr = GATEWAY.into();
    let config = BoxConfig {
        nat: Some(presets::linux()),
        gateway: GatewayConfig {
            lan: Some(lan),
            also: Vec::new(),
        },
        ..BoxConfig::default()
    };
    let core = world.core();
    let router = world.add_router(core, LinkConfig::perfect(), config, &[WAN.into()]);
    let profile = GatewayProfile::preset("miniupnpd").expect("a preset");
    world.set_gateway(router, Gateway::new(&[lan], profile));
    let clients = CLIENTS.map(|addr| {
        let link = LinkConfig::perfect();
        world.add_host(router, link, &[addr.into()], Client::default())
    });
    world.start();
    // The daemon has announced itself long ago, too.
    world.run_for(Duration::from_secs(200));
    let mut port = 50_000;
    let each = asked.iter().map(|(_, ask)| {
        port += 1;
        let (client, to, data) = match ask {
            Ask::Control(client, data) => (*client, (GATEWAY, 5_351).into(), data.clone()),
            Ask::Search(text) => (
                0,
                ([239, 255, 255, 250], 1_900).into(),
                text.clone().into_bytes(),
            ),
            Ask::Http(text) => (0, (GATEWAY, 5_000).into(), text.clone().into_bytes()),
        };
        let local = SocketAddr::from((CLIENTS[client], port));
        let is_http = matches!(ask, Ask::Http(_));
        world.call(clients[client], |host: &mut Client, cx| {
            host.got.clear();
            if is_http {
                let tcp = TcpClient::new(local, to, data, MTU, 1).expect("a connection");
                host.tcp = Some((local, tcp));
                host.run(cx);
            } else {
                cx.send_udp(local, to, &data);
            }
        });
        world.run_for(Duration::from_millis(200));
        let got = world.call(clients[client], |host: &mut Client, _| {
            match host.answer.take() {
                Some(answer) => vec![answer],
                None => {
                    let own = host.got.iter().filter(|p| p.flow().dst == local);
                    own.map(|p| p.payload().to_vec()).collect()
                }
            }
        });
        got.expect("a client")
    });
    each.collect()
}
