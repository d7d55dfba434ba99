//! The passing of time.

use std::time::Duration;

use dunlin_core::Instant;

use super::{
    World,
    event::{Event, Stuck},
};
use crate::id::DeviceId;

/// How many packets may be carried at one instant, for each device.
const MAX_AT_ONCE_PER_DEVICE: u64 = 10_000;

impl World {
    /// Switches on every device that is not to stay off, in the order in which they were added.
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

    /// Leaves a device off when the world is started, or switches it off now.
    pub fn set_off(&mut self, device: DeviceId) {
        self.switch_off(device);
    }

    /// Lets the next event happen. `false` if there is none, or the world is stuck.
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
                    // It was planned anew.
                    None => self.vacated -= 1,
                }
            }
            Event::Wake(device) => self.wake(DeviceId(device)),
            Event::Box(device) => self.box_timer(DeviceId(device)),
            Event::Act(n) => self.act(n),
        }
        self.settle();
        true
    }

    /// Carries on everything that is to happen at this instant without having been planned.
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

    /// Lets everything happen that is due up to `until`, then makes that the present.
    pub fn run_until(&mut self, until: Instant) {
        self.run_while(|_| true, until);
        if self.stuck.is_none() {
            self.agenda.advance(until);
        }
    }

    /// As [`World::run_until`], for a while from now.
    pub fn run_for(&mut self, time: Duration) {
        self.run_until(self.now() + time);
    }

    /// Lets events happen as long as `goes_on` says so, which is asked before each, and up to
    /// `until`. Whether it was `goes_on` that ended it.
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

    /// When the next event is.
    #[must_use]
    pub fn next_at(&self) -> Option<Instant> {
        self.agenda.next_at()
    }

    /// What has stopped the world, if anything has.
    #[must_use]
    pub const fn stuck(&self) -> Option<Stuck> {
        self.stuck
    }

    /// Whether a world that is stuck panics, as it does at first, or merely stops and says so by
    /// [`World::stuck`].
    pub const fn set_panics(&mut self, panics: bool) {
        self.panics = panics;
    }

    /// What a person should read about a world that is stuck.
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
