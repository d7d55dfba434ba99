//! The order in which ops run, and the loop of the threads.

use std::{
    collections::{HashMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use dunlin_core::{Op, OpError, OpErrorKind, OpId, Outcome, TorrentId};

use super::{
    Placement,
    common::Common,
    files::Files,
    jobs,
    work::{Job, Work},
};

/// The ops of one torrent in their order.
#[derive(Default)]
struct Lane {
    placement: Option<Arc<Placement>>,
    files: Option<Arc<Files>>,
    running: usize,
    /// The running op excludes all others of its torrent.
    alone: bool,
    waiting: VecDeque<Work>,
}

impl Lane {
    fn admits(&self, work: &Work) -> bool {
        !self.alone && (self.running == 0 || !work.waits_for_all())
    }

    fn start(&mut self, work: Work) -> Job {
        self.running += 1;
        self.alone = work.is_alone();
        Job {
            files: self.files.clone(),
            placement: match work {
                Work::Op(Op::Open { .. }) => self.placement.clone(),
                _ => None,
            },
            work,
        }
    }
}

#[derive(Default)]
pub(super) struct Queues {
    lanes: HashMap<TorrentId, Lane>,
    ready: VecDeque<Job>,
    pub(super) done: Vec<(OpId, Outcome)>,
    /// Threads that wait for work.
    idle: usize,
    /// A waiting thread was woken and has not run yet.
    called: bool,
    stopping: bool,
}

impl Queues {
    #[cfg(test)]
    pub(super) fn files(&self, torrent: TorrentId) -> Option<Arc<Files>> {
        self.lanes.get(&torrent)?.files.clone()
    }

    /// Whether a waiting thread should be woken now. Only one at a time: each thread that wakes up wakes
    /// the next one while there is more to do, so that `submit` pays for one wake-up at most.
    fn call(&mut self) -> bool {
        let call = self.idle > 0 && !self.called && !self.ready.is_empty();
        self.called |= call;
        call
    }

    /// Continues with `torrent`'s lane after one of its jobs ended.
    fn advance(&mut self, torrent: TorrentId, opened: Option<Arc<Files>>, released: bool) {
        let Some(lane) = self.lanes.get_mut(&torrent) else {
            return;
        };
        lane.running -= 1;
        lane.alone = false;
        if opened.is_some() {
            lane.files = opened;
        }
        if released {
            (lane.files, lane.placement) = (None, None);
        }
        while let Some(next) = lane.waiting.front() {
            if !lane.admits(next) {
                break;
            }
            if let Some(work) = lane.waiting.pop_front() {
                let job = lane.start(work);
                self.ready.push_back(job);
            }
        }
        if released && lane.running == 0 && lane.waiting.is_empty() {
            self.lanes.remove(&torrent);
        }
    }
}

/// The state that the threads share.
pub(super) struct Shared {
    queues: Mutex<Queues>,
    wake: Condvar,
    notify: Arc<dyn Fn() + Send + Sync>,
    /// The state that jobs use.
    pub(super) common: Common,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

impl Shared {
    pub(super) fn new(open_files: usize, notify: Arc<dyn Fn() + Send + Sync>) -> Self {
        Self {
            queues: Mutex::default(),
            wake: Condvar::new(),
            notify,
            common: Common::new(open_files),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn place(&self, torrent: TorrentId, placement: Placement) {
        self.lock().lanes.entry(torrent).or_default().placement = Some(Arc::new(placement));
    }

    pub(super) fn submit(&self, work: Work) {
        let mut queues = self.lock();
        if queues.stopping {
            let answer = work.fail(OpErrorKind::Cancelled, "the disk is stopping");
            self.answer(queues, answer);
            return;
        }
        match work.torrent() {
            None => queues.ready.push_back(Job {
                files: None,
                placement: None,
                work,
            }),
            Some(torrent) => {
                let lane = queues.lanes.entry(torrent).or_default();
                if lane.waiting.is_empty() && lane.admits(&work) {
                    let job = lane.start(work);
                    queues.ready.push_back(job);
                } else {
                    lane.waiting.push_back(work);
                }
            }
        }
        let call = queues.call();
        drop(queues);
        if call {
            self.wake.notify_one();
        }
    }

    /// See [`super::Disk::read_cached`].
    pub(super) fn read_cached(&self, op: Op) -> Result<(OpId, Outcome), Op> {
        let Op::Read(mut job) = op else {
            return Err(op);
        };
        let torrent = job.torrent;
        // Counted as running, so that no op that excludes others starts beside it.
        let files = self.lock().lanes.get_mut(&torrent).and_then(|lane| {
            let free = lane.waiting.is_empty() && !lane.alone;
            let files = lane.files.clone().filter(|_| free)?;
            lane.running += 1;
            Some(files)
        });
        let done = files.is_some_and(|files| {
            let done = jobs::read_cached(&self.common, &files, &mut job);
            let mut queues = self.lock();
            queues.advance(torrent, None, false);
            let call = queues.call();
            drop(queues);
            if call {
                self.wake.notify_one();
            }
            done
        });
        match done {
            true => Ok((job.op, job.done())),
            false => Err(Op::Read(job)),
        }
    }

    /// Answers a read or a hash that has not started; any other op runs to its end.
    pub(super) fn cancel(&self, id: OpId) {
        let mut queues = self.lock();
        let found = queues
            .ready
            .iter()
            .position(|job| job.work.id() == Some(id) && job.work.is_dropped_at_stop());
        let Some(Job { work, .. }) = found.and_then(|i| queues.ready.remove(i)) else {
            return;
        };
        let torrent = work.torrent();
        let answer = work.fail(OpErrorKind::Cancelled, "cancelled");
        if let Some(torrent) = torrent {
            queues.advance(torrent, None, false);
        }
        let call = queues.call();
        self.answer(queues, answer);
        if call {
            self.wake.notify_one();
        }
    }

    pub(super) fn stop(&self) {
        self.lock().stopping = true;
        self.wake.notify_all();
    }

    /// Stores an outcome for `drain`.
    fn answer(&self, mut queues: MutexGuard<'_, Queues>, answer: Option<(OpId, Outcome)>) {
        let first = queues.done.is_empty();
        queues.done.extend(answer);
        drop(queues);
        if first {
            (self.notify)();
        }
    }

    /// The loop of a thread.
    pub(super) fn work(&self) {
        let mut scratch = Vec::new();
        let mut queues = self.lock();
        loop {
            let Some(job) = queues.ready.pop_front() else {
                if queues.stopping && queues.lanes.values().all(|lane| lane.running == 0) {
                    break;
                }
                queues.idle += 1;
                queues = self
                    .wake
                    .wait(queues)
                    .unwrap_or_else(PoisonError::into_inner);
                queues.idle -= 1;
                queues.called = false;
                continue;
            };
            let (call, stopping) = (queues.call(), queues.stopping);
            drop(queues);
            if call {
                self.wake.notify_one();
            }
            queues = self.finish(job, stopping, &mut scratch);
        }
        drop(queues);
        // Other threads that wait for the last job may end too.
        self.wake.notify_all();
    }

    fn finish(
        &self,
        mut job: Job,
        stopping: bool,
        scratch: &mut Vec<u8>,
    ) -> MutexGuard<'_, Queues> {
        let torrent = job.work.torrent();
        let released = matches!(job.work, Work::Op(Op::Release { .. }));
        let mut opened = None;
        let failed = |kind, detail: &str| {
            let detail = detail.into();
            Err(OpError { kind, detail })
        };
        let done = if stopping && job.work.is_dropped_at_stop() {
            failed(OpErrorKind::Cancelled, "the disk is stopping")
        } else {
            let run = || jobs::run(&self.common, &mut job, &mut opened, scratch);
            catch_unwind(AssertUnwindSafe(run))
                .unwrap_or_else(|_| failed(OpErrorKind::Io, "a bug in the disk: the job panicked"))
        };
        let Job {
            files,
            placement,
            work,
        } = job;
        let answer = work.answer(done);
        drop((files, placement));
        let mut queues = self.lock();
        if let Some(torrent) = torrent {
            queues.advance(torrent, opened, released);
        }
        let first = queues.done.is_empty();
        queues.done.extend(answer);
        if !first {
            return queues;
        }
        drop(queues);
        (self.notify)();
        self.lock()
    }
}
