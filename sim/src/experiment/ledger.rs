//! A NAT keeps its promises: while a timeout has not run out, what a NAT has mapped is reachable.
//!
//! A [`script`] is drawn from a seed: hosts behind a NAT send, the remotes to which they sent
//! answer, time passes, another box restarts. [`play`] runs it in a world and keeps a ledger of how
//! long each flow was promised to live. An answer that was promised and does not arrive breaks the
//! property; [`shorten`] then reduces the script.
//!
//! The ledger never claims more than the timeouts grant. It may claim less than the box keeps,
//! because it counts from when a flow was last seen to be alive.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use dunlin_core::Instant;
use rand_core::Rng;

use crate::{
    experiment::{
        shrink::{self, Shrunk},
        sweep::Case,
    },
    host::{Host, HostCx},
    id::DeviceId,
    link::{Direction, LinkConfig},
    middlebox::{
        BoxConfig,
        conntrack::Timeouts,
        nat::{NatConfig, presets},
    },
    packet::{Packet, Proto},
    rng::SimRng,
    world::{Action, World},
};

/// The hosts behind the NAT; the ports of each and the remote endpoints follow.
const HOSTS: u8 = 3;
const PORTS: u8 = 3;
const REMOTES: u8 = 6;
/// The remote endpoints that share one address.
const REMOTES_PER_HOST: u8 = 2;
/// How long the world runs after each event: longer than any packet travels.
const SETTLE: Duration = Duration::from_millis(50);
/// The longest wait in a script, in milliseconds.
const LONGEST_WAIT: u64 = 40_000;

/// An event of a script. Flows are named by their endpoints and not by the order of their creation,
/// so that an event means the same when others are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Event {
    /// A host sends from one of its ports to a remote endpoint.
    Send {
        /// The number of the host, from 0.
        host: u8,
        /// The port of the host.
        port: u8,
        /// The remote endpoint.
        remote: u8,
    },
    /// The remote endpoint answers to where it last saw the flow come from. Nothing is expected
    /// when the flow's lifetime has run out.
    Answer {
        /// The number of the host, from 0.
        host: u8,
        /// The port of the host.
        port: u8,
        /// The remote endpoint.
        remote: u8,
    },
    /// Time passes without packets.
    Wait {
        /// The milliseconds that pass.
        ms: u32,
    },
    /// A box restarts that none of these hosts is behind.
    RebootOther,
    /// The bystander behind that other box sends to a remote endpoint.
    Bystander {
        /// The remote endpoint.
        remote: u8,
    },
}

/// An answer that was promised and did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The index of the event.
    pub event: usize,
    /// The endpoint to which the answer went.
    pub to: SocketAddr,
    /// How long ago the flow was last seen to be alive.
    pub idle: Duration,
    /// How long it was promised to live.
    pub promised: Duration,
}

/// The outcome of a script in which no promise was broken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Answers that were promised and arrived.
    pub answers: u32,
    /// Answers that were no longer promised.
    pub lapsed: u32,
    /// The hash of the world's trace.
    pub hash: u64,
}

/// Draws a script of `len` events.
#[must_use]
pub fn script(seed: u64, len: usize) -> Vec<Event> {
    let mut rng = SimRng::part(seed, 1);
    let mut below = |n: u64| rng.next_u64() % n;
    let mut flows = Vec::new();
    (0..len)
        .map(|_| match below(10) {
            0..=3 => {
                let (host, port) = (below(HOSTS.into()) as u8, below(PORTS.into()) as u8);
                let remote = below(REMOTES.into()) as u8;
                flows.push((host, port, remote));
                Event::Send { host, port, remote }
            }
            4..=6 if !flows.is_empty() => {
                let (host, port, remote) = flows[below(flows.len() as u64) as usize];
                Event::Answer { host, port, remote }
            }
            7 => Event::RebootOther,
            8 => Event::Bystander {
                remote: below(REMOTES.into()) as u8,
            },
            // Every magnitude of waits is equally likely.
            _ => Event::Wait {
                ms: (LONGEST_WAIT >> below(12)) as u32,
            },
        })
        .collect()
}

/// Plays a script with a NAT of this configuration.
///
/// # Errors
/// The first promise that was broken.
pub fn play(nat: &NatConfig, seed: u64, events: &[Event]) -> Result<Kept, Broken> {
    let mut stage = Scene::new(nat, seed);
    let mut kept = Kept::default();
    for (n, event) in events.iter().enumerate() {
        stage.happen(n, *event, &mut kept)?;
    }
    kept.hash = stage.world.trace().hash();
    Ok(kept)
}

/// Shortens a script that breaks a promise, and its waits.
#[must_use]
pub fn shorten(nat: &NatConfig, seed: u64, events: Vec<Event>) -> Shrunk<Event> {
    let fails = |events: &[Event]| play(nat, seed, events).is_err();
    shrink::shrink_with(events, simpler, fails, shrink::MAX_RUNS)
}

/// Simpler replacements for an event: the same event with a smaller number, which is at least
/// halved or, at the end, reduced by one.
#[must_use]
pub fn simpler(event: &Event) -> Vec<Event> {
    match *event {
        Event::Wait { ms } => [ms / 2, ms.saturating_sub(1_000), ms - ms % 1_000]
            .into_iter()
            .filter(|n| *n < ms)
            .map(|ms| Event::Wait { ms })
            .collect(),
        Event::Bystander { remote: 0 } => Vec::new(),
        Event::Bystander { remote } => vec![Event::Bystander { remote: remote / 2 }],
        // Several events name the same flow, so changing one of them would make it another flow.
        Event::Send { .. } | Event::Answer { .. } | Event::RebootOther => Vec::new(),
    }
}

/// The property as a case of a sweep.
#[derive(Clone, Debug)]
pub struct Ledger {
    /// The configuration of the NAT.
    pub nat: NatConfig,
    /// The number of events of each script.
    pub events: usize,
}

impl Case for Ledger {
    type Outcome = Result<Kept, Broken>;

    fn run(&self, seed: u64) -> Self::Outcome {
        play(&self.nat, seed, &script(seed, self.events))
    }
}

/// What a flow was promised.
#[derive(Clone, Copy, Debug)]
struct Promise {
    /// Where the remote endpoint sees the flow come from.
    seen: SocketAddr,
    made: Instant,
    alive: Instant,
    answered: bool,
    life: Duration,
}

impl Promise {
    /// Accounts for a packet of the flow; `answer` marks packets from the remote endpoint.
    fn pass(&mut self, now: Instant, times: &Timeouts, answer: bool) {
        if now >= self.made + times.udp_stream_after && self.answered {
            self.life = times.udp_stream;
        }
        self.answered |= answer;
        if !answer || times.inbound_refresh {
            self.alive = now;
        }
    }

    fn holds(&self, now: Instant) -> bool {
        now + SETTLE < self.alive + self.life
    }
}

/// The world of a script.
struct Scene {
    world: World,
    times: Timeouts,
    hosts: Vec<DeviceId>,
    remotes: Vec<DeviceId>,
    other: DeviceId,
    bystander: DeviceId,
    promises: BTreeMap<(u8, u8, u8), Promise>,
}

const fn host_at(host: u8, port: u8) -> SocketAddr {
    let ip = Ipv4Addr::new(192, 168, 1, 10 + host);
    SocketAddr::new(IpAddr::V4(ip), 5_000 + port as u16)
}

const fn remote_at(remote: u8) -> SocketAddr {
    let ip = Ipv4Addr::new(203, 0, 113, 10 + remote / REMOTES_PER_HOST);
    SocketAddr::new(IpAddr::V4(ip), 7_000 + (remote % REMOTES_PER_HOST) as u16)
}

const BYSTANDER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 168, 2, 10)), 5_000);

impl Scene {
    fn new(nat: &NatConfig, seed: u64) -> Self {
        let mut world = World::new(seed);
        let link = |ms| LinkConfig::both(Direction::delayed(Duration::from_millis(ms)));
        let core = world.core();
        let boxed = |nat: &NatConfig| BoxConfig {
            nat: Some(nat.clone()),
            ..BoxConfig::default()
        };
        let wan = |n| IpAddr::V4(Ipv4Addr::new(198, 51, 100, n));
        let router = world.add_router(core, link(5), boxed(nat), &[wan(1)]);
        let hosts = (0..HOSTS)
            .map(|n| world.add_host(router, link(1), &[host_at(n, 0).ip()], Recorder::default()))
            .collect();
        let remotes = (0..REMOTES / REMOTES_PER_HOST)
            .map(|n| remote_at(n * REMOTES_PER_HOST).ip())
            .map(|ip| world.add_host(core, link(5), &[ip], Recorder::default()))
            .collect();
        let other = world.add_router(core, link(5), boxed(&presets::linux()), &[wan(2)]);
        let bystander = world.add_host(other, link(1), &[BYSTANDER.ip()], Recorder::default());
        world.start();
        Self {
            world,
            times: nat.timeouts,
            hosts,
            remotes,
            other,
            bystander,
            promises: BTreeMap::new(),
        }
    }

    /// Makes a host send a packet, and lets it arrive.
    fn send(&mut self, by: DeviceId, from: SocketAddr, to: SocketAddr, tag: usize) {
        let tag = (tag as u64).to_be_bytes();
        self.world
            .call(by, |_: &mut Recorder, cx| cx.send_udp(from, to, &tag));
        self.world.run_for(SETTLE);
    }

    /// The source and destination of the packet that a host received last, if it carries the tag.
    fn last_received(&self, by: DeviceId, tag: usize) -> Option<(SocketAddr, SocketAddr)> {
        let (from, to, heard) = self.world.host::<Recorder>(by)?.last?;
        (heard == tag as u64).then_some((from, to))
    }

    fn remote(&self, remote: u8) -> DeviceId {
        self.remotes[usize::from(remote / REMOTES_PER_HOST)]
    }

    fn happen(&mut self, n: usize, event: Event, kept: &mut Kept) -> Result<(), Broken> {
        match event {
            Event::Wait { ms } => self.world.run_for(Duration::from_millis(ms.into())),
            Event::RebootOther => self.world.perform(Action::Reboot(self.other)),
            Event::Bystander { remote } => {
                self.send(self.bystander, BYSTANDER, remote_at(remote), n);
            }
            Event::Send { host, port, remote } => {
                let now = self.world.now();
                let (by, to) = (self.hosts[usize::from(host)], remote_at(remote));
                self.send(by, host_at(host, port), to, n);
                // A packet that does not arrive was not mapped: the table was full, or no port was
                // free.
                if let Some((seen, _)) = self.last_received(self.remote(remote), n) {
                    self.sent((host, port, remote), seen, now);
                }
            }
            Event::Answer { host, port, remote } => {
                let now = self.world.now();
                let Some(mut promise) = self.promises.get(&(host, port, remote)).copied() else {
                    return Ok(());
                };
                if !promise.holds(now) {
                    kept.lapsed += 1;
                    return Ok(());
                }
                self.send(self.remote(remote), remote_at(remote), promise.seen, n);
                let arrived = (remote_at(remote), host_at(host, port));
                if self.last_received(self.hosts[usize::from(host)], n) != Some(arrived) {
                    return Err(Broken {
                        event: n,
                        to: promise.seen,
                        idle: now.saturating_since(promise.alive),
                        promised: promise.life,
                    });
                }
                kept.answers += 1;
                promise.pass(now, &self.times, true);
                self.promises.insert((host, port, remote), promise);
            }
        }
        Ok(())
    }

    fn sent(&mut self, flow: (u8, u8, u8), seen: SocketAddr, now: Instant) {
        let new = Promise {
            seen,
            made: now,
            alive: now,
            answered: false,
            life: self.times.udp_first,
        };
        let promise = self.promises.entry(flow).or_insert(new);
        if promise.holds(now) && promise.seen == seen {
            promise.pass(now, &self.times, false);
        } else {
            *promise = new;
        }
    }
}

/// A host that remembers the last packet that it received.
#[derive(Debug, Default)]
struct Recorder {
    last: Option<(SocketAddr, SocketAddr, u64)>,
}

impl Host for Recorder {
    fn packet(&mut self, cx: &mut HostCx<'_>, packet: Packet) {
        let flow = *packet.flow();
        if let (Proto::Udp, Ok(tag)) = (flow.proto, packet.payload().try_into()) {
            self.last = Some((flow.src, flow.dst, u64::from_be_bytes(tag)));
        }
        cx.recycle(packet);
    }

    fn wake(&mut self, _: &mut HostCx<'_>) {}

    fn next_wake(&self) -> Option<Instant> {
        None
    }
}
