//! The idle addresses of one class, ordered by when to try them and by how dispensable they are.

use alloc::collections::BTreeSet;
use core::net::SocketAddr;

use crate::Instant;

/// How dispensable an address is. The greatest is removed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    /// The number of failed attempts in a row.
    pub(super) failures: u8,
    /// Whether no connection to it was ever useful.
    pub(super) untried: bool,
    /// A random number that decides between equals.
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

    /// The address that is due first.
    pub(super) fn first(&self) -> Option<(Instant, SocketAddr)> {
        self.order.first().copied()
    }

    /// The most dispensable address.
    pub(super) fn worst_rank(&self) -> Option<(Rank, SocketAddr)> {
        self.ranks.last().copied()
    }

    /// All addresses, the most dispensable first.
    pub(super) fn worst(&self) -> impl Iterator<Item = SocketAddr> {
        self.ranks.iter().rev().map(|(_, addr)| *addr)
    }

    /// Takes the order out. It has to be returned by [`Idle::put_order`].
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
