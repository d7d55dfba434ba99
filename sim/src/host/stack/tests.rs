//! Two machines with smoltcp's sockets, whose cards run TCP over a bad path.

use std::{cmp::Reverse, collections::BinaryHeap};

use dunlin_core::Instant;
use dunlin_smoltcp::time;
use rand_core::{Infallible, TryRng};
use smoltcp::{
    iface::{Config, Interface, SocketHandle, SocketSet},
    socket::tcp::{Socket, SocketBuffer, State},
    time::Duration,
    wire::{HardwareAddress, IpAddress, IpCidr},
};

use super::{Cable, tcp::TcpConfig};
use crate::{host::HostCx, id::DeviceId, packet::Packet};

const PORT: u16 = 80;
const BUFFER: usize = 16 << 10;

/// Nobody draws random numbers here.
struct NoDice;

impl TryRng for NoDice {
    type Error = Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(4)
    }
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(4)
    }
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.fill(4);
        Ok(())
    }
}

/// A machine with one socket.
struct Machine {
    iface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    cable: Cable,
    wake: Option<Instant>,
}

impl Machine {
    fn new(d: u8) -> Self {
        let mut cable = Cable::new(1_500, TcpConfig::default());
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = d.into();
        let mut iface = Interface::new(config, &mut cable, smoltcp::time::Instant::ZERO);
        iface.update_ip_addrs(|own| {
            let _ = own.push(IpCidr::new(IpAddress::v4(9, 0, 0, d), 0));
        });
        let mut sockets = SocketSet::new(Vec::new());
        let buffer = || SocketBuffer::new(vec![0; BUFFER]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(Some(Duration::ZERO));
        let handle = sockets.add(socket);
        Self {
            iface,
            sockets,
            handle,
            cable,
            wake: None,
        }
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }
}

/// When a packet arrives, its place in the order, its receiver, and its bytes.
type Flying = (u64, u64, usize, Vec<u8>);

/// Both machines, and the path between them.
struct Net {
    now: u64,
    machines: [Machine; 2],
    flying: BinaryHeap<Reverse<Flying>>,
    /// How many have been sent in each direction.
    sent: [u64; 2],
    /// Each packet with this number, counted in thousands, is lost; none when it is 0.
    loss: u64,
    delay: u64,
}

impl Net {
    fn new(loss: u64) -> Self {
        Self {
            now: 1_000_000,
            machines: [Machine::new(1), Machine::new(2)],
            flying: BinaryHeap::new(),
            sent: [0; 2],
            loss,
            delay: 50_000,
        }
    }

    fn connect(&mut self) {
        let Machine {
            iface,
            sockets,
            handle,
            ..
        } = &mut self.machines[0];
        let to = (IpAddress::v4(9, 0, 0, 2), PORT);
        let socket = sockets.get_mut::<Socket<'_>>(*handle);
        socket
            .connect(iface.context(), to, 4_000)
            .expect("a free port");
    }

    /// Lets a machine do everything that it can do now. `app` runs between the polls of its stack,
    /// and returns whether it did something.
    fn run(&mut self, n: usize, app: &mut impl FnMut(usize, &mut Socket<'static>) -> bool) {
        let now = Instant::from_micros(self.now);
        let (mut out, mut spare, mut marks) = (Vec::new(), Vec::new(), Vec::new());
        let mut cx = HostCx {
            now,
            device: DeviceId::CORE,
            rng: &mut NoDice,
            out: &mut out,
            spare: &mut spare,
            middlebox: None,
            marks: &mut marks,
        };
        let machine = &mut self.machines[n];
        machine.cable.pass(&mut cx);
        loop {
            let at = time::to_stack(now);
            machine
                .iface
                .poll(at, &mut machine.cable, &mut machine.sockets);
            let socket = machine.sockets.get_mut(machine.handle);
            let busy = app(n, socket);
            if !machine.cable.pass(&mut cx) && !busy {
                break;
            }
        }
        let next = machine.iface.poll_at(time::to_stack(now), &machine.sockets);
        let own = next.map(time::to_engine);
        machine.wake = own.into_iter().chain(machine.cable.deadline()).min();
        for packet in out {
            assert!(packet.checksums_hold());
            self.sent[n] += 1;
            let number = self.sent[n];
            if self.loss > 0 && number * self.loss % 1_000 < self.loss {
                continue;
            }
            let at = self.now + self.delay;
            let order = number * 2 + n as u64;
            self.flying
                .push(Reverse((at, order, 1 - n, packet.into_bytes())));
        }
    }

    /// Runs until `until`, or until nothing is left to do.
    fn go(&mut self, until: u64, mut app: impl FnMut(usize, &mut Socket<'static>) -> bool) {
        for n in 0..2 {
            self.run(n, &mut app);
        }
        loop {
            let wakes = self
                .machines
                .each_ref()
                .map(|m| m.wake.map(Instant::as_micros));
            let arrival = self.flying.peek().map(|Reverse((at, ..))| *at);
            let next = wakes.into_iter().flatten().chain(arrival).min();
            let Some(next) = next.filter(|at| *at <= until) else {
                self.now = until;
                return;
            };
            self.now = self.now.max(next);
            if arrival == Some(next)
                && let Some(Reverse((_, _, to, bytes))) = self.flying.pop()
            {
                let packet = Packet::parse(bytes).expect("it was one");
                self.machines[to].cable.arrive(packet);
                self.run(to, &mut app);
            }
            for (n, wake) in wakes.into_iter().enumerate() {
                if wake.is_some_and(|at| at <= self.now) {
                    self.run(n, &mut app);
                }
            }
        }
    }

    fn states(&mut self) -> [State; 2] {
        [0, 1].map(|n| self.machines[n].socket().state())
    }
}

fn byte(n: usize) -> u8 {
    (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[0]
}

const SECOND: u64 = 1_000_000;

fn idle(_: usize, _: &mut Socket<'static>) -> bool {
    false
}

/// Sends `total` bytes each way and closes both streams. Returns when the last byte arrived.
fn exchange(net: &mut Net, total: usize) -> u64 {
    net.machines[1].socket().listen(PORT).expect("a free port");
    net.connect();
    let (mut sent, mut got) = ([0; 2], [0; 2]);
    let mut last = 0;
    let until = net.now + 600 * SECOND;
    // Short slices, so that the time of the last byte is known.
    while net.now < until && got != [total; 2] {
        let slice = net.now + 10_000;
        net.go(slice, |n, socket| {
            let mut busy = false;
            while socket.can_send() && sent[n] < total {
                let len = (total - sent[n]).min(1_000);
                let chunk: Vec<u8> = (sent[n]..sent[n] + len).map(byte).collect();
                sent[n] += socket.send_slice(&chunk).expect("it can send");
                busy = true;
            }
            while socket.can_recv() {
                let mut buffer = [0; 3_000];
                let len = socket.recv_slice(&mut buffer).expect("it can receive");
                assert!(
                    buffer[..len]
                        .iter()
                        .enumerate()
                        .all(|(i, b)| *b == byte(got[n] + i))
                );
                got[n] += len;
                busy = true;
            }
            busy
        });
        last = net.now;
    }
    assert_eq!(got, [total; 2]);
    last
}

#[test]
fn both_directions_are_exact_and_faster_than_the_sockets_buffers() {
    let mut net = Net::new(0);
    let began = net.now;
    let took = exchange(&mut net, 8 << 20) - began;
    // 16 KiB in each 100 ms would take 51 s.
    assert!(took < 3 * SECOND, "{took} µs");
}

#[test]
fn losses_are_repaired_behind_the_machines_back() {
    let mut net = Net::new(20);
    exchange(&mut net, 300_000);
    assert_eq!(net.states(), [State::Established; 2]);
    let end = net.now + SECOND;
    net.machines[0].socket().close();
    net.go(end, idle);
    assert_eq!(net.states(), [State::FinWait2, State::CloseWait]);
    net.machines[1].socket().close();
    net.go(end + 9 * SECOND, idle);
    assert_eq!(net.states(), [State::TimeWait, State::Closed]);
    net.go(end + 90 * SECOND, idle);
    assert_eq!(net.states(), [State::Closed; 2]);
    assert!(
        net.machines.iter().all(|m| m.cable.deadline().is_none()),
        "a connection is left"
    );
}

#[test]
fn nobody_listens() {
    let mut net = Net::new(0);
    net.connect();
    let end = net.now + 2 * SECOND;
    net.go(end, idle);
    assert_eq!(net.states(), [State::Closed; 2]);
    assert_eq!(net.sent, [1, 1], "a SYN and a reset");
}

#[test]
fn resets_reach_the_other_machine() {
    let mut net = Net::new(0);
    exchange(&mut net, 1_000);
    net.machines[1].socket().abort();
    let end = net.now + SECOND;
    net.go(end, idle);
    assert_eq!(net.states(), [State::Closed; 2]);
    assert!(net.machines.iter().all(|m| m.cable.deadline().is_none()));
}

#[test]
fn both_sides_open_at_once() {
    let mut net = Net::new(0);
    net.connect();
    let Machine {
        iface,
        sockets,
        handle,
        ..
    } = &mut net.machines[1];
    let socket = sockets.get_mut::<Socket<'_>>(*handle);
    let to = (IpAddress::v4(9, 0, 0, 1), 4_000_u16);
    socket
        .connect(iface.context(), to, PORT)
        .expect("a free port");
    let end = net.now + 2 * SECOND;
    net.go(end, idle);
    assert_eq!(net.states(), [State::Established; 2]);
}

#[test]
fn a_dead_peer_is_noticed_by_the_machines_keep_alives() {
    let mut net = Net::new(0);
    exchange(&mut net, 1_000);
    for machine in &mut net.machines {
        machine
            .socket()
            .set_keep_alive(Some(Duration::from_secs(40)));
        machine.socket().set_timeout(Some(Duration::from_secs(90)));
    }
    let end = net.now + 1_000 * SECOND;
    net.go(end, idle);
    assert_eq!(net.states(), [State::Established; 2], "both answer");
    net.loss = 1_000;
    net.go(end + 200 * SECOND, idle);
    assert_eq!(net.states(), [State::Closed; 2]);
}

#[test]
fn a_machine_that_does_not_read_stops_the_sender() {
    let mut net = Net::new(0);
    net.machines[1].socket().listen(PORT).expect("a free port");
    net.connect();
    let mut sent = 0;
    let end = net.now + 100 * SECOND;
    net.go(end, |n, socket| {
        let mut busy = false;
        while n == 0 && socket.can_send() {
            sent += socket.send_slice(&[7; 1_000]).expect("it can send");
            busy = true;
        }
        busy
    });
    assert!(
        (100_000..400_000).contains(&sent),
        "{sent} bytes are buffered"
    );
    let mut got = 0;
    net.go(end + 100 * SECOND, |n, socket| {
        let mut busy = false;
        while n == 1 && socket.can_recv() {
            got += socket
                .recv(|data| (data.len(), data.len()))
                .expect("it can receive");
            busy = true;
        }
        busy
    });
    assert_eq!(got, sent);
}
