//! Nodes to begin with: routers, torrents' `nodes`, what people name, what peers tell.

use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use super::super::ops::Purpose;
use super::super::{Engine, cx};
use super::DhtNodeError;
use crate::dht::{Cause, parse_node};
use crate::metainfo::HostPort;
use crate::{Instant, Op, Outcome};

/// Most names kept; the oldest make way (rTorrent's).
const MAX_CONTACTS: usize = 64;
/// Names looked up in one round, the newest (rTorrent's).
const NAMES_PER_ROUND: usize = 8;

/// What a name is looked up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Wanted {
    /// A node to begin with.
    Contact,
    /// A node that a person named: it is asked for a sign of life.
    Ping,
}

impl Engine {
    /// `host` or `host:port`, the way a person writes it: the node is asked for a sign of life,
    /// and joins the table if that has space. While the DHT does not run it is remembered as one
    /// to begin with.
    ///
    /// # Errors
    /// See [`DhtNodeError`].
    pub fn dht_add_node(&mut self, now: Instant, node: &str) -> Result<(), DhtNodeError> {
        self.tick(now);
        if self.dht.is_none() {
            return Err(DhtNodeError::NotEnabled);
        }
        let node = parse_node(node)?;
        if !self.dht_is_active() {
            self.dht_contacts([node]);
        } else if let Some(addr) = node.addr() {
            self.dht_ping_quietly(addr);
        } else {
            self.dht_resolve(node, Wanted::Ping);
        }
        Ok(())
    }

    /// Nodes to begin with, from a torrent or a router.
    pub(in super::super) fn dht_contacts(&mut self, nodes: impl IntoIterator<Item = HostPort>) {
        let Some(server) = &mut self.dht else {
            return;
        };
        for node in nodes {
            if server.contacts.contains(&node) {
                continue;
            }
            if server.contacts.len() >= MAX_CONTACTS {
                server.contacts.pop_front();
            }
            server.contacts.push_back(node);
        }
        self.dht_try_contacts();
    }

    /// While the node knows few others, or none that answer: tries those to begin with.
    pub(super) fn dht_try_contacts(&mut self) {
        let now = self.now;
        let Some(server) = &mut self.dht else {
            return;
        };
        let Some(node) = server.running() else {
            return;
        };
        if !node.wants_contacts(now) {
            server.contacts.clear();
            return;
        }
        // The node keeps addresses itself, and paces its tries.
        let contacts = &mut server.contacts;
        let mut addrs = heapless::Vec::<SocketAddr, MAX_CONTACTS>::new();
        contacts.retain(|contact| contact.addr().is_none_or(|a| addrs.push(a).is_err()));
        // The newest; in the next round others come first, for one may have other addresses then.
        let under_way = server.names.asked > server.names.answered;
        let count = match under_way {
            true => 0,
            false => contacts.len().min(NAMES_PER_ROUND),
        };
        contacts.rotate_right(count);
        let names: Vec<HostPort> = contacts.iter().take(count).cloned().collect();
        if let Some(node) = server.running() {
            for addr in addrs {
                node.add_contact(&mut cx!(self), addr);
            }
        }
        for name in names {
            self.dht_resolve(name, Wanted::Contact);
        }
        self.after_dht();
    }

    fn dht_resolve(&mut self, node: HostPort, wanted: Wanted) {
        let HostPort { host, port } = node;
        if !self.caps.resolve {
            return;
        }
        if let Some(server) = &mut self.dht {
            server.names.asked += 1;
        }
        self.out
            .ops
            .job(Purpose::DhtName(port, wanted), |op| Op::Resolve {
                op,
                host,
            });
    }

    /// The name of a node was looked up.
    pub(in super::super) fn dht_resolved(&mut self, port: u16, wanted: Wanted, outcome: &Outcome) {
        let Some(server) = &mut self.dht else {
            return;
        };
        // One of an earlier start is none of these.
        server.names.answered = server.names.asked.min(server.names.answered + 1);
        let Outcome::Resolved(ips) = outcome else {
            return;
        };
        server.names.found += 1;
        for ip in ips {
            let usable = match ip {
                IpAddr::V4(_) => self.caps.ipv4,
                IpAddr::V6(_) => self.caps.ipv6,
            };
            let addr = SocketAddr::new(*ip, port);
            match wanted {
                _ if !usable => {}
                Wanted::Ping => self.dht_ping_quietly(addr),
                Wanted::Contact => {
                    if let Some(node) = self.dht.as_mut().and_then(|s| s.running()) {
                        node.add_contact(&mut cx!(self), addr);
                    }
                }
            }
        }
        self.after_dht();
    }

    /// Asks for a sign of life whose coming nobody has to hear of. More than the node can watch
    /// are not worth waiting for.
    pub(in super::super) fn dht_ping_quietly(&mut self, addr: SocketAddr) {
        if let Some(node) = self.dht.as_mut().and_then(|s| s.running()) {
            let _ = node.ping(&mut cx!(self), addr);
            self.after_dht();
        }
    }

    /// What is known here of the reason for a failure, beyond what the node knows.
    pub(super) fn dht_cause(&self, cause: Cause) -> Cause {
        let names = self.dht.as_ref().map(|s| s.names).unwrap_or_default();
        match cause {
            Cause::NoContacts if names.answered > 0 && names.found == 0 => Cause::Dns,
            other => other,
        }
    }
}
