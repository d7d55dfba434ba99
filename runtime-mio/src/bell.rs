//! Wake-ups of the loop by other threads: one word with a bit for each source, and at most one system call
//! while the loop sleeps, however often they ring.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use mio::Waker;

/// The source of a wake-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Source {
    /// A handle has a command.
    Commands = 1,
    /// The disk has outcomes.
    Disk = 2,
    /// The resolver has outcomes.
    Names = 4,
    /// The HTTP client has outcomes.
    Http = 8,
}

/// The loop waits, or is about to.
const SLEEPING: u32 = 1 << 31;

/// The sources that have rung since the loop looked last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rung(u32);

impl Rung {
    pub(crate) const fn has(self, source: Source) -> bool {
        self.0 & source as u32 != 0
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// The bell. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Bell {
    word: Arc<AtomicU32>,
    waker: Arc<Waker>,
}

impl Bell {
    pub(crate) fn new(waker: Arc<Waker>) -> Self {
        Self {
            word: Arc::default(),
            waker,
        }
    }

    /// Rings from any thread; wakes the loop if it sleeps and was not woken yet.
    pub(crate) fn ring(&self, source: Source) {
        if self.word.fetch_or(source as u32, Ordering::AcqRel) == SLEEPING {
            let woken: io::Result<()> = self.waker.wake();
            // It fails only if the loop has ended.
            drop(woken);
        }
    }

    /// A callback that rings for `source`.
    pub(crate) fn of(&self, source: Source) -> Arc<dyn Fn() + Send + Sync> {
        let bell = self.clone();
        Arc::new(move || bell.ring(source))
    }

    /// Returns the sources that have rung; the loop is awake.
    pub(crate) fn take(&self) -> Rung {
        Rung(self.word.swap(0, Ordering::AcqRel) & !SLEEPING)
    }

    /// Called before the loop waits. Returns `false` if a source has rung, so that the loop must not wait.
    pub(crate) fn sleep(&self) -> bool {
        self.word.fetch_or(SLEEPING, Ordering::AcqRel) & !SLEEPING == 0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mio::{Events, Poll, Token};

    use super::*;

    #[test]
    fn a_sleeper_is_woken_once_and_one_awake_never() {
        let mut poll = Poll::new().unwrap();
        let waker = Waker::new(poll.registry(), Token(0)).unwrap();
        let bell = Bell::new(Arc::new(waker));
        let mut wakes = |limit| {
            let mut events = Events::with_capacity(8);
            poll.poll(&mut events, Some(limit)).unwrap();
            events.iter().count()
        };
        // While the loop is awake, the bit is enough, without a system call.
        bell.ring(Source::Disk);
        assert_eq!(wakes(Duration::ZERO), 0);
        assert!(!bell.sleep(), "somebody has rung");
        let rung = bell.take();
        assert!(rung.has(Source::Disk) && !rung.has(Source::Http));
        assert!(bell.take().is_empty());

        assert!(bell.sleep());
        let other = bell.clone();
        let thread = std::thread::spawn(move || {
            other.ring(Source::Commands);
            other.ring(Source::Names);
        });
        assert_eq!(wakes(Duration::from_secs(60)), 1);
        thread.join().unwrap();
        let rung = bell.take();
        assert!(rung.has(Source::Commands) && rung.has(Source::Names));
        assert_eq!(wakes(Duration::ZERO), 0);
    }
}
