//! Calls of hosts, and their timers.

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
    /// Calls a host of a known type, as an application would, and sends the packets that it
    /// produces. Returns `None` when the device has no host, or one of another type.
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
            out: &mut self.buffers.out,
            spare: &mut self.buffers.spare,
            middlebox,
            marks: &mut self.buffers.marks,
        };
        let result = call(&mut *machine.host, &mut cx);
        self.after_call(id);
        Some(result)
    }

    /// Processes what a host's call left behind: marks, packets and a new wake-up time.
    fn after_call(&mut self, id: DeviceId) {
        let now = self.now();
        if !self.buffers.marks.is_empty() {
            for text in self.buffers.marks.drain(..) {
                self.trace.mark(now, id, text);
            }
        }
        if !self.buffers.out.is_empty() {
            let mut out = std::mem::take(&mut self.buffers.out);
            let is_host = matches!(self.devices[id.index()].kind, Kind::Host(_));
            for packet in out.drain(..) {
                if is_host {
                    let flight = self.created(now, id, packet, Stage::Enter(id.0, true));
                    self.ready.push_back(flight);
                } else {
                    let flight = self.created(now, id, packet, Stage::Arrive(id.0, Via::Within));
                    self.send_from_box(now, id, flight);
                }
            }
            self.buffers.out = out;
        }
        self.replan(id);
    }

    /// Plans a host's wake-up, if it is earlier than the one that is planned. A later one is
    /// planned when the earlier one is due.
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

    /// Handles a planned wake-up, which may be out of date.
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

    /// Makes a new packet known to the world.
    pub(super) fn created(
        &mut self,
        at: Instant,
        origin: DeviceId,
        packet: Packet,
        stage: Stage,
    ) -> Flight {
        let device = &mut self.devices[origin.index()];
        device.sent = device.sent.wrapping_add(1);
        device.sent_bytes += packet.bytes().len() as u64;
        let id = PacketId {
            origin,
            number: device.sent,
        };
        if let Some(monitor) = &mut self.monitor {
            monitor.sent(at, origin, packet.flow());
        }
        let digest = trace::digest(packet.payload());
        self.trace.created(at, id, &packet, digest);
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

    /// Keeps the buffer of a packet that has arrived or was dropped.
    pub(super) fn recycle(&mut self, packet: Packet) {
        if self.buffers.spare.len() < MAX_SPARE {
            self.buffers.spare.push(packet.into_bytes());
        }
    }

    /// Switches a device on.
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
