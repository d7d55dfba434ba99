//! One datagram socket: trains of datagrams out, batches in.

use std::io::{self, ErrorKind, IoSliceMut};

use dunlin_core::{Ecn, Instant, RecvMeta, SocketId, Transmit, engine::Engine};
use quinn_udp::{EcnCodepoint, UdpSockRef, UdpSocketState};

use super::{
    Stats,
    reactor::{Direction, Source, transfer},
};

/// Datagrams (or trains of them) that one call receives at most, where the platform can.
const BATCH: usize = if quinn_udp::BATCH_SIZE < 8 {
    quinn_udp::BATCH_SIZE
} else {
    8
};
/// Calls that receive from one socket in one round.
const RECEIVES_PER_ROUND: usize = 8;
/// The largest datagram there is, and the largest train. The memory is only touched as far as
/// datagrams reach.
const MAX_DATAGRAM: usize = 64 << 10;

/// Memory for one batch of datagrams.
#[derive(Debug, Default)]
pub(super) struct Buffer(Vec<u8>);

impl Buffer {
    /// Room for one datagram or train to be sent.
    pub(super) fn one(&mut self) -> &mut [u8] {
        &mut self.batch()[..MAX_DATAGRAM]
    }

    /// Made when it is first needed.
    fn batch(&mut self) -> &mut [u8] {
        if self.0.is_empty() {
            self.0 = vec![0; BATCH * MAX_DATAGRAM];
        }
        &mut self.0
    }
}

/// One datagram, or train of them, that the socket would not take yet.
#[derive(Debug)]
struct Unsent {
    transmit: Transmit,
    data: Vec<u8>,
}

/// A datagram was lost before it left: the platform refused it, as the network may lose it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lost(pub(super) Transmit);

/// A bound datagram socket.
#[derive(Debug)]
pub(super) struct Udp<S> {
    pub(super) id: SocketId,
    io: S,
    /// What the platform can do with datagrams, and how.
    state: UdpSocketState,
    /// Something may have arrived.
    readable: bool,
    /// The socket took the last datagram, or may have room again.
    writable: bool,
    paused: Option<Instant>,
    unsent: Option<Unsent>,
}

impl<S: Source> Udp<S> {
    /// # Errors
    /// The platform lacks an option that is needed.
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

    /// The socket may be ready again.
    pub(super) fn wake(&mut self, note: impl FnOnce(&mut S)) {
        note(&mut self.io);
        (self.readable, self.writable) = (true, true);
    }

    /// Whether there is something to do at once.
    pub(super) const fn is_busy(&self) -> bool {
        self.readable && self.paused.is_none() || self.writable && self.unsent.is_some()
    }

    /// When a pause ends.
    pub(super) const fn poll_timeout(&self) -> Option<Instant> {
        self.paused
    }

    /// Whether it holds a datagram back; nothing is built behind it.
    pub(super) const fn has_unsent(&self) -> bool {
        self.unsent.is_some()
    }

    /// Segments of one train at most.
    pub(super) fn max_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    /// Sends what was held back, if the socket takes it now.
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

    /// Sends a datagram or train, or holds it back; says how many datagrams it was.
    ///
    /// # Errors
    /// It is lost.
    pub(super) fn send(&mut self, transmit: Transmit, data: &[u8]) -> Result<u64, Lost> {
        let data = &data[..transmit.len.min(data.len())];
        let segment = |len: std::num::NonZeroUsize| data.len().div_ceil(len.get());
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
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.writable = false;
                let data = data.into();
                self.unsent = Some(Unsent { transmit, data });
            }
            Err(_) => return Err(Lost(transmit)),
        }
        Ok(())
    }

    /// # Errors
    /// `WouldBlock` if the socket takes none at present; the driver wakes it when it does.
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
            segment_size: transmit.segment.map(std::num::NonZeroUsize::get),
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

    /// Hands what has arrived to the engine; a socket that fails is left alone for `pause`.
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
                    // Some platforms report an earlier send's failure here; the socket is fine.
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
