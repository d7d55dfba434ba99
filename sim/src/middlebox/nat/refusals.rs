//! Refusals that a box has delayed.

use std::{collections::VecDeque, time::Duration};

use dunlin_core::Instant;

use super::key::End;
use crate::packet::Packet;

/// How long a SYN from outside waits for one from inside before it is refused (RFC 5382 REQ-4).
const SYN_PATIENCE: Duration = Duration::from_secs(6);
/// The most SYNs that wait for their refusal at one time. Further ones are not answered.
const MAX_DELAYED: usize = 256;

/// A SYN that will be refused.
#[derive(Clone, Debug)]
struct Refusal {
    at: Instant,
    external: End,
    remote: End,
    error: Box<Packet>,
}

impl Refusal {
    fn is_for(&self, external: End, remote: End) -> bool {
        (self.external, self.remote) == (external, remote)
    }
}

/// The SYNs that wait for their refusal, the oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Refusals(VecDeque<Refusal>);

impl Refusals {
    /// Delays the refusal of a SYN, unless the same SYN waits already or too many do.
    pub(super) fn put_off(
        &mut self,
        now: Instant,
        external: End,
        remote: End,
        error: impl FnOnce() -> Box<Packet>,
    ) {
        let known = self.0.iter().any(|r| r.is_for(external, remote));
        if self.0.len() < MAX_DELAYED && !known {
            self.0.push_back(Refusal {
                at: now + SYN_PATIENCE,
                external,
                remote,
                error: error(),
            });
        }
    }

    /// Cancels the refusal of a SYN.
    pub(super) fn take_back(&mut self, external: End, remote: End) {
        self.0.retain(|r| !r.is_for(external, remote));
    }

    /// Removes the oldest refusal if it is due, and returns its error.
    pub(super) fn due(&mut self, now: Instant) -> Option<Packet> {
        let due = self.0.front().is_some_and(|r| r.at <= now);
        let refusal = due.then(|| self.0.pop_front()).flatten()?;
        Some(*refusal.error)
    }

    /// When the next refusal is due.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.0.front().map(|r| r.at)
    }

    /// Cancels all refusals.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
