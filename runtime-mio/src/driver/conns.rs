//! The streams: connecting, reading, writing, closing.
//!
//! ```text
//!  Resolving ──▶ Connecting ──▶ Greeting ──▶ Open ──eof, error, TcpClose──▶ (gone)
//!  (a proxy's name)     └──── without a proxy ──▲
//! ```
//!
//! Each is registered once, edge-triggered, for both directions. What the kernel said is
//! remembered until a call finds it used up, and the engine's interest is remembered until it
//! changes; where the two meet the stream is in the queue, and at no other time.

use std::{
    collections::VecDeque,
    io::{self, IoSlice, IoSliceMut, Read, Write},
    net::SocketAddr,
    sync::Arc,
};

use dunlin_core::{
    CloseReason, ConnId, Instant,
    engine::{Engine, Interest, MAX_IOV, ReadBufs, WriteBufs},
    op::Close,
};
use dunlin_std::{
    net::proxy::Watch,
    net::socket::{self, Route},
    net::socks::{Handshake, Target},
};
use mio::net::TcpStream;

use super::Stats;
use crate::poller::{Poller, Ready};

/// Connections looked at in one round; the rest keep their place in the queue.
const VISITS_PER_ROUND: usize = 64;
/// System calls spent on one direction of one connection in one visit.
const CALLS_PER_VISIT: usize = 4;
/// Bytes moved in one direction of one connection in one visit, after which it goes to the end
/// of the queue: two reads as long as the engine lends buffers for.
const BYTES_PER_VISIT: usize = 2 << 20;
/// Whether a call that moved less than it was asked for tells that the kernel's buffer is empty
/// (or full), which saves the call that would only say so. Where mio imitates edges, only that
/// call arms the next one.
const SHORT_IS_ALL: bool = cfg!(unix);

#[derive(Debug)]
enum State {
    /// Without a stream yet: the proxy's name is being looked up.
    Resolving,
    Connecting {
        stream: TcpStream,
        /// What to say to the proxy.
        greeting: Option<Box<Handshake>>,
        /// More addresses of the proxy.
        others: Vec<SocketAddr>,
    },
    Greeting {
        stream: TcpStream,
        greeting: Box<Handshake>,
    },
    Open(TcpStream),
}

#[derive(Debug)]
struct Conn {
    id: ConnId,
    remote: SocketAddr,
    state: State,
    interest: Interest,
    /// What the kernel said last, as far as it is not used up.
    readable: bool,
    writable: bool,
    /// No more edges will tell of what can be read.
    ended: bool,
    queued: bool,
}

/// All streams, by the engine's slot numbers.
#[derive(Debug)]
pub(super) struct Conns {
    slots: Vec<Option<Conn>>,
    /// Slots to look at. May name one that is empty by now.
    queue: VecDeque<u32>,
    route: Route,
    /// Of the proxy, if there is one.
    watch: Option<Arc<Watch>>,
    /// Numbers of the poller below this one belong to other sockets.
    first_key: usize,
}

/// What became of a visit.
enum Visit {
    /// An edge or the engine's interest will tell when there is more to do.
    Waits,
    /// There is more to do at once.
    More,
    /// The stream could not be opened.
    Failed(io::Error),
    /// The stream is over.
    Over(CloseReason),
}

/// What is left to do for [`Conns::connect`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Dial {
    /// Nothing.
    Begun,
    /// [`Conns::proxy_found`] is to be called with the proxy's addresses.
    FindProxy,
    /// It failed at once.
    Failed(CloseReason),
}

impl Conns {
    pub(super) const fn new(route: Route, watch: Option<Arc<Watch>>, first_key: usize) -> Self {
        Self {
            slots: Vec::new(),
            queue: VecDeque::new(),
            route,
            watch,
            first_key,
        }
    }

    /// Begins to connect.
    pub(super) fn connect(&mut self, poller: &Poller, id: ConnId, remote: SocketAddr) -> Dial {
        if self.route.proxy.is_some() {
            self.insert(id, remote, State::Resolving);
            return Dial::FindProxy;
        }
        match self.open(poller, id.index, remote) {
            Ok(stream) => {
                let state = State::Connecting {
                    stream,
                    greeting: None,
                    others: Vec::new(),
                };
                self.insert(id, remote, state);
                Dial::Begun
            }
            Err(error) => Dial::Failed(socket::close_reason(&error)),
        }
    }

    /// The proxy's addresses are known; for a stream that is gone they are of no use.
    ///
    /// # Errors
    /// None of them can be tried.
    pub(super) fn proxy_found(
        &mut self,
        poller: &Poller,
        id: ConnId,
        mut addresses: Vec<SocketAddr>,
    ) -> Result<(), CloseReason> {
        let Some(conn) = self.get(id.index).filter(|conn| conn.id == id) else {
            return Ok(());
        };
        let target = Target::Address(conn.remote);
        addresses.reverse();
        self.try_proxy(poller, id.index, target, addresses)
            .map_err(|error| {
                if let Some(watch) = &self.watch {
                    watch.fails(&error);
                }
                self.remove(id.index);
                socket::close_reason(&error)
            })
    }

    /// Tries the last of `addresses`, and the others if that fails at once.
    fn try_proxy(
        &mut self,
        poller: &Poller,
        index: u32,
        target: Target,
        mut addresses: Vec<SocketAddr>,
    ) -> io::Result<()> {
        let none = "the proxy has no address";
        let mut last = io::Error::new(io::ErrorKind::HostUnreachable, none);
        while let (Some(address), Some(proxy)) = (addresses.pop(), &self.route.proxy) {
            let begun = Handshake::new(proxy, target.clone())
                .and_then(|greeting| Ok((greeting, self.open(poller, index, address)?)));
            match (begun, self.get(index)) {
                (Ok((greeting, stream)), Some(conn)) => {
                    conn.state = State::Connecting {
                        stream,
                        greeting: Some(Box::new(greeting)),
                        others: addresses,
                    };
                    (conn.readable, conn.writable, conn.ended) = (false, false, false);
                    return Ok(());
                }
                (Err(error), _) => last = error,
                (_, None) => return Ok(()),
            }
        }
        Err(last)
    }

    /// A stream could not be opened: another address of the proxy is tried, if there is one.
    fn failed(&mut self, poller: &Poller, index: u32, error: io::Error) -> Visit {
        let why = Visit::Over(socket::close_reason(&error));
        let Some(conn) = self.get(index) else {
            return why;
        };
        let target = Target::Address(conn.remote);
        let others = conn.other_proxies();
        let reached = conn.reached_proxy();
        if let Some(others) = others
            && self.try_proxy(poller, index, target, others).is_ok()
        {
            return Visit::Waits;
        }
        match (&self.watch, reached) {
            (Some(watch), true) => watch.works(),
            (Some(watch), false) => drop(watch.fails(&error)),
            (None, _) => {}
        }
        why
    }

    fn open(&self, poller: &Poller, index: u32, remote: SocketAddr) -> io::Result<TcpStream> {
        let socket = socket::outgoing(remote, &self.route.egress)?;
        socket::connect(&socket, remote)?;
        let mut stream = TcpStream::from_std(socket.into());
        poller.add(&mut stream, self.first_key + index as usize)?;
        Ok(stream)
    }

    /// Takes over an accepted stream.
    ///
    /// # Errors
    /// The system refuses to watch it.
    pub(super) fn accepted(
        &mut self,
        poller: &Poller,
        id: ConnId,
        remote: SocketAddr,
        mut stream: TcpStream,
    ) -> io::Result<()> {
        poller.add(&mut stream, self.first_key + id.index as usize)?;
        self.insert(id, remote, State::Open(stream));
        if let Some(conn) = self.get(id.index) {
            // A new stream has room to write; to be told so would cost a turn.
            conn.writable = true;
        }
        Ok(())
    }

    fn insert(&mut self, id: ConnId, remote: SocketAddr, state: State) {
        let index = id.index as usize;
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, || None);
        }
        // An older stream in this slot is one that the engine has given up: its TcpClose, still
        // to come, will find another generation. Dropping the stream closes it.
        self.slots[index] = Some(Conn {
            id,
            remote,
            state,
            interest: Interest::default(),
            readable: false,
            writable: false,
            ended: false,
            queued: false,
        });
    }

    fn remove(&mut self, index: u32) {
        if let Some(slot) = self.slots.get_mut(index as usize) {
            *slot = None;
        }
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

    /// Takes note of a change of interest; costs no system call.
    pub(super) fn interest(&mut self, id: ConnId, interest: Interest) {
        if let Some(conn) = self.get(id.index).filter(|conn| conn.id == id) {
            conn.interest = interest;
            self.enqueue(id.index);
        }
    }

    /// Takes note of an edge.
    pub(super) fn ready(&mut self, index: u32, ready: Ready) {
        if let Some(conn) = self.get(index) {
            conn.readable |= ready.read;
            conn.writable |= ready.write;
            conn.ended |= ready.ended;
            self.enqueue(index);
        }
    }

    fn get(&mut self, index: u32) -> Option<&mut Conn> {
        self.slots.get_mut(index as usize)?.as_mut()
    }

    /// Puts a stream into the queue if it can go on.
    fn enqueue(&mut self, index: u32) {
        if let Some(Some(conn)) = self.slots.get_mut(index as usize)
            && !conn.queued
            && conn.can_go_on()
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
    pub(super) fn round(
        &mut self,
        poller: &Poller,
        engine: &mut Engine,
        now: Instant,
        stats: &mut Stats,
    ) {
        let watch = self.watch.clone();
        for _ in 0..self.queue.len().min(VISITS_PER_ROUND) {
            let Some(index) = self.queue.pop_front() else {
                return;
            };
            let Some(conn) = self.get(index) else {
                continue;
            };
            conn.queued = false;
            let id = conn.id;
            let visit = match conn.visit(engine, now, stats, watch.as_deref()) {
                Visit::Failed(error) => self.failed(poller, index, error),
                visit => visit,
            };
            match visit {
                Visit::Waits | Visit::Failed(_) => {}
                Visit::More => self.enqueue(index),
                Visit::Over(why) => {
                    self.remove(index);
                    engine.handle_closed(now, id, why);
                    stats.progress = true;
                }
            }
        }
    }
}

impl Conn {
    fn can_go_on(&self) -> bool {
        match &self.state {
            State::Resolving => false,
            State::Connecting { .. } => self.writable,
            State::Greeting { .. } => self.readable || self.writable,
            State::Open(_) => {
                self.interest.read && self.readable || self.interest.write && self.writable
            }
        }
    }

    /// What else there is to try where the proxy could not be reached.
    fn other_proxies(&mut self) -> Option<Vec<SocketAddr>> {
        match &mut self.state {
            State::Connecting { others, .. } if !others.is_empty() => Some(std::mem::take(others)),
            _ => None,
        }
    }

    /// Whether the proxy did its part: what failed is behind it.
    const fn reached_proxy(&self) -> bool {
        match &self.state {
            State::Greeting { greeting, .. } => greeting.is_about_target(),
            _ => false,
        }
    }

    fn visit(
        &mut self,
        engine: &mut Engine,
        now: Instant,
        stats: &mut Stats,
        watch: Option<&Watch>,
    ) -> Visit {
        match self.advance(engine, now, stats, watch) {
            Ok(true) => {}
            Ok(false) => return Visit::Waits,
            Err(error) => return Visit::Failed(error),
        }
        // Writes first: they make room, and what they ask for comes back while others are read.
        for direction in [Self::write, Self::read] {
            if let Err(why) = direction(self, engine, now, stats) {
                return Visit::Over(why);
            }
        }
        match self.can_go_on() {
            true => Visit::More,
            false => Visit::Waits,
        }
    }

    /// Brings a stream on its way to being open; whether it is.
    fn advance(
        &mut self,
        engine: &mut Engine,
        now: Instant,
        stats: &mut Stats,
        watch: Option<&Watch>,
    ) -> io::Result<bool> {
        if let State::Open(_) = self.state {
            return Ok(true);
        }
        if let State::Connecting { stream, .. } = &self.state {
            if let Some(error) = stream.take_error()? {
                return Err(error);
            }
            match stream.peer_addr() {
                Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                    self.writable = false;
                    return Ok(false);
                }
                other => other?,
            };
            socket::tune(stream);
        }
        self.state = match std::mem::replace(&mut self.state, State::Resolving) {
            State::Connecting {
                stream,
                greeting: Some(greeting),
                ..
            } => State::Greeting { stream, greeting },
            State::Connecting { stream, .. } => State::Open(stream),
            other => other,
        };
        if let State::Greeting { stream, greeting } = &mut self.state {
            if !greet(stream, greeting, &mut self.readable, &mut self.writable)? {
                return Ok(false);
            }
            if let Some(watch) = watch {
                watch.works();
            }
            stats.progress = true;
        }
        self.state = match std::mem::replace(&mut self.state, State::Resolving) {
            State::Greeting { stream, .. } => State::Open(stream),
            other => other,
        };
        engine.handle_connected(now, self.id);
        stats.progress = true;
        // The engine has something to say first, and tells by its interest.
        Ok(false)
    }

    /// Reads until the stream is drained, the engine wants no more, or the budget is spent.
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
            // Readiness first: the engine lends blocks only to a stream that has bytes.
            if !(self.interest.read && self.readable) || total >= BYTES_PER_VISIT {
                break;
            }
            let (room, result) = {
                let mut bufs = ReadBufs::new();
                engine.read_bufs(now, self.id, &mut bufs);
                let room: usize = bufs.iter().map(|buf| buf.len()).sum();
                if room == 0 {
                    // Taken back, until the engine says otherwise.
                    self.interest.read = false;
                    break;
                }
                let mut iov: heapless::Vec<IoSliceMut<'_>, MAX_IOV> =
                    bufs.into_iter().map(IoSliceMut::new).collect();
                (room, stream.read_vectored(&mut iov))
            };
            stats.reads += 1;
            match result {
                Ok(0) => return Err(CloseReason::Eof),
                Ok(len) => {
                    // The end of the stream has no edge of its own.
                    self.readable = len == room || self.ended || !SHORT_IS_ALL;
                    total += len;
                    stats.read_bytes += len as u64;
                    stats.progress = true;
                    engine.handle_read(now, self.id, len);
                }
                Err(error) => {
                    self.readable = interrupted(&error)?;
                    // The engine takes back what it lent for nothing.
                    engine.handle_read(now, self.id, 0);
                }
            }
        }
        Ok(())
    }

    /// Writes until nothing is left, the stream takes no more, or the budget is spent.
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
            if !(self.interest.write && self.writable) || total >= BYTES_PER_VISIT {
                break;
            }
            let (room, result) = {
                let mut bufs = WriteBufs::new();
                engine.write_bufs(now, self.id, &mut bufs);
                let iov: heapless::Vec<IoSlice<'_>, MAX_IOV> =
                    bufs.iter().map(|buf| IoSlice::new(buf)).collect();
                let room: usize = iov.iter().map(|buf| buf.len()).sum();
                if room == 0 {
                    self.interest.write = false;
                    break;
                }
                (room, stream.write_vectored(&iov))
            };
            stats.writes += 1;
            match result {
                Ok(len) => {
                    self.writable = len == room || !SHORT_IS_ALL;
                    total += len;
                    stats.written_bytes += len as u64;
                    stats.progress = true;
                    engine.handle_written(now, self.id, len);
                }
                Err(error) => self.writable = interrupted(&error)?,
            }
        }
        Ok(())
    }
}

/// Whether to try again at once; a stream that has to wait is not an error.
fn interrupted(error: &io::Error) -> Result<bool, CloseReason> {
    match error.kind() {
        io::ErrorKind::WouldBlock => Ok(false),
        io::ErrorKind::Interrupted => Ok(true),
        _ => Err(socket::close_reason(error)),
    }
}

/// Talks to the proxy as far as it goes; whether it has connected.
fn greet(
    stream: &mut TcpStream,
    greeting: &mut Handshake,
    readable: &mut bool,
    writable: &mut bool,
) -> io::Result<bool> {
    let again = |error: io::Error| match error.kind() {
        io::ErrorKind::WouldBlock => Ok(false),
        io::ErrorKind::Interrupted => Ok(true),
        _ => Err(error),
    };
    let mut buf = [0; 64];
    loop {
        while !greeting.output().is_empty() {
            match stream.write(greeting.output()) {
                Ok(len) => greeting.sent(len),
                Err(error) => {
                    if !again(error)? {
                        *writable = false;
                        return Ok(false);
                    }
                }
            }
        }
        let want = greeting.wanted().min(buf.len());
        match stream.read(&mut buf[..want]) {
            Ok(0) => {
                let reason = "it hung up";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason));
            }
            Ok(len) => {
                if greeting.input(&buf[..len])? {
                    return Ok(true);
                }
            }
            Err(error) => {
                if !again(error)? {
                    *readable = false;
                    return Ok(false);
                }
            }
        }
    }
}
