//! When a table pings and refreshes next: the state that `upkeep` works on.

use crate::Instant;

/// A node is good for this many seconds after it was last heard of (BEP 5, S21).
pub(super) const FRESH: u32 = 15 * 60;

/// The deadlines of a table's upkeep, and what it waits for to judge failures.
#[derive(Clone, Debug)]
pub(super) struct Upkeep {
    pub(super) ping_at: Instant,
    pub(super) refresh_at: Instant,
    /// When somebody answered last.
    pub(super) heard: Option<Instant>,
    /// Pings since then.
    pub(super) unheard: u16,
    /// Nodes whose failure awaits judgement.
    pub(super) suspects: u32,
    /// When the first of them failed.
    pub(super) silent_since: Instant,
    /// Until then those fail that were asked during an outage.
    pub(super) grace: Instant,
    /// Somebody reliable should be asked, to judge the suspects.
    pub(super) probe: bool,
    /// Since when there is a hurry, in seconds.
    pub(super) hurry: Option<u32>,
}

impl Upkeep {
    pub(super) const fn new() -> Self {
        Self {
            ping_at: Instant::ORIGIN,
            refresh_at: Instant::ORIGIN,
            heard: None,
            unheard: 0,
            suspects: 0,
            silent_since: Instant::ORIGIN,
            grace: Instant::ORIGIN,
            probe: false,
            hurry: None,
        }
    }

    #[cfg(test)]
    pub(super) const fn has_suspects(&self) -> bool {
        self.suspects > 0
    }
}
