//! The boxes of routers, and their timers.

use dunlin_core::Instant;

use super::{
    World,
    device::Kind,
    event::{Event, Stage, Via},
};
use crate::{id::DeviceId, middlebox::Middlebox};

impl World {
    /// The NAT and firewall of a router; `None` when it has neither.
    #[must_use]
    pub fn middlebox(&self, id: DeviceId) -> Option<&Middlebox> {
        self.devices.get(id.index())?.router()?.middlebox.as_ref()
    }

    /// The NAT and firewall of a router, to change them.
    pub fn middlebox_mut(&mut self, id: DeviceId) -> Option<&mut Middlebox> {
        let device = self.devices.get_mut(id.index())?;
        device.router_mut()?.middlebox.as_mut()
    }

    pub(super) fn reboot_box(&mut self, id: DeviceId) {
        let now = self.now();
        if let Kind::Router(router) = &mut self.devices[id.index()].kind
            && let Some(middlebox) = &mut router.middlebox
        {
            middlebox.reboot(now);
        }
    }

    /// Plans a box's timer, if it is earlier than the one that is planned.
    pub(super) fn plan_box(&mut self, id: DeviceId, due: Option<Instant>) {
        let now = self.now();
        let Some(due) = due else { return };
        let due = due.max(now);
        if let Some(router) = self.devices[id.index()].router_mut()
            && router.planned.is_none_or(|planned| due < planned)
        {
            router.planned = Some(due);
            self.agenda.plan(due, Event::Box(id.0));
        }
    }

    /// Handles a box's timer: delayed refusals go to its outer side.
    pub(super) fn box_timer(&mut self, id: DeviceId) {
        let now = self.now();
        let off = self.devices[id.index()].off;
        let Some(router) = self.devices[id.index()].router_mut() else {
            return;
        };
        if router.planned != Some(now) {
            return;
        }
        router.planned = None;
        let Some(middlebox) = &mut router.middlebox else {
            return;
        };
        let said: Vec<_> = std::iter::from_fn(|| middlebox.delayed(now)).collect();
        // A timer that remains due would keep the world from making progress.
        let due = middlebox.next_timeout().filter(|due| *due > now);
        for packet in said {
            if !off {
                let flight = self.created(now, id, packet, Stage::Arrive(id.0, Via::Within));
                self.send_back(now, id.0, false, flight);
            }
        }
        self.plan_box(id, due);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use dunlin_core::Instant;

    use super::*;
    use crate::{
        host::light::Scripted,
        link::LinkConfig,
        middlebox::{BoxConfig, nat::presets},
        packet::{Packet, Proto, TcpFlags},
    };

    #[test]
    fn a_box_that_waits_before_it_refuses_a_syn_does_refuse_it() {
        let at = |secs| Instant::ORIGIN + Duration::from_secs(secs);
        let (stranger, external) = (([9, 0, 0, 1], 7).into(), ([9, 0, 0, 5], 40_000).into());
        let inside = ([10, 0, 0, 2], 40_000).into();
        let syn = |from, to| Packet::tcp(from, to, TcpFlags::SYN, 1, 0, b"");
        for calls in [false, true] {
            let mut world = World::new(1);
            let (core, link) = (world.core(), LinkConfig::perfect);
            let config = BoxConfig {
                nat: presets::find("tcp-delayed").ok().map(|p| (p.make)()),
                ..BoxConfig::default()
            };
            let router = world.add_router(core, link(), config, &[[9, 0, 0, 5].into()]);
            let near = match calls {
                true => Scripted::new().send(at(3), syn(inside, stranger)),
                false => Scripted::new(),
            };
            world.add_host(router, link(), &[inside.ip()], near);
            let far = Scripted::new().send(at(1), syn(stranger, external));
            let far = world.add_host(core, link(), &[stranger.ip()], far);
            world.start();
            world.run_until(at(20));
            let got = world.host::<Scripted>(far).expect("there").received();
            assert_eq!(got.len(), 1, "{got:?}");
            let (when, packet) = &got[0];
            let expected = match calls {
                true => (at(3), Proto::Tcp),
                false => (at(7), Proto::Icmp),
            };
            assert_eq!((*when, packet.flow().proto), expected);
        }
    }
}
