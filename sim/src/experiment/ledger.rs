//! A property with its own bookkeeping: what a NAT has mapped is reachable as long as its timeout
//! has not run out.
//!
//! A [`script`] is drawn from a seed: hosts behind a NAT send, those they sent to answer, time
//! passes, another box restarts. [`play`] lets it happen in a world and keeps a ledger of what
//! each flow was promised; an answer that does not arrive although it was promised breaks it. A
//! script that breaks is made short by [`shorten`].
//!
//! The ledger never claims more than the box's timeouts grant, so it claims less than a box keeps
//! where the two cannot know the same: flows count from when they were last seen to be alive.

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

/// Hosts behind the NAT, ports of each, and endpoints that they send to.
const HOSTS: u8 = 3;
const PORTS: u8 = 3;
const REMOTES: u8 = 6;
/// Remote endpoints that have one address.
const REMOTES_PER_HOST: u8 = 2;
/// After each event the world goes on for so long: more than any packet is under way.
const SETTLE: Duration = Duration::from_millis(50);
/// The longest wait in a script.
const LONGEST_WAIT: u64 = 40_000;

/// Something that happens. Flows are named by what they are, not by when they came about, so that
/// an event means the same when others are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Event {
    /// A host sends from one of its ports to a remote endpoint.
    Send {
        /// Which host.
        host: u8,
        /// From which of its ports.
        port: u8,
        /// To which remote endpoint.
        remote: u8,
    },
    /// The remote endpoint answers to where it last saw that flow come from. Nothing happens if
    /// it was not promised that this arrives.
    Answer {
        /// Which host.
        host: u8,
        /// To which of its ports.
        port: u8,
        /// From which remote endpoint.
        remote: u8,
    },
    /// Time passes.
    Wait {
        /// So many milliseconds.
        ms: u32,
    },
    /// A box that is none of these hosts' restarts.
    RebootOther,
    /// The bystander behind that other box sends to a remote endpoint.
    Bystander {
        /// Which remote endpoint.
        remote: u8,
    },
}

/// An answer that was promised and did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Which event it was.
    pub event: usize,
    /// Where the answer went.
    pub to: SocketAddr,
    /// How long ago the flow had been seen alive.
    pub idle: Duration,
    /// How long it was promised to live.
    pub promised: Duration,
}

/// A script that was played to its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Answers that were promised, and arrived.
    pub answers: u32,
    /// Answers that were not promised any more.
    pub lapsed: u32,
    /// The hash of the world's trace.
    pub hash: u64,
}

/// A script of so many events.
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
            // Short waits as often as long ones, whatever their length.
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
    let mut stage = Stage::new(nat, seed);
    let mut kept = Kept::default();
    for (n, event) in events.iter().enumerate() {
        stage.happen(n, *event, &mut kept)?;
    }
    kept.hash = stage.world.trace().hash();
    Ok(kept)
}

/// Makes a script that breaks short, and its waits too.
#[must_use]
pub fn shorten(nat: &NatConfig, seed: u64, events: Vec<Event>) -> Shrunk<Event> {
    let fails = |events: &[Event]| play(nat, seed, events).is_err();
    shrink::shrink_with(events, simpler, fails, shrink::MAX_RUNS)
}

/// What an event may be replaced by: the same with smaller numbers, each at least halved or, at
/// last, less by one.
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
        // A flow's name stands in several events: changing one alone makes another flow.
        Event::Send { .. } | Event::Answer { .. } | Event::RebootOther => Vec::new(),
    }
}

/// The property as a case for a sweep.
#[derive(Clone, Debug)]
pub struct Ledger {
    /// The NAT.
    pub nat: NatConfig,
    /// How long scripts are.
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
    /// Where the remote endpoint sees it.
    seen: SocketAddr,
    made: Instant,
    alive: Instant,
    answered: bool,
    life: Duration,
}

impl Promise {
    /// A packet of the flow passes; `answer`: from the remote endpoint.
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
struct Stage {
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

impl Stage {
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
            .map(|n| world.add_host(router, link(1), &[host_at(n, 0).ip()], Talker::default()))
            .collect();
        let remotes = (0..REMOTES / REMOTES_PER_HOST)
            .map(|n| remote_at(n * REMOTES_PER_HOST).ip())
            .map(|ip| world.add_host(core, link(5), &[ip], Talker::default()))
            .collect();
        let other = world.add_router(core, link(5), boxed(&presets::linux()), &[wan(2)]);
        let bystander = world.add_host(other, link(1), &[BYSTANDER.ip()], Talker::default());
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

    /// Lets a talker send, and the packet arrive.
    fn send(&mut self, by: DeviceId, from: SocketAddr, to: SocketAddr, tag: usize) {
        let tag = (tag as u64).to_be_bytes();
        self.world
            .call(by, |_: &mut Talker, cx| cx.send_udp(from, to, &tag));
        self.world.run_for(SETTLE);
    }

    /// Whence what a talker heard last came, and where to, if it bears the tag.
    fn heard(&self, by: DeviceId, tag: usize) -> Option<(SocketAddr, SocketAddr)> {
        let (from, to, heard) = self.world.host::<Talker>(by)?.last?;
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
                // What does not arrive was not mapped: the table may be full, or no port free.
                if let Some((seen, _)) = self.heard(self.remote(remote), n) {
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
                if self.heard(self.hosts[usize::from(host)], n) != Some(arrived) {
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

/// A host that remembers what it heard last.
#[derive(Debug, Default)]
struct Talker {
    last: Option<(SocketAddr, SocketAddr, u64)>,
}

impl Host for Talker {
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
