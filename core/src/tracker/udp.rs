//! UDP trackers (BEP 15): the announces and scrapes of all torrents over one socket.
//!
//! ```text
//!            ┌─no connection id─▶ Waiting ──connected──▶ Asking ──answer──▶ event
//!  query ────┤                     ▲   ▲                  │ │
//!            └─cached, < 60 s──────┼───┼─────────────────▶┘ │
//!                                  │   └─id expired─────────┘
//!                                  └─ one connect per tracker address, shared by all that wait
//! ```
//!
//! A datagram that is not answered is sent again after 15·2ⁿ seconds, where n is the number of a query's retransmissions in
//! both phases. A retransmission keeps its transaction id, as announces may be repeated, so a late answer still counts. Each
//! new connect and each first announce gets a new id. Answers are only accepted from the address that was asked.
//!
//! If an address of a tracker does not answer for 15 seconds, or cannot be sent to, its next address is asked. Only the last
//! one is asked repeatedly, see [`UdpConfig::patience`].

mod limits;
mod state;
mod transactions;

use alloc::{
    collections::{BTreeMap, VecDeque},
    vec::Vec,
};
use core::net::SocketAddr;
use core::num::NonZeroUsize;

use crate::{
    id::InfoHash,
    machine::{Cx, Handled, Machine, RecvMeta, Transmit},
    net::Family,
    time::Instant,
    wire::tracker::{
        AnnounceRequest, Answer, TrackerError, printable,
        udp::{self as wire, MAX_SCRAPE, Request, Response},
    },
};

pub use self::limits::{CONNECTION_LIFETIME, INITIAL_RTO, MAX_N, UdpConfig};

use self::{
    limits::{MAX_ALTERNATIVES, MAX_TRAIN},
    state::{Body, Connection, Query},
    transactions::Transactions,
};

/// The id of a query of a [`UdpTrackers`]. It is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct QueryId(pub u64);

/// There is no room for another query. Try again after some events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// The result of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The id of the query.
    pub id: QueryId,
    /// The answer, or the reason for which there is none.
    pub result: Result<Answer, TrackerError>,
}

/// All queries to UDP trackers.
#[derive(Debug)]
pub struct UdpTrackers {
    config: UdpConfig,
    next_id: u64,
    queries: BTreeMap<QueryId, Query>,
    connections: BTreeMap<SocketAddr, Connection>,
    transactions: Transactions,
    events: VecDeque<Event>,
}

impl UdpTrackers {
    /// Creates it without queries.
    #[must_use]
    pub fn new(config: UdpConfig) -> Self {
        let config = UdpConfig {
            last_n: config.last_n.min(MAX_N),
            ..config
        };
        Self {
            config,
            next_id: 0,
            queries: BTreeMap::new(),
            connections: BTreeMap::new(),
            transactions: Transactions::new(),
            events: VecDeque::new(),
        }
    }

    /// The limits in force.
    #[must_use]
    pub const fn config(&self) -> &UdpConfig {
        &self.config
    }

    /// Announces to the tracker at `dst`. `path_and_query` is that of the tracker's URL (BEP 41).
    ///
    /// # Errors
    /// [`Full`] when a limit of [`UdpConfig`] is reached.
    pub fn announce(
        &mut self,
        cx: &mut Cx<'_>,
        dst: SocketAddr,
        path_and_query: &str,
        request: AnnounceRequest,
    ) -> Result<QueryId, Full> {
        self.query(cx, dst, Body::Announce(request, path_and_query.into()))
    }

    /// Scrapes `hashes` at the tracker at `dst`. Those beyond [`MAX_SCRAPE`] are left out.
    ///
    /// # Errors
    /// [`Full`] when a limit of [`UdpConfig`] is reached.
    pub fn scrape(
        &mut self,
        cx: &mut Cx<'_>,
        dst: SocketAddr,
        hashes: &[InfoHash],
    ) -> Result<QueryId, Full> {
        let hashes = &hashes[..hashes.len().min(MAX_SCRAPE)];
        self.query(cx, dst, Body::Scrape(hashes.into()))
    }

    /// Adds further addresses of its tracker to a query. They are asked in this order if the first one does not answer.
    /// Those beyond a few are left out.
    pub fn set_alternatives(&mut self, id: QueryId, others: &[SocketAddr]) {
        if let Some(query) = self.queries.get_mut(&id) {
            let dst = query.dst;
            let new = others.iter().filter(|&&at| at != dst);
            query.others = new.take(MAX_ALTERNATIVES).copied().collect();
            query.others.reverse();
        }
    }

    /// Whether it is remembered that a tracker has answered at this address.
    #[must_use]
    pub fn has_answered(&self, at: &SocketAddr) -> bool {
        matches!(self.connections.get(at), Some(Connection::Ready { .. }))
    }

    /// A datagram to `dst` could not be sent for a permanent reason: queries that wait for an answer from there are sent to
    /// another address, or fail at once.
    pub fn handle_unsent(&mut self, cx: &mut Cx<'_>, dst: SocketAddr) {
        let concerned = self.queries.iter().filter(|(_, query)| query.dst == dst);
        let concerned: Vec<QueryId> = concerned.map(|(id, _)| *id).collect();
        for id in concerned {
            if let Some(query) = self.queries.get(&id)
                && let Some(transaction) = query.transaction
            {
                self.transactions.end(transaction);
                self.give_up(cx, id, TrackerError::Unsent);
            }
        }
        if let Some(Connection::Connecting { transaction, .. }) = self.connections.get(&dst) {
            self.transactions.end(*transaction);
            self.connect_failed(cx, dst, &TrackerError::Unsent);
        }
    }

    /// Whether a datagram answers an open transaction: it has its id, and comes from the address that was asked.
    #[must_use]
    pub fn awaits(&self, meta: &RecvMeta, data: &[u8]) -> bool {
        self.transactions.answered_by(meta.from, data).is_some()
    }

    /// Writes the next datagram into `buf`, followed by those to the same tracker that come next and have the same length,
    /// the last one perhaps shorter: announces of torrents that have waited for one connection id. At most `max_segments`
    /// datagrams in total.
    pub fn poll_train(
        &mut self,
        cx: &mut Cx<'_>,
        max_segments: usize,
        buf: &mut [u8],
    ) -> Option<Transmit> {
        let first = self.poll_transmit(cx, buf)?;
        let (segment, mut len) = (NonZeroUsize::new(first.len)?, first.len);
        let room = buf.len().min(MAX_TRAIN);
        for _ in 1..max_segments {
            let Some(rest) = buf[..room].get_mut(len..len + segment.get()) else {
                break;
            };
            let Some(next) = self.transactions.next() else {
                break;
            };
            let follows = self.transactions.get(next).map(|t| t.dst) == Some(first.dst);
            // A datagram that does not fit here starts the next train.
            let Some(more) = self.emit(next, cx.now, rest).filter(|_| follows) else {
                break;
            };
            self.transactions.take_next(cx.now);
            len += more;
            if more < segment.get() {
                break;
            }
        }
        Some(Transmit {
            len,
            segment: (len > first.len).then_some(segment),
            ..first
        })
    }

    /// Whether [`Machine::poll_transmit`] has a datagram.
    #[must_use]
    pub fn has_transmit(&self) -> bool {
        self.transactions.next().is_some()
    }

    /// Cancels a query. No event follows.
    pub fn cancel(&mut self, id: QueryId) {
        if let Some(query) = self.queries.remove(&id) {
            self.detach(id, &query);
        }
        self.events.retain(|event| event.id != id);
    }

    fn query(&mut self, cx: &mut Cx<'_>, dst: SocketAddr, body: Body) -> Result<QueryId, Full> {
        if self.queries.len() + self.events.len() >= self.config.max_queries {
            return Err(Full);
        }
        self.admit(cx.now, dst)?;
        let id = QueryId(self.next_id);
        self.next_id += 1;
        let query = Query {
            dst,
            others: heapless::Vec::new(),
            body,
            n: 0,
            transaction: None,
            reconnected: false,
        };
        self.queries.insert(id, query);
        self.ask(cx, id);
        Ok(id)
    }

    /// # Errors
    /// [`Full`] if one more query to `dst` would be too many.
    fn admit(&mut self, now: Instant, dst: SocketAddr) -> Result<(), Full> {
        let same = self.queries.values().filter(|query| query.dst == dst);
        if same.count() >= self.config.max_per_tracker {
            return Err(Full);
        }
        self.make_room(now, dst)
    }

    /// Makes sure that `dst` has or can get an entry in `connections`. At the limit, an expired entry is removed, or else
    /// the one that expires first.
    fn make_room(&mut self, now: Instant, dst: SocketAddr) -> Result<(), Full> {
        if self.connections.len() < self.config.max_connections
            || self.connections.contains_key(&dst)
        {
            return Ok(());
        }
        let ready = |(addr, connection): (&SocketAddr, &Connection)| match connection {
            Connection::Ready { until, .. } => Some((*until, *addr)),
            Connection::Connecting { .. } => None,
        };
        let (_, first) = self
            .connections
            .iter()
            .filter_map(ready)
            .min()
            .ok_or(Full)?;
        self.connections.remove(&first);
        self.connections.retain(|_, c| {
            matches!(c, Connection::Ready { until, .. } if *until > now)
                || matches!(c, Connection::Connecting { .. })
        });
        Ok(())
    }

    /// Queues the query, or lets it wait for a connection id.
    fn ask(&mut self, cx: &mut Cx<'_>, id: QueryId) {
        let Some(query) = self.queries.get(&id) else {
            return;
        };
        let (dst, n) = (query.dst, query.n);
        match self.connections.get_mut(&dst) {
            Some(Connection::Ready { until, .. }) if *until > cx.now => {
                let transaction = self.transactions.begin(cx, dst, Some(id), n);
                if let Some(query) = self.queries.get_mut(&id) {
                    query.transaction = Some(transaction);
                }
            }
            Some(Connection::Connecting { waiting, .. }) => waiting.push(id),
            Some(Connection::Ready { .. }) | None => {
                let connecting = Connection::Connecting {
                    transaction: self.transactions.begin(cx, dst, None, n),
                    waiting: alloc::vec![id],
                };
                self.connections.insert(dst, connecting);
            }
        }
    }

    /// Removes a query that is not in `queries` any more from all other tables.
    fn detach(&mut self, id: QueryId, query: &Query) {
        if let Some(transaction) = query.transaction {
            self.transactions.end(transaction);
            return;
        }
        let Some(Connection::Connecting {
            transaction,
            waiting,
        }) = self.connections.get_mut(&query.dst)
        else {
            return;
        };
        waiting.retain(|&waits| waits != id);
        if waiting.is_empty() {
            let transaction = *transaction;
            self.connections.remove(&query.dst);
            self.transactions.end(transaction);
        }
    }

    fn finish(&mut self, id: QueryId, result: Result<Answer, TrackerError>) {
        if self.queries.remove(&id).is_some() {
            self.events.push_back(Event { id, result });
        }
    }

    /// A query without an open transaction was not answered: it is sent to the tracker's next address, or fails.
    fn give_up(&mut self, cx: &mut Cx<'_>, id: QueryId, error: TrackerError) {
        loop {
            let Some(query) = self.queries.get_mut(&id) else {
                return;
            };
            let Some(next) = query.others.pop() else {
                return self.finish(id, Err(error));
            };
            if self.admit(cx.now, next).is_err() {
                continue;
            }
            if let Some(query) = self.queries.get_mut(&id) {
                query.dst = next;
                query.n = 0;
                query.transaction = None;
                query.reconnected = false;
            }
            return self.ask(cx, id);
        }
    }

    /// The connect to `dst` failed: the queries that waited for it fail, too.
    fn connect_failed(&mut self, cx: &mut Cx<'_>, dst: SocketAddr, error: &TrackerError) {
        if let Some(Connection::Connecting { waiting, .. }) = self.connections.remove(&dst) {
            for id in waiting {
                self.give_up(cx, id, error.clone());
            }
        }
    }

    /// The connect to `dst` was not answered for a while: queries with further addresses are sent there. Returns whether any
    /// are left.
    fn leave_silent(&mut self, cx: &mut Cx<'_>, dst: SocketAddr) -> bool {
        let Some(Connection::Connecting { waiting, .. }) = self.connections.get_mut(&dst) else {
            return false;
        };
        let queries = &self.queries;
        let elsewhere = |id: &QueryId| queries.get(id).is_some_and(|q| !q.others.is_empty());
        let (leaving, staying) = core::mem::take(waiting).into_iter().partition(elsewhere);
        *waiting = staying;
        let stay = !waiting.is_empty();
        if !stay {
            self.connections.remove(&dst);
        }
        let leaving: Vec<QueryId> = leaving;
        for id in leaving {
            self.give_up(cx, id, TrackerError::Timeout);
        }
        stay
    }

    fn connected(&mut self, cx: &mut Cx<'_>, dst: SocketAddr, n: u8, connection: u64) {
        let ready = Connection::Ready {
            id: connection,
            until: cx.now + CONNECTION_LIFETIME,
        };
        if let Some(Connection::Connecting { waiting, .. }) = self.connections.insert(dst, ready) {
            for id in waiting {
                // n continues, or a tracker that only answers connects would be asked forever.
                if let Some(query) = self.queries.get_mut(&id) {
                    query.n = query.n.max(n);
                }
                self.ask(cx, id);
            }
        }
    }

    /// Ends the query `id` with a result. Its transaction has ended.
    fn answered(&mut self, cx: &mut Cx<'_>, id: QueryId, data: &[u8]) {
        let Some(query) = self.queries.get_mut(&id) else {
            return;
        };
        let result = match (Response::parse(data), &query.body) {
            (Some(Response::Announce(response)), Body::Announce(..)) => {
                Ok(Answer::Announce(response.answer(family(&query.dst))))
            }
            (Some(Response::Scrape(body)), Body::Scrape(hashes)) => {
                Ok(Answer::Scrape(wire::scrape_answer(body, hashes.len())))
            }
            (Some(Response::Error(text)), _) if forgot_us(text) && !query.reconnected => {
                query.reconnected = true;
                query.transaction = None;
                let dst = query.dst;
                if let Some(Connection::Ready { .. }) = self.connections.get(&dst) {
                    self.connections.remove(&dst);
                }
                return self.ask(cx, id);
            }
            (Some(Response::Error(text)), _) => Err(refusal(text)),
            _ => Err(malformed()),
        };
        self.finish(id, result);
    }

    /// The wait for an answer has ended.
    fn timed_out(&mut self, cx: &mut Cx<'_>, transaction: u32) {
        let Some(t) = self.transactions.get(transaction) else {
            return;
        };
        let (dst, query, n) = (t.dst, t.query, t.n);
        let elsewhere = |id| self.queries.get(&id).is_some_and(|q| !q.others.is_empty());
        if n >= self.config.last_n || query.is_some_and(elsewhere) {
            self.transactions.end(transaction);
            match query {
                Some(id) => self.give_up(cx, id, TrackerError::Timeout),
                None => self.connect_failed(cx, dst, &TrackerError::Timeout),
            }
            return;
        }
        if query.is_none() && !self.leave_silent(cx, dst) {
            self.transactions.end(transaction);
            return;
        }
        if let Some(id) = query {
            if let Some(query) = self.queries.get_mut(&id) {
                query.n = n + 1;
            }
            if self.connection_id(&dst, cx.now).is_none() {
                self.transactions.end(transaction);
                if let Some(query) = self.queries.get_mut(&id) {
                    query.transaction = None;
                }
                return self.ask(cx, id);
            }
        }
        self.transactions.repeat(transaction, cx.now);
    }

    fn connection_id(&self, dst: &SocketAddr, now: Instant) -> Option<u64> {
        match self.connections.get(dst) {
            Some(&Connection::Ready { id, until }) if until > now => Some(id),
            _ => None,
        }
    }

    /// Writes the datagram of an open transaction.
    fn emit(&self, transaction: u32, now: Instant, buf: &mut [u8]) -> Option<usize> {
        let t = self.transactions.get(transaction)?;
        let family = family(&t.dst);
        let Some(id) = t.query else {
            return Request::Connect.emit(transaction, family, buf);
        };
        let connection = self.connection_id(&t.dst, now)?;
        let request = match &self.queries.get(&id)?.body {
            Body::Announce(request, path) => Request::Announce {
                connection,
                request,
                path,
            },
            Body::Scrape(hashes) => Request::Scrape { connection, hashes },
        };
        request.emit(transaction, family, buf)
    }
}

impl Machine for UdpTrackers {
    type Event = Event;

    fn handle_datagram(&mut self, cx: &mut Cx<'_>, meta: &RecvMeta, data: &[u8]) -> Handled {
        let answered = self.transactions.answered_by(meta.from, data);
        let Some(t) = answered.and_then(|transaction| self.transactions.end(transaction)) else {
            return Handled::NotMine;
        };
        match (t.query, Response::parse(data)) {
            (Some(id), _) => self.answered(cx, id, data),
            (None, Some(Response::Connect { connection })) => {
                self.connected(cx, t.dst, t.n, connection);
            }
            (None, Some(Response::Error(text))) => {
                self.connect_failed(cx, t.dst, &refusal(text));
            }
            (None, _) => self.connect_failed(cx, t.dst, &malformed()),
        }
        Handled::Consumed
    }

    fn handle_timeout(&mut self, cx: &mut Cx<'_>) {
        // Every transaction that is due is removed from the front: it ends, or waits for at least 15 seconds.
        while let Some((due, transaction)) = self.transactions.first_due()
            && due <= cx.now
        {
            self.timed_out(cx, transaction);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.transactions.first_due().map(|(due, _)| due)
    }

    fn poll_transmit(&mut self, cx: &mut Cx<'_>, buf: &mut [u8]) -> Option<Transmit> {
        while let Some((transaction, dst)) = self.transactions.take_next(cx.now) {
            // A datagram that does not fit, or whose connection id expired while it waited, counts as lost.
            if let Some(len) = self.emit(transaction, cx.now, buf) {
                return Some(Transmit::to(dst, len));
            }
        }
        None
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }
}

const fn family(addr: &SocketAddr) -> Family {
    match addr {
        SocketAddr::V4(_) => Family::V4,
        SocketAddr::V6(_) => Family::V6,
    }
}

/// Whether an error means that the tracker does not know a connection id any more, as after its restart. There is no code
/// for it, but implementations mention a "connection id".
fn forgot_us(text: &[u8]) -> bool {
    text.windows(13).any(|w| {
        w.eq_ignore_ascii_case(b"connection id") || w.eq_ignore_ascii_case(b"connection_id")
    })
}

fn refusal(text: &[u8]) -> TrackerError {
    TrackerError::Failure {
        reason: printable(text),
        retry: None,
    }
}

const fn malformed() -> TrackerError {
    TrackerError::Malformed {
        what: "a datagram that is not an answer to what was asked",
        start: alloc::string::String::new(),
    }
}

#[cfg(test)]
mod tests;
