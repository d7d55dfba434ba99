//! Planned actions, and how each of them changes the world.

use dunlin_core::Instant;

use super::{
    Action, World,
    device::Kind,
    event::{Event, Stage, Via},
};
use crate::{
    id::DeviceId,
    link::{Line, LinkConfig, Pace},
};

impl World {
    /// Plans an action. A time in the past counts as the present. Actions of one time happen in the
    /// order in which they were planned.
    pub fn at(&mut self, when: Instant, action: Action) {
        let when = when.max(self.now());
        if action.changes_paths() {
            *self.changes.entry(when).or_default() += 1;
            self.horizon = self.horizon.min(when);
        }
        self.agenda
            .plan(when, Event::Act(self.timetable.len() as u32));
        self.timetable.push(Some(action));
    }

    /// Performs an action now.
    pub fn perform(&mut self, action: Action) {
        self.apply(action);
        self.settle();
    }

    pub(super) fn act(&mut self, n: u32) {
        let Some(action) = self.timetable[n as usize].take() else {
            return;
        };
        if action.changes_paths() {
            let now = self.now();
            if let Some(count) = self.changes.get_mut(&now) {
                *count -= 1;
                if *count == 0 {
                    self.changes.remove(&now);
                }
            }
            let next = self.changes.keys().next().copied();
            self.horizon = next.unwrap_or(Instant::from_micros(u64::MAX));
        }
        self.apply(action);
    }

    fn apply(&mut self, action: Action) {
        let now = self.now();
        match action {
            Action::Reboot(id) => {
                if let Kind::Router(_) = self.devices[id.index()].kind {
                    self.reboot_box(id);
                }
                self.switch_off(id);
                self.switch_on(id);
            }
            Action::Cut(id) => self.devices[id.index()].cut = true,
            Action::Unplug { device, keep } => self.unplug(device, keep),
            Action::Mend(id) => {
                let device = &mut self.devices[id.index()];
                (device.cut, device.unplugged) = (false, false);
            }
            Action::Renumber { router, wan, keep } => self.renumber(router, &wan, keep),
            Action::SetLink(id, link) => self.set_link(id, link),
            Action::SwitchOff(id) => self.switch_off(id),
            Action::SwitchOn(id) => self.switch_on(id),
            Action::Part(a, b) => self.parted.push((a.min(b), a.max(b))),
            Action::Join(a, b) => self.parted.retain(|pair| *pair != (a.min(b), a.max(b))),
            Action::SetLatency(matrix) => self.set_latency(*matrix),
            Action::Mark(text) => self.trace.mark(now, DeviceId::CORE, text),
            Action::Do(act) => act(self),
        }
    }

    /// Changes a device's link to its parent. Packets that wait to be sent go on at the new rate.
    pub fn set_link(&mut self, device: DeviceId, link: LinkConfig) {
        let (now, old) = (self.now(), self.link(device));
        let (up, down) = ((old.up.rate, link.up.rate), (old.down.rate, link.down.rate));
        self.devices[device.index()].link = self.intern(link);
        for (is_up, (old, new)) in [(true, up), (false, down)] {
            if let Some(pace) = self.line(device, is_up).change(old, new, now) {
                self.repace(device, is_up, pace);
            }
            self.change_queue(device.0, is_up);
        }
    }

    pub(super) fn line(&mut self, device: DeviceId, up: bool) -> &mut Line {
        let device = &mut self.devices[device.index()];
        if up { &mut device.up } else { &mut device.down }
    }

    /// Plans the arrival of the packets on a line again, except those that were sent already. They
    /// keep their order.
    fn repace(&mut self, device: DeviceId, up: bool, pace: Pace) {
        let is_there = |stage: Stage| match stage {
            Stage::Arrive(_, Via::Child(child)) => up && child == device.0,
            Stage::Arrive(n, Via::Parent) => !up && n == device.0,
            _ => false,
        };
        let mut there: Vec<(Instant, u64, usize)> = (self.flights.iter().enumerate())
            .filter_map(|(place, flight)| Some((place, flight.as_ref()?)))
            .filter(|(_, flight)| is_there(flight.stage))
            .map(|(place, flight)| (flight.due, flight.sent, place))
            .collect();
        there.sort_unstable();
        let mut last = self.now();
        for (due, sent, place) in there {
            let then = pace.sent(sent);
            if then == sent {
                last = last.max(due);
                continue;
            }
            // Once sent, the packet travels for as long as before.
            let way = due.as_micros().saturating_sub(sent.div_ceil(1_000));
            last = last.max(Instant::from_micros(
                then.div_ceil(1_000).saturating_add(way),
            ));
            if let Some(mut flight) = self.flights[place].take() {
                self.vacated += 1;
                flight.sent = then;
                self.plan_flight(last, flight);
            }
        }
        self.line(device, up).keep_order_from(last);
    }

    /// A device's link to its parent.
    #[must_use]
    pub fn link(&self, device: DeviceId) -> &LinkConfig {
        &self.links[self.devices[device.index()].link as usize].config
    }

    /// The bytes that wait before a device's link, upwards and downwards.
    #[must_use]
    pub fn backlog(&self, device: DeviceId) -> (u64, u64) {
        let (link, device) = (self.link(device), &self.devices[device.index()]);
        let kept = |up| device.queues.as_ref().map_or(0, |queues| queues.bytes(up));
        (
            device.up.backlog(&link.up, self.now()) + kept(true),
            device.down.backlog(&link.down, self.now()) + kept(false),
        )
    }
}
