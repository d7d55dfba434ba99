//! Nodes to begin with that are known by name: routers, the `nodes` of torrents, and those that users add.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::SocketAddr;

use crate::dht::Cause;
use crate::metainfo::HostPort;

/// The most names kept; the oldest are dropped (rTorrent's value).
pub(super) const MAX_CONTACTS: usize = 64;
/// The most names looked up in one round, the newest first (rTorrent's value).
const NAMES_PER_ROUND: usize = 8;

/// Names that were not looked up yet, or whose addresses have not helped so far.
#[derive(Debug)]
pub(super) struct Contacts {
    names: VecDeque<HostPort>,
    /// Look-ups since the start of the node: asked for, answered, and answered with addresses.
    asked: u32,
    answered: u32,
    found: u32,
}

impl Contacts {
    pub(super) const fn new() -> Self {
        Self {
            names: VecDeque::new(),
            asked: 0,
            answered: 0,
            found: 0,
        }
    }

    /// The node starts: look-ups of an earlier run do not count any more.
    pub(super) const fn start(&mut self) {
        (self.asked, self.answered, self.found) = (0, 0, 0);
    }

    /// Remembers names and addresses, each once.
    pub(super) fn add(&mut self, nodes: impl IntoIterator<Item = HostPort>) {
        for node in nodes {
            if self.names.contains(&node) {
                continue;
            }
            if self.names.len() >= MAX_CONTACTS {
                self.names.pop_front();
            }
            self.names.push_back(node);
        }
    }

    /// Forgets all of them: the node knows enough others.
    pub(super) fn clear(&mut self) {
        self.names.clear();
    }

    /// Takes out those that need no look-up: the node keeps addresses itself, and paces its tries.
    pub(super) fn take_addresses(&mut self) -> heapless::Vec<SocketAddr, MAX_CONTACTS> {
        let mut addrs = heapless::Vec::new();
        self.names
            .retain(|name| name.addr().is_none_or(|addr| addrs.push(addr).is_err()));
        addrs
    }

    /// The names to look up now, the newest; none while others are being looked up. In the next round others come first,
    /// for one may have other addresses then.
    pub(super) fn next_round(&mut self) -> Vec<HostPort> {
        let count = match self.asked > self.answered {
            true => 0,
            false => self.names.len().min(NAMES_PER_ROUND),
        };
        self.names.rotate_right(count);
        self.names.iter().take(count).cloned().collect()
    }

    /// A look-up was asked for.
    pub(super) const fn asked(&mut self) {
        self.asked += 1;
    }

    /// A look-up was answered, with addresses or without. One of an earlier run is taken for one of this.
    pub(super) fn answered(&mut self, found: bool) {
        self.answered = self.asked.min(self.answered + 1);
        self.found += u32::from(found);
    }

    /// What is known here of the reason for a failure, beyond what the node knows: it sees no names.
    pub(super) const fn explain(&self, cause: Cause) -> Cause {
        match cause {
            Cause::NoContacts if self.answered > 0 && self.found == 0 => Cause::Dns,
            other => other,
        }
    }

    /// All that are remembered.
    pub(super) fn iter(&self) -> impl Iterator<Item = &HostPort> {
        self.names.iter()
    }
}
