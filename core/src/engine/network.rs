//! The network below goes away and comes back, as the interface of a VPN does.

use alloc::{string::String, vec::Vec};

use super::event::{Level, What};
use super::ops::Purpose;
use super::sweep::Why;
use super::{Engine, Stop};
use crate::op::{Close, SocketKind};
use crate::{ConnId, Instant, Op};

impl Engine {
    /// The interface that all traffic is bound to, by its `name`, is gone. Nothing is bound any
    /// more, so nothing is announced, and every stream is closed: none of them would carry a byte
    /// again, as sockets stay bound to an interface that is gone.
    pub fn network_lost(&mut self, now: Instant, name: &str) {
        self.tick(now);
        let name = String::from(name);
        self.out
            .notice(None, None, Level::Warning, What::InterfaceGone { name });
        self.endpoints.listening.clear();
        self.endpoints.udp_bound.clear();
        self.endpoints.lost = true;
        let (torrents, mut io) = self.parts();
        for t in torrents.values_mut() {
            t.close_all(&mut io, "its interface is gone");
        }
        let silent: Vec<ConnId> = io.conns.silent().collect();
        for conn in silent {
            io.dismiss(conn, Close::Flush);
        }
        self.settle();
    }

    /// The interface is back: all sockets are bound anew, and peers and trackers are asked again.
    pub fn network_back(&mut self, now: Instant, name: &str) {
        self.tick(now);
        let name = String::from(name);
        self.out
            .notice(None, None, Level::Warning, What::InterfaceBack { name });
        self.endpoints.lost = false;
        if self.stop != Stop::Running {
            return;
        }
        self.bind_all();
        self.dht_rebind();
        self.sweep_trackers(Why::NetworkBack);
        self.settle();
    }

    /// The DHT's own sockets, if it has any, get successors on the same ports.
    fn dht_rebind(&mut self) {
        for (socket, local) in self.dht_own_sockets() {
            // No start waits for it, so its outcome changes nothing.
            self.out.ops.job(Purpose::DhtBind(u32::MAX), |op| Op::Bind {
                op,
                socket,
                kind: SocketKind::Udp,
                local,
            });
        }
    }
}
