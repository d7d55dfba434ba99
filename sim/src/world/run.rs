//! The passing of time.

use std::time::Duration;

use dunlin_core::Instant;

use super::{
    World,
    event::{Event, Stuck},
};
use crate::id::DeviceId;

/// The number of packets that may be handled at one instant, for each device, before the world is
/// [`Stuck`].
const MAX_AT_ONCE_PER_DEVICE: u64 = 10_000;

impl World {
    /// Switches on every device that is not set to stay off, in the order in which they were added.
    pub fn start(&mut self) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        for n in 0..self.devices.len() {
            if !self.devices[n].off {
                self.switch_on(DeviceId::at(n));
            }
        }
        self.settle();
    }

    /// Keeps a device off when the world is started, or switches it off now.
    pub fn set_off(&mut self, device: DeviceId) {
        self.switch_off(device);
    }

    /// Handles the next event. Returns `false` when there is none, or the world is stuck.
    pub fn step(&mut self) -> bool {
        if self.stuck.is_some() {
            return false;
        }
        let before = self.now();
        let Some(event) = self.agenda.step() else {
            return false;
        };
        if self.now() != before {
            self.at_once = 0;
        }
        match event {
            Event::Packet(place) => {
                self.free.push(place);
                match self.flights[place as usize].take() {
                    Some(flight) => self.carry(flight, self.now()),
                    // The packet was planned for another time.
                    None => self.vacated -= 1,
                }
            }
            Event::Wake(device) => self.wake(DeviceId(device)),
            Event::Box(device) => self.box_timer(DeviceId(device)),
            Event::Act(n) => self.act(n),
            Event::Line(n, up) => self.line_idle(n, up),
        }
        self.settle();
        true
    }

    /// Carries on all packets that go on at this instant.
    pub(super) fn settle(&mut self) {
        let now = self.now();
        while let Some(flight) = self.ready.pop_front() {
            let origin = flight.id.origin;
            self.at_once += 1;
            if self.at_once > MAX_AT_ONCE_PER_DEVICE.saturating_mul(self.devices.len() as u64) {
                self.ready.clear();
                return self.give_up(Stuck::Packets(origin, now));
            }
            self.carry(flight, now);
        }
    }

    /// Handles every event up to `until`, and then makes `until` the present.
    pub fn run_until(&mut self, until: Instant) {
        self.run_while(|_| true, until);
        if self.stuck.is_none() {
            self.agenda.advance(until);
        }
    }

    /// Runs for `time` from now, like [`World::run_until`].
    pub fn run_for(&mut self, time: Duration) {
        self.run_until(self.now() + time);
    }

    /// Handles events up to `until` as long as `goes_on`, which is called before each of them,
    /// returns `true`. Returns `true` when `goes_on` ended the run.
    pub fn run_while(&mut self, goes_on: impl Fn(&Self) -> bool, until: Instant) -> bool {
        loop {
            if !goes_on(self) {
                return true;
            }
            if self.agenda.next_at().is_none_or(|at| at > until) || !self.step() {
                return false;
            }
        }
    }

    /// The time of the next event.
    #[must_use]
    pub fn next_at(&self) -> Option<Instant> {
        self.agenda.next_at()
    }

    /// What has stopped the world, if anything has.
    #[must_use]
    pub const fn stuck(&self) -> Option<Stuck> {
        self.stuck
    }

    /// Sets whether a stuck world panics, which is the default, or stops and reports it through
    /// [`World::stuck`].
    pub const fn set_panics(&mut self, panics: bool) {
        self.panics = panics;
    }

    /// Describes for people why a world is stuck.
    #[must_use]
    pub fn explain_stuck(&self, stuck: Stuck) -> String {
        let (what, device, at) = match stuck {
            Stuck::Wakes(device, at) => ("asks again and again to be woken at once", device, at),
            Stuck::Packets(device, at) => ("sends packets that never rest", device, at),
        };
        format!("{} {what}, at {} µs", self.name(device), at.as_micros())
    }

    pub(super) fn give_up(&mut self, stuck: Stuck) {
        assert!(!self.panics, "{}", self.explain_stuck(stuck));
        self.stuck = Some(stuck);
    }
}
