//! A load for one DHT node: sources that ask it without pause, and count what it answers.
//!
//! Each source is a socket with an address of its own, 127.0.n.7, in a /24 of its own, so that limits
//! per source meet what they would meet outside. It is a node, too: it answers what it is asked, so the
//! node under load takes it into its table and has closest nodes to tell.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::set_socket_recv_buffer_size;

use crate::krpc::{K, Query, holds, nodes_in, write_answer, write_query};
use crate::usage;
use crate::wait::until;

/// Queries of one source that are lost are given up after this.
const LOST: Duration = Duration::from_millis(500);
/// How long a source waits for its socket.
const TURN: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 10_000_000,
};
/// What came of a load.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// How long it took.
    pub took: Duration,
    /// Queries sent.
    pub asked: u64,
    /// Answers to them.
    pub answered: u64,
    /// Bytes of the answers.
    pub bytes: u64,
    /// Queries that the node sent by itself.
    pub heard: u64,
    /// And to how many sources.
    pub heard_by: usize,
    /// CPU of the node in user mode.
    pub user: Duration,
    /// And in the kernel.
    pub sys: Duration,
}

/// The sources.
#[derive(Debug)]
pub struct Blast {
    sources: Vec<Source>,
    rng: ChaCha8Rng,
    next: u32,
}

#[derive(Debug)]
struct Source {
    socket: UdpSocket,
    id: [u8; 20],
    /// Queries under way, and when the last was sent.
    waiting: u32,
    asked: Instant,
    buffer: Vec<u8>,
}

impl Blast {
    /// Sources for the node at `node`; at most 250.
    ///
    /// # Errors
    /// What the platform says.
    pub fn new(node: SocketAddr, sources: u8) -> io::Result<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut source = |n: u8| {
            let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, n + 1, 7), 0))?;
            socket.connect(node)?;
            socket.set_nonblocking(true)?;
            // As much as the system allows: bursts must not be lost here.
            set_socket_recv_buffer_size(&socket, 4 << 20)?;
            let mut id = [0; 20];
            rng.fill_bytes(&mut id);
            let (waiting, asked, buffer) = (0, Instant::now(), Vec::with_capacity(512));
            Ok(Source {
                socket,
                id,
                waiting,
                asked,
                buffer,
            })
        };
        let sources = (0..sources.min(250))
            .map(&mut source)
            .collect::<io::Result<_>>()?;
        Ok(Self {
            sources,
            rng,
            next: 0,
        })
    }

    /// Where the sources are.
    ///
    /// # Errors
    /// What the platform says.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.sources
            .iter()
            .map(|source| source.socket.local_addr())
            .collect()
    }

    /// Talks with the node until its answers name 8 nodes.
    ///
    /// # Panics
    /// If `limit` passes before.
    pub fn befriend(&mut self, limit: Duration) {
        let mut best = 0;
        until("a node under load to know the sources", limit, || {
            self.load(
                Some(Query::FindNode),
                Duration::from_millis(100),
                1,
                |answer| {
                    best = best.max(nodes_in(answer));
                },
            )
            .ok()?;
            (best >= K).then_some(())
        });
    }

    /// Asks for `span`, with at most `window` queries under way in all, and takes the CPU that `pid` uses meanwhile.
    ///
    /// # Errors
    /// What the platform says.
    pub fn measure(
        &mut self,
        query: Query,
        span: Duration,
        window: u32,
        pid: u32,
    ) -> io::Result<Figures> {
        let (user, sys) = usage::cpu(pid);
        let figures = self.load(Some(query), span, window, |_| ())?;
        let (user_after, sys_after) = usage::cpu(pid);
        Ok(Figures {
            user: user_after - user,
            sys: sys_after - sys,
            ..figures
        })
    }

    /// Answers what the node asks, for `span`, and asks nothing.
    ///
    /// # Errors
    /// What the platform says.
    pub fn listen(&mut self, span: Duration) -> io::Result<Figures> {
        self.load(None, span, 0, |_| ())
    }

    fn load(
        &mut self,
        query: Option<Query>,
        span: Duration,
        window: u32,
        mut see: impl FnMut(&[u8]),
    ) -> io::Result<Figures> {
        let each = (window / self.sources.len().max(1) as u32).max(1);
        let (mut asked, mut answered, mut bytes, mut heard) = (0, 0, 0, 0);
        let mut heard_by = BTreeSet::new();
        let mut buffer = [0; 2048];
        let ids: Vec<([u8; 20], SocketAddr)> = self
            .sources
            .iter()
            .map(|source| Ok((source.id, source.socket.local_addr()?)))
            .collect::<io::Result<_>>()?;
        for source in &mut self.sources {
            source.waiting = 0;
        }
        let began = Instant::now();
        loop {
            let now = Instant::now();
            if now - began >= span {
                break;
            }
            for source in &mut self.sources {
                if source.waiting >= each && now - source.asked > LOST {
                    source.waiting = 0;
                }
                while let Some(query) = query.filter(|_| source.waiting < each) {
                    self.next = self.next.wrapping_add(1);
                    write_query(
                        &mut source.buffer,
                        query,
                        &source.id,
                        self.next,
                        &mut self.rng,
                    );
                    match source.socket.send(&source.buffer) {
                        Ok(_) => {}
                        // It does not listen yet, or the socket is full.
                        Err(e)
                            if matches!(
                                e.kind(),
                                io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionRefused
                            ) =>
                        {
                            break;
                        }
                        Err(e) => return Err(e),
                    }
                    asked += 1;
                    source.waiting += 1;
                    source.asked = now;
                }
            }
            let mut fds: Vec<PollFd<'_>> = self
                .sources
                .iter()
                .map(|source| PollFd::new(&source.socket, PollFlags::IN))
                .collect();
            poll(&mut fds, Some(&TURN))?;
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            for (source, _) in self
                .sources
                .iter_mut()
                .zip(ready)
                .filter(|(_, ready)| *ready)
            {
                while let Ok(len) = source.socket.recv(&mut buffer) {
                    let message = &buffer[..len];
                    if holds(message, b"1:y1:q") {
                        heard += 1;
                        heard_by.insert(source.id);
                        if write_answer(&mut source.buffer, message, &source.id, &ids) {
                            // What cannot be sent is lost, as datagrams are.
                            let _ = source.socket.send(&source.buffer);
                        }
                    } else {
                        answered += 1;
                        bytes += len as u64;
                        source.waiting = source.waiting.saturating_sub(1);
                        see(message);
                    }
                }
            }
        }
        Ok(Figures {
            took: began.elapsed(),
            asked,
            answered,
            bytes,
            heard,
            heard_by: heard_by.len(),
            user: Duration::ZERO,
            sys: Duration::ZERO,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::krpc::transaction;

    #[test]
    fn sources_count_what_is_answered_and_are_nodes_themselves() {
        let node = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        node.set_read_timeout(Some(Duration::from_secs(1)))
            .expect("a timeout");
        let mut blast = Blast::new(node.local_addr().expect("bound"), 2).expect("sources");
        let server = std::thread::spawn(move || {
            let (mut buffer, mut first, mut theirs) = ([0; 512], None, Vec::new());
            while let Ok((len, from)) = node.recv_from(&mut buffer) {
                let query = &buffer[..len];
                if first.is_none() {
                    first = Some(from);
                    node.send_to(
                        b"d1:ad2:id20:aaaaaaaaaaaaaaaaaaaae1:q9:find_node1:t2:xy1:y1:qe",
                        from,
                    )
                    .expect("sent");
                }
                if holds(query, b"1:y1:r") {
                    theirs = query.to_vec();
                } else if transaction(query).is_some_and(|tid| tid[3] % 2 == 0) {
                    let mut answer = Vec::new();
                    write_answer(&mut answer, query, &[7; 20], &[]);
                    node.send_to(&answer, from).expect("sent");
                }
            }
            theirs
        });
        let figures = blast
            .load(Some(Query::FindNode), Duration::from_millis(700), 4, |_| ())
            .expect("a load");
        assert!(
            figures.answered > 0 && figures.answered < figures.asked,
            "{figures:?}"
        );
        let theirs = server.join().expect("the server");
        assert_eq!(transaction(&theirs), Some(&b"xy"[..]));
        assert_eq!(nodes_in(&theirs), 1);
    }
}
