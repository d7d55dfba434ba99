//! The loss and return of the network interface that all traffic is bound to, such as that of a VPN.

use alloc::string::String;

use super::torrents::Why;
use super::{Engine, Stop};
use crate::Instant;
use crate::torrent::outbox::event::{Level, What};

impl Engine {
    /// The interface `name`, which all traffic is bound to, disappeared. Every connection is closed, as sockets stay bound
    /// to the interface that does not exist any more, and no port is announced.
    pub fn network_lost(&mut self, now: Instant, name: &str) {
        self.tick(now);
        let name = String::from(name);
        self.out
            .notice(None, None, Level::Warning, What::InterfaceGone { name });
        self.endpoints.listening.clear();
        self.endpoints.udp_bound.clear();
        self.endpoints.lost = true;
        let (_, torrents, mut io) = self.parts();
        torrents.close_all(&mut io, "its interface is gone");
        io.dismiss_unclaimed();
        self.settle();
    }

    /// The interface exists again: all sockets are bound again, and peers and trackers are asked again.
    pub fn network_back(&mut self, now: Instant, name: &str) {
        self.tick(now);
        let name = String::from(name);
        self.out
            .notice(None, None, Level::Warning, What::InterfaceBack { name });
        self.endpoints.lost = false;
        if self.stop != Stop::Running {
            return;
        }
        let (dht, torrents, mut io) = self.parts();
        io.bind_all();
        if let Some(dht) = dht {
            dht.rebind(&mut io);
        }
        torrents.sweep(&mut io, Why::NetworkBack);
        self.settle();
    }
}
