//! The datagrams that were or will be sent, and have to be answered.

use core::net::SocketAddr;

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{QueryId, limits::rto};
use crate::{machine::Cx, time::Instant, wire::tracker::udp as wire};

/// A datagram that has to be answered.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) dst: SocketAddr,
    /// The query, or `None` for a connect to `dst`.
    pub(super) query: Option<QueryId>,
    /// Retransmissions so far.
    pub(super) n: u8,
    /// When the wait is over: its key in `timers`.
    due: Instant,
    /// Whether it is in `outbox`.
    queued: bool,
}

/// The transactions that are open: which one is sent next, and how long its answer is awaited.
#[derive(Debug)]
pub(super) struct Transactions {
    /// By transaction id, which is random, so that no other party chooses these keys.
    open: BTreeMap<u32, Transaction>,
    timers: BTreeSet<(Instant, u32)>,
    /// The transactions to send, at most one entry each.
    outbox: VecDeque<u32>,
}

impl Transactions {
    pub(super) const fn new() -> Self {
        Self {
            open: BTreeMap::new(),
            timers: BTreeSet::new(),
            outbox: VecDeque::new(),
        }
    }

    /// An open transaction.
    pub(super) fn get(&self, transaction: u32) -> Option<&Transaction> {
        self.open.get(&transaction)
    }

    /// The transaction that a datagram from this address answers.
    pub(super) fn answered_by(&self, from: SocketAddr, data: &[u8]) -> Option<u32> {
        let transaction = wire::transaction(data)?;
        let open = self.open.get(&transaction)?;
        (open.dst == from).then_some(transaction)
    }

    /// Opens a transaction and queues its first datagram.
    pub(super) fn begin(
        &mut self,
        cx: &mut Cx<'_>,
        dst: SocketAddr,
        query: Option<QueryId>,
        n: u8,
    ) -> u32 {
        let transaction = loop {
            let id = cx.rng.next_u32();
            if !self.open.contains_key(&id) {
                break id;
            }
        };
        // The wait also ends if the socket never accepts it.
        let due = cx.now + rto(n);
        self.open.insert(
            transaction,
            Transaction {
                dst,
                query,
                n,
                due,
                queued: true,
            },
        );
        self.timers.insert((due, transaction));
        self.outbox.push_back(transaction);
        transaction
    }

    /// Closes a transaction.
    pub(super) fn end(&mut self, transaction: u32) -> Option<Transaction> {
        let ended = self.open.remove(&transaction)?;
        self.timers.remove(&(ended.due, transaction));
        if ended.queued {
            self.outbox.retain(|&t| t != transaction);
        }
        Some(ended)
    }

    /// Queues the next retransmission of a transaction, and waits longer for the answer.
    pub(super) fn repeat(&mut self, transaction: u32, now: Instant) {
        if let Some(t) = self.open.get_mut(&transaction) {
            t.n += 1;
            if !core::mem::replace(&mut t.queued, true) {
                self.outbox.push_back(transaction);
            }
            self.wait(transaction, now);
        }
    }

    /// Starts or restarts the wait for an answer.
    fn wait(&mut self, transaction: u32, now: Instant) {
        if let Some(t) = self.open.get_mut(&transaction) {
            self.timers.remove(&(t.due, transaction));
            t.due = now + rto(t.n);
            self.timers.insert((t.due, transaction));
        }
    }

    /// The transaction whose wait ends first, and when.
    pub(super) fn first_due(&self) -> Option<(Instant, u32)> {
        self.timers.first().copied()
    }

    /// The transaction to send next.
    pub(super) fn next(&self) -> Option<u32> {
        self.outbox.front().copied()
    }

    /// Takes the next transaction from the queue, as it is sent now: starts its wait, and returns its destination.
    pub(super) fn take_next(&mut self, now: Instant) -> Option<(u32, SocketAddr)> {
        let transaction = self.outbox.pop_front()?;
        let t = self.open.get_mut(&transaction)?;
        t.queued = false;
        let dst = t.dst;
        self.wait(transaction, now);
        Some((transaction, dst))
    }

    /// Whether none is open.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty() && self.timers.is_empty() && self.outbox.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    const DST: SocketAddr = SocketAddr::new(
        core::net::IpAddr::V4(core::net::Ipv4Addr::new(10, 0, 0, 1)),
        80,
    );

    /// Whatever happens in whatever order: each open transaction has one timer and is queued at most once, and those that
    /// ended leave nothing behind.
    #[test]
    fn the_queue_and_the_timers_name_open_transactions_only() {
        fn holds(steps: Vec<(u8, u8)>) -> bool {
            let mut rng = ChaCha8Rng::seed_from_u64(1);
            let (mut all, mut now) = (Transactions::new(), Instant::from_micros(1));
            let mut open = Vec::new();
            for (what, which) in steps {
                now += core::time::Duration::from_secs(1);
                let cx = &mut Cx { now, rng: &mut rng };
                let picked = open.get(usize::from(which) % open.len().max(1)).copied();
                match (what % 4, picked) {
                    (1, Some(transaction)) => {
                        assert!(all.end(transaction).is_some());
                        open.retain(|t| *t != transaction);
                    }
                    (2, Some(transaction)) if all.get(transaction).is_some_and(|t| t.n < 8) => {
                        all.repeat(transaction, now);
                    }
                    (3, _) => {
                        let next = all.next();
                        let taken = all.take_next(now);
                        assert_eq!(taken, next.map(|t| (t, DST)));
                        let timed = taken.is_none_or(|(t, _)| all.open[&t].due > now);
                        assert!(timed);
                    }
                    _ => open.push(all.begin(cx, DST, None, 0)),
                }
                let queued = |t: &u32| all.outbox.iter().filter(|q| *q == t).count();
                for (id, t) in &all.open {
                    assert_eq!(queued(id), usize::from(t.queued));
                    assert!(all.timers.contains(&(t.due, *id)));
                }
                assert!(all.outbox.iter().all(|t| all.open.contains_key(t)));
                assert_eq!((all.open.len(), all.timers.len()), (open.len(), open.len()));
            }
            for transaction in open {
                all.end(transaction);
            }
            all.is_empty() && all.first_due().is_none() && all.next().is_none()
        }
        quickcheck::quickcheck(holds as fn(Vec<(u8, u8)>) -> bool);
    }
}
