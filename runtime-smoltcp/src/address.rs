//! The addresses of the interface when a DHCP server assigns them.

use alloc::vec::Vec;

use smoltcp::iface::SocketHandle;
use smoltcp::socket::dhcpv4::{self, Event};
use smoltcp::wire::{IpAddress, IpCidr, Ipv4Cidr};

use crate::config::is_gateway;
use crate::names::Names;
use crate::net::Net;

/// The DHCP client.
pub(crate) struct Dhcp {
    socket: SocketHandle,
    bit: usize,
    /// The socket's waker was called.
    pub(crate) ready: bool,
    lease: Option<Ipv4Cidr>,
    /// Name servers are taken from the lease.
    dns: bool,
}

impl Dhcp {
    /// Creates a client. With `dns`, name servers are taken from the lease.
    pub(crate) fn new(net: &mut Net, bit: usize, dns: bool) -> Self {
        let mut socket = dhcpv4::Socket::new();
        socket.register_waker(net.ready.waker(bit));
        Self {
            socket: net.sockets.add(socket),
            bit,
            ready: true,
            lease: None,
            dns,
        }
    }

    /// Applies what the server has said. Returns whether the address changed.
    pub(crate) fn poll(&mut self, net: &mut Net, names: &Names) -> bool {
        if !core::mem::take(&mut self.ready) {
            return false;
        }
        let socket = net.sockets.get_mut::<dhcpv4::Socket<'_>>(self.socket);
        let before = self.lease;
        let (lease, router, servers) = match socket.poll() {
            None => {
                socket.register_waker(net.ready.waker(self.bit));
                return false;
            }
            Some(Event::Deconfigured) => (None, None, Vec::new()),
            Some(Event::Configured(config)) => {
                let servers = config.dns_servers.iter().map(|s| IpAddress::Ipv4(*s));
                (Some(config.address), config.router, servers.collect())
            }
        };
        socket.register_waker(net.ready.waker(self.bit));
        self.lease = lease;
        if before != lease {
            net.iface.update_ip_addrs(|addrs| {
                addrs.retain(|a| Some(*a) != before.map(IpCidr::Ipv4));
                if let Some(lease) = lease {
                    // The configuration was checked to leave room for it.
                    let _ = addrs.push(IpCidr::Ipv4(lease));
                }
            });
        }
        // The stack sends ARP requests for the gateway, and panics if it is not the address of one
        // machine.
        match router.filter(|router| is_gateway((*router).into())) {
            Some(router) => {
                let _ = net.iface.routes_mut().add_default_ipv4_route(router);
            }
            None => {
                net.iface.routes_mut().remove_default_ipv4_route();
            }
        }
        if self.dns {
            names.set_servers(net, &servers);
        }
        net.dirty = true;
        before != lease
    }
}
