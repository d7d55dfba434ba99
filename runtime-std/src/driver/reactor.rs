//! How a driver waits for sockets, as the rest of the kit sees it.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
};

use dunlin_core::{Instant, SocketId};
use socket2::{SockRef, Socket};

/// A direction of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Bytes come in.
    Read,
    /// Bytes go out.
    Write,
}

/// What a system call says about the readiness of its socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Called {
    /// The next call may succeed, too.
    Ready,
    /// It moved less than it was asked to, so the kernel's buffer is empty (or full, for a write).
    /// To take that for the end of the readiness saves the call that would only say so.
    Short,
    /// It would have had to wait.
    Blocked,
}

/// A socket that a driver waits for.
///
/// The end of a readiness is noticed here, and its return is told to the kit by
/// [`EngineLoop::wake_stream`](super::EngineLoop::wake_stream) or
/// [`EngineLoop::wake_udp`](super::EngineLoop::wake_udp).
pub trait Source {
    /// The socket itself.
    fn socket(&self) -> SockRef<'_>;

    /// Whether a call may succeed. After `false` the driver tells when that changes.
    fn is_ready(&mut self, direction: Direction) -> bool;

    /// Runs a system call, unless it would only find that the socket is not ready, and takes note
    /// of what it says about the readiness.
    fn call(&mut self, direction: Direction, call: &mut dyn FnMut(&Socket) -> Called);
}

/// A way of waiting for sockets. What is handed to it does not block.
pub trait Reactor {
    /// A datagram socket.
    type Udp: Source;
    /// A listener.
    type Listener;
    /// A stream that was accepted and is not waited for yet.
    type Accepted;
    /// A stream.
    type Stream: Source;

    /// The present, as the engine counts it.
    fn now(&self) -> Instant;

    /// Waits for a datagram socket.
    ///
    /// # Errors
    /// The system refuses.
    fn udp(&self, id: SocketId, socket: Socket) -> io::Result<Self::Udp>;

    /// Waits for a listener.
    ///
    /// # Errors
    /// The system refuses.
    fn listener(&self, id: SocketId, socket: Socket) -> io::Result<Self::Listener>;

    /// Accepts a stream.
    ///
    /// # Errors
    /// `WouldBlock` if there is none; the driver tells by
    /// [`EngineLoop::wake_listener`](super::EngineLoop::wake_listener) when that changes.
    fn accept(&self, listener: &mut Self::Listener) -> io::Result<(Self::Accepted, SocketAddr)>;

    /// The socket of an accepted stream.
    fn accepted_socket(accepted: &Self::Accepted) -> SockRef<'_>;

    /// Waits for an accepted stream, as number `slot`.
    ///
    /// # Errors
    /// The system refuses.
    fn accepted(&self, slot: u32, accepted: Self::Accepted) -> io::Result<Self::Stream>;

    /// Waits for a stream that connects, as number `slot`.
    ///
    /// # Errors
    /// The system refuses.
    fn stream(&self, slot: u32, socket: Socket) -> io::Result<Self::Stream>;
}

/// Runs a system call that moves up to `want` bytes or datagrams.
///
/// # Errors
/// Those of the call; `WouldBlock` if it has to wait.
pub(super) fn transfer(
    source: &mut impl Source,
    direction: Direction,
    want: usize,
    mut call: impl FnMut(&Socket) -> io::Result<usize>,
) -> io::Result<usize> {
    let mut result = Err(ErrorKind::WouldBlock.into());
    source.call(direction, &mut |socket| {
        result = call(socket);
        match &result {
            Ok(moved) if *moved < want => Called::Short,
            Err(error) if error.kind() == ErrorKind::WouldBlock => Called::Blocked,
            _ => Called::Ready,
        }
    });
    result
}
