//! The path of a packet: links, routers, the core, delivery.

use dunlin_core::Instant;

use super::{
    World,
    device::{Kind, is_for_many, route_key},
    event::{Event, Flight, Stage, Via},
    trace::{self, Ports},
};
use crate::{
    id::DeviceId,
    link::Fate,
    packet::{
        IcmpError, Proto,
        pcapng::Way,
        verdict::{Rule, Verdict},
    },
    rng::SimRng,
};

/// The time of a packet's next step; `None` when it has none.
pub(super) type Next = Option<Instant>;

impl World {
    /// Carries a packet as far as it gets at this instant, and further through devices and links
    /// without state.
    pub(super) fn carry(&mut self, mut flight: Flight, mut at: Instant) {
        let now = self.now();
        loop {
            if at > now && (at >= self.horizon || self.has_state(flight.stage)) {
                return self.plan_flight(at, flight);
            }
            let next = match flight.stage {
                Stage::Enter(link, up) if self.queues && self.has_to_wait(link, up, &flight) => {
                    return self.wait_for_line(at, link, up, flight);
                }
                Stage::Enter(link, up) => self.enter(at, link, up, &mut flight),
                Stage::Arrive(n, via) => {
                    if let Some(rule) = self.blocked_by(n, via) {
                        self.captured_in(at, n, via, &flight);
                        self.end(at, n, rule, &flight)
                    } else {
                        match self.devices[n as usize].kind {
                            Kind::Host(_) => return self.deliver(at, DeviceId(n), via, flight),
                            Kind::Core(_) => self.at_core(at, via, &mut flight),
                            Kind::Router(_) => self.at_router(at, n, via, &mut flight),
                        }
                    }
                }
            };
            match next {
                Some(then) => at = then,
                None => return self.recycle(flight.packet),
            }
        }
    }

    /// Returns `true` when the next step of a packet depends on other events until then.
    fn has_state(&self, stage: Stage) -> bool {
        match stage {
            Stage::Enter(n, up) => {
                let link = &self.links[self.devices[n as usize].link as usize];
                let steady = if up { link.up } else { link.down };
                steady.is_none()
            }
            Stage::Arrive(n, _) => match &self.devices[n as usize].kind {
                Kind::Core(_) => false,
                Kind::Router(router) => router.has_state(),
                Kind::Host(_) => true,
            },
        }
    }

    /// Plans the next step of a packet.
    pub(super) fn plan_flight(&mut self, at: Instant, mut flight: Flight) {
        flight.due = at;
        let place = if let Some(place) = self.free.pop() {
            self.flights[place as usize] = Some(flight);
            place
        } else {
            self.flights.push(Some(flight));
            self.flights.len() as u32 - 1
        };
        self.agenda.plan(at, Event::Packet(place));
    }

    /// Starts a packet on its way, now or later.
    pub(super) fn launch(&mut self, at: Instant, flight: Flight) {
        if at > self.now() {
            self.plan_flight(at, flight);
        } else {
            self.ready.push_back(flight);
        }
    }

    /// Writes a hop into the trace.
    fn record_hop(
        &mut self,
        at: Instant,
        n: u32,
        rule: Rule,
        flight: &Flight,
        before: Ports,
        body: u64,
    ) {
        let device = DeviceId(n);
        self.trace.hop(at, device, rule, body);
        if let Some(journeys) = &mut self.trace.journeys {
            journeys.note((at, device, rule), flight.id, &flight.packet, before);
        }
    }

    /// Writes a hop that left the packet unchanged, like [`World::record_hop`].
    fn pass(&mut self, at: Instant, n: u32, rule: Rule, flight: &Flight, body: u64) {
        let flow = flight.packet.flow();
        self.record_hop(at, n, rule, flight, (flow.src, flow.dst), body);
    }

    /// Ends the path of a packet at a device.
    fn end(&mut self, at: Instant, n: u32, rule: Rule, flight: &Flight) -> Next {
        self.pass(at, n, rule, flight, 0);
        self.captured_why(n, rule);
        None
    }

    /// The rule by which a packet cannot arrive, if any: its link was cut since it was sent, or the
    /// device is off.
    fn blocked_by(&self, n: u32, via: Via) -> Option<Rule> {
        let link = match via {
            Via::Parent => &self.devices[n as usize],
            Via::Child(child) => &self.devices[child as usize],
            Via::Within | Via::Without => return None,
        };
        if link.cut {
            Some(Rule::LinkDown)
        } else if self.devices[n as usize].off {
            Some(Rule::HostOff)
        } else {
            None
        }
    }

    /// Puts a packet on a device's link.
    fn enter(&mut self, at: Instant, n: u32, up: bool, flight: &mut Flight) -> Next {
        let device = &mut self.devices[n as usize];
        let link = &self.links[device.link as usize];
        let len = flight.packet.bytes().len();
        let (config, steady, line) = if up {
            (&link.config.up, link.up, &mut device.up)
        } else {
            (&link.config.down, link.down, &mut device.down)
        };
        let mtu = config.mtu;
        let fate = match steady {
            _ if device.cut => Fate::Dropped(Rule::LinkDown),
            Some(delay) if len <= mtu as usize => Fate::Arrives {
                at: at + delay,
                sent: 0,
                again: None,
                flip: None,
            },
            _ => line.offer(config, at, len),
        };
        if let Some(monitor) = &mut self.monitor
            && let Fate::Arrives { sent, .. } = fate
            && let Some(rate) = config.rate
            && sent > 0
        {
            let begun = sent.saturating_sub(rate.time_of(len as u64));
            let waited = begun.saturating_sub(at.as_micros().saturating_mul(1_000));
            monitor.waited(at, DeviceId(n), up, waited);
        }
        self.go(at, n, up, fate, mtu, flight)
    }

    /// Lets a packet's fate on a device's link take its course.
    pub(super) fn go(
        &mut self,
        at: Instant,
        n: u32,
        up: bool,
        fate: Fate,
        mtu: u32,
        flight: &mut Flight,
    ) -> Next {
        let device = &self.devices[n as usize];
        let (sender, stage) = if up {
            (device.parent, Stage::Arrive(device.parent, Via::Child(n)))
        } else {
            (n, Stage::Arrive(n, Via::Parent))
        };
        let sender = if up {
            n
        } else {
            self.devices[sender as usize].parent
        };
        if fate == Fate::Dropped(Rule::LinkTooBig) && self.split(at, n, mtu, flight) {
            return None;
        }
        let comment = match fate {
            Fate::Dropped(rule) => Some(rule),
            Fate::Arrives { .. } => None,
        };
        self.captured_out(at, sender, sender == n, flight, comment);
        let (arrival, sent, again, flip) = match fate {
            Fate::Dropped(rule) => {
                self.pass(at, n, rule, flight, 0);
                if rule == Rule::LinkTooBig {
                    // A router handles the error as if it came from beyond the link, so that its
                    // NAT translates it.
                    let via = if up { Via::Without } else { Via::Within };
                    self.report(
                        at,
                        sender,
                        IcmpError::TooBig(u16::try_from(mtu).unwrap_or(u16::MAX)),
                        flight,
                        Some(via),
                    );
                } else if rule == Rule::LinkDown && up && self.devices[n as usize].unplugged {
                    self.report(at, n, IcmpError::NoRoute, flight, None);
                }
                return None;
            }
            Fate::Arrives {
                at,
                sent,
                again,
                flip,
            } => (at, sent, again, flip),
        };
        self.pass(at, n, Rule::LinkCarried, flight, arrival.as_micros());
        flight.stage = stage;
        flight.sent = sent;
        if let Some(flip) = flip
            && flight.packet.flip(flip)
        {
            flight.corrupt = true;
            flight.digest = trace::digest(flight.packet.payload());
            let body = trace::headers(&flight.packet, flight.digest);
            self.pass(at, n, Rule::LinkCorrupted, flight, body);
        }
        if let Some(again) = again {
            self.pass(at, n, Rule::LinkDuplicated, flight, again.as_micros());
            self.launch(again, flight.clone());
        }
        Some(arrival)
    }

    /// Sends a packet that is longer than a link carries in fragments. Returns `false` when it may
    /// not be split.
    fn split(&mut self, at: Instant, n: u32, mtu: u32, flight: &Flight) -> bool {
        let mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
        if !flight.packet.may_fragment() {
            return false;
        }
        // The identification is the packet's number in this world, because its sender may have set
        // none.
        let Some(parts) = flight.packet.split(mtu, flight.id.number as u16) else {
            return false;
        };
        self.pass(at, n, Rule::LinkFragmented, flight, u64::from(mtu));
        for packet in parts {
            let part = Flight {
                digest: trace::digest(packet.payload()),
                packet,
                ..flight.clone()
            };
            self.launch(at, part);
        }
        true
    }

    /// Delivers a packet to a host.
    fn deliver(&mut self, at: Instant, id: DeviceId, via: Via, flight: Flight) {
        self.captured_in(at, id.0, via, &flight);
        let rule = if self.devices[id.index()].off {
            Rule::HostOff
        } else if flight.corrupt && !flight.packet.checksums_hold() {
            Rule::Checksum
        } else {
            let body = trace::headers(&flight.packet, flight.digest);
            self.pass(at, id.0, Rule::Delivered, &flight, body);
            if let Some(monitor) = &mut self.monitor {
                monitor.delivered(id, flight.packet.flow());
            }
            let (packets, bytes) = &mut self.devices[id.index()].received;
            *packets = packets.wrapping_add(1);
            *bytes += flight.packet.bytes().len() as u64;
            return self.hand_over(id, flight.packet);
        };
        self.end(at, id.0, rule, &flight);
        self.recycle(flight.packet);
    }

    /// Routes a packet in the core.
    fn at_core(&mut self, at: Instant, via: Via, flight: &mut Flight) -> Next {
        const CORE: u32 = DeviceId::CORE.0;
        self.captured_in(at, CORE, via, flight);
        let dst = flight.packet.flow().dst.ip();
        if is_for_many(dst) {
            return self.end(at, CORE, Rule::NoRoute, flight);
        }
        let router = self.devices[0].router()?;
        if router.owns(dst) {
            return self.end(at, CORE, Rule::BoxLocal, flight);
        }
        let Some(to) = router.routes.get(&route_key(dst)).copied() else {
            self.report(at, CORE, IcmpError::NoRoute, flight, None);
            return self.end(at, CORE, Rule::NoRoute, flight);
        };
        let mut delay = 0;
        if let Via::Child(from) = via {
            if !flight.packet.hop() {
                self.report(at, CORE, IcmpError::HopLimit, flight, None);
                return self.end(at, CORE, Rule::HopLimit, flight);
            }
            let a = self.devices[from as usize].region;
            let b = self.devices[to as usize].region;
            if !self.parted.is_empty() && self.parted.contains(&(a.min(b), a.max(b))) {
                return self.end(at, CORE, Rule::RegionsParted, flight);
            }
            // The random number belongs to this packet, so that no other packet affects its delay.
            let (origin, number) = (flight.id.origin, flight.id.number);
            let key = self.devices[origin.index()].key;
            delay = self.regions.sample(a, b, || {
                rand_core::Rng::next_u64(&mut SimRng::part(key, number.into()))
            });
        }
        self.pass(at, CORE, Rule::Forwarded, flight, delay);
        flight.stage = Stage::Enter(to, false);
        Some(at + std::time::Duration::from_micros(delay))
    }

    /// Routes a packet at a router.
    fn at_router(&mut self, at: Instant, n: u32, via: Via, flight: &mut Flight) -> Next {
        self.captured_in(at, n, via, flight);
        let dst = flight.packet.flow().dst.ip();
        let outward = matches!(via, Via::Child(_) | Via::Within);
        if is_for_many(dst) {
            if !outward {
                return self.end(at, n, Rule::NoRoute, flight);
            }
            return self.flood(at, n, via, flight);
        }
        let router = self.devices[n as usize].router()?;
        let below = router.routes.get(&route_key(dst)).copied();
        if outward && let Some(child) = below {
            self.pass(at, n, Rule::Switched, flight, 0);
            flight.stage = Stage::Enter(child, false);
            return Some(at);
        }
        if outward && router.lan.contains(&dst) {
            return self.local(at, n, Rule::BoxLocal, flight);
        }
        let own = router.owns(dst);
        let translates = router.translates(dst.is_ipv4());
        if own && !translates {
            return self.local(at, n, Rule::BoxLocal, flight);
        }
        if outward && !own && self.devices[n as usize].unplugged {
            self.report(at, n, IcmpError::NoRoute, flight, None);
            return self.end(at, n, Rule::LinkDown, flight);
        }
        // Whether a NAT takes a hop depends on its configuration.
        if !translates && !flight.packet.hop() {
            self.report(at, n, IcmpError::HopLimit, flight, None);
            return self.end(at, n, Rule::HopLimit, flight);
        }
        if router.middlebox.is_some() {
            return self.at_box(at, n, via, flight);
        }
        let Some(stage) = onward(n, outward, below) else {
            self.report(at, n, IcmpError::NoRoute, flight, None);
            return self.end(at, n, Rule::NoRoute, flight);
        };
        self.pass(at, n, Rule::Forwarded, flight, 0);
        flight.stage = stage;
        Some(at)
    }

    /// Lets a box decide about a packet.
    fn at_box(&mut self, at: Instant, n: u32, via: Via, flight: &mut Flight) -> Next {
        let outward = matches!(via, Via::Child(_) | Via::Within);
        let flow = flight.packet.flow();
        let before = (flow.src, flow.dst);
        let middlebox = self.devices[n as usize].router_mut()?.middlebox.as_mut()?;
        let verdict = if outward {
            middlebox.outbound(at, &mut flight.packet)
        } else {
            middlebox.inbound(at, &mut flight.packet)
        };
        let slowed = middlebox.penalty();
        if flight.packet.fragment().is_some() {
            // It may be another one than came in.
            flight.digest = trace::digest(flight.packet.payload());
        }
        // A segment that was dropped may be answered later.
        let put_off =
            matches!(verdict, Verdict::Drop(_)) && flight.packet.flow().proto == Proto::Tcp;
        let due = put_off.then(|| middlebox.next_timeout()).flatten();
        self.plan_box(DeviceId(n), due);
        let rule = verdict.rule();
        let body = trace::headers(&flight.packet, flight.digest);
        self.record_hop(at, n, rule, flight, before, body);
        if let Some(monitor) = &mut self.monitor {
            let after = flight.packet.flow();
            monitor.decided(at, DeviceId(n), outward, rule, before, after);
        }
        let outward = match verdict {
            Verdict::Pass(_) => {
                if let Via::Without = via {
                    self.sent_inward(n, &mut flight.packet);
                }
                outward
            }
            Verdict::Hairpin(_) => !outward,
            Verdict::Local(_) => return self.local_seen(at, n, flight),
            Verdict::Hold(_) => return None,
            Verdict::Drop(_) => {
                self.captured_why(n, rule);
                if rule == Rule::HopLimit {
                    self.report(at, n, IcmpError::HopLimit, flight, None);
                }
                return None;
            }
            Verdict::Answer(_, answer) => {
                self.captured_why(n, rule);
                let stage = Stage::Arrive(n, Via::Within);
                let answer = self.created(at, DeviceId(n), *answer, stage);
                // The answer goes to the side from which the packet came.
                self.send_back(at, n, outward, answer);
                return None;
            }
        };
        let dst = flight.packet.flow().dst.ip();
        let router = self.devices[n as usize].router()?;
        let below = router.routes.get(&route_key(dst)).copied();
        let Some(stage) = onward(n, outward, below) else {
            return self.end(at, n, Rule::NoRoute, flight);
        };
        flight.stage = stage;
        if flight.packet.fragment().is_some() {
            self.send_fragments(at + slowed, n, flight);
            return None;
        }
        Some(at + slowed)
    }

    /// Sends the first fragment of a datagram that a box has put together, and the others behind
    /// it. They go the same way.
    fn send_fragments(&mut self, at: Instant, n: u32, first: &Flight) {
        self.launch(at, first.clone());
        while let Some(packet) = (self.devices[n as usize].router_mut())
            .and_then(|router| router.middlebox.as_mut()?.next_fragment())
        {
            let part = Flight {
                digest: trace::digest(packet.payload()),
                packet,
                ..first.clone()
            };
            self.launch(at, part);
        }
    }

    /// Handles a packet for the box itself.
    fn local(&mut self, at: Instant, n: u32, rule: Rule, flight: &Flight) -> Next {
        self.pass(at, n, rule, flight, 0);
        self.local_seen(at, n, flight)
    }

    fn local_seen(&mut self, at: Instant, n: u32, flight: &Flight) -> Next {
        let device = &self.devices[n as usize];
        if device.off || device.machine().is_none() {
            return None;
        }
        if flight.corrupt && !flight.packet.checksums_hold() {
            return self.end(at, n, Rule::Checksum, flight);
        }
        self.hand_over(DeviceId(n), flight.packet.clone());
        None
    }

    /// Copies a multicast or broadcast packet to every device on a router's inner side except its
    /// sender.
    fn flood(&mut self, at: Instant, n: u32, via: Via, flight: &Flight) -> Next {
        self.pass(at, n, Rule::Switched, flight, 0);
        let children = self.devices[n as usize].router()?.children.len();
        for i in 0..children {
            let child = self.devices[n as usize].router()?.children[i];
            if via != Via::Child(child) {
                let mut copy = flight.clone();
                copy.stage = Stage::Enter(child, false);
                self.launch(at, copy);
            }
        }
        if via == Via::Within {
            return None;
        }
        self.local_seen(at, n, flight)
    }

    /// Sends a packet that the gateway of a box made.
    pub(super) fn send_from_box(&mut self, at: Instant, id: DeviceId, flight: Flight) {
        let dst = flight.packet.flow().dst.ip();
        if is_for_many(dst) {
            self.flood(at, id.0, Via::Within, &flight);
            return self.recycle(flight.packet);
        }
        let Some(router) = self.devices[id.index()].router() else {
            return;
        };
        let below = router.routes.get(&route_key(dst)).copied();
        let outward = below.is_none();
        self.send_back(at, id.0, !outward, flight);
    }

    /// Sends a packet that a box made to one of its sides, without applying the box's rules.
    pub(super) fn send_back(&mut self, at: Instant, n: u32, inward: bool, mut flight: Flight) {
        let dst = flight.packet.flow().dst.ip();
        let Some(router) = self.devices[n as usize].router() else {
            return;
        };
        let below = router.routes.get(&route_key(dst)).copied();
        if let Some(stage) = onward(n, !inward, below) {
            flight.stage = stage;
            self.launch(at, flight);
        } else {
            self.end(at, n, Rule::NoRoute, &flight);
        }
    }

    /// Reports an error to the sender of a packet, if errors about it are allowed. With `via`, the
    /// error passes through the device's box.
    fn report(
        &mut self,
        at: Instant,
        n: u32,
        trouble: IcmpError,
        flight: &Flight,
        via: Option<Via>,
    ) {
        let src = route_key(flight.packet.flow().src.ip());
        let device = &self.devices[n as usize];
        let inward = device.router().is_some_and(|r| r.routes.contains_key(&src));
        let id = DeviceId(n);
        let Some(error) = self.icmp_error_from(at, id, inward, trouble, &flight.packet) else {
            return;
        };
        let mut stage = Stage::Arrive(n, Via::Within);
        let is_router = matches!(self.devices[n as usize].kind, Kind::Router(_));
        match via {
            Some(via) if is_router => stage = Stage::Arrive(n, via),
            _ if is_router => {
                let error = self.created(at, id, error, stage);
                return self.send_back(at, n, inward, error);
            }
            _ => {}
        }
        let error = self.created(at, id, error, stage);
        self.launch(at, error);
    }

    fn captured_in(&mut self, at: Instant, n: u32, via: Via, flight: &Flight) {
        if self.devices[n as usize].capture.is_some() && matches!(via, Via::Parent | Via::Child(_))
        {
            self.capture_packet(at, n, via == Via::Parent, Way::In, flight, None);
        }
    }

    fn captured_out(
        &mut self,
        at: Instant,
        n: u32,
        upper: bool,
        flight: &Flight,
        why: Option<Rule>,
    ) {
        if self.devices[n as usize].capture.is_some() {
            self.capture_packet(at, n, upper, Way::Out, flight, why);
        }
    }
}

/// The next link of a packet at a router: up to the parent, or down to the child that leads to its
/// receiver.
fn onward(n: u32, outward: bool, below: Option<u32>) -> Option<Stage> {
    if outward && n != DeviceId::CORE.0 {
        Some(Stage::Enter(n, true))
    } else {
        below.map(|child| Stage::Enter(child, false))
    }
}
