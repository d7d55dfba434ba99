//! The addresses of one class that are not in use, by when to try them and by how bad they are.

use alloc::collections::BTreeSet;
use core::net::SocketAddr;

use crate::Instant;

/// How dispensable an address is; the greatest goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    /// Failed attempts in a row.
    pub(super) failures: u8,
    /// No connection to it was ever of use.
    pub(super) untried: bool,
    /// Decides where the others say nothing.
    pub(super) draw: u32,
}

/// The idle addresses of one class.
#[derive(Debug, Default)]
pub(super) struct Idle {
    order: BTreeSet<(Instant, SocketAddr)>,
    ranks: BTreeSet<(Rank, SocketAddr)>,
}

impl Idle {
    pub(super) fn insert(&mut self, addr: SocketAddr, due: Instant, rank: Rank) {
        self.order.insert((due, addr));
        self.ranks.insert((rank, addr));
    }

    pub(super) fn remove(&mut self, addr: SocketAddr, due: Instant, rank: Rank) {
        self.order.remove(&(due, addr));
        self.ranks.remove(&(rank, addr));
    }

    /// The one that is due first.
    pub(super) fn first(&self) -> Option<(Instant, SocketAddr)> {
        self.order.first().copied()
    }

    /// The most dispensable one.
    pub(super) fn worst_rank(&self) -> Option<(Rank, SocketAddr)> {
        self.ranks.last().copied()
    }

    /// All of them, the most dispensable first.
    pub(super) fn worst(&self) -> impl Iterator<Item = SocketAddr> {
        self.ranks.iter().rev().map(|(_, addr)| *addr)
    }

    /// Takes the order out; all of it is to come back by [`Idle::put_order`].
    pub(super) fn take_order(&mut self) -> BTreeSet<(Instant, SocketAddr)> {
        core::mem::take(&mut self.order)
    }

    pub(super) fn put_order(&mut self, due: Instant, addr: SocketAddr) {
        self.order.insert((due, addr));
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }
}
