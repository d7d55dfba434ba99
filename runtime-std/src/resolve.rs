//! Name resolution by the system's own resolver, which blocks, on a few threads of its own.
//!
//! The system call cannot be interrupted. So an answer that comes too late is thrown away: the
//! op was answered with `TimedOut` when its time was up, and the thread is back for work when
//! the system lets go of it. Stuck threads and waiting names are both bounded.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt, io,
    net::{IpAddr, ToSocketAddrs},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use dunlin_core::{OpErrorKind, OpId, Outcome};

/// How much to look up at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResolverConfig {
    /// Threads at most; they exist only while there is work.
    pub threads: usize,
    /// Names under way or waiting at most; more are refused.
    pub in_flight: usize,
    /// When a name is given up.
    pub timeout: Duration,
}

impl Default for ResolverConfig {
    /// The time is what glibc takes for two servers and two tries.
    fn default() -> Self {
        Self {
            threads: 4,
            in_flight: 256,
            timeout: Duration::from_secs(20),
        }
    }
}

type Lookup = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync;

/// Answers `Op::Resolve`. Dropping it answers nothing more; its threads end by themselves.
pub struct Resolver {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// For the timekeeper.
    sooner: Condvar,
    config: ResolverConfig,
    lookup: Box<Lookup>,
    notify: Arc<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(OpId, String)>,
    /// Unanswered, with the time to give up.
    open: BTreeMap<OpId, Instant>,
    done: Vec<(OpId, Outcome)>,
    threads: usize,
    timekeeper: bool,
    stopping: bool,
}

impl Resolver {
    /// A resolver that calls `notify`, from any thread, when outcomes wait where none waited
    /// before; it must not block.
    #[must_use]
    pub fn new(config: ResolverConfig, notify: Arc<dyn Fn() + Send + Sync>) -> Self {
        let system = |host: &str| Ok((host, 0).to_socket_addrs()?.map(|a| a.ip()).collect());
        Self::with(config, notify, Box::new(system))
    }

    fn with(
        config: ResolverConfig,
        notify: Arc<dyn Fn() + Send + Sync>,
        lookup: Box<Lookup>,
    ) -> Self {
        let shared = Shared {
            state: Mutex::default(),
            sooner: Condvar::new(),
            config,
            lookup,
            notify,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Looks `host` up for `op`. Never blocks.
    pub fn submit(&self, op: OpId, host: String) {
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        if let Ok(ip) = bare.unwrap_or(&host).parse() {
            let state = self.shared.lock();
            return self.shared.answer(state, op, Outcome::Resolved(vec![ip]));
        }
        let mut state = self.shared.lock();
        if state.open.len() >= self.shared.config.in_flight {
            let full =
                Outcome::failed(OpErrorKind::Io, format!("{host}: too many lookups at once"));
            return self.shared.answer(state, op, full);
        }
        state
            .open
            .insert(op, Instant::now() + self.shared.config.timeout);
        state.waiting.push_back((op, host));
        let spawn = state.threads < self.shared.config.threads.max(1);
        let keep_time = !state.timekeeper;
        state.threads += usize::from(spawn);
        state.timekeeper = true;
        drop(state);
        if keep_time {
            self.start("resolve-clock", Shared::keep_time, |state| {
                state.timekeeper = false;
            });
        }
        if spawn {
            self.start("resolve", Shared::work, |state| state.threads -= 1);
        }
    }

    /// Answers `op` as cancelled, if it is one of ours and not answered yet.
    pub fn cancel(&self, op: OpId) {
        let mut state = self.shared.lock();
        if state.open.remove(&op).is_some() {
            state.waiting.retain(|(id, _)| *id != op);
            let cancelled = Outcome::failed(OpErrorKind::Cancelled, "cancelled");
            self.shared.answer(state, op, cancelled);
        }
    }

    /// Moves the outcomes that wait into `out`.
    pub fn drain(&self, out: &mut Vec<(OpId, Outcome)>) {
        out.append(&mut self.shared.lock().done);
    }

    /// Starts a thread. Without one, names time out or wait for a thread that there is.
    fn start(&self, name: &str, run: fn(&Shared), undo: fn(&mut State)) {
        let shared = Arc::clone(&self.shared);
        let thread = thread::Builder::new().name(name.into());
        if thread.spawn(move || run(&shared)).is_err() {
            let mut state = self.shared.lock();
            undo(&mut state);
            if state.threads > 0 && state.timekeeper {
                return;
            }
            // Nobody would ever answer these.
            let open: Vec<_> = std::mem::take(&mut state.open).into_keys().collect();
            state.waiting.clear();
            drop(state);
            for op in open {
                let failed = Outcome::failed(OpErrorKind::Io, "no thread for name resolution");
                self.shared.answer(self.shared.lock(), op, failed);
            }
        }
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.stopping = true;
        state.waiting.clear();
        state.open.clear();
        drop(state);
        self.shared.sooner.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, mut state: MutexGuard<'_, State>, op: OpId, outcome: Outcome) {
        let first = state.done.is_empty();
        state.done.push((op, outcome));
        drop(state);
        if first {
            (self.notify)();
        }
    }

    /// Looks names up until none waits.
    fn work(&self) {
        loop {
            let mut state = self.lock();
            let Some((op, host)) = state.waiting.pop_front() else {
                state.threads -= 1;
                return;
            };
            drop(state);
            let outcome = self.look_up(&host);
            let mut state = self.lock();
            if state.open.remove(&op).is_some() {
                self.answer(state, op, outcome);
            }
        }
    }

    fn look_up(&self, host: &str) -> Outcome {
        match (self.lookup)(host) {
            Ok(mut found) => {
                let mut seen = std::collections::BTreeSet::new();
                found.retain(|ip| seen.insert(*ip));
                if found.is_empty() {
                    return Outcome::failed(OpErrorKind::NotFound, format!("{host}: no address"));
                }
                Outcome::Resolved(found)
            }
            // The system's resolver has no kinds worth telling apart: all of them mean that
            // there is no such name as far as we know.
            Err(e) => Outcome::failed(OpErrorKind::NotFound, format!("{host}: {e}")),
        }
    }

    /// Gives up what takes too long; ends when nothing is open.
    fn keep_time(&self) {
        let mut state = self.lock();
        while !state.stopping {
            let Some((op, due)) = state
                .open
                .iter()
                .min_by_key(|(_, due)| **due)
                .map(|(op, due)| (*op, *due))
            else {
                break;
            };
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                state.open.remove(&op);
                let host = state.waiting.iter().position(|(id, _)| *id == op);
                let host = host.and_then(|i| state.waiting.remove(i));
                let waited = host.map_or("no answer in time".into(), |(_, host)| {
                    format!("{host}: no resolver thread was free in time")
                });
                self.answer(state, op, Outcome::failed(OpErrorKind::TimedOut, waited));
                state = self.lock();
                continue;
            }
            state = self
                .sooner
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        state.timekeeper = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, channel};

    struct Bench {
        resolver: Resolver,
        wake: Receiver<()>,
    }

    impl Bench {
        fn new(config: ResolverConfig, lookup: Box<Lookup>) -> Self {
            let (tx, wake) = channel();
            let notify = Arc::new(move || tx.send(()).unwrap_or_default());
            let resolver = Resolver::with(config, notify, lookup);
            Self { resolver, wake }
        }

        fn wait(&self, n: usize) -> Vec<(OpId, Outcome)> {
            let mut out = Vec::new();
            while out.len() < n {
                self.wake.recv().unwrap();
                self.resolver.drain(&mut out);
            }
            out
        }
    }

    fn kind(outcome: &Outcome) -> Option<OpErrorKind> {
        match outcome {
            Outcome::Failed { error, .. } => Some(error.kind),
            _ => None,
        }
    }

    #[test]
    fn literals_need_no_thread_and_localhost_is_known_to_the_system() {
        let (tx, wake) = channel();
        let notify = Arc::new(move || tx.send(()).unwrap_or_default());
        let resolver = Resolver::new(ResolverConfig::default(), notify);
        let b = Bench { resolver, wake };
        b.resolver.submit(OpId(1), "[::1]".into());
        b.resolver.submit(OpId(2), "localhost".into());
        for (_, outcome) in b.wait(2) {
            let Outcome::Resolved(found) = outcome else {
                panic!("{outcome:?}");
            };
            assert!(found.iter().all(IpAddr::is_loopback), "{found:?}");
        }
    }

    #[test]
    fn every_name_is_answered_once_with_addresses_or_a_reason() {
        let lookup = |host: &str| match host {
            "none" => Ok(vec![]),
            "bad" => Err(io::Error::other("no such host")),
            _ => Ok(vec![IpAddr::from([192, 0, 2, 1]); 3]),
        };
        let b = Bench::new(ResolverConfig::default(), Box::new(lookup));
        for i in 0..100 {
            b.resolver
                .submit(OpId(i), ["none", "bad", "good"][i as usize % 3].into());
        }
        let mut out = b.wait(100);
        out.sort_by_key(|(op, _)| *op);
        for (i, (op, outcome)) in out.iter().enumerate() {
            assert_eq!(*op, OpId(i as u64));
            match outcome {
                Outcome::Resolved(found) => assert_eq!((i % 3, found.len()), (2, 1)),
                failed => assert_eq!(kind(failed), Some(OpErrorKind::NotFound)),
            }
        }
    }

    #[test]
    fn stuck_lookups_time_out_block_nobody_for_ever_and_are_bounded() {
        let (hold, held) = channel::<()>();
        let held = Mutex::new(held);
        let lookup = move |_: &str| {
            let _ = held.lock().unwrap().recv();
            Ok(vec![IpAddr::from([192, 0, 2, 1])])
        };
        let config = ResolverConfig {
            threads: 2,
            in_flight: 3,
            timeout: Duration::from_millis(50),
        };
        let b = Bench::new(config, Box::new(lookup));
        for i in 0..4 {
            b.resolver.submit(OpId(i), "slow".into());
        }
        let mut out = b.wait(4);
        out.sort_by_key(|(op, _)| *op);
        let kinds: Vec<_> = out.iter().map(|(_, o)| kind(o).unwrap()).collect();
        let late = OpErrorKind::TimedOut;
        assert_eq!(kinds, [late, late, late, OpErrorKind::Io]);
        // The threads come back, and their late answers are no second outcome.
        drop(hold);
        b.resolver.submit(OpId(9), "slow".into());
        let out = b.wait(1);
        assert!(
            matches!(out[..], [(OpId(9), Outcome::Resolved(_))]),
            "{out:?}"
        );
    }

    #[test]
    fn a_cancelled_name_is_answered_at_once() {
        let (_hold, held) = channel::<()>();
        let held = Mutex::new(held);
        let lookup = move |_: &str| {
            let _ = held.lock().unwrap().recv();
            Ok(vec![])
        };
        let b = Bench::new(ResolverConfig::default(), Box::new(lookup));
        b.resolver.submit(OpId(1), "slow".into());
        b.resolver.cancel(OpId(1));
        b.resolver.cancel(OpId(7));
        assert_eq!(kind(&b.wait(1)[0].1), Some(OpErrorKind::Cancelled));
    }
}
