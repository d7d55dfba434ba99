//! Sockets watched by the poller. Each is registered once, edge-triggered, for both directions. What the
//! kernel reported is remembered until a call finds it used up.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
};

use dunlin_core::{Instant, SocketId};
use dunlin_std::driver::{Called, Direction, Reactor, Source};
use mio::net::{TcpListener, TcpStream, UdpSocket};
use socket2::{SockRef, Socket};

use crate::poller::{Poller, Ready};

/// The number of [`SocketId`]s of one kind.
const IDS: usize = 1 << u8::BITS;

/// The socket that an event of the poller is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Udp(SocketId),
    Listener(SocketId),
    Stream(u32),
}

impl Key {
    /// The number of this key for the poller.
    const fn number(self) -> usize {
        match self {
            Self::Udp(id) => id.0 as usize,
            Self::Listener(id) => IDS + id.0 as usize,
            Self::Stream(slot) => 2 * IDS + slot as usize,
        }
    }

    /// The key of a number.
    pub(super) fn of(number: usize) -> Option<Self> {
        let id = u8::try_from(number % IDS).ok().map(SocketId);
        match number / IDS {
            0 => id.map(Self::Udp),
            1 => id.map(Self::Listener),
            _ => u32::try_from(number - 2 * IDS).ok().map(Self::Stream),
        }
    }
}

/// A socket and its readiness as last reported, as far as it is not used up.
#[derive(Debug)]
pub(super) struct Watched<T> {
    io: T,
    readable: bool,
    writable: bool,
    /// The stream has ended: no further edge will report readable data.
    ended: bool,
}

impl<T: mio::event::Source> Watched<T> {
    fn new(poller: &Poller, key: Key, mut io: T) -> io::Result<Self> {
        poller.add(&mut io, key.number())?;
        Ok(Self {
            io,
            readable: false,
            writable: false,
            ended: false,
        })
    }

    /// Records an edge.
    pub(super) const fn note(&mut self, ready: Ready) {
        self.readable |= ready.read;
        self.writable |= ready.write;
        self.ended |= ready.ended;
    }

    const fn is_ready(&self, direction: Direction) -> bool {
        match direction {
            Direction::Read => self.readable,
            Direction::Write => self.writable,
        }
    }

    const fn called(&mut self, direction: Direction, called: Called) {
        let ready = match (called, direction) {
            (Called::Ready, _) => true,
            // The end of a stream has no edge of its own.
            (Called::Short, Direction::Read) if self.ended => true,
            // Where mio emulates edges, only a call that would block arms the next one.
            (Called::Short, _) => cfg!(not(unix)),
            (Called::Blocked, _) => false,
        };
        match direction {
            Direction::Read => self.readable = ready,
            Direction::Write => self.writable = ready,
        }
    }
}

macro_rules! source {
    ($socket:ty) => {
        impl Source for Watched<$socket> {
            fn socket(&self) -> SockRef<'_> {
                SockRef::from(&self.io)
            }

            fn is_ready(&mut self, direction: Direction) -> bool {
                Watched::is_ready(self, direction)
            }

            fn call(&mut self, direction: Direction, call: &mut dyn FnMut(&Socket) -> Called) {
                let mut called = Called::Ready;
                // Through mio, which has to see calls that would block where it emulates edges.
                let _ = self.io.try_io(|| {
                    called = call(&SockRef::from(&self.io));
                    match called {
                        Called::Blocked => Err(io::Error::from(ErrorKind::WouldBlock)),
                        _ => Ok(()),
                    }
                });
                self.called(direction, called);
            }
        }
    };
}

source!(UdpSocket);
source!(TcpStream);

/// The poller as the driver kit uses it.
#[derive(Debug)]
pub(super) struct Sockets(pub(super) Poller);

impl Reactor for Sockets {
    type Udp = Watched<UdpSocket>;
    type Listener = TcpListener;
    type Accepted = TcpStream;
    type Stream = Watched<TcpStream>;

    fn now(&self) -> Instant {
        self.0.now()
    }

    fn udp(&self, id: SocketId, socket: Socket) -> io::Result<Self::Udp> {
        let io = UdpSocket::from_std(socket.into());
        let mut udp = Watched::new(&self.0, Key::Udp(id), io)?;
        // A new socket can send; waiting for the report would cost a turn.
        udp.writable = true;
        Ok(udp)
    }

    fn listener(&self, id: SocketId, socket: Socket) -> io::Result<Self::Listener> {
        let mut listener = TcpListener::from_std(socket.into());
        self.0.add(&mut listener, Key::Listener(id).number())?;
        Ok(listener)
    }

    fn accept(&self, listener: &mut Self::Listener) -> io::Result<(Self::Accepted, SocketAddr)> {
        listener.accept()
    }

    fn accepted_socket(accepted: &Self::Accepted) -> SockRef<'_> {
        SockRef::from(accepted)
    }

    fn accepted(&self, slot: u32, accepted: Self::Accepted) -> io::Result<Self::Stream> {
        let mut stream = Watched::new(&self.0, Key::Stream(slot), accepted)?;
        // A new stream can be written; waiting for the report would cost a turn.
        stream.writable = true;
        Ok(stream)
    }

    fn stream(&self, slot: u32, socket: Socket) -> io::Result<Self::Stream> {
        let io = TcpStream::from_std(socket.into());
        Watched::new(&self.0, Key::Stream(slot), io)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_by_its_number() {
        let ids = [0, 1, 255].map(SocketId);
        let keys = ids.iter().flat_map(|&id| [Key::Udp(id), Key::Listener(id)]);
        for key in keys.chain([0, 1, 511, u32::MAX].map(Key::Stream)) {
            assert_eq!(Key::of(key.number()), Some(key));
        }
    }
}
