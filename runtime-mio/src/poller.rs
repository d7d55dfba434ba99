//! Waits for a socket, a wake-up or a deadline.

use std::{io, sync::Arc, time};

use dunlin_core::Instant;
use mio::{Events, Interest, Poll, Token, Waker, event::Source};

/// The most sockets reported by one wait; the next wait reports more.
const BATCH: usize = 256;
/// The token of the waker; sockets use smaller ones.
const WAKE: Token = Token(usize::MAX);

/// A socket that became ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The number with which it was added.
    pub key: usize,
    /// It can be read, or the other side has closed it.
    pub read: bool,
    /// The other side has ended its stream: there is nothing to read after what has arrived, and no further
    /// event reports it.
    pub ended: bool,
    /// It can be written, or the other side has closed it.
    pub write: bool,
}

/// `epoll` or its equivalent, the clock, and a waker for other threads.
#[derive(Debug)]
pub struct Poller {
    poll: Poll,
    events: Events,
    waker: Arc<Waker>,
    origin: time::Instant,
}

impl Poller {
    /// Creates a poller that watches nothing yet.
    ///
    /// # Errors
    /// The system has no file descriptor left.
    pub fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        Ok(Self {
            poll,
            events: Events::with_capacity(BATCH),
            waker,
            origin: time::Instant::now(),
        })
    }

    /// The current time for the engine: microseconds since the poller was created.
    #[must_use]
    pub fn now(&self) -> Instant {
        Instant::from_micros(u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// The waker, with which another thread ends a wait.
    #[must_use]
    pub fn waker(&self) -> Arc<Waker> {
        self.waker.clone()
    }

    /// Starts to watch a socket, edge-triggered, for both directions. `key` is below `usize::MAX`.
    ///
    /// # Errors
    /// The platform's error.
    pub fn add(&self, socket: &mut impl Source, key: usize) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(socket, Token(key), both)
    }

    /// Stops watching a socket.
    ///
    /// # Errors
    /// It was not watched.
    pub fn remove(&self, socket: &mut impl Source) -> io::Result<()> {
        self.poll.registry().deregister(socket)
    }

    /// Waits until a socket is ready, the waker is used or `deadline` has passed (`None`: no deadline), and
    /// returns the sockets.
    ///
    /// # Errors
    /// The platform's error; an interrupted wait is not an error.
    pub fn wait(
        &mut self,
        deadline: Option<Instant>,
    ) -> io::Result<impl Iterator<Item = Ready> + '_> {
        let timeout = deadline.map(|at| at.saturating_since(self.now()));
        match self.poll.poll(&mut self.events, timeout) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => self.events.clear(),
            other => other?,
        }
        let sockets = self.events.iter().filter(|e| e.token() != WAKE);
        Ok(sockets.map(|e| Ready {
            key: e.token().0,
            ended: e.is_read_closed() || e.is_error(),
            read: e.is_readable() || e.is_read_closed() || e.is_error(),
            write: e.is_writable() || e.is_write_closed() || e.is_error(),
        }))
    }
}

/// For applications whose own loop waits for several things.
#[cfg(unix)]
impl std::os::fd::AsFd for Poller {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.poll.registry().as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        net::{TcpListener, TcpStream},
        time::Duration,
    };

    use super::*;

    #[test]
    fn a_deadline_ends_a_wait_and_not_too_early() {
        let mut poller = Poller::new().unwrap();
        let at = poller.now() + Duration::from_millis(20);
        while poller.now() < at {
            assert_eq!(poller.wait(Some(at)).unwrap().count(), 0);
        }
    }

    #[test]
    fn another_thread_and_a_socket_end_a_wait() {
        let mut poller = Poller::new().unwrap();
        let waker = poller.waker();
        let thread = std::thread::spawn(move || waker.wake());
        assert_eq!(poller.wait(None).unwrap().count(), 0);
        thread.join().unwrap().unwrap();

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let near = listener.accept().unwrap().0;
        near.set_nonblocking(true).unwrap();
        let mut near = mio::net::TcpStream::from_std(near);
        poller.add(&mut near, 7).unwrap();
        far.write_all(b"x").unwrap();
        let mut seen = false;
        while !seen {
            seen = poller.wait(None).unwrap().any(|r| r.key == 7 && r.read);
        }
        poller.remove(&mut near).unwrap();
    }
}
