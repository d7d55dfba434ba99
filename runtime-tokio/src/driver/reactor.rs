//! Sockets watched by tokio. Each has its own waker, which puts it into the list.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    task::{Context, Poll},
};

use dunlin_core::{Instant, SocketId};
use dunlin_std::driver::{self, Called, Direction};
use socket2::{SockRef, Socket};
use tokio::{
    io::Interest,
    net::{TcpListener, TcpStream, UdpSocket},
};

use super::ready::{Bell, List, Source};
use crate::platform::Clock;

/// Creates sockets whose wakers put them into the list.
#[derive(Debug)]
pub(super) struct Reactor {
    list: List,
    clock: Clock,
}

/// A socket and its waker.
#[derive(Debug)]
pub(super) struct Watched<T> {
    io: T,
    bell: Bell,
}

impl<T> Watched<T> {
    /// Called before the socket is looked at.
    pub(super) fn clear(&self) {
        self.bell.own.clear();
    }
}

impl Reactor {
    pub(super) const fn new(list: List, clock: Clock) -> Self {
        Self { list, clock }
    }

    fn watch<T>(&self, io: T, source: Source) -> Watched<T> {
        let bell = Bell::new(source, &self.list);
        Watched { io, bell }
    }
}

const fn interest(direction: Direction) -> Interest {
    match direction {
        Direction::Read => Interest::READABLE,
        Direction::Write => Interest::WRITABLE,
    }
}

/// Tells tokio about the result of a call: readiness that is used up is cleared at once.
///
/// This loses no wake-up. tokio clears exactly the readiness that it saw before the call, identified by a
/// tick; bytes that arrive after the call raise a new edge with a new tick, which is kept. The end of a
/// stream is stored apart from readiness and is never cleared, so a `FIN` behind the last bytes is still
/// noticed.
fn told(called: Called) -> io::Result<()> {
    match called {
        Called::Ready => Ok(()),
        Called::Short | Called::Blocked => Err(ErrorKind::WouldBlock.into()),
    }
}

macro_rules! source {
    ($socket:ty, $read:ident, $write:ident) => {
        impl driver::Source for Watched<$socket> {
            fn socket(&self) -> SockRef<'_> {
                SockRef::from(&self.io)
            }

            fn is_ready(&mut self, direction: Direction) -> bool {
                let mut cx = Context::from_waker(&self.bell.waker);
                let ready = match direction {
                    Direction::Read => self.io.$read(&mut cx),
                    Direction::Write => self.io.$write(&mut cx),
                };
                // An error is returned by the call that follows.
                ready.is_ready()
            }

            fn call(&mut self, direction: Direction, call: &mut dyn FnMut(&Socket) -> Called) {
                let socket = self.socket();
                // The result of the call is kept by the caller.
                let _ = self.io.try_io(interest(direction), || told(call(&socket)));
            }
        }
    };
}

source!(UdpSocket, poll_recv_ready, poll_send_ready);
source!(TcpStream, poll_read_ready, poll_write_ready);

impl driver::Reactor for Reactor {
    type Udp = Watched<UdpSocket>;
    type Listener = Watched<TcpListener>;
    type Accepted = TcpStream;
    type Stream = Watched<TcpStream>;

    fn now(&self) -> Instant {
        self.clock.now()
    }

    fn udp(&self, id: SocketId, socket: Socket) -> io::Result<Self::Udp> {
        let io = UdpSocket::from_std(socket.into())?;
        Ok(self.watch(io, Source::Udp(id)))
    }

    fn listener(&self, id: SocketId, socket: Socket) -> io::Result<Self::Listener> {
        let io = TcpListener::from_std(socket.into())?;
        Ok(self.watch(io, Source::Listener(id)))
    }

    fn accept(&self, listener: &mut Self::Listener) -> io::Result<(Self::Accepted, SocketAddr)> {
        let mut cx = Context::from_waker(&listener.bell.waker);
        match listener.io.poll_accept(&mut cx) {
            Poll::Ready(accepted) => accepted,
            Poll::Pending => Err(ErrorKind::WouldBlock.into()),
        }
    }

    fn accepted_socket(accepted: &Self::Accepted) -> SockRef<'_> {
        SockRef::from(accepted)
    }

    fn accepted(&self, slot: u32, accepted: Self::Accepted) -> io::Result<Self::Stream> {
        Ok(self.watch(accepted, Source::Conn(slot)))
    }

    fn stream(&self, slot: u32, socket: Socket) -> io::Result<Self::Stream> {
        let io = TcpStream::from_std(socket.into())?;
        Ok(self.watch(io, Source::Conn(slot)))
    }
}
