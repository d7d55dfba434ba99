//! One datagram socket: sends trains of datagrams, receives batches.

use std::{
    io::{self, ErrorKind, IoSliceMut},
    num::NonZeroUsize,
};

use dunlin_core::{Ecn, Instant, RecvMeta, SocketId, Transmit, engine::Engine};
use quinn_udp::{EcnCodepoint, UdpSockRef, UdpSocketState};

use super::{
    Stats,
    reactor::{Direction, Source, transfer},
};

/// The most datagrams or trains that one call receives, where the platform can receive several.
const BATCH: usize = if quinn_udp::BATCH_SIZE < 8 {
    quinn_udp::BATCH_SIZE
} else {
    8
};
/// The most receiving calls for one socket in one round.
const RECEIVES_PER_ROUND: usize = 8;
/// The largest datagram and the largest train, in bytes. Memory is touched only as far as datagrams reach.
const MAX_DATAGRAM: usize = 64 << 10;

/// Memory for one batch of datagrams.
#[derive(Debug, Default)]
pub(super) struct Buffer(Vec<u8>);

impl Buffer {
    /// Space for one datagram or train to send.
    pub(super) fn one(&mut self) -> &mut [u8] {
        &mut self.batch()[..MAX_DATAGRAM]
    }

    /// Space for a batch, allocated when it is first needed.
    fn batch(&mut self) -> &mut [u8] {
        if self.0.is_empty() {
            self.0 = vec![0; BATCH * MAX_DATAGRAM];
        }
        &mut self.0
    }
}

/// A datagram or train that the socket did not accept yet.
#[derive(Debug)]
struct Unsent {
    transmit: Transmit,
    data: Vec<u8>,
}

/// A datagram that the platform refused to send. It is lost, as it might be on the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lost(pub(super) Transmit);

/// A bound datagram socket.
#[derive(Debug)]
pub(super) struct Udp<S> {
    pub(super) id: SocketId,
    io: S,
    /// What the platform supports for datagrams.
    state: UdpSocketState,
    /// A datagram may have arrived.
    readable: bool,
    /// The socket accepted the last datagram, or may have space again.
    writable: bool,
    paused: Option<Instant>,
    unsent: Option<Unsent>,
}

impl<S: Source> Udp<S> {
    /// Prepares a bound socket.
    ///
    /// # Errors
    /// The platform lacks a necessary option.
    pub(super) fn new(id: SocketId, io: S) -> io::Result<Self> {
        let state = UdpSocketState::new(UdpSockRef::from(&*io.socket()))?;
        Ok(Self {
            id,
            io,
            state,
            readable: true,
            writable: true,
            paused: None,
            unsent: None,
        })
    }

    /// Records that the socket may be ready again.
    pub(super) fn wake(&mut self, note: impl FnOnce(&mut S)) {
        note(&mut self.io);
        (self.readable, self.writable) = (true, true);
    }

    /// Whether something can be done at once.
    pub(super) const fn is_busy(&self) -> bool {
        self.readable && self.paused.is_none() || self.writable && self.unsent.is_some()
    }

    /// The end of a pause.
    pub(super) const fn poll_timeout(&self) -> Option<Instant> {
        self.paused
    }

    /// Whether a datagram waits for the socket; meanwhile no other one is built.
    pub(super) const fn has_unsent(&self) -> bool {
        self.unsent.is_some()
    }

    /// The most segments of one train.
    pub(super) fn max_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    /// Sends the datagram that waits, if the socket accepts it now.
    ///
    /// # Errors
    /// It is lost.
    pub(super) fn send_unsent(&mut self) -> Result<(), Lost> {
        match self.unsent.take() {
            Some(Unsent { transmit, data }) if self.writable => self.send_or_keep(transmit, data),
            unsent => {
                self.unsent = unsent;
                Ok(())
            }
        }
    }

    /// Sends a datagram or train, or keeps it until the socket accepts it. Returns the number of datagrams.
    ///
    /// # Errors
    /// It is lost.
    pub(super) fn send(&mut self, transmit: Transmit, data: &[u8]) -> Result<u64, Lost> {
        let data = &data[..transmit.len.min(data.len())];
        let segment = |len: NonZeroUsize| data.len().div_ceil(len.get());
        let count = transmit.segment.map_or(1, segment);
        self.send_or_keep(transmit, data)?;
        Ok(count as u64)
    }

    fn send_or_keep(
        &mut self,
        transmit: Transmit,
        data: impl AsRef<[u8]> + Into<Vec<u8>>,
    ) -> Result<(), Lost> {
        match self.try_send(&transmit, data.as_ref()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.keep(transmit, data.into());
                Ok(())
            }
            Err(_) if transmit.segment.is_some() => self.send_apart(transmit, data.as_ref()),
            Err(_) => Err(Lost(transmit)),
        }
    }

    fn keep(&mut self, transmit: Transmit, data: Vec<u8>) {
        self.writable = false;
        self.unsent = Some(Unsent { transmit, data });
    }

    /// Sends the datagrams of a train one by one: there are interfaces that do not take trains, which shows only now.
    /// [`Udp::max_segments`] knows it from then on.
    fn send_apart(&mut self, train: Transmit, data: &[u8]) -> Result<(), Lost> {
        let each = train.segment.map_or(data.len(), NonZeroUsize::get);
        for (n, datagram) in data.chunks(each).enumerate() {
            let one = Transmit {
                len: datagram.len(),
                segment: None,
                ..train
            };
            match self.try_send(&one, datagram) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let rest = data[n * each..].to_vec();
                    let len = rest.len();
                    self.keep(Transmit { len, ..train }, rest);
                    break;
                }
                Err(_) => return Err(Lost(train)),
            }
        }
        Ok(())
    }

    /// Sends a datagram or train.
    ///
    /// # Errors
    /// `WouldBlock` if the socket accepts none at present; the driver wakes it when it does.
    fn try_send(&mut self, transmit: &Transmit, data: &[u8]) -> io::Result<()> {
        let out = quinn_udp::Transmit {
            destination: transmit.dst,
            ecn: match transmit.ecn {
                Ecn::NotEct => None,
                Ecn::Ect0 => Some(EcnCodepoint::Ect0),
                Ecn::Ect1 => Some(EcnCodepoint::Ect1),
                Ecn::Ce => Some(EcnCodepoint::Ce),
            },
            contents: data,
            segment_size: transmit.segment.map(NonZeroUsize::get),
            src_ip: transmit.src,
        };
        while self.io.is_ready(Direction::Write) {
            let state = &self.state;
            let sent = transfer(&mut self.io, Direction::Write, 0, |socket| {
                state.try_send(UdpSockRef::from(socket), &out).map(|()| 0)
            });
            match sent {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                sent => return sent.map(drop),
            }
        }
        Err(ErrorKind::WouldBlock.into())
    }

    /// Passes received datagrams to the engine; a socket that fails is not used for `pause`.
    pub(super) fn receive(
        &mut self,
        buf: &mut Buffer,
        engine: &mut Engine,
        now: Instant,
        stats: &mut Stats,
        pause: std::time::Duration,
    ) {
        if self.paused.is_some_and(|until| until <= now) {
            self.paused = None;
        }
        if !self.readable || self.paused.is_some() {
            return;
        }
        let buf = buf.batch();
        for _ in 0..RECEIVES_PER_ROUND {
            if !self.io.is_ready(Direction::Read) {
                self.readable = false;
                return;
            }
            let mut metas = [quinn_udp::RecvMeta::default(); BATCH];
            let state = &self.state;
            let received = transfer(&mut self.io, Direction::Read, BATCH, |socket| {
                let mut bufs: heapless::Vec<IoSliceMut<'_>, BATCH> =
                    buf.chunks_mut(MAX_DATAGRAM).map(IoSliceMut::new).collect();
                state.recv(UdpSockRef::from(socket), &mut bufs, &mut metas)
            });
            let count = match received {
                Ok(count) => count,
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock
                    | ErrorKind::Interrupted
                    // Some platforms report the failure of an earlier send here; the socket still works.
                    | ErrorKind::ConnectionReset
                    | ErrorKind::ConnectionRefused => continue,
                    _ => {
                        self.paused = Some(now + pause);
                        return;
                    }
                },
            };
            stats.receives += 1;
            stats.progress = true;
            for (meta, place) in metas[..count].iter().zip(buf.chunks_mut(MAX_DATAGRAM)) {
                let from = RecvMeta {
                    socket: self.id,
                    from: meta.addr,
                    local: meta.dst_ip,
                    ecn: match meta.ecn {
                        None => Ecn::NotEct,
                        Some(EcnCodepoint::Ect0) => Ecn::Ect0,
                        Some(EcnCodepoint::Ect1) => Ecn::Ect1,
                        Some(EcnCodepoint::Ce) => Ecn::Ce,
                    },
                };
                let train = &mut place[..meta.len.min(MAX_DATAGRAM)];
                for datagram in train.chunks_mut(meta.stride.max(1)) {
                    stats.datagrams_in += 1;
                    engine.handle_udp(now, &from, datagram);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use socket2::{SockRef, Socket};

    use super::*;
    use crate::driver::reactor::Called;

    /// A socket that takes so many calls to send, then none until it is woken.
    struct Limited {
        socket: Socket,
        calls: usize,
    }

    impl Source for Limited {
        fn socket(&self) -> SockRef<'_> {
            SockRef::from(&self.socket)
        }

        fn is_ready(&mut self, _: Direction) -> bool {
            self.calls > 0
        }

        fn call(&mut self, _: Direction, call: &mut dyn FnMut(&Socket) -> Called) {
            self.calls -= 1;
            call(&self.socket);
        }
    }

    /// Datagrams of two bytes, each with its number.
    fn train(count: u16, dst: std::net::SocketAddr) -> (Transmit, Vec<u8>) {
        let data: Vec<u8> = (0..count).flat_map(u16::to_be_bytes).collect();
        let transmit = Transmit {
            segment: NonZeroUsize::new(2),
            ..Transmit::to(dst, data.len())
        };
        (transmit, data)
    }

    fn received(socket: &UdpSocket) -> Vec<u16> {
        let mut buf = [0; 16];
        let next = || {
            let len = socket.recv(&mut buf).ok()?;
            Some(u16::from_be_bytes(
                buf[..len].try_into().expect("two bytes"),
            ))
        };
        std::iter::from_fn(next).collect()
    }

    /// Whatever the platform makes of trains, the datagrams arrive; and one of more segments than any kernel takes is
    /// refused.
    #[test]
    fn a_train_that_is_refused_is_sent_one_by_one() {
        let there = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        there.set_nonblocking(true).expect("a mode");
        let dst = there.local_addr().expect("an address");
        let here = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        here.set_nonblocking(true).expect("a mode");
        let io = Limited {
            socket: here.into(),
            calls: 2,
        };
        let mut udp = Udp::new(SocketId::V4, io).expect("a socket");
        let (few, data) = train(2, dst);
        assert_eq!(udp.send(few, &data), Ok(2));
        assert_eq!(received(&there), [0, 1]);

        udp.io.calls = 100;
        let (many, data) = train(250, dst);
        assert_eq!(udp.send(many, &data), Ok(250));
        let mut arrived = received(&there);
        // What the socket did not take waits, and goes out when it does.
        assert!(udp.has_unsent() && arrived.len() < 100);
        for _ in 0..5 {
            udp.io.calls = 100;
            udp.wake(|_| {});
            assert_eq!(udp.send_unsent(), Ok(()));
            arrived.extend(received(&there));
        }
        assert!(!udp.has_unsent());
        assert_eq!(arrived, (0..250).collect::<Vec<u16>>());
    }
}
