//! The handle of a node, and its thread's loop.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use dunlin_core::{
    Cx, Machine, NodeId,
    dht::{DhtConfig, DhtMode, Goal, Service, ServiceConfig},
    metainfo::HostPort,
    net::Ports,
};
use mio::Waker;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use super::{
    Answer, NodeConfig, NodeEvent, Sink, Status,
    net::{Bound, Net},
    requests::{Command, RequestId, Requests},
};

/// A running node; a handle that is cheap to clone. The node stops when it is told to, or when
/// the last handle is gone.
#[derive(Clone)]
pub struct Node {
    shared: Arc<Shared>,
}

struct Shared {
    commands: mpsc::Sender<Command>,
    waker: Arc<Waker>,
    requests: AtomicU64,
    local: Vec<SocketAddr>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

impl Node {
    /// Binds the sockets and starts the thread; `tell` is called on it and must not block.
    ///
    /// # Errors
    /// A socket could not be bound, or the system could not provide a thread or random numbers.
    pub fn start(config: NodeConfig, tell: Box<dyn FnMut(NodeEvent) + Send>) -> io::Result<Self> {
        let bound = Bound::new(&config.listen, &config.egress)?;
        if bound.local.is_empty() {
            let nowhere = "a DHT node needs an address to bind";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, nowhere));
        }
        let waker = Arc::new(bound.waker()?);
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| io::Error::other(error.to_string()))?;
        let local = bound.local.clone();
        let (commands, inbox) = mpsc::channel();
        let start = Start {
            bound,
            config,
            seed,
            inbox,
            waker: Arc::clone(&waker),
            tell,
        };
        let thread = thread::Builder::new()
            .name("dht".into())
            .spawn(move || start.run())?;
        Ok(Self {
            shared: Arc::new(Shared {
                commands,
                waker,
                requests: AtomicU64::new(0),
                local,
                thread: Mutex::new(Some(thread)),
            }),
        })
    }

    /// The addresses that the node is bound to.
    #[must_use]
    pub fn local(&self) -> &[SocketAddr] {
        &self.shared.local
    }

    /// Begins a search as soon as there are nodes to ask; its results go to `sink`.
    pub fn search(&self, goal: Goal, sink: Sink) -> RequestId {
        let id = self.next_id();
        self.send(Command::Search(id, goal, sink));
        id
    }

    fn next_id(&self) -> RequestId {
        RequestId(self.shared.requests.fetch_add(1, Ordering::Relaxed))
    }

    /// Ends a search; its sink is dropped.
    pub fn cancel(&self, id: RequestId) {
        self.send(Command::Cancel(id));
    }

    /// Pings a node, which joins the table if that has space.
    pub fn ping(&self, host: HostPort, sink: Sink) {
        self.send(Command::Ping(self.next_id(), host, sink));
    }

    /// Asks a node which info-hashes near `target` it knows (BEP 51).
    pub fn sample(&self, host: HostPort, target: NodeId, sink: Sink) {
        self.send(Command::Sample(self.next_id(), host, target, sink));
    }

    /// Adds a node to begin with, which is tried while the table needs any.
    pub fn add(&self, host: HostPort) {
        self.send(Command::Add(host));
    }

    /// Passes the state to `tell` on the node's thread; it must not block.
    pub fn status(&self, tell: impl FnOnce(Status) + Send + 'static) {
        self.send(Command::Status(Box::new(tell)));
    }

    /// Writes the cache now, and passes the result to `tell` on the node's thread.
    pub fn save(&self, tell: impl FnOnce(Result<(), String>) + Send + 'static) {
        self.send(Command::Save(Box::new(tell)));
    }

    /// Stops the node, writes the cache and waits for the end. Open requests stay
    /// unanswered. Called from the node's own thread, it does not wait.
    pub fn stop(&self) {
        self.send(Command::Stop);
        let thread = self.shared.thread.lock();
        let thread = thread.unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.thread().id() != thread::current().id()
        {
            // If it panicked, the panic hook has reported that.
            let _ = thread.join();
        }
    }

    fn send(&self, command: Command) {
        // A node that has stopped drops the command and its sink, which tells the caller.
        if self.shared.commands.send(command).is_ok() {
            let _ = self.shared.waker.wake();
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if self.commands.send(Command::Stop).is_ok() {
            let _ = self.waker.wake();
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Node").field(&self.shared.local).finish()
    }
}

/// The values that the thread starts with.
struct Start {
    bound: Bound,
    config: NodeConfig,
    seed: [u8; 32],
    inbox: mpsc::Receiver<Command>,
    waker: Arc<Waker>,
    tell: Box<dyn FnMut(NodeEvent) + Send>,
}

/// The node's clock: microseconds since it was started.
#[derive(Clone, Copy)]
struct Clock(Instant);

impl Clock {
    fn now(self) -> dunlin_core::Instant {
        let micros = u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX);
        dunlin_core::Instant::from_micros(micros.saturating_add(1))
    }
}

impl Start {
    fn run(mut self) {
        if let Err(error) = self.serve() {
            (self.tell)(NodeEvent::Failed(error.to_string()));
        }
    }

    fn serve(&mut self) -> io::Result<()> {
        let Self {
            bound,
            config,
            seed,
            inbox,
            waker,
            tell,
        } = self;
        let local = bound.local.clone();
        let empty = Bound::new(&[], &config.egress)?;
        let mut net = Net::new(std::mem::replace(bound, empty), config.limit_up)?;
        let clock = Clock(Instant::now());
        let mut rng = ChaCha8Rng::from_seed(*seed);
        let mut cx = Cx {
            now: clock.now(),
            rng: &mut rng,
        };
        let mut requests = Requests::new(config, local.clone(), waker, tell);
        let mut service = Service::new(ServiceConfig {
            node: DhtConfig {
                ipv4: true,
                ipv6: true,
                ..config.dht.clone()
            },
            mode: DhtMode::On,
            bootstrap: config.bootstrap.clone(),
            routers: config.routers.clone(),
            saved: requests.load(cx.now),
            resolve: true,
            gather: true,
        });
        service.begin();
        service.bound(&mut cx, Ports::bound(&local));
        loop {
            net.send(&mut service, &mut cx);
            requests.events(&mut service, &mut cx);
            let due = [service.poll_timeout(), net.poll_timeout()];
            let due = due.into_iter().flatten().min();
            // The clock is read again, as the work above took time.
            let timeout = due.map(|at| at.saturating_since(clock.now()));
            let called = net.wait(timeout.map(whole_millis))?;
            cx.now = clock.now();
            net.receive(&mut service, &mut cx);
            if service.poll_timeout().is_some_and(|at| at <= cx.now) {
                service.handle_timeout(&mut cx);
            }
            if called {
                requests.calls = net.calls;
                if !requests.commands(inbox, &mut service, &mut cx) {
                    break;
                }
            }
        }
        service.stop(&mut cx);
        net.send(&mut service, &mut cx);
        requests.events(&mut service, &mut cx);
        Ok(())
    }
}

/// Rounds up to milliseconds: a timer that is due within the next one would otherwise spin.
fn whole_millis(timeout: Duration) -> Duration {
    let millis = timeout.as_micros().div_ceil(1000);
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

impl Answer {
    /// Whether this is the last answer to its request.
    #[must_use]
    pub const fn is_last(&self) -> bool {
        !matches!(self, Self::Peers(_) | Self::Item(_))
    }
}
