//! A memory disk with latency and counters.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dunlin_core::{Instant, OpId, Outcome};
use dunlin_smoltcp::storage::{DiskOp, RamDisk, Storage};

#[derive(Debug)]
pub struct SlowDisk {
    pub inner: RamDisk,
    pub delay: Duration,
    later: BTreeMap<(Instant, u64), (OpId, Outcome)>,
    seen: BTreeSet<OpId>,
    pub most: usize,
}

impl Default for SlowDisk {
    fn default() -> Self {
        Self {
            inner: RamDisk::new(1 << 30),
            delay: Duration::ZERO,
            later: BTreeMap::new(),
            seen: BTreeSet::new(),
            most: 0,
        }
    }
}

impl SlowDisk {
    /// The same disk for a new engine.
    pub fn reopened(mut self) -> Self {
        self.inner.reopen();
        Self {
            inner: self.inner,
            delay: self.delay,
            ..Self::default()
        }
    }

    pub fn is_idle(&self) -> bool {
        self.later.is_empty()
    }
}

impl Storage for SlowDisk {
    fn submit(&mut self, now: Instant, op: DiskOp) {
        let id = op.id;
        assert!(self.seen.insert(id), "{id:?} is used twice");
        let outcome = self.inner.apply(now, op);
        let key = (now + self.delay, self.seen.len() as u64);
        self.later.insert(key, (id, outcome));
        self.most = self.most.max(self.later.len());
    }

    fn poll(&mut self, now: Instant) -> Option<(OpId, Outcome)> {
        let first = self.later.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.later.first_key_value().map(|((at, _), _)| *at)
    }
}
