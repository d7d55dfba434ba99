//! HTTP requests, each in a task. Each is answered exactly once (law 1), also when it is cancelled or
//! panics.

use std::{
    collections::HashMap,
    sync::Arc,
    task::{Context, Poll},
};

use dunlin_core::{OpErrorKind, OpId, Outcome, http::HttpRequest};
use dunlin_std::driver;
use tokio::task::{AbortHandle, JoinSet};

use super::ready::{Bell, List, Source};
use crate::net::Http;

/// The running requests.
#[derive(Debug)]
pub(super) struct Jobs {
    http: Arc<Http>,
    tasks: JoinSet<Outcome>,
    ops: HashMap<tokio::task::Id, OpId>,
    handles: HashMap<OpId, AbortHandle>,
    bell: Bell,
}

impl Jobs {
    pub(super) fn new(http: Arc<Http>, list: &List) -> Self {
        Self {
            http,
            tasks: JoinSet::new(),
            ops: HashMap::new(),
            handles: HashMap::new(),
            bell: Bell::new(Source::Jobs, list),
        }
    }

    /// The next outcome.
    fn poll(&mut self) -> Option<(OpId, Outcome)> {
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

    /// Ends all tasks. Returns the ops that are not answered yet.
    pub(super) fn stop(&mut self) -> Vec<OpId> {
        self.tasks.abort_all();
        self.tasks.detach_all();
        self.handles.clear();
        let mut ops: Vec<OpId> = self.ops.drain().map(|(_, op)| op).collect();
        ops.sort_unstable();
        ops
    }
}

impl driver::Requests for Jobs {
    fn start(&mut self, op: OpId, request: HttpRequest) {
        let handle = self.tasks.spawn(Arc::clone(&self.http).answer(request));
        // An empty set does not keep a waker, so the new task is polled once.
        self.bell.own.ring();
        self.ops.insert(handle.id(), op);
        self.handles.insert(op, handle);
    }

    fn cancel(&mut self, op: OpId) {
        if let Some(handle) = self.handles.get(&op) {
            handle.abort();
        }
    }

    fn drain(&mut self, out: &mut Vec<(OpId, Outcome)>) {
        self.bell.own.clear();
        out.extend(std::iter::from_fn(|| self.poll()));
    }
}
