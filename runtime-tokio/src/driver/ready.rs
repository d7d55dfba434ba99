//! The sources that became ready: a list that wakers write and the engine's task reads.
//!
//! ```text
//!  tokio ──wake──▶ SourceWaker ──first time──▶ List ──first entry──▶ the task's own waker
//!                                               ▲                          │
//!                                               └───── take, per turn ─────┘
//! ```
//!
//! Every socket, connection and queue has a waker that names it. So one task serves all of them without
//! scanning, and an idle one costs nothing.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Wake, Waker},
};

use dunlin_core::SocketId;

/// Something that can become ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The queue of the application's calls.
    Calls,
    /// The outcomes of disk ops.
    Disk,
    /// The outcomes of name resolution.
    Names,
    /// The outcomes of HTTP requests.
    Jobs,
    /// Messages about the proxy.
    Proxy,
    /// The timer of the engine.
    Timer,
    /// The timer of watched torrents.
    Watch,
    /// A datagram socket.
    Udp(SocketId),
    /// A listener.
    Listener(SocketId),
    /// The connection in this slot.
    Conn(u32),
}

#[derive(Debug, Default)]
struct Inner {
    ready: Vec<Source>,
    task: Option<Waker>,
}

/// The list. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct List(Arc<Mutex<Inner>>);

impl List {
    fn push(&self, source: Source) {
        let task = {
            // No code panics half-way through a change, so a poisoned lock still guards valid data.
            let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            inner.ready.push(source);
            inner.task.take()
        };
        // Only the first entry after a turn finds the task's waker here; the others need not wake it.
        if let Some(task) = task {
            task.wake();
        }
    }

    /// Moves the list to the end of `out`; later entries wake the task of `cx`.
    pub(super) fn take(&self, cx: &Context<'_>, out: &mut Vec<Source>) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if out.is_empty() {
            std::mem::swap(&mut inner.ready, out);
        } else {
            out.append(&mut inner.ready);
        }
        if inner.task.is_none() {
            inner.task = Some(cx.waker().clone());
        }
    }
}

/// The waker of one source.
#[derive(Debug)]
pub(super) struct SourceWaker {
    source: Source,
    /// In the list, or about to be. Set by wakers, cleared by the task.
    queued: AtomicBool,
    list: List,
}

impl SourceWaker {
    /// A waker for `source` that is not in the list yet.
    pub(super) fn new(source: Source, list: &List) -> Arc<Self> {
        Arc::new(Self {
            source,
            queued: AtomicBool::new(false),
            list: list.clone(),
        })
    }

    /// Puts the source into the list, unless it is there.
    pub(super) fn ring(&self) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.list.push(self.source);
        }
    }

    /// From now on a wake puts the source into the list again. Called before the source is polled, so a
    /// wake during the poll is not lost.
    pub(super) fn clear(&self) {
        // A read-modify-write, not a store: it is ordered after the swap of any waker that found the flag
        // set, so the poll that follows sees what that waker announced.
        let _ = self.queued.swap(false, Ordering::AcqRel);
    }
}

impl Wake for SourceWaker {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}

/// The waker of a source, in the two forms in which it is used.
#[derive(Clone, Debug)]
pub(super) struct Bell {
    /// For clearing and ringing.
    pub(super) own: Arc<SourceWaker>,
    /// For tokio.
    pub(super) waker: Waker,
}

impl Bell {
    /// A bell for `source`.
    pub(super) fn new(source: Source, list: &List) -> Self {
        let own = SourceWaker::new(source, list);
        Self {
            waker: Waker::from(Arc::clone(&own)),
            own,
        }
    }

    /// A callback that rings the bell.
    pub(super) fn ringer(&self) -> Arc<dyn Fn() + Send + Sync> {
        let own = Arc::clone(&self.own);
        Arc::new(move || own.ring())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicU32);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn many_wakes_are_one_entry_and_one_wake_of_the_task() {
        let (list, count) = (List::default(), Arc::new(Count::default()));
        let waker = Waker::from(Arc::clone(&count));
        let cx = Context::from_waker(&waker);
        let (a, b) = (
            Bell::new(Source::Conn(1), &list),
            Bell::new(Source::Disk, &list),
        );
        let mut out = Vec::new();
        list.take(&cx, &mut out);
        for _ in 0..3 {
            a.waker.wake_by_ref();
            b.own.ring();
        }
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        list.take(&cx, &mut out);
        assert_eq!(out, [Source::Conn(1), Source::Disk]);

        a.waker.wake_by_ref();
        assert_eq!(count.0.load(Ordering::Relaxed), 1, "still being looked at");
        a.own.clear();
        a.waker.wake_by_ref();
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
    }
}
