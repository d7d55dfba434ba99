//! What is watched of a run for expectations over time: how long packets wait for a line, how many
//! flows are opened, and what becomes of the flows through a box. Everything is taken from the events
//! themselves, and watching does not change the run.

mod flows;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use dunlin_core::Instant;

use super::World;
use crate::{
    id::DeviceId,
    packet::{Flow, Proto, verdict::Rule},
};

use flows::Flows;
pub use flows::{Loss, Lost, MAX_LOSSES};

/// The most different waits of a line, and the most flows of a host or box, that are told apart.
const MAX_KEPT: usize = 1 << 20;
/// The time in which new flows are counted.
const WINDOW: Duration = Duration::from_secs(1);

/// What is watched. Nothing is, unless it is asked for before the world starts.
#[derive(Debug, Default)]
pub struct Monitor {
    waits: BTreeMap<(DeviceId, bool), Waits>,
    opened: BTreeMap<DeviceId, Opened>,
    flows: BTreeMap<DeviceId, Flows>,
}

impl Monitor {
    /// Watches how long packets wait for a device's link: towards its parent (`up`) or from it.
    #[must_use]
    pub fn waits(mut self, device: DeviceId, up: bool) -> Self {
        self.waits.entry((device, up)).or_default();
        self
    }

    /// Watches how often a host, or a host inside of a box, opens a flow.
    #[must_use]
    pub fn new_flows(mut self, device: DeviceId) -> Self {
        self.opened.entry(device).or_default();
        self
    }

    /// Watches what becomes of the flows through a box.
    #[must_use]
    pub fn flows(mut self, device: DeviceId) -> Self {
        self.flows.entry(device).or_default();
        self
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.waits.is_empty() && self.opened.is_empty() && self.flows.is_empty()
    }

    /// How long the packets waited that a link has carried.
    #[must_use]
    pub fn waits_of(&self, device: DeviceId, up: bool) -> Option<&Waits> {
        self.waits.get(&(device, up))
    }

    /// The flows that a host or the hosts inside of a box have opened.
    #[must_use]
    pub fn opened_by(&self, device: DeviceId) -> Option<&Opened> {
        self.opened.get(&device)
    }

    /// The flows through a box that did not live on, in order of time, at most [`MAX_LOSSES`].
    #[must_use]
    pub fn losses(&self, device: DeviceId) -> &[Loss] {
        self.flows.get(&device).map_or(&[], Flows::losses)
    }

    /// How many flows and mappings a box has lost; `None` when there were too many to tell.
    #[must_use]
    pub fn lost(&self, device: DeviceId) -> Option<u64> {
        self.flows.get(&device).and_then(Flows::lost)
    }

    pub(super) fn waited(&mut self, at: Instant, device: DeviceId, up: bool, nanos: u64) {
        if let Some(waits) = self.waits.get_mut(&(device, up)) {
            waits.note(at, nanos / 1_000);
        }
    }

    pub(super) fn sent(&mut self, at: Instant, device: DeviceId, flow: &Flow) {
        if let Some(opened) = self.opened.get_mut(&device) {
            opened.sent(at, flow);
        }
    }

    pub(super) fn delivered(&mut self, device: DeviceId, flow: &Flow) {
        if let Some(opened) = self.opened.get_mut(&device) {
            opened.delivered(flow);
        }
    }

    pub(super) fn decided(
        &mut self,
        at: Instant,
        device: DeviceId,
        outward: bool,
        rule: Rule,
        before: super::trace::Ports,
        after: &Flow,
    ) {
        let opens = matches!(
            rule,
            Rule::NatNewMapping | Rule::NatReusedMapping | Rule::NatRemapped | Rule::FirewallNew
        );
        if outward
            && opens
            && let Some(opened) = self.opened.get_mut(&device)
        {
            opened.open(at);
        }
        if let Some(flows) = self.flows.get_mut(&device) {
            flows.decided(at, outward, rule, before, after);
        }
    }
}

impl World {
    /// Watches something from now on.
    pub fn set_monitor(&mut self, monitor: Monitor) {
        self.monitor = (!monitor.is_idle()).then(|| Box::new(monitor));
    }

    /// What was watched so far.
    #[must_use]
    pub fn monitor(&self) -> Option<&Monitor> {
        self.monitor.as_deref()
    }
}

/// How long packets waited for a line.
#[derive(Debug, Default)]
pub struct Waits {
    /// The packets that waited for this many microseconds.
    counts: BTreeMap<u64, u64>,
    packets: u64,
    longest: Option<(u64, Instant)>,
    overflow: bool,
}

impl Waits {
    fn note(&mut self, at: Instant, micros: u64) {
        self.packets += 1;
        if self.longest.is_none_or(|(longest, _)| micros > longest) {
            self.longest = Some((micros, at));
        }
        let room = self.counts.len() < MAX_KEPT;
        match self.counts.get_mut(&micros) {
            Some(n) => *n += 1,
            None if room => drop(self.counts.insert(micros, 1)),
            None => self.overflow = true,
        }
    }

    /// The number of packets.
    #[must_use]
    pub const fn packets(&self) -> u64 {
        self.packets
    }

    /// The longest wait, and when that packet came; `None` without packets.
    #[must_use]
    pub fn longest(&self) -> Option<(Duration, Instant)> {
        let (micros, at) = self.longest?;
        Some((Duration::from_micros(micros), at))
    }

    /// The wait that this share of packets, in millionths, did not exceed; `None` without packets, or
    /// with too many different waits.
    #[must_use]
    pub fn quantile(&self, ppm: u32) -> Option<Duration> {
        if self.overflow {
            return None;
        }
        let wanted = (u128::from(self.packets) * u128::from(ppm))
            .div_ceil(1_000_000)
            .max(1);
        let mut so_far = 0;
        self.counts.iter().find_map(|(micros, n)| {
            so_far += u128::from(*n);
            (so_far >= wanted).then(|| Duration::from_micros(*micros))
        })
    }
}

/// How often flows were opened.
#[derive(Debug, Default)]
pub struct Opened {
    known: std::collections::BTreeSet<(Proto, std::net::SocketAddr, std::net::SocketAddr)>,
    overflow: bool,
    recent: VecDeque<Instant>,
    count: u64,
    most: Option<(usize, Instant)>,
}

impl Opened {
    /// A host has sent a packet.
    fn sent(&mut self, at: Instant, flow: &Flow) {
        if self.known.len() >= MAX_KEPT {
            self.overflow = true;
        } else if self.known.insert((flow.proto, flow.src, flow.dst)) {
            self.open(at);
        }
    }

    /// A packet has reached a host: an answer opens no flow.
    fn delivered(&mut self, flow: &Flow) {
        if self.known.len() >= MAX_KEPT {
            self.overflow = true;
        } else {
            self.known.insert((flow.proto, flow.dst, flow.src));
        }
    }

    fn open(&mut self, at: Instant) {
        self.count += 1;
        let old = |then: &Instant| *then + WINDOW <= at;
        while self.recent.front().is_some_and(old) {
            self.recent.pop_front();
        }
        self.recent.push_back(at);
        if self.most.is_none_or(|(most, _)| self.recent.len() > most) {
            self.most = Some((self.recent.len(), at));
        }
    }

    /// The number of flows.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The most flows in any second, and when the last of them was opened, if there were any.
    ///
    /// # Errors
    /// When there were too many flows to tell.
    pub fn most_in_a_second(&self) -> Result<Option<(u64, Instant)>, TooMany> {
        match self.overflow {
            true => Err(TooMany),
            false => Ok(self.most.map(|(most, at)| (most as u64, at))),
        }
    }
}

/// There were more flows than are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;
