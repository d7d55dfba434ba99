//! HTTP requests: the core's client over sockets of the pool. There is no TLS.

use alloc::{collections::VecDeque, string::ToString, vec::Vec};
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use dunlin_core::http::HttpRequest;
use dunlin_core::http::{Get, Host, Progress};
use dunlin_core::op::Close;
use dunlin_core::{CloseReason, Instant, OpError, OpErrorKind, OpId, Outcome};
use smoltcp::socket::tcp::State;

use crate::names::{Asker, Names};
use crate::net::Net;
use crate::net::pool::{Owner, Pool};
use crate::stats::Stats;

struct Job {
    op: OpId,
    get: Get,
    /// The addresses that were not tried yet.
    addrs: VecDeque<IpAddr>,
    /// When the next address is tried, if the current one has not answered.
    patience: Option<Instant>,
}

/// How long one of several addresses may take to answer.
const PATIENCE: Duration = Duration::from_secs(4);

/// All requests.
pub(crate) struct Fetches {
    /// Indexed by the number that their sockets have.
    jobs: Vec<Option<Job>>,
    waiting: VecDeque<Job>,
    done: VecDeque<(OpId, Outcome)>,
}

/// The parts of the driver that requests need.
pub(crate) struct Tools<'a> {
    pub(crate) net: &'a mut Net,
    pub(crate) pool: &'a mut Pool,
    pub(crate) names: &'a mut Names,
    pub(crate) stats: &'a mut Stats,
    pub(crate) now: Instant,
}

impl Fetches {
    /// Creates a client for at most `most` requests at once.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            jobs: (0..most).map(|_| None).collect(),
            waiting: VecDeque::new(),
            done: VecDeque::new(),
        }
    }

    /// Makes a request. [`Fetches::poll`] returns its outcome.
    pub(crate) fn submit(&mut self, tools: &mut Tools<'_>, op: OpId, request: &HttpRequest) {
        if self.jobs.is_empty() {
            let outcome = Outcome::failed(OpErrorKind::Unsupported, "no HTTP on this machine");
            self.done.push_back((op, outcome));
            return;
        }
        match Get::new(tools.now, request) {
            // The engine limits the number of its ops.
            Ok(get) => {
                self.waiting.push_back(Job {
                    op,
                    get,
                    addrs: VecDeque::new(),
                    patience: None,
                });
                self.next(tools);
            }
            Err(OpError { kind, detail }) => {
                self.done.push_back((op, Outcome::failed(kind, detail)));
            }
        }
    }

    /// Cancels a request, which is answered all the same.
    pub(crate) fn cancel(&mut self, tools: &mut Tools<'_>, op: OpId) {
        if let Some(at) = self.waiting.iter().position(|j| j.op == op)
            && let Some(job) = self.waiting.remove(at)
        {
            self.done.push_back((op, job.get.into_outcome()));
        }
        let is = |job: &Option<Job>| job.as_ref().is_some_and(|j| j.op == op);
        if let Some(at) = self.jobs.iter().position(is) {
            self.finish(tools, at);
        }
    }

    /// The next outcome.
    pub(crate) fn poll(&mut self) -> Option<(OpId, Outcome)> {
        self.done.pop_front()
    }

    /// When [`Fetches::tick`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let jobs = self.jobs.iter().flatten().chain(&self.waiting);
        let at = |j: &Job| j.get.poll_timeout().into_iter().chain(j.patience).min();
        jobs.filter_map(at).min()
    }

    /// Ends requests and connection attempts that take too long.
    pub(crate) fn tick(&mut self, tools: &mut Tools<'_>) {
        let now = tools.now;
        while let Some(at) = self
            .waiting
            .iter_mut()
            .position(|j| j.get.handle_timeout(now) == Progress::Done)
        {
            if let Some(job) = self.waiting.remove(at) {
                self.done.push_back((job.op, job.get.into_outcome()));
            }
        }
        for at in 0..self.jobs.len() {
            let Some(job) = &mut self.jobs[at] else {
                continue;
            };
            if job.get.handle_timeout(now) == Progress::Done {
                self.finish(tools, at);
            } else if job.patience.is_some_and(|until| until <= now) {
                if let Some(index) = tools.pool.of_http(at) {
                    tools.pool.abort(tools.net, now, index);
                }
                self.connect(tools, at, CloseReason::TimedOut);
            }
        }
    }

    fn next(&mut self, tools: &mut Tools<'_>) {
        while let Some(at) = self.jobs.iter().position(Option::is_none)
            && let Some(job) = self.waiting.pop_front()
        {
            self.jobs[at] = Some(job);
            self.start(tools, at);
        }
    }

    /// Looks up the host of a request.
    fn start(&mut self, tools: &mut Tools<'_>, at: usize) {
        let Some(job) = &mut self.jobs[at] else {
            return;
        };
        job.addrs.clear();
        match job.get.host() {
            Host::Ip(ip) => {
                job.addrs.push_back(ip);
                self.connect(tools, at, CloseReason::Unreachable);
            }
            Host::Name(name) => {
                let name = name.to_string();
                tools.names.ask(tools.net, Asker::Http(at), name);
            }
        }
    }

    /// Handles the answer for a name.
    pub(crate) fn resolved(
        &mut self,
        tools: &mut Tools<'_>,
        at: usize,
        result: Result<Vec<IpAddr>, Outcome>,
    ) {
        let Some(Some(job)) = self.jobs.get_mut(at) else {
            return;
        };
        match result {
            Ok(mut addrs) => {
                if job.get.handle_resolved(tools.now, &mut addrs) == Progress::Done {
                    return self.finish(tools, at);
                }
                job.addrs = addrs.into();
                self.connect(tools, at, CloseReason::Unreachable);
            }
            Err(Outcome::Failed { error, .. }) => {
                let _ = job.get.fail(error.kind, &error.detail);
                self.finish(tools, at);
            }
            Err(_) => {
                let _ = job
                    .get
                    .fail(OpErrorKind::NotFound, "the name has no address");
                self.finish(tools, at);
            }
        }
    }

    /// Connects to the next address. `why` is the reason why the last one failed.
    fn connect(&mut self, tools: &mut Tools<'_>, at: usize, mut why: CloseReason) {
        loop {
            let Some(job) = &mut self.jobs[at] else {
                return;
            };
            let next = job.addrs.pop_front();
            job.patience = (!job.addrs.is_empty()).then(|| tools.now + PATIENCE);
            let Some(ip) = next else {
                let _ = job.get.handle_closed(tools.now, why);
                return self.finish(tools, at);
            };
            let remote = SocketAddr::new(ip, job.get.port());
            let Tools { net, pool, .. } = tools;
            match pool.connect(net, tools.now, remote, Owner::Http(at), tools.stats) {
                Ok(_) => return,
                Err(reason) => why = reason,
            }
        }
    }

    /// Visits the socket of a request.
    pub(crate) fn visit(&mut self, tools: &mut Tools<'_>, index: usize, at: usize) {
        let Some(Some(job)) = self.jobs.get_mut(at) else {
            return tools.pool.abort(tools.net, tools.now, index);
        };
        let now = tools.now;
        let slot = *tools.pool.slot(index);
        let socket = tools.net.tcp(tools.pool.handle(index));
        let progress = match socket.state() {
            State::SynSent | State::SynReceived => return,
            State::Closed if !slot.open => {
                tools.pool.abort(tools.net, now, index);
                let why = slot.cause.unwrap_or(CloseReason::Io);
                return self.connect(tools, at, why);
            }
            _ => {
                job.patience = None;
                exchange(&mut job.get, socket, now, slot.cause)
            }
        };
        tools.pool.slot_mut(index).open = true;
        tools.net.dirty = true;
        match progress {
            Progress::NeedMore => {}
            Progress::Redirect => {
                tools.pool.abort(tools.net, now, index);
                self.start(tools, at);
            }
            Progress::Done => self.finish(tools, at),
        }
    }

    /// Answers a request, and begins the next one.
    fn finish(&mut self, tools: &mut Tools<'_>, at: usize) {
        if let Some(job) = self.jobs[at].take() {
            self.done.push_back((job.op, job.get.into_outcome()));
        }
        tools.names.cancel(tools.net, Asker::Http(at));
        if let Some(index) = tools.pool.of_http(at) {
            tools.pool.close(tools.net, tools.now, index, Close::Flush);
        }
        self.next(tools);
    }
}

/// Writes and reads as much as possible.
fn exchange(
    get: &mut Get,
    socket: &mut smoltcp::socket::tcp::Socket<'_>,
    now: Instant,
    cause: Option<CloseReason>,
) -> Progress {
    while socket.can_send() && !get.write_buf().is_empty() {
        let taken = socket.send_slice(get.write_buf()).unwrap_or(0);
        get.handle_written(taken);
    }
    while socket.can_recv() {
        let progress = socket.recv(|data| (data.len(), get.handle_read(now, data)));
        match progress {
            Ok(Progress::NeedMore) => {}
            Ok(progress) => return progress,
            Err(_) => break,
        }
    }
    match socket.state() {
        State::Closed => get.handle_closed(now, cause.unwrap_or(CloseReason::Reset)),
        _ if !socket.may_recv() => get.handle_eof(now),
        _ => Progress::NeedMore,
    }
}
