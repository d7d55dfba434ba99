//! One stream: connecting, reading, writing, closing.
//!
//! ```text
//!  (without a proxy)               Connecting ──▶ Open ──eof, error, TcpClose──▶ (gone)
//!                                                   ▲
//!  (with one)  Resolving ──▶ Reaching ──▶ Greeting ─┘
//!                               ▲  │
//!                               └──┘ its next address
//! ```

use std::{
    io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write},
    net::SocketAddr,
};

use dunlin_core::{
    CloseReason, ConnId, Instant,
    engine::{Engine, MAX_IOV, ReadBufs, Readiness, WriteBufs},
    op::Close,
};

use super::{
    Stats,
    reactor::{Called, Direction, Source, transfer},
};
use crate::net::{proxy::Watch, socket, socks::Handshake};

/// The most system calls for one direction of a connection in one visit.
const CALLS_PER_VISIT: usize = 4;
/// The most bytes moved in one direction of a connection in one visit; then it goes to the end of the
/// queue. Two reads if the engine lends that many buffers.
const BYTES_PER_VISIT: usize = 2 << 20;

/// The state of a stream.
#[derive(Debug)]
pub(super) enum State<S> {
    /// The proxy's name is being looked up.
    Resolving,
    /// Connecting to the peer.
    Connecting {
        stream: S,
    },
    /// Connecting to the proxy.
    Reaching {
        stream: S,
        /// The handshake with the proxy.
        greeting: Box<Handshake>,
        /// The other addresses of the proxy, the next one last.
        others: Vec<SocketAddr>,
        /// The time at which this address is given up.
        until: Instant,
    },
    /// Talking to the proxy.
    Greeting {
        stream: S,
        greeting: Box<Handshake>,
    },
    Open(S),
}

#[derive(Debug)]
pub(super) struct Conn<S> {
    pub(super) id: ConnId,
    pub(super) remote: SocketAddr,
    pub(super) state: State<S>,
    pub(super) readiness: Readiness,
    pub(super) queued: bool,
}

/// The result of a visit.
pub(super) enum Visit {
    /// Nothing to do until the kernel's readiness or the engine's readiness changes.
    Waits,
    /// More can be done at once.
    More,
    /// The stream could not be opened.
    Failed(io::Error),
    /// The stream has ended.
    Over(CloseReason),
}

impl<S: Source> Conn<S> {
    pub(super) fn new(id: ConnId, remote: SocketAddr, state: State<S>) -> Self {
        Self {
            id,
            remote,
            state,
            readiness: Readiness::default(),
            queued: false,
        }
    }

    pub(super) const fn stream_mut(&mut self) -> Option<&mut S> {
        match &mut self.state {
            State::Resolving => None,
            State::Connecting { stream }
            | State::Reaching { stream, .. }
            | State::Greeting { stream, .. }
            | State::Open(stream) => Some(stream),
        }
    }

    pub(super) fn close(self, how: Close) {
        if let (State::Open(stream), Close::Abort) = (self.state, how) {
            socket::abort_on_drop(stream.socket());
        }
    }

    /// Whether a visit would make progress.
    pub(super) fn can_go_on(&mut self) -> bool {
        let readiness = self.readiness;
        match &mut self.state {
            State::Resolving => false,
            State::Connecting { stream } | State::Reaching { stream, .. } => {
                stream.is_ready(Direction::Write)
            }
            State::Greeting { stream, greeting } => stream.is_ready(match greeting.output() {
                [] => Direction::Read,
                _ => Direction::Write,
            }),
            // Both are evaluated, so that the driver waits for both.
            State::Open(stream) => {
                let read = readiness.read && stream.is_ready(Direction::Read);
                let write = readiness.write && stream.is_ready(Direction::Write);
                read || write
            }
        }
    }

    /// Takes the addresses of the proxy that have not been tried.
    pub(super) fn other_proxies(&mut self) -> Vec<SocketAddr> {
        match &mut self.state {
            State::Reaching { others, .. } => std::mem::take(others),
            _ => Vec::new(),
        }
    }

    /// Whether the proxy answered, so that a failure is not the proxy's.
    pub(super) const fn has_reached_proxy(&self) -> bool {
        match &self.state {
            State::Greeting { greeting, .. } => greeting.is_about_target(),
            _ => false,
        }
    }

    /// Whether an address of the proxy has not answered in time.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        matches!(self.state, State::Reaching { until, .. } if until <= now)
    }

    pub(super) fn visit(
        &mut self,
        engine: &mut Engine,
        now: Instant,
        stats: &mut Stats,
        watch: Option<&Watch>,
    ) -> Visit {
        match &self.state {
            State::Open(_) => {
                // Writes first: they free buffers, and peers answer requests while others are read.
                for direction in [Self::write, Self::read] {
                    if let Err(why) = direction(self, engine, now, stats) {
                        return Visit::Over(why);
                    }
                }
            }
            _ => match self.advance(watch) {
                Ok(false) => {}
                Ok(true) => {
                    stats.progress = true;
                    // The engine has to write first, and will set its readiness.
                    engine.handle_connected(now, self.id);
                }
                Err(error) => return Visit::Failed(error),
            },
        }
        match self.can_go_on() {
            true => Visit::More,
            false => Visit::Waits,
        }
    }

    /// Advances a stream that is being opened. Returns whether it is open now.
    fn advance(&mut self, watch: Option<&Watch>) -> io::Result<bool> {
        if let State::Connecting { stream } | State::Reaching { stream, .. } = &mut self.state
            && !is_connected(stream)?
        {
            return Ok(false);
        }
        self.state = match std::mem::replace(&mut self.state, State::Resolving) {
            State::Reaching {
                stream, greeting, ..
            } => State::Greeting { stream, greeting },
            State::Connecting { stream } => State::Open(stream),
            other => other,
        };
        if let State::Greeting { stream, greeting } = &mut self.state
            && !greet(stream, greeting)?
        {
            return Ok(false);
        }
        self.state = match std::mem::replace(&mut self.state, State::Resolving) {
            State::Greeting { stream, .. } => {
                if let Some(watch) = watch {
                    watch.works();
                }
                State::Open(stream)
            }
            other => other,
        };
        Ok(matches!(self.state, State::Open(_)))
    }

    /// Reads until the stream is empty, the engine wants no more, or the budget is spent.
    fn read(
        &mut self,
        engine: &mut Engine,
        now: Instant,
        stats: &mut Stats,
    ) -> Result<(), CloseReason> {
        let State::Open(stream) = &mut self.state else {
            return Ok(());
        };
        let mut total = 0;
        for _ in 0..CALLS_PER_VISIT {
            // Readiness is asked for first: the engine lends blocks only to a stream that has bytes.
            if !self.readiness.read || total >= BYTES_PER_VISIT || !stream.is_ready(Direction::Read)
            {
                break;
            }
            let result = {
                let mut bufs = ReadBufs::new();
                engine.read_bufs(now, self.id, &mut bufs);
                let room: usize = bufs.iter().map(|buf| buf.len()).sum();
                if room == 0 {
                    // The engine lent nothing: no readiness until it says otherwise.
                    self.readiness.read = false;
                    break;
                }
                let mut iov: heapless::Vec<IoSliceMut<'_>, MAX_IOV> =
                    bufs.into_iter().map(IoSliceMut::new).collect();
                transfer(stream, Direction::Read, room, |mut socket| {
                    socket.read_vectored(&mut iov)
                })
            };
            stats.reads += 1;
            match result {
                Ok(0) => return Err(CloseReason::Eof),
                Ok(len) => {
                    total += len;
                    stats.read_bytes += len as u64;
                    stats.progress = true;
                    engine.handle_read(now, self.id, len);
                }
                // The engine takes back the buffers that were not needed.
                Err(error) if is_passing(&error) => engine.handle_read(now, self.id, 0),
                Err(error) => return Err(socket::close_reason(&error)),
            }
        }
        Ok(())
    }

    /// Writes until nothing is left, the stream accepts no more, or the budget is spent.
    fn write(
        &mut self,
        engine: &mut Engine,
        now: Instant,
        stats: &mut Stats,
    ) -> Result<(), CloseReason> {
        let State::Open(stream) = &mut self.state else {
            return Ok(());
        };
        let mut total = 0;
        for _ in 0..CALLS_PER_VISIT {
            if !self.readiness.write
                || total >= BYTES_PER_VISIT
                || !stream.is_ready(Direction::Write)
            {
                break;
            }
            let result = {
                let mut bufs = WriteBufs::new();
                engine.write_bufs(now, self.id, &mut bufs);
                let iov: heapless::Vec<IoSlice<'_>, MAX_IOV> =
                    bufs.iter().map(|buf| IoSlice::new(buf)).collect();
                let len: usize = iov.iter().map(|buf| buf.len()).sum();
                if len == 0 {
                    self.readiness.write = false;
                    break;
                }
                transfer(stream, Direction::Write, len, |mut socket| {
                    socket.write_vectored(&iov)
                })
            };
            stats.writes += 1;
            match result {
                Ok(len) => {
                    total += len;
                    stats.written_bytes += len as u64;
                    stats.progress = true;
                    engine.handle_written(now, self.id, len);
                }
                Err(error) if is_passing(&error) => {}
                Err(error) => return Err(socket::close_reason(&error)),
            }
        }
        Ok(())
    }
}

/// Whether the call can be repeated when the stream is ready.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Whether a stream has connected.
///
/// # Errors
/// The attempt to connect failed.
fn is_connected(stream: &mut impl Source) -> io::Result<bool> {
    let mut result = Ok(false);
    stream.call(Direction::Write, &mut |socket| {
        result = match socket.take_error() {
            Ok(None) => socket.peer_addr().map(|_| true),
            Ok(Some(error)) | Err(error) => Err(error),
        };
        match &result {
            Err(error) if error.kind() == ErrorKind::NotConnected => {
                result = Ok(false);
                Called::Blocked
            }
            _ => Called::Ready,
        }
    });
    if let Ok(true) = result {
        socket::tune(stream.socket());
    }
    result
}

/// Continues the handshake with the proxy. Returns whether it has connected to the peer.
fn greet(stream: &mut impl Source, greeting: &mut Handshake) -> io::Result<bool> {
    let mut buf = [0; 64];
    loop {
        let direction = match greeting.output() {
            [] => Direction::Read,
            _ => Direction::Write,
        };
        if !stream.is_ready(direction) {
            return Ok(false);
        }
        let moved = match direction {
            Direction::Write => {
                let output = greeting.output();
                transfer(stream, direction, output.len(), |mut socket| {
                    socket.write(output)
                })
            }
            Direction::Read => {
                let want = greeting.wanted().min(buf.len());
                transfer(stream, direction, want, |mut socket| {
                    socket.read(&mut buf[..want])
                })
            }
        };
        match (direction, moved) {
            (Direction::Write, Ok(len)) => greeting.sent(len),
            (Direction::Read, Ok(0)) => {
                let reason = "it hung up";
                return Err(io::Error::new(ErrorKind::UnexpectedEof, reason));
            }
            (Direction::Read, Ok(len)) => {
                if greeting.input(&buf[..len])? {
                    return Ok(true);
                }
            }
            (_, Err(error)) if is_passing(&error) => {}
            (_, Err(error)) => return Err(error),
        }
    }
}
