//! The choice of the next tracker of a torrent (BEP 12).

use core::time::Duration;

use crate::time::Instant;

use super::{entry::Entry, types::Reach};

/// How long to wait for a tracker's answer before the next tracker is asked. The value is our choice: the first
/// retransmission interval of BEP 15. Otherwise, a list of dead trackers would take hours.
const IMPATIENCE: Duration = Duration::from_secs(15);

/// The same before the DHT is asked, when no tracker answers. The value is rTorrent's.
const DHT_IMPATIENCE: Duration = Duration::from_secs(3);

/// The trackers before a tracker.
#[derive(Clone, Copy, Debug)]
struct Ahead {
    tier: u32,
    /// One of them works.
    works: bool,
    /// The answer of one of them is awaited until then.
    until: Instant,
}

impl Default for Ahead {
    fn default() -> Self {
        Self {
            tier: 0,
            works: false,
            until: Instant::ORIGIN,
        }
    }
}

/// The query that is due at a tracker, by its position.
#[derive(Clone, Copy, Debug)]
pub(super) enum Job {
    Announce { tracker: usize, endpoint: usize },
    Scrape { tracker: usize },
}

/// What is due now, if anything, and when the next query is due, which is now or earlier if one is due.
pub(super) fn plan(
    trackers: &[Entry],
    reach: Reach,
    running: bool,
    now: Instant,
) -> (Option<Job>, Option<Instant>) {
    let (mut due, mut wake) = (None, None::<Instant>);
    let mut consider = |at: Instant, job: Job| {
        if at <= now && due.is_none() {
            due = Some(job);
        }
        wake = Some(wake.map_or(at, |w| w.min(at)));
    };
    let mut ahead = Ahead::default();
    // The trackers of all tiers, which come before the DHT.
    let mut others = Ahead::default();
    for (tracker, entry) in trackers.iter().enumerate() {
        let scrape = &entry.scrape;
        if scrape.wanted && scrape.asking.is_none() && entry.is_usable() {
            consider(scrape.earliest, Job::Scrape { tracker });
        }
        if let Some(dht) = entry.dht {
            let reached = entry.is_usable() && (dht.short || !others.works);
            let wait = if dht.short {
                Instant::ORIGIN
            } else {
                others.until
            };
            for (endpoint, end) in entry.endpoints.iter().enumerate() {
                if running && end.asking.is_none() && (reached || dht.forced && entry.enabled) {
                    let at = if dht.forced { now } else { end.next.max(wait) };
                    consider(at, Job::Announce { tracker, endpoint });
                }
            }
            continue;
        }
        match reach {
            Reach::EachTier if ahead.tier != entry.tier => ahead = Ahead::default(),
            Reach::All => ahead = Ahead::default(),
            Reach::First | Reach::EachTier => {}
        }
        ahead.tier = entry.tier;
        let reached = running && entry.is_usable() && !ahead.works;
        for (endpoint, end) in entry.endpoints.iter().enumerate() {
            let job = Job::Announce { tracker, endpoint };
            if let Some(at) = end.stop_due() {
                consider(at.max(now), job);
            } else if reached && end.asking.is_none() {
                consider(end.next.max(ahead.until), job);
            }
        }
        if reached {
            ahead.works = entry.is_working();
            others.works |= ahead.works;
            if entry.is_asking() {
                ahead.until = ahead.until.max(entry.asked + IMPATIENCE);
                others.until = others.until.max(entry.asked + DHT_IMPATIENCE);
            }
        }
    }
    (due, wake)
}
