//! Name resolution: literal addresses are answered at once, and other names by the stack's DNS
//! socket, for both families at the same time.

use alloc::{collections::VecDeque, string::String, vec, vec::Vec};
use core::net::IpAddr;
use core::time::Duration;

use dunlin_core::{Instant, OpErrorKind, OpId, Outcome};
use smoltcp::iface::SocketHandle;
use smoltcp::socket::dns::{self, GetQueryResultError, QueryHandle};
use smoltcp::wire::{DnsQueryType, IpAddress};

use crate::net::Net;

/// The most names that wait.
const MAX_WAITING: usize = 1024;

/// Who asked for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    /// The engine.
    Op(OpId),
    /// An HTTP request of the driver.
    Http(usize),
}

struct Lookup {
    asker: Asker,
    host: String,
    queries: [Option<QueryHandle>; 2],
    found: Vec<IpAddr>,
    /// When to stop waiting for the other family.
    until: Option<Instant>,
}

/// How long an answer for one family waits for the other family, because some servers never answer
/// for one of them. RFC 8305 §3 recommends 50 ms for interactive use; nothing here is that urgent.
const OTHER_FAMILY: Duration = Duration::from_secs(1);

/// The resolver.
pub(crate) struct Names {
    socket: SocketHandle,
    bit: usize,
    most: usize,
    /// The families to ask for: IPv4, IPv6.
    families: [bool; 2],
    active: Vec<Lookup>,
    waiting: VecDeque<(Asker, String)>,
    /// The waker of a query was called.
    pub(crate) ready: bool,
    done: VecDeque<(Asker, Result<Vec<IpAddr>, Outcome>)>,
}

impl Names {
    pub(crate) fn new(
        net: &mut Net,
        servers: &[IpAddress],
        bit: usize,
        most: usize,
        families: [bool; 2],
    ) -> Self {
        let socket = net.sockets.add(dns::Socket::new(servers, vec![]));
        Self {
            socket,
            bit,
            most,
            families,
            active: Vec::new(),
            waiting: VecDeque::new(),
            ready: false,
            done: VecDeque::new(),
        }
    }

    /// Sets the servers.
    pub(crate) fn set_servers(&self, net: &mut Net, servers: &[IpAddress]) {
        let socket = net.sockets.get_mut::<dns::Socket<'_>>(self.socket);
        socket.update_servers(servers);
    }

    /// Looks a name up. [`Names::poll`] returns the answer.
    pub(crate) fn ask(&mut self, net: &mut Net, asker: Asker, host: String) {
        let literal = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        if let Ok(ip) = literal.unwrap_or(&host).parse() {
            self.done.push_back((asker, Ok(vec![ip])));
        } else if self.most == 0 {
            let outcome = Outcome::failed(OpErrorKind::Unsupported, "names are not looked up");
            self.done.push_back((asker, Err(outcome)));
        } else if self.active.len() < self.most {
            self.start(net, asker, host);
        } else if self.waiting.len() < MAX_WAITING {
            self.waiting.push_back((asker, host));
        } else {
            let outcome = Outcome::failed(OpErrorKind::TimedOut, "too many names are looked up");
            self.done.push_back((asker, Err(outcome)));
        }
    }

    fn start(&mut self, net: &mut Net, asker: Asker, host: String) {
        let socket = net.sockets.get_mut::<dns::Socket<'_>>(self.socket);
        let mut queries = [None; 2];
        for (i, kind) in [DnsQueryType::A, DnsQueryType::Aaaa]
            .into_iter()
            .enumerate()
        {
            if !self.families[i] {
                continue;
            }
            if let Ok(query) = socket.start_query(net.iface.context(), &host, kind) {
                socket.register_query_waker(query, net.ready.waker(self.bit));
                queries[i] = Some(query);
            }
        }
        net.dirty = true;
        if queries.iter().all(Option::is_none) {
            let outcome = Outcome::failed(OpErrorKind::NotFound, host + ": not a host name");
            self.done.push_back((asker, Err(outcome)));
            return;
        }
        self.active.push(Lookup {
            asker,
            host,
            queries,
            found: Vec::new(),
            until: None,
        });
    }

    /// Cancels a lookup. Returns whether there was one.
    pub(crate) fn cancel(&mut self, net: &mut Net, asker: Asker) -> bool {
        if matches!(asker, Asker::Http(_)) {
            // The next request with this number must not receive the answer.
            self.done.retain(|(a, _)| *a != asker);
        }
        if let Some(at) = self.active.iter().position(|l| l.asker == asker) {
            let lookup = self.active.remove(at);
            let socket = net.sockets.get_mut::<dns::Socket<'_>>(self.socket);
            for query in lookup.queries.into_iter().flatten() {
                socket.cancel_query(query);
            }
            self.next(net);
            return true;
        }
        let before = self.waiting.len();
        self.waiting.retain(|(a, _)| *a != asker);
        before > self.waiting.len()
    }

    fn next(&mut self, net: &mut Net) {
        while self.active.len() < self.most
            && let Some((asker, host)) = self.waiting.pop_front()
        {
            self.start(net, asker, host);
        }
    }

    /// The next answer.
    pub(crate) fn poll(
        &mut self,
        net: &mut Net,
        now: Instant,
    ) -> Option<(Asker, Result<Vec<IpAddr>, Outcome>)> {
        let due = self.deadline().is_some_and(|at| at <= now);
        if core::mem::take(&mut self.ready) || due {
            self.look(net, now);
        }
        self.done.pop_front()
    }

    /// When [`Names::poll`] has something to return without a packet.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.active.iter().filter_map(|l| l.until).min()
    }

    fn look(&mut self, net: &mut Net, now: Instant) {
        let socket = net.sockets.get_mut::<dns::Socket<'_>>(self.socket);
        for lookup in &mut self.active {
            for slot in &mut lookup.queries {
                let Some(query) = *slot else { continue };
                match socket.get_query_result(query) {
                    Err(GetQueryResultError::Pending) => {
                        socket.register_query_waker(query, net.ready.waker(self.bit));
                        continue;
                    }
                    Err(GetQueryResultError::Failed) => {}
                    Ok(found) => lookup.found.extend(found.into_iter().map(IpAddr::from)),
                }
                *slot = None;
            }
            if !lookup.found.is_empty() {
                let until = *lookup.until.get_or_insert(now + OTHER_FAMILY);
                if until <= now {
                    for query in lookup.queries.iter_mut().filter_map(Option::take) {
                        socket.cancel_query(query);
                    }
                }
            }
        }
        let mut at = 0;
        while let Some(lookup) = self.active.get(at) {
            if lookup.queries.iter().any(Option::is_some) {
                at += 1;
                continue;
            }
            let lookup = self.active.remove(at);
            let result = if lookup.found.is_empty() {
                let detail = lookup.host + ": no address found";
                Err(Outcome::failed(OpErrorKind::NotFound, detail))
            } else {
                Ok(lookup.found)
            };
            self.done.push_back((lookup.asker, result));
        }
        self.next(net);
    }
}
