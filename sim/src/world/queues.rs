//! Queues that keep packets until the line is idle, because they choose which of them is sent.

use std::net::IpAddr;

use dunlin_core::Instant;

use super::{
    World,
    event::{Event, Flight},
};
use crate::{
    link::{
        Fate, nanos,
        queue::{Gone, Managed, Waiting},
    },
    packet::{Flow, verdict::Rule},
};

/// The queues before a device's link.
#[derive(Default)]
pub(super) struct Queues {
    up: Kept,
    down: Kept,
}

/// The queue of one direction.
#[derive(Default)]
struct Kept {
    queue: Option<Managed<Flight>>,
    /// When the line is looked at next.
    planned: Option<Instant>,
}

impl Queues {
    const fn of(&mut self, up: bool) -> &mut Kept {
        if up { &mut self.up } else { &mut self.down }
    }

    /// The bytes that wait.
    pub(super) fn bytes(&self, up: bool) -> u64 {
        let kept = if up { &self.up } else { &self.down };
        kept.queue.as_ref().map_or(0, Managed::bytes)
    }
}

impl World {
    /// Returns `true` when a packet joins a queue before it is put on a link. What cannot be sent
    /// at all does not.
    pub(super) fn has_to_wait(&self, n: u32, up: bool, flight: &Flight) -> bool {
        let device = &self.devices[n as usize];
        let config = &self.links[device.link as usize].config;
        let config = if up { &config.up } else { &config.down };
        let fits = flight.packet.bytes().len() as u64 <= u64::from(config.mtu);
        config.keeps_packets() && fits && !device.cut
    }

    /// Adds a packet to the queue before a link.
    pub(super) fn wait_for_line(&mut self, at: Instant, n: u32, up: bool, flight: Flight) {
        let device = &mut self.devices[n as usize];
        let config = &self.links[device.link as usize].config;
        let config = if up { &config.up } else { &config.down };
        let kept = device.queues.get_or_insert_default().of(up);
        if kept.queue.is_none() {
            kept.queue = Managed::new(&config.discipline);
        }
        let Some(queue) = &mut kept.queue else {
            return;
        };
        let flow = flow_hash(flight.packet.flow(), device.key);
        let packet = Waiting {
            len: u32::try_from(flight.packet.bytes().len()).unwrap_or(u32::MAX),
            item: flight,
            since: nanos(at),
        };
        let mut gone = Vec::new();
        queue.push(packet, flow, config.limit(), &mut gone);
        self.queued += 1;
        self.left(at, n, up, gone);
        self.serve(n, up);
    }

    /// Ends the paths of packets that a queue dropped.
    fn left(&mut self, at: Instant, n: u32, up: bool, gone: Vec<Gone<Flight>>) {
        self.queued -= gone.len();
        for gone in gone {
            let (rule, mut flight) = match gone {
                Gone::Full(flight) => (Rule::LinkQueueFull, flight),
                Gone::Managed(flight) => (Rule::LinkManaged, flight),
            };
            self.go(at, n, up, Fate::Dropped(rule), 0, &mut flight);
            self.recycle(flight.packet);
        }
    }

    /// Handles the time at which a line may be idle.
    pub(super) fn line_idle(&mut self, n: u32, up: bool) {
        let now = self.now();
        let Some(queues) = &mut self.devices[n as usize].queues else {
            return;
        };
        let kept = queues.of(up);
        if kept.planned == Some(now) {
            kept.planned = None;
            self.serve(n, up);
        }
    }

    /// Puts packets on an idle line, and plans the next look at it while packets wait.
    fn serve(&mut self, n: u32, up: bool) {
        let at = self.now();
        loop {
            let device = &mut self.devices[n as usize];
            let config = &self.links[device.link as usize].config;
            let config = if up { &config.up } else { &config.down };
            let line = if up { &mut device.up } else { &mut device.down };
            let Some(kept) = device.queues.as_mut().map(|queues| queues.of(up)) else {
                return;
            };
            let Some(queue) = kept.queue.as_mut().filter(|queue| queue.len() > 0) else {
                return;
            };
            let idle_at = line.idle_at();
            if idle_at > nanos(at) {
                let then = Instant::from_micros(idle_at.div_ceil(1_000));
                if kept.planned.is_none_or(|planned| then < planned) {
                    kept.planned = Some(then);
                    self.agenda.plan(then, Event::Line(n, up));
                }
                return;
            }
            // A line that was busy goes on where it stopped within this microsecond.
            let idle = nanos(at) - idle_at >= 1_000;
            let begin = if idle { nanos(at) } else { idle_at };
            let mut gone = Vec::new();
            let next = queue.pop(begin, &mut gone);
            let next = next.map(|packet| {
                let begin = begin.max(packet.since);
                if let Some(monitor) = &mut self.monitor {
                    let came = Instant::from_micros(packet.since / 1_000);
                    monitor.waited(came, crate::id::DeviceId(n), up, begin - packet.since);
                }
                let fate = line.send(config, begin, packet.len as usize);
                (packet.item, fate)
            });
            let mtu = config.mtu;
            self.left(at, n, up, gone);
            if let Some((mut flight, fate)) = next {
                self.queued -= 1;
                match self.go(at, n, up, fate, mtu, &mut flight) {
                    Some(then) => self.launch(then, flight),
                    None => self.recycle(flight.packet),
                }
            }
        }
    }

    /// Adapts the queue of a line to a change of its link. The packets in it keep their order.
    pub(super) fn change_queue(&mut self, n: u32, up: bool) {
        let device = &mut self.devices[n as usize];
        let config = &self.links[device.link as usize].config;
        let config = if up { &config.up } else { &config.down };
        let Some(kept) = device.queues.as_mut().map(|queues| queues.of(up)) else {
            return;
        };
        // The line may be idle earlier than it was planned.
        kept.planned = None;
        let same = |q: &Managed<Flight>| config.keeps_packets() && q.is_of(&config.discipline);
        if !kept.queue.as_ref().is_some_and(same)
            && let Some(mut queue) = kept.queue.take()
        {
            let waiting = queue.drain();
            self.queued -= waiting.len();
            // They are still about to enter the link.
            self.ready.extend(waiting);
        }
        self.serve(n, up);
    }
}

/// A hash of the endpoints of a packet.
fn flow_hash(flow: &Flow, key: u64) -> u64 {
    let mut hash = key ^ flow.proto as u64;
    for end in [flow.src, flow.dst] {
        let wide = match end.ip() {
            IpAddr::V4(ip) => u128::from(u32::from(ip)),
            IpAddr::V6(ip) => u128::from(ip),
        };
        for word in [(wide >> 64) as u64, wide as u64, end.port().into()] {
            let product = u128::from(hash ^ word ^ 0x6a09_e667_f3bc_c909) * 0x9e37_79b9_7f4a_7c15;
            hash = product as u64 ^ (product >> 64) as u64;
        }
    }
    hash
}

#[cfg(test)]
mod tests;
