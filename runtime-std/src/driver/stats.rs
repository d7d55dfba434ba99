//! Counters of what a driver did.

/// Counters since the start of the driver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Turns: a wait for something to happen, and the work that followed.
    pub turns: u64,
    /// Rounds of the engine in these turns.
    pub rounds: u64,
    /// Turns that found nothing to do.
    pub idle_turns: u64,
    /// The longest run of idle turns that nothing from outside caused. A large number means that the driver
    /// spins (law 3).
    pub spin: u32,
    /// `readv` calls on streams.
    pub reads: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// `writev` calls on streams.
    pub writes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Calls that received datagrams, many at once where the platform can.
    pub receives: u64,
    /// Datagrams received.
    pub datagrams_in: u64,
    /// Datagrams sent.
    pub datagrams_out: u64,
    /// Disk ops, whether answered from the page cache or handed to the disk's threads.
    pub disk_ops: u64,
    /// How often accepting was paused for lack of descriptors or memory.
    pub accept_pauses: u64,
    /// Whether this round did anything.
    pub(super) progress: bool,
    /// Whether an earlier round of this turn did.
    turn_progress: bool,
    spin_now: u32,
}

impl Stats {
    /// Called at the start of a round.
    pub(super) const fn begin_round(&mut self) {
        self.rounds += 1;
        self.turn_progress |= self.progress;
        self.progress = false;
    }

    /// Called when a driver did something useful outside a round, such as running a command.
    pub const fn note_progress(&mut self) {
        self.progress = true;
    }

    /// Called at the end of a turn. `outside` says whether anything from outside caused it. `max_spin` idle
    /// turns in a row are normal: a wait may be interrupted, a timer may be postponed.
    ///
    /// # Panics
    /// In debug builds, if there were more idle turns in a row: then this crate or the engine has a bug.
    pub fn end_turn(&mut self, outside: bool, max_spin: u32) {
        self.turns += 1;
        let progress = self.turn_progress | self.progress;
        (self.turn_progress, self.progress) = (false, false);
        if progress {
            self.spin_now = 0;
            return;
        }
        self.idle_turns += 1;
        // A peer may make its socket ready as often as it likes without being read.
        if outside {
            return;
        }
        self.spin_now = self.spin_now.saturating_add(1);
        self.spin = self.spin.max(self.spin_now);
        debug_assert!(
            self.spin_now < max_spin,
            "law 3: {} turns in a row for nothing",
            self.spin_now
        );
    }
}
