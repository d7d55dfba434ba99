//! Waiting for the first of: a socket, a wake-up, a deadline.

use std::{io, sync::Arc, time};

use dunlin_core::Instant;
use mio::{Events, Interest, Poll, Token, Waker, event::Source};

/// Sockets told of by one wait; more are told of by the next.
const BATCH: usize = 256;
/// The waker's token; sockets use smaller ones.
const WAKE: Token = Token(usize::MAX);

/// A socket that can go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The number it was added with.
    pub key: usize,
    /// Something can be read, or the other side is gone.
    pub read: bool,
    /// The other side has ended its stream: what is left to read ends with it, and no further
    /// event tells of that.
    pub ended: bool,
    /// Something can be written, or the other side is gone.
    pub write: bool,
}

/// `epoll` or its like, the clock, and a waker for other threads.
#[derive(Debug)]
pub struct Poller {
    poll: Poll,
    events: Events,
    waker: Arc<Waker>,
    origin: time::Instant,
}

impl Poller {
    /// A poller that waits for nothing yet.
    ///
    /// # Errors
    /// The system has no file descriptor to spare.
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

    /// The present, for the engine: microseconds since the poller was made.
    #[must_use]
    pub fn now(&self) -> Instant {
        Instant::from_micros(u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// Ends a wait from another thread.
    #[must_use]
    pub fn waker(&self) -> Arc<Waker> {
        self.waker.clone()
    }

    /// Watches a socket, edge-triggered, for both directions. `key` is below `usize::MAX`.
    ///
    /// # Errors
    /// The system refuses.
    pub fn add(&self, socket: &mut impl Source, key: usize) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(socket, Token(key), both)
    }

    /// Watches a socket no more.
    ///
    /// # Errors
    /// It was not watched.
    pub fn remove(&self, socket: &mut impl Source) -> io::Result<()> {
        self.poll.registry().deregister(socket)
    }

    /// Waits until a socket can go on, the waker is used or `deadline` has come (`None`: no
    /// deadline), and tells of the sockets.
    ///
    /// # Errors
    /// Of the system; an interrupted wait is none.
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

/// For applications whose own loop waits for the driver among other things.
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
