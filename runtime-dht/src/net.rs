//! The sockets of a node: waiting, receiving, sending.

use std::{io, net::SocketAddr, time::Duration};

use dunlin_core::{
    Cx, Ecn, Machine, RecvMeta, SocketId,
    dht::Service,
    throttle::{BucketId, Direction, Throttle, Waiter},
};
use mio::{Events, Interest, Poll, Token, Waker};

use super::{
    Calls, RequestId,
    batch::{BATCH, Batch, Flushed, OUT_SLOT},
};
use dunlin_std::net::socket::{self, Egress};

/// The most batches received from one socket before timers and commands are handled.
const BATCHES_PER_TURN: usize = 8;
/// The poll's token of the waker; below it are the sockets.
const WAKE: Token = Token(usize::MAX);
/// How many bytes are requested of the rate limit at a time.
const TURN: u32 = OUT_SLOT as u32;

struct Family {
    id: SocketId,
    batch: Batch,
    /// Datagrams may have arrived.
    readable: bool,
    /// The socket is full; the poll tells when it takes more.
    blocked: bool,
}

/// All sockets of a node: one of each family at most.
pub(super) struct Net {
    poll: Poll,
    events: Events,
    families: heapless::Vec<Family, 2>,
    throttle: Option<Throttle>,
    pub(super) calls: Calls,
}

/// The bound sockets, before the thread starts.
pub(super) struct Bound {
    poll: Poll,
    sockets: Vec<mio::net::UdpSocket>,
    /// The addresses to which they are bound.
    pub(super) local: Vec<SocketAddr>,
}

impl Bound {
    /// Binds `listen`; of two addresses of one family the first counts. Port 0 is the same port
    /// for both families, if that is free.
    ///
    /// # Errors
    /// The platform's error for the first address that cannot be bound.
    pub(super) fn new(listen: &[SocketAddr], egress: &Egress) -> io::Result<Self> {
        let poll = Poll::new()?;
        let (mut sockets, mut local) = (Vec::new(), Vec::<SocketAddr>::new());
        for &wanted in listen {
            if local.iter().any(|l| l.is_ipv4() == wanted.is_ipv4()) {
                continue;
            }
            let place = egress.listen(wanted);
            let twin = local.first().filter(|_| wanted.port() == 0);
            let like = twin.and_then(|twin| {
                let place = SocketAddr::new(place.ip(), twin.port());
                socket::udp(place, egress).ok()
            });
            let io = match like {
                Some(io) => io,
                None => socket::udp(place, egress)
                    .map_err(|e| io::Error::new(e.kind(), format!("UDP {place}: {e}")))?,
            };
            let io: std::net::UdpSocket = io.into();
            local.push(io.local_addr()?);
            sockets.push(mio::net::UdpSocket::from_std(io));
        }
        Ok(Self {
            poll,
            sockets,
            local,
        })
    }

    /// A waker for the poll.
    ///
    /// # Errors
    /// The platform's error.
    pub(super) fn waker(&self) -> io::Result<Waker> {
        Waker::new(self.poll.registry(), WAKE)
    }
}

impl Net {
    /// The buffers are made here, on the thread that uses them.
    ///
    /// # Errors
    /// The platform's error.
    pub(super) fn new(bound: Bound, limit_up: Option<u64>) -> io::Result<Self> {
        let mut families = heapless::Vec::new();
        for io in bound.sockets {
            let mut batch = Batch::new(io)?;
            let at = Token(families.len());
            bound
                .poll
                .registry()
                .register(batch.source(), at, Interest::READABLE)?;
            let id = SocketId::for_addr(&batch.source().local_addr()?);
            // One of each family: there is room.
            let _ = families.push(Family {
                id,
                batch,
                readable: true,
                blocked: false,
            });
        }
        let throttle = limit_up.map(|rate| {
            let mut throttle = Throttle::new();
            let start = dunlin_core::Instant::ORIGIN;
            throttle.set_rate(start, BucketId::ROOT, Direction::Up, Some(rate));
            throttle
        });
        Ok(Self {
            poll: bound.poll,
            events: Events::with_capacity(8),
            families,
            throttle,
            calls: Calls::default(),
        })
    }

    /// Sleeps until there is something to do, or for `timeout`; returns whether the waker was used.
    ///
    /// # Errors
    /// The platform's error; the node cannot go on.
    pub(super) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        let busy = self.families.iter().any(|family| family.readable);
        let timeout = if busy { Some(Duration::ZERO) } else { timeout };
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(false),
            result => result?,
        }
        self.calls.wakeups += 1;
        let mut called = false;
        for event in &self.events {
            match self.families.get_mut(event.token().0) {
                Some(family) => {
                    family.readable |= event.is_readable() || event.is_error();
                    if family.blocked && event.is_writable() {
                        family.blocked = false;
                        let source = family.batch.source();
                        let registry = self.poll.registry();
                        registry.reregister(source, event.token(), Interest::READABLE)?;
                    }
                }
                None => called = true,
            }
        }
        Ok(called)
    }

    /// When the upload limit lets more datagrams pass.
    pub(super) fn poll_timeout(&self) -> Option<dunlin_core::Instant> {
        self.throttle.as_ref().and_then(Throttle::poll_timeout)
    }

    /// Receives datagrams, and sends the answers.
    pub(super) fn receive(&mut self, service: &mut Service<RequestId>, cx: &mut Cx<'_>) {
        for at in 0..self.families.len() {
            for _ in 0..BATCHES_PER_TURN {
                let Some(family) = self.families.get_mut(at).filter(|f| f.readable) else {
                    break;
                };
                // An error leaves the queue as it is; the poll wakes again for the next datagram.
                let n = family.batch.receive().unwrap_or(0);
                family.readable = n == BATCH;
                if n == 0 {
                    break;
                }
                let socket = family.id;
                self.calls.batches += 1;
                self.calls.datagrams_in += n as u64;
                for i in 0..n {
                    let family = self.families.get(at);
                    let Some((from, data)) = family.and_then(|f| f.batch.datagram(i)) else {
                        break;
                    };
                    let meta = RecvMeta {
                        socket,
                        from,
                        local: None,
                        ecn: Ecn::NotEct,
                    };
                    let _ = service.handle_datagram(cx, &meta, data);
                    self.fill(service, cx);
                }
                self.flush(service, cx);
            }
        }
    }

    /// Sends all datagrams that wait.
    pub(super) fn send(&mut self, service: &mut Service<RequestId>, cx: &mut Cx<'_>) {
        if let Some(throttle) = &mut self.throttle {
            while throttle.poll_ready(cx.now).is_some() {}
        }
        self.fill(service, cx);
        self.flush(service, cx);
    }

    /// Writes datagrams into the batches until there are no more, or the batches are full.
    fn fill(&mut self, service: &mut Service<RequestId>, cx: &mut Cx<'_>) {
        loop {
            if self.families.iter().any(|family| family.batch.is_full()) {
                self.flush(service, cx);
                if self.families.iter().any(|family| family.batch.is_full()) {
                    return;
                }
            }
            if let Some(throttle) = &mut self.throttle
                && throttle.available(cx.now, BucketId::ROOT, Direction::Up, TURN) == 0
            {
                if service.has_transmit() {
                    throttle.wait(cx.now, BucketId::ROOT, Direction::Up, Waiter::Dht);
                }
                return;
            }
            let Some((first, others)) = self.families.split_first_mut() else {
                return;
            };
            let Some(slot) = first.batch.slot() else {
                return;
            };
            let Some(transmit) = service.poll_transmit(cx, slot) else {
                return;
            };
            if let Some(throttle) = &mut self.throttle {
                let bytes = u32::try_from(transmit.len).unwrap_or(u32::MAX);
                throttle.consume(cx.now, BucketId::ROOT, Direction::Up, bytes);
            }
            self.calls.datagrams_out += 1;
            if transmit.socket == first.id {
                first.batch.fill(transmit.dst, transmit.len);
            } else if let Some(other) = others.iter_mut().find(|f| f.id == transmit.socket) {
                let data = first.batch.peek(transmit.len);
                if let Some(slot) = other.batch.slot().and_then(|s| s.get_mut(..data.len())) {
                    slot.copy_from_slice(data);
                    other.batch.fill(transmit.dst, transmit.len);
                }
            }
        }
    }

    fn flush(&mut self, service: &mut Service<RequestId>, cx: &mut Cx<'_>) {
        for (at, family) in self.families.iter_mut().enumerate() {
            while family.batch.is_dirty() && !family.blocked {
                match family.batch.flush() {
                    Flushed::All => break,
                    Flushed::Refused(to) => {
                        self.calls.refused += 1;
                        service.handle_unsent(cx, to);
                    }
                    Flushed::Blocked => {
                        let both = Interest::READABLE | Interest::WRITABLE;
                        let source = family.batch.source();
                        // Without the poll's help the next turn tries again.
                        let watched = self.poll.registry().reregister(source, Token(at), both);
                        family.blocked = watched.is_ok();
                        break;
                    }
                }
            }
        }
    }
}
