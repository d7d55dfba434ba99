//! Ops that run as tasks of their own: HTTP. Every one is answered once (law 1),
//! also when it is cancelled or panics.

use std::{
    collections::HashMap,
    future::Future,
    task::{Context, Poll},
};

use dunlin_core::{
    OpId,
    op::{OpErrorKind, Outcome},
};
use tokio::task::{AbortHandle, JoinSet};

use super::ready::{Bell, List, Source};

/// The tasks under way.
pub(super) struct Jobs {
    tasks: JoinSet<Outcome>,
    ops: HashMap<tokio::task::Id, OpId>,
    handles: HashMap<OpId, AbortHandle>,
    bell: Bell,
}

impl Jobs {
    pub(super) fn new(list: &List) -> Self {
        Self {
            tasks: JoinSet::new(),
            ops: HashMap::new(),
            handles: HashMap::new(),
            bell: Bell::new(Source::Jobs, list),
        }
    }

    /// Runs `job` and answers `op` with what comes of it.
    pub(super) fn spawn(&mut self, op: OpId, job: impl Future<Output = Outcome> + Send + 'static) {
        let handle = self.tasks.spawn(job);
        // An empty set has nobody to wake; now it has.
        self.bell.own.ring();
        self.ops.insert(handle.id(), op);
        self.handles.insert(op, handle);
    }

    /// Ends the task of `op`, if it runs here. The answer comes as for any other.
    pub(super) fn cancel(&self, op: OpId) {
        if let Some(handle) = self.handles.get(&op) {
            handle.abort();
        }
    }

    /// To be called before a round of [`Jobs::poll`].
    pub(super) fn rang(&self) {
        self.bell.own.clear();
    }

    /// The next outcome.
    pub(super) fn poll(&mut self) -> Option<(OpId, Outcome)> {
        let mut cx = Context::from_waker(&self.bell.waker);
        loop {
            let Poll::Ready(Some(done)) = self.tasks.poll_join_next_with_id(&mut cx) else {
                return None;
            };
            let (id, outcome) = match done {
                Ok((id, outcome)) => (id, outcome),
                Err(error) if error.is_cancelled() => (
                    error.id(),
                    Outcome::failed(OpErrorKind::Cancelled, "cancelled"),
                ),
                Err(error) => (
                    error.id(),
                    Outcome::failed(OpErrorKind::Io, format!("internal error: {error}")),
                ),
            };
            if let Some(op) = self.ops.remove(&id) {
                self.handles.remove(&op);
                return Some((op, outcome));
            }
        }
    }

    /// Ends all tasks and names the ops that are still to be answered.
    pub(super) fn stop(&mut self) -> Vec<OpId> {
        self.tasks.abort_all();
        self.tasks.detach_all();
        self.handles.clear();
        let mut ops: Vec<OpId> = self.ops.drain().map(|(_, op)| op).collect();
        ops.sort_unstable();
        ops
    }
}
