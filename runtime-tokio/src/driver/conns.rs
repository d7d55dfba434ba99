//! The streams: connecting, reading, writing, closing.
//!
//! ```text
//!  Connecting ──ok──▶ Open ──eof, error, TcpClose──▶ (gone)
//!      └──error, TcpClose──▶ (gone)
//! ```
//!
//! A connection is looked at when its waker rang or its interest changed, and at no other time.

use std::{
    collections::VecDeque,
    future::Future,
    io::{self, IoSlice, IoSliceMut},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use dunlin_core::{
    CloseReason, ConnId, Instant,
    engine::{Engine, Interest, MAX_IOV, ReadBufs, WriteBufs},
    op::Close,
};
use dunlin_std::net::socket;
use tokio::{io::Interest as Readiness, net::TcpStream};

use super::{
    Stats,
    ready::{Bell, List, Source},
};
use crate::{net::Dialer, platform};

/// Connections looked at in one turn; the rest keep their place in the queue.
const VISITS_PER_TURN: usize = 64;
/// System calls spent on one direction of one connection in one visit.
const CALLS_PER_VISIT: usize = 4;

type Connect = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

enum State {
    Connecting(Connect),
    Open(TcpStream),
}

struct Conn {
    id: ConnId,
    state: State,
    interest: Interest,
    bell: Bell,
    queued: bool,
}

/// All streams, by the engine's slot numbers.
pub(super) struct Conns {
    slots: Vec<Option<Conn>>,
    /// Slots to look at. May name one that is empty by now.
    queue: VecDeque<u32>,
    list: List,
    dialer: Arc<Dialer>,
}

/// What became of a visit.
enum Visit {
    /// The waker rings when there is more to do.
    Waits,
    /// There is more to do at once.
    More,
    /// The stream is over.
    Over(CloseReason),
}

impl Conns {
    pub(super) fn new(list: List, dialer: Arc<Dialer>) -> Self {
        Self {
            slots: Vec::new(),
            queue: VecDeque::new(),
            list,
            dialer,
        }
    }

    /// Begins to connect.
    pub(super) fn connect(&mut self, id: ConnId, remote: SocketAddr) {
        let connect = Arc::clone(&self.dialer).dial(remote);
        self.insert(id, State::Connecting(Box::pin(connect)));
    }

    /// Takes over an accepted stream.
    pub(super) fn accepted(&mut self, id: ConnId, stream: TcpStream) {
        self.insert(id, State::Open(stream));
    }

    fn insert(&mut self, id: ConnId, state: State) {
        let index = id.index as usize;
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, || None);
        }
        // An older stream in this slot is one that the engine has given up: its TcpClose, still
        // to come, will find another generation. Dropping the stream closes it.
        self.slots[index] = Some(Conn {
            id,
            state,
            interest: Interest::default(),
            bell: Bell::new(Source::Conn(id.index), &self.list),
            queued: false,
        });
        self.enqueue(id.index);
    }

    /// Carries out the engine's wish to end a stream; a stale id means that it ended already.
    pub(super) fn close(&mut self, id: ConnId, how: Close) {
        let Some(slot) = self.slots.get_mut(id.index as usize) else {
            return;
        };
        if slot.as_ref().is_none_or(|conn| conn.id != id) {
            return;
        }
        if let (Some(State::Open(stream)), Close::Abort) = (slot.take().map(|c| c.state), how) {
            socket::abort_on_drop(&stream);
        }
    }

    /// Closes everything.
    pub(super) fn clear(&mut self) {
        self.slots.clear();
        self.queue.clear();
    }

    /// Takes note of a change of interest.
    pub(super) fn interest(&mut self, id: ConnId, interest: Interest) {
        let Some(conn) = self.get(id.index).filter(|conn| conn.id == id) else {
            return;
        };
        conn.interest = interest;
        if interest.read || interest.write {
            self.enqueue(id.index);
        }
    }

    /// The waker of a slot rang.
    pub(super) fn rang(&mut self, index: u32) {
        if let Some(conn) = self.get(index) {
            conn.bell.own.clear();
            self.enqueue(index);
        }
    }

    fn get(&mut self, index: u32) -> Option<&mut Conn> {
        self.slots.get_mut(index as usize)?.as_mut()
    }

    fn enqueue(&mut self, index: u32) {
        if let Some(Some(conn)) = self.slots.get_mut(index as usize)
            && !conn.queued
        {
            conn.queued = true;
            self.queue.push_back(index);
        }
    }

    /// Whether somebody waits to be looked at.
    pub(super) fn busy(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Looks at those who wait, once each, within the budget.
    pub(super) fn turn(&mut self, engine: &mut Engine, now: Instant, stats: &mut Stats) {
        for _ in 0..self.queue.len().min(VISITS_PER_TURN) {
            let Some(index) = self.queue.pop_front() else {
                return;
            };
            let Some(conn) = self.get(index) else {
                continue;
            };
            conn.queued = false;
            let id = conn.id;
            match conn.visit(engine, now, stats) {
                Visit::Waits => {}
                Visit::More => self.enqueue(index),
                Visit::Over(why) => {
                    self.slots[index as usize] = None;
                    engine.handle_closed(now, id, why);
                    stats.progress = true;
                }
            }
        }
    }
}

impl Conn {
    fn visit(&mut self, engine: &mut Engine, now: Instant, stats: &mut Stats) -> Visit {
        let mut cx = Context::from_waker(&self.bell.waker);
        let stream = match &mut self.state {
            State::Open(stream) => stream,
            State::Connecting(connect) => match connect.as_mut().poll(&mut cx) {
                Poll::Pending => return Visit::Waits,
                Poll::Ready(Err(error)) => return Visit::Over(socket::close_reason(&error)),
                Poll::Ready(Ok(stream)) => {
                    socket::tune(&stream);
                    self.state = State::Open(stream);
                    engine.handle_connected(now, self.id);
                    stats.progress = true;
                    return Visit::Waits;
                }
            },
        };
        let mut more = false;
        // A list that comes out empty takes the interest back, until the engine says otherwise.
        if self.interest.write {
            match write(
                stream,
                self.id,
                &mut self.interest.write,
                engine,
                now,
                &mut cx,
                stats,
            ) {
                Visit::Waits => {}
                Visit::More => more = true,
                over @ Visit::Over(_) => return over,
            }
        }
        if self.interest.read {
            match read(
                stream,
                self.id,
                &mut self.interest.read,
                engine,
                now,
                &mut cx,
                stats,
            ) {
                Visit::Waits => {}
                Visit::More => more = true,
                over @ Visit::Over(_) => return over,
            }
        }
        if more { Visit::More } else { Visit::Waits }
    }
}

/// Reads until the stream is drained, the engine wants no more, or the budget is spent.
fn read(
    stream: &TcpStream,
    id: ConnId,
    interest: &mut bool,
    engine: &mut Engine,
    now: Instant,
    cx: &mut Context<'_>,
    stats: &mut Stats,
) -> Visit {
    for _ in 0..CALLS_PER_VISIT {
        // Readiness first: the engine lends blocks only to a stream that has bytes.
        match stream.poll_read_ready(cx) {
            Poll::Pending => return Visit::Waits,
            Poll::Ready(Err(error)) => return Visit::Over(socket::close_reason(&error)),
            Poll::Ready(Ok(())) => {}
        }
        let result = {
            let mut bufs = ReadBufs::new();
            engine.read_bufs(now, id, &mut bufs);
            let room = bufs.iter().map(|buf| buf.len()).sum();
            if room == 0 {
                *interest = false;
                return Visit::Waits;
            }
            let mut iov: heapless::Vec<IoSliceMut<'_>, MAX_IOV> =
                bufs.into_iter().map(IoSliceMut::new).collect();
            drain(stream, Readiness::READABLE, room, || {
                platform::read(stream, &mut iov)
            })
        };
        stats.reads += 1;
        match result {
            Ok(0) => return Visit::Over(CloseReason::Eof),
            Ok(len) => {
                stats.read_bytes += len as u64;
                stats.progress = true;
                engine.handle_read(now, id, len);
            }
            // The engine takes back what it lent for nothing.
            Err(error) if again(&error) => engine.handle_read(now, id, 0),
            Err(error) => return Visit::Over(socket::close_reason(&error)),
        }
    }
    Visit::More
}

/// Writes until nothing is left, the stream takes no more, or the budget is spent.
fn write(
    stream: &TcpStream,
    id: ConnId,
    interest: &mut bool,
    engine: &mut Engine,
    now: Instant,
    cx: &mut Context<'_>,
    stats: &mut Stats,
) -> Visit {
    for _ in 0..CALLS_PER_VISIT {
        match stream.poll_write_ready(cx) {
            Poll::Pending => return Visit::Waits,
            Poll::Ready(Err(error)) => return Visit::Over(socket::close_reason(&error)),
            Poll::Ready(Ok(())) => {}
        }
        let result = {
            let mut bufs = WriteBufs::new();
            engine.write_bufs(now, id, &mut bufs);
            let iov: heapless::Vec<IoSlice<'_>, MAX_IOV> =
                bufs.iter().map(|buf| IoSlice::new(buf)).collect();
            let len = iov.iter().map(|buf| buf.len()).sum();
            if len == 0 {
                *interest = false;
                return Visit::Waits;
            }
            drain(stream, Readiness::WRITABLE, len, || {
                platform::write(stream, &iov)
            })
        };
        stats.writes += 1;
        match result {
            Ok(len) => {
                stats.written_bytes += len as u64;
                stats.progress = true;
                engine.handle_written(now, id, len);
            }
            Err(error) if again(&error) => {}
            Err(error) => return Visit::Over(socket::close_reason(&error)),
        }
    }
    Visit::More
}

fn again(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// Runs one system call on up to `want` bytes. Fewer mean that the kernel's buffer is empty (or
/// full, for a write): the readiness is cleared at once, which saves the call that would only
/// say so.
///
/// No wake-up is lost by that. tokio clears exactly the readiness that it saw before the call,
/// recognised by its tick; bytes that arrive after the call raise a new edge with a new tick,
/// which stands. The end of a stream is kept apart from readiness and is never cleared, so a
/// `FIN` behind the last bytes still shows.
fn drain(
    stream: &TcpStream,
    direction: Readiness,
    want: usize,
    call: impl FnOnce() -> io::Result<usize>,
) -> io::Result<usize> {
    let mut done = 0;
    let result = stream.try_io(direction, || {
        done = call()?;
        if 0 < done && done < want {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(())
    });
    match result {
        Err(_) if done > 0 => Ok(done),
        Err(error) => Err(error),
        Ok(()) => Ok(done),
    }
}
