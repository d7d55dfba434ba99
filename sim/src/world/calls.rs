//! Calls of hosts, and their wake-ups.

use dunlin_core::Instant;

use super::{
    World,
    device::Kind,
    event::{Event, Flight, Stage, Stuck, Via},
    trace,
};
use crate::{
    host::{Host, HostCx, MAX_SPARE},
    id::{DeviceId, PacketId},
    packet::Packet,
};

/// How often a host may be woken at one instant before the world is [`Stuck`].
const MAX_WAKES: u32 = 10_000;

impl World {
    /// Calls a host of a known type, as an application would, and sends what it wants sent.
    /// `None` if the device has no host, or one of another type.
    pub fn call<T: Host, R>(
        &mut self,
        id: DeviceId,
        call: impl FnOnce(&mut T, &mut HostCx<'_>) -> R,
    ) -> Option<R> {
        let result = self
            .call_host(id, |host, cx| {
                let host: &mut dyn std::any::Any = host;
                host.downcast_mut().map(|host| call(host, cx))
            })
            .flatten();
        self.settle();
        result
    }

    pub(super) fn call_host<R>(
        &mut self,
        id: DeviceId,
        call: impl FnOnce(&mut dyn Host, &mut HostCx<'_>) -> R,
    ) -> Option<R> {
        let (machine, middlebox) = match &mut self.devices.get_mut(id.index())?.kind {
            Kind::Host(machine) => (machine, None),
            Kind::Core(router) | Kind::Router(router) => {
                (router.gateway.as_mut()?, router.middlebox.as_mut())
            }
        };
        let mut cx = HostCx {
            now: self.agenda.now(),
            device: id,
            rng: &mut machine.rng,
            out: &mut self.desk.out,
            spare: &mut self.desk.spare,
            middlebox,
            marks: &mut self.desk.marks,
        };
        let result = call(&mut *machine.host, &mut cx);
        self.after_call(id);
        Some(result)
    }

    /// Takes up what a call left: marks, packets, and when it wants to be woken.
    fn after_call(&mut self, id: DeviceId) {
        let now = self.now();
        if !self.desk.marks.is_empty() {
            for text in self.desk.marks.drain(..) {
                self.trace.mark(now, id, text);
            }
        }
        if !self.desk.out.is_empty() {
            let mut out = std::mem::take(&mut self.desk.out);
            let is_host = matches!(self.devices[id.index()].kind, Kind::Host(_));
            for packet in out.drain(..) {
                if is_host {
                    let flight = self.born(now, id, packet, Stage::Enter(id.0, true));
                    self.ready.push_back(flight);
                } else {
                    let flight = self.born(now, id, packet, Stage::Arrive(id.0, Via::Within));
                    self.send_from_box(now, id, flight);
                }
            }
            self.desk.out = out;
        }
        self.replan(id);
    }

    /// Plans a host's wake-up if it wants one earlier than is planned. One that it wants later
    /// is found out about when the planned one is due.
    pub(super) fn replan(&mut self, id: DeviceId) {
        let now = self.agenda.now();
        let Some(machine) = self.devices[id.index()].machine_mut() else {
            return;
        };
        let Some(wanted) = machine.host.next_wake() else {
            return;
        };
        let at = wanted.max(now);
        if machine.planned.is_none_or(|planned| at < planned) {
            machine.planned = Some(at);
            self.agenda.plan(at, Event::Wake(id.0));
        }
    }

    /// A planned wake-up is due; it may be an old one.
    pub(super) fn wake(&mut self, id: DeviceId) {
        let now = self.now();
        let Some(machine) = self.devices[id.index()].machine_mut() else {
            return;
        };
        if machine.planned != Some(now) {
            return;
        }
        machine.planned = None;
        if !machine.on {
            return;
        }
        match machine.host.next_wake() {
            Some(wanted) if wanted <= now => {
                if machine.woken.0 == now {
                    machine.woken.1 += 1;
                } else {
                    machine.woken = (now, 1);
                }
                if machine.woken.1 > MAX_WAKES {
                    return self.give_up(Stuck::Wakes(id, now));
                }
                self.call_host(id, Host::wake);
            }
            Some(_) => self.replan(id),
            None => {}
        }
    }

    /// Hands a packet to a host that is on.
    pub(super) fn hand_over(&mut self, id: DeviceId, packet: Packet) {
        self.call_host(id, |host, cx| host.packet(cx, packet));
    }

    /// Makes a packet known to the world.
    pub(super) fn born(
        &mut self,
        at: Instant,
        origin: DeviceId,
        packet: Packet,
        stage: Stage,
    ) -> Flight {
        let device = &mut self.devices[origin.index()];
        device.sent = device.sent.wrapping_add(1);
        let id = PacketId {
            origin,
            number: device.sent,
        };
        let digest = trace::digest(packet.payload());
        self.trace.born(at, id, &packet, digest);
        Flight {
            packet,
            id,
            digest,
            stage,
            due: at,
            sent: 0,
            corrupt: false,
        }
    }

    /// Ends a packet's life; its buffer is used again.
    pub(super) fn recycle(&mut self, packet: Packet) {
        if self.desk.spare.len() < MAX_SPARE {
            self.desk.spare.push(packet.into_bytes());
        }
    }

    /// Switches a machine on: it starts.
    pub(super) fn switch_on(&mut self, id: DeviceId) {
        let device = &mut self.devices[id.index()];
        device.off = false;
        if let Some(machine) = device.machine_mut()
            && !std::mem::replace(&mut machine.on, true)
        {
            self.call_host(id, Host::start);
        }
    }

    /// Switches a device off.
    pub(super) fn switch_off(&mut self, id: DeviceId) {
        let device = &mut self.devices[id.index()];
        device.off = true;
        if let Some(machine) = device.machine_mut() {
            machine.on = false;
            machine.planned = None;
        }
    }
}
