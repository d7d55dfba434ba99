//! When a machine is there: how long it stays, how it leaves, and whether it comes back.

use std::time::Duration;

use dunlin_core::Instant;

/// How long a machine takes part. By default it does until the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lifetime {
    /// It leaves this long after it began.
    pub stay: Option<Duration>,
    /// It leaves this long after all its torrents were complete.
    pub seed_for: Option<Duration>,
    /// How it leaves.
    pub leaves: Leaves,
    /// It comes back after this long, and stays as long again.
    pub rejoin: Option<Duration>,
}

/// How a machine leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Leaves {
    /// The engine is shut down, and tells its trackers.
    #[default]
    Stop,
    /// The process is killed, and tells nobody.
    Crash,
}

/// Where a machine is in its lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It was not there yet, or was switched off by something else.
    Out,
    /// It has been there since then.
    In(Instant),
    /// It is shutting down.
    Leaving,
    /// It has left, and comes back then, if ever.
    Away(Option<Instant>),
}

/// The presence of a machine.
#[derive(Debug)]
pub(super) struct Presence {
    lifetime: Lifetime,
    state: State,
}

impl Presence {
    pub(super) const fn new(lifetime: Lifetime) -> Self {
        Self {
            lifetime,
            state: State::Out,
        }
    }

    pub(super) fn began(&mut self, now: Instant) {
        self.state = State::In(now);
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.state == State::Leaving
    }

    /// When the machine is to leave or come back. `complete` is when its last torrent was.
    pub(super) fn due(&self, complete: Option<Instant>) -> Option<Instant> {
        match self.state {
            State::In(began) => {
                let stay = self.lifetime.stay.map(|stay| began + stay);
                let done = || Some(complete?.max(began) + self.lifetime.seed_for?);
                stay.into_iter().chain(done()).min()
            }
            State::Away(back) => back,
            State::Out | State::Leaving => None,
        }
    }

    /// Returns `true` when the machine has left and is to come back now.
    pub(super) fn comes_back(&self, now: Instant) -> bool {
        matches!(self.state, State::Away(Some(back)) if back <= now)
    }

    /// Begins to leave. Returns `true` when the engine is to be shut down first.
    pub(super) fn leave(&mut self, now: Instant) -> bool {
        match self.lifetime.leaves {
            Leaves::Stop => self.state = State::Leaving,
            Leaves::Crash => self.left(now),
        }
        self.is_leaving()
    }

    /// The machine has left.
    pub(super) fn left(&mut self, now: Instant) {
        self.state = State::Away(self.lifetime.rejoin.map(|away| now + away));
    }
}
