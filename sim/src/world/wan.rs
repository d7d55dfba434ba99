//! The outer side of a router: its addresses, and a link that it knows to be cut.

use std::net::{IpAddr, Ipv4Addr};

use super::{
    World,
    device::{Kind, route_key},
};
use crate::{host::Host, id::DeviceId};

impl World {
    /// Gives a router other addresses on its parent's side, like a provider after a new dial-up.
    /// From now on its old ones are nobody's. A NAT forgets the flows that it translated, unless
    /// `keep` is set: then they go on from their old addresses, which get no answers, and only new
    /// flows use the new ones. Port mappings move to the new addresses. Hosts behind a NAT do not
    /// notice.
    ///
    /// # Panics
    /// When `router` is not a router, another device on the parent's side has one of the
    /// addresses, or a NAT would have no IPv4 address.
    pub fn renumber(&mut self, router: DeviceId, wan: &[IpAddr], keep: bool) {
        let parent = DeviceId(self.devices[router.index()].parent);
        let Kind::Router(inner) = &mut self.devices[router.index()].kind else {
            panic!("{router:?} is not a router");
        };
        let old = std::mem::replace(&mut inner.wan, wan.to_vec());
        if let Some(middlebox) = &mut inner.middlebox {
            if !keep {
                middlebox.flush();
            }
            if let Some(nat) = middlebox.nat_mut() {
                let v4 = wan.iter().filter_map(|addr| match addr {
                    IpAddr::V4(addr) => Some(*addr),
                    IpAddr::V6(_) => None,
                });
                nat.renumber(&v4.collect::<Vec<Ipv4Addr>>());
            }
        }
        for addr in old.iter().filter(|addr| !wan.contains(addr)) {
            self.withdraw(*addr, parent);
        }
        for addr in wan.iter().filter(|addr| !old.contains(addr)) {
            self.announce(*addr, parent, router);
        }
        // A gateway notices, and tells its clients.
        let device = &self.devices[router.index()];
        if !device.off && device.machine().is_some_and(|machine| machine.on) {
            self.call_host(router, Host::wake);
        }
    }

    /// Makes `addr` unknown to `router` and to the routers above it.
    fn withdraw(&mut self, addr: IpAddr, mut router: DeviceId) {
        loop {
            let device = &mut self.devices[router.index()];
            let parent = DeviceId(device.parent);
            let Some(inner) = device.router_mut() else {
                return;
            };
            inner.routes.remove(&route_key(addr));
            if router == DeviceId::CORE || inner.hides(addr) {
                return;
            }
            router = parent;
        }
    }

    /// Cuts a device's link so that the device notices.
    pub(super) fn unplug(&mut self, id: DeviceId, keep: bool) {
        let device = &mut self.devices[id.index()];
        (device.cut, device.unplugged) = (true, true);
        if let Kind::Router(router) = &mut device.kind
            && let Some(middlebox) = &mut router.middlebox
            && !keep
        {
            middlebox.flush();
        }
    }
}

#[cfg(test)]
mod tests;
