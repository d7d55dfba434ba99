//! A few threads for calls that block and cannot be interrupted, such as the system's resolver or a
//! blocking HTTP client.
//!
//! The time of a job runs from when a thread starts it, so jobs that wait behind slow ones do not lose
//! time; a waiting job is given up only if no thread starts any job for as long. A late answer is
//! discarded: the op was answered with `TimedOut` when its time was up, and the thread is available again
//! when the call returns. The numbers of blocked threads and waiting jobs are both bounded.

use std::{
    any::Any,
    collections::{BTreeMap, VecDeque},
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use dunlin_core::{OpErrorKind, OpId, Outcome};

/// The limits of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// The name of the threads.
    pub name: &'static str,
    /// The most threads; they exist only while there is work.
    pub threads: usize,
    /// The most jobs running or waiting; more are refused.
    pub in_flight: usize,
}

type Job = Box<dyn FnOnce() -> Outcome + Send>;

/// Runs jobs. After it is dropped nothing is answered any more; its threads end by themselves.
pub struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Wakes the timekeeper when a deadline moved forward.
    sooner: Condvar,
    config: PoolConfig,
    notify: Arc<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(OpId, String, Job)>,
    /// The jobs that are not answered yet.
    open: BTreeMap<OpId, Open>,
    /// When a thread last started a job.
    taken: Option<Instant>,
    done: Vec<(OpId, Outcome)>,
    threads: usize,
    timekeeper: bool,
    stopping: bool,
}

/// A job that is not answered yet.
#[derive(Clone, Copy)]
struct Open {
    /// When it started; `None` while it waits.
    begun: Option<Instant>,
    submitted: Instant,
    limit: Duration,
}

impl Open {
    /// When it is given up, if a thread last started a job at `taken`.
    fn due(&self, taken: Option<Instant>) -> Instant {
        let since = self
            .begun
            .unwrap_or_else(|| taken.map_or(self.submitted, |taken| taken.max(self.submitted)));
        since + self.limit
    }
}

impl Pool {
    /// Creates a pool. It calls `notify`, from any thread, when an outcome is ready and none was before; it
    /// must not block.
    #[must_use]
    pub fn new(config: PoolConfig, notify: Arc<dyn Fn() + Send + Sync>) -> Self {
        let shared = Shared {
            state: Mutex::default(),
            sooner: Condvar::new(),
            config,
            notify,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Answers `op` without a job.
    pub fn answer(&self, op: OpId, outcome: Outcome) {
        self.shared.answer(self.shared.lock(), op, outcome);
    }

    /// Runs `job` for `op`, and gives it up when it has taken `limit`. `what` names its subject in errors.
    /// Never blocks.
    pub fn submit(
        &self,
        op: OpId,
        what: String,
        limit: Duration,
        job: impl FnOnce() -> Outcome + Send + 'static,
    ) {
        let mut state = self.shared.lock();
        if state.open.len() >= self.shared.config.in_flight {
            let full = Outcome::failed(OpErrorKind::Io, format!("{what}: too many at once"));
            return self.shared.answer(state, op, full);
        }
        let open = Open {
            begun: None,
            submitted: Instant::now(),
            limit,
        };
        let (due, taken) = (open.due(state.taken), state.taken);
        let soonest = state.open.values().all(|other| due < other.due(taken));
        state.open.insert(op, open);
        state.waiting.push_back((op, what, Box::new(job)));
        let spawn = state.threads < self.shared.config.threads.max(1);
        let keep_time = !state.timekeeper;
        state.threads += usize::from(spawn);
        state.timekeeper = true;
        drop(state);
        if keep_time {
            self.start("-clock", Shared::keep_time, |state| {
                state.timekeeper = false;
            });
        } else if soonest {
            self.shared.sooner.notify_all();
        }
        if spawn {
            self.start("", Shared::work, |state| state.threads -= 1);
        }
    }

    /// Answers `op` as cancelled, if it belongs to this pool and is not answered yet.
    pub fn cancel(&self, op: OpId) {
        let mut state = self.shared.lock();
        if state.open.remove(&op).is_some() {
            state.waiting.retain(|(id, ..)| *id != op);
            let cancelled = Outcome::failed(OpErrorKind::Cancelled, "cancelled");
            self.shared.answer(state, op, cancelled);
        }
    }

    /// Moves the finished outcomes to the end of `out`.
    pub fn drain(&self, out: &mut Vec<(OpId, Outcome)>) {
        out.append(&mut self.shared.lock().done);
    }

    /// Starts a thread. If that fails, jobs wait for a thread that exists, or time out.
    fn start(&self, role: &str, run: fn(&Shared), undo: fn(&mut State)) {
        let shared = Arc::clone(&self.shared);
        let name = format!("{}{role}", self.shared.config.name);
        let thread = thread::Builder::new().name(name);
        if thread.spawn(move || run(&shared)).is_err() {
            let mut state = self.shared.lock();
            undo(&mut state);
            if state.threads > 0 && state.timekeeper {
                return;
            }
            // No thread would ever answer these.
            let open: Vec<_> = std::mem::take(&mut state.open).into_keys().collect();
            state.waiting.clear();
            drop(state);
            for op in open {
                let failed = Outcome::failed(OpErrorKind::Io, "no thread to do it with");
                self.shared.answer(self.shared.lock(), op, failed);
            }
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("config", &self.shared.config)
            .finish_non_exhaustive()
    }
}

impl Drop for Pool {
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

    /// Runs jobs until none is waiting.
    fn work(&self) {
        loop {
            let mut state = self.lock();
            let Some((op, _, job)) = state.waiting.pop_front() else {
                state.threads -= 1;
                return;
            };
            // At worst the timekeeper wakes too early: a deadline only moves back here.
            let now = Instant::now();
            state.taken = Some(now);
            if let Some(open) = state.open.get_mut(&op) {
                open.begun = Some(now);
            }
            drop(state);
            // Nothing of a job that panicked is used again.
            let outcome = catch_unwind(AssertUnwindSafe(job)).unwrap_or_else(|panic| {
                Outcome::failed(
                    OpErrorKind::Io,
                    format!("internal error: {}", words(&*panic)),
                )
            });
            let mut state = self.lock();
            if state.open.remove(&op).is_some() {
                // The timekeeper ends with the last job.
                if state.open.is_empty() {
                    self.sooner.notify_all();
                }
                self.answer(state, op, outcome);
            }
        }
    }

    /// Gives up jobs that take too long; ends when no job is open.
    fn keep_time(&self) {
        let mut state = self.lock();
        while !state.stopping {
            let taken = state.taken;
            let due = |(op, open): (&OpId, &Open)| (open.due(taken), *op);
            let Some((due, op)) = state.open.iter().map(due).min() else {
                break;
            };
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                state.open.remove(&op);
                let place = state.waiting.iter().position(|(id, ..)| *id == op);
                let job = place.and_then(|i| state.waiting.remove(i));
                let waited = job.map_or("no answer in time".into(), |(_, what, _)| {
                    format!("{what}: no thread was free in time")
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

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("panic")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    fn pool(threads: usize) -> (Pool, Receiver<()>) {
        let (tx, wake) = channel();
        let config = PoolConfig {
            name: "test",
            threads,
            in_flight: 8,
        };
        let notify = Arc::new(move || tx.send(()).unwrap_or_default());
        (Pool::new(config, notify), wake)
    }

    fn wait(pool: &Pool, wake: &Receiver<()>, n: usize) -> Vec<(OpId, Outcome)> {
        let mut out = Vec::new();
        while out.len() < n {
            wake.recv().unwrap();
            pool.drain(&mut out);
        }
        out
    }

    /// The time of a job begins when it starts. While it waits, it is given up only if no thread starts any
    /// job for as long.
    #[test]
    fn waiting_for_a_thread_costs_no_time_of_its_own() {
        let submitted = Instant::now();
        let limit = Duration::from_secs(10);
        let job = |begun, submitted| Open {
            begun,
            submitted,
            limit,
        };
        let later = |seconds| submitted + Duration::from_secs(seconds);
        assert_eq!(job(None, submitted).due(None), later(10));
        assert_eq!(job(None, submitted).due(Some(later(8))), later(18));
        assert_eq!(job(None, later(9)).due(Some(later(8))), later(19));
        let turn = Some(later(15));
        assert_eq!(job(turn, submitted).due(Some(later(20))), later(25));

        let (pool, wake) = pool(1);
        let (begin, began) = channel();
        let (hold, held) = channel::<()>();
        pool.submit(OpId(1), "first".into(), limit, move || {
            begin.send(()).unwrap_or_default();
            let _ = held.recv();
            Outcome::Done
        });
        pool.submit(OpId(2), "second".into(), limit, || Outcome::Done);
        began.recv().unwrap();
        let begun = |op| pool.shared.lock().open[&OpId(op)].begun.is_some();
        assert_eq!((begun(1), begun(2)), (true, false));
        assert!(pool.shared.lock().taken.is_some());
        drop(hold);
        assert_eq!(wait(&pool, &wake, 2).len(), 2);
    }

    /// With all threads blocked, waiting jobs are given up as well.
    #[test]
    fn a_job_that_no_thread_takes_up_is_given_up() {
        let (pool, wake) = pool(1);
        let (hold, held) = channel::<()>();
        let limit = Duration::from_millis(50);
        pool.submit(OpId(1), "stuck".into(), limit, move || {
            let _ = held.recv();
            Outcome::Done
        });
        pool.submit(OpId(2), "waiting".into(), limit, || Outcome::Done);
        let out = wait(&pool, &wake, 2);
        let timed_out = |outcome: &Outcome| {
            matches!(outcome,
            Outcome::Failed { error, .. } if error.kind == OpErrorKind::TimedOut)
        };
        assert!(out.iter().all(|(_, outcome)| timed_out(outcome)), "{out:?}");
        drop(hold);
    }

    #[test]
    fn a_job_that_panics_is_answered_and_the_next_one_runs() {
        let (pool, wake) = pool(1);
        let limit = Duration::from_secs(60);
        pool.submit(OpId(1), "a".into(), limit, || panic!("a bug"));
        pool.submit(OpId(2), "b".into(), limit, || Outcome::Done);
        let out = wait(&pool, &wake, 2);
        let text = format!("{out:?}");
        assert!(text.contains("a bug"), "{text}");
        assert!(matches!(out[1], (OpId(2), Outcome::Done)), "{text}");
    }

    /// The timekeeper sleeps until the earliest deadline, which a later job may bring forward.
    #[test]
    fn a_short_limit_behind_a_long_one_holds() {
        let (pool, wake) = pool(2);
        let (hold, held) = channel::<()>();
        let held = Arc::new(Mutex::new(held));
        for (op, limit) in [(1, 3600), (2, 0)] {
            let held = Arc::clone(&held);
            let limit = Duration::from_secs(limit) + Duration::from_millis(20);
            pool.submit(OpId(op), "slow".into(), limit, move || {
                let _ = held.lock().map(|held| held.recv());
                Outcome::Done
            });
        }
        let out = wait(&pool, &wake, 1);
        assert!(matches!(
            &out[..],
            [(OpId(2), Outcome::Failed { error, .. })] if error.kind == OpErrorKind::TimedOut
        ));
        drop(hold);
        assert_eq!(wait(&pool, &wake, 1)[0].0, OpId(1));
    }
}
