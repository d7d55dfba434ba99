//! Listening, and eviction of connections when sockets are short.

use core::net::SocketAddr;

use dunlin_core::Instant;
use smoltcp::socket::tcp::{self, State};

use super::{Owner, Pool, Slot, VACANT};
use crate::net::{Net, socket_addr};
use crate::stats::Stats;

impl Pool {
    /// Handles a listener that has received a SYN: it becomes a connection, and another socket
    /// takes its place.
    pub(super) fn got_syn(&mut self, net: &mut Net, now: Instant, index: usize, stats: &mut Stats) {
        self.swap(net, index, self.base);
        let index = self.base;
        self.base += 1;
        self.short = true;
        self.half_open += 1;
        let deadline = now + self.config.half_open_timeout;
        let slot = &mut self.slots[index];
        slot.owner = Owner::HalfOpen;
        slot.since = now;
        self.set_deadline(index, deadline);
        stats.syns += 1;
        // A listener accepts both families, and only one may be bound.
        let socket = net.tcp(self.handles[index]);
        let v6 = socket
            .local_endpoint()
            .is_some_and(|e| SocketAddr::is_ipv6(&socket_addr(e)));
        let port = self.slots[index].port;
        let bound = self
            .ports
            .iter()
            .position(|p| *p == port)
            .is_some_and(|at| self.families[at][usize::from(v6)]);
        if !bound {
            self.abort(net, now, index);
        } else if self.half_open > self.config.half_open {
            self.drop_half_open(net, stats);
        } else if net.tcp(self.handles[index]).state() != State::SynReceived {
            self.enqueue(index);
        }
        self.fill(net, stats);
    }

    /// Creates missing listeners, as far as there are sockets.
    pub(crate) fn fill(&mut self, net: &mut Net, stats: &mut Stats) {
        if !core::mem::take(&mut self.short) {
            return;
        }
        self.missing = false;
        for at in 0..self.ports.len() {
            let port = self.ports[at];
            let listening = |s: &&Slot| s.owner == Owner::Listener && s.port == port;
            let mut have = self.slots[self.base..].iter().filter(listening).count();
            while have < self.config.reserve {
                // Other connections are evicted only for the last listener.
                let index = self.grow(net).or_else(|| self.lower(net));
                let index = index.or_else(|| {
                    let room = have == 0 && self.make_room(net, true, stats);
                    room.then(|| self.lower(net)).flatten()
                });
                let Some(index) = index else {
                    // This continues when a socket becomes free.
                    self.missing = true;
                    break;
                };
                self.tune(net, index);
                let socket = net.watch(self.handles[index], self.bit(index));
                // The port and the state permit it; see `grow` and `free`.
                let _ = socket.listen(port);
                self.slots[index] = Slot {
                    owner: Owner::Listener,
                    port,
                    ..VACANT
                };
                net.watch(self.handles[index], self.bit(index));
                have += 1;
            }
        }
    }

    /// Moves a free socket above `base`. Returns its new index.
    pub(super) fn lower(&mut self, net: &mut Net) -> Option<usize> {
        let free = self.free_slot()?;
        self.swap(net, free, self.base - 1);
        self.base -= 1;
        Some(self.base)
    }

    /// A free socket below `base`.
    pub(super) fn free_slot(&self) -> Option<usize> {
        self.slots[..self.base]
            .iter()
            .position(|s| s.owner == Owner::Free)
    }

    /// A socket to connect with, below `base`.
    pub(super) fn vacancy(&mut self, net: &mut Net, stats: &mut Stats) -> Option<usize> {
        if let Some(free) = self.free_slot() {
            return Some(free);
        }
        if let Some(new) = self.grow(net) {
            self.swap(net, new, self.base);
            self.base += 1;
            return Some(self.base - 1);
        }
        let made = self.make_room(net, false, stats);
        made.then(|| self.free_slot()).flatten()
    }

    /// Frees a socket that can be spared: one in TIME-WAIT, otherwise one that lingers, otherwise
    /// (for a listener) one in a handshake; always the oldest. A single handshake is spared: with
    /// the last socket, it lets one more peer in.
    pub(super) fn make_room(&mut self, net: &mut Net, half_open: bool, stats: &mut Stats) -> bool {
        let mut best: Option<(u8, Instant, usize)> = None;
        for (index, slot) in self.slots[..self.base].iter().enumerate() {
            let state = net
                .sockets
                .get::<tcp::Socket<'_>>(self.handles[index])
                .state();
            let rank = match slot.owner {
                Owner::Ending if matches!(state, State::TimeWait | State::Closed) => 0,
                Owner::Ending => 1,
                Owner::HalfOpen if half_open && self.half_open > 1 => 2,
                _ => continue,
            };
            let candidate = (rank, slot.since, index);
            if best.is_none_or(|b| candidate < b) {
                best = Some(candidate);
            }
        }
        let Some((_, _, index)) = best else {
            return false;
        };
        stats.evicted += 1;
        self.evict(net, index);
        true
    }

    /// Drops the oldest handshake.
    pub(super) fn drop_half_open(&mut self, net: &mut Net, stats: &mut Stats) {
        let half_open = self.slots[..self.base].iter().enumerate();
        let oldest = half_open
            .filter(|(_, s)| s.owner == Owner::HalfOpen)
            .min_by_key(|(index, s)| (s.since, *index));
        if let Some((index, _)) = oldest {
            stats.evicted += 1;
            self.evict(net, index);
        }
    }

    /// Takes a slot from a connection silently. To the other side it looks like packet loss, so it
    /// tries again, while a reset would make it give up.
    fn evict(&mut self, net: &mut Net, index: usize) {
        self.free(net, index);
        let socket = net.tcp(self.handles[index]);
        // A listening socket has forgotten its previous connection. The port does not matter,
        // because the socket is closed next.
        let _ = socket.listen(1);
        socket.close();
    }
}
