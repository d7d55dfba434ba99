//! The interface between the kit and a driver's way of waiting for sockets.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
};

use dunlin_core::{Instant, SocketId};
use socket2::{SockRef, Socket};

/// A direction of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Receiving.
    Read,
    /// Sending.
    Write,
}

/// What the result of a system call says about the readiness of its socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Called {
    /// The next call may succeed as well.
    Ready,
    /// It moved less than requested, so the kernel's buffer is empty (or full, for a write). Treating that
    /// as the end of readiness saves a call that would only return `WouldBlock`.
    Short,
    /// It would have blocked.
    Blocked,
}

/// A socket that a driver waits for.
///
/// The end of readiness is noticed here; its return is reported to the kit by
/// [`EngineLoop::wake_stream`](super::EngineLoop::wake_stream) or
/// [`EngineLoop::wake_udp`](super::EngineLoop::wake_udp).
pub trait Source {
    /// The socket.
    fn socket(&self) -> SockRef<'_>;

    /// Whether a call may succeed. After `false`, the driver reports when that changes.
    fn is_ready(&mut self, direction: Direction) -> bool;

    /// Makes a system call unless the socket is known not to be ready, and records what the result says
    /// about readiness.
    fn call(&mut self, direction: Direction, call: &mut dyn FnMut(&Socket) -> Called);
}

/// A way of waiting for sockets. Sockets passed to it are non-blocking.
pub trait Reactor {
    /// A datagram socket.
    type Udp: Source;
    /// A listener.
    type Listener;
    /// A stream that was accepted and is not watched yet.
    type Accepted;
    /// A stream.
    type Stream: Source;

    /// The current time in the engine's terms.
    fn now(&self) -> Instant;

    /// Starts to watch a datagram socket.
    ///
    /// # Errors
    /// The platform's error.
    fn udp(&self, id: SocketId, socket: Socket) -> io::Result<Self::Udp>;

    /// Starts to watch a listener.
    ///
    /// # Errors
    /// The platform's error.
    fn listener(&self, id: SocketId, socket: Socket) -> io::Result<Self::Listener>;

    /// Accepts a stream.
    ///
    /// # Errors
    /// `WouldBlock` if there is none; the driver reports by
    /// [`EngineLoop::wake_listener`](super::EngineLoop::wake_listener) when that changes.
    fn accept(&self, listener: &mut Self::Listener) -> io::Result<(Self::Accepted, SocketAddr)>;

    /// The socket of an accepted stream.
    fn accepted_socket(accepted: &Self::Accepted) -> SockRef<'_>;

    /// Starts to watch an accepted stream as number `slot`.
    ///
    /// # Errors
    /// The platform's error.
    fn accepted(&self, slot: u32, accepted: Self::Accepted) -> io::Result<Self::Stream>;

    /// Starts to watch a connecting stream as number `slot`.
    ///
    /// # Errors
    /// The platform's error.
    fn stream(&self, slot: u32, socket: Socket) -> io::Result<Self::Stream>;
}

/// Makes a system call that moves up to `want` bytes or datagrams.
///
/// # Errors
/// Those of the call; `WouldBlock` if the socket is not ready.
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
