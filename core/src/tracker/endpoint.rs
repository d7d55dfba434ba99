//! One tracker over one address family: when to announce, and which event to send.

use core::time::Duration;

use crate::{
    machine::Cx,
    net::Family,
    time::Instant,
    wire::tracker::{AnnounceAnswer, AnnounceEvent, Retry, TrackerError},
};

use super::types::QueryKey;

/// The time between announces if the tracker does not tell it. The value is our choice: what most trackers ask for.
pub(super) const DEFAULT_INTERVAL: Duration = Duration::from_secs(30 * 60);
/// The minimum time between announces if the tracker does not tell it.
pub(super) const DEFAULT_MIN_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// The bounds of the intervals that a tracker may ask for: they must neither flood it nor let it forget us.
pub(super) const INTERVAL_FLOOR: Duration = Duration::from_secs(30);
pub(super) const INTERVAL_CEILING: Duration = Duration::from_secs(24 * 60 * 60);
/// The pause after the first failure. It doubles with each further one.
pub(super) const BACKOFF_FIRST: Duration = Duration::from_secs(30);
/// The longest pause after a failure.
pub(super) const BACKOFF_CEILING: Duration = Duration::from_secs(60 * 60);

/// The same for the DHT, whose node finds other nodes in the meantime. The value is rTorrent's.
const DHT_BACKOFF_CEILING: Duration = Duration::from_secs(320);

/// The pause before a query is repeated for which there was no room. The value is our choice: a few of these pauses fit into
/// the time that a session takes to stop, and queries end by an answer or after 15 s.
const BUSY_PAUSE: Duration = Duration::from_secs(1);

/// A tracker over one family.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    pub(super) family: Option<Family>,
    /// Whether it never has to be told `stopped`: the DHT.
    pub(super) nameless: bool,
    /// The announce whose answer is awaited.
    pub(super) asking: Option<(QueryKey, AnnounceEvent)>,
    /// When the next announce is due.
    pub(super) next: Instant,
    /// When the next announce is allowed by the tracker.
    earliest: Instant,
    pub(super) fails: u32,
    /// Whether it answered the last announce.
    pub(super) working: bool,
    /// Whether it knows us, as far as we know.
    pub(super) started: bool,
    owes_completed: bool,
    owes_stop: bool,
    /// When `stopped` may be repeated, after there was no room for it.
    stop_at: Instant,
    /// The payload bytes sent and received before `started`, of which the tracker is not told. `None` until that is sent.
    base: Option<(u64, u64)>,
    /// The shortest time between two announces.
    min_interval: Duration,
    /// The number of answers in a row that named no peer.
    in_vain: u32,
    pub(super) error: Option<TrackerError>,
    pub(super) complete: Option<u32>,
    pub(super) incomplete: Option<u32>,
    pub(super) downloaded: Option<u32>,
    pub(super) peers: u32,
}

impl Endpoint {
    pub(super) const fn new(now: Instant, family: Option<Family>) -> Self {
        Self {
            family,
            nameless: false,
            asking: None,
            next: now,
            earliest: now,
            fails: 0,
            working: false,
            started: false,
            owes_completed: false,
            owes_stop: false,
            stop_at: now,
            base: None,
            min_interval: Duration::ZERO,
            in_vain: 0,
            error: None,
            complete: None,
            incomplete: None,
            downloaded: None,
            peers: 0,
        }
    }

    /// The event of the next announce.
    pub(super) const fn event(&self, partial: bool) -> AnnounceEvent {
        match (self.owes_stop, self.started, self.owes_completed) {
            (true, _, _) => AnnounceEvent::Stopped,
            (_, false, _) => AnnounceEvent::Started,
            (_, _, true) => AnnounceEvent::Completed,
            _ if partial => AnnounceEvent::Paused,
            _ => AnnounceEvent::None,
        }
    }

    /// The payload bytes sent and received since `started`, given the totals. If `started` is repeated, they continue, so
    /// that nothing is lost.
    pub(super) fn counted(&mut self, uploaded: u64, downloaded: u64) -> (u64, u64) {
        let (up, down) = *self.base.get_or_insert((uploaded, downloaded));
        (uploaded.saturating_sub(up), downloaded.saturating_sub(down))
    }

    /// When `stopped` is due, if it has to be and can be sent.
    pub(super) fn stop_due(&self) -> Option<Instant> {
        (self.owes_stop && self.asking.is_none()).then_some(self.stop_at)
    }

    /// Whether it has to be told `stopped` and answered last time, so that it is worth waiting for.
    pub(super) const fn awaits_stopped(&self) -> bool {
        self.owes_stop && self.working
    }

    /// Whether nothing is left to send or to wait for.
    pub(super) const fn is_quiet(&self) -> bool {
        !self.owes_stop && self.asking.is_none()
    }

    /// The torrent starts: announces at once if the tracker does not know us yet.
    pub(super) fn start(&mut self, now: Instant) {
        self.owes_stop = false;
        if !self.started {
            self.next = now.max(self.earliest_after_refusal());
            if self.asking.is_none() {
                self.base = None;
            }
        }
    }

    /// A pause that a refusing tracker asked for is kept across a stop and a start.
    fn earliest_after_refusal(&self) -> Instant {
        match self.error {
            Some(TrackerError::Failure {
                retry: Some(Retry::After(_)),
                ..
            }) => self.earliest,
            _ => Instant::ORIGIN,
        }
    }

    /// The torrent stops, or leaves this tracker. While an answer is awaited, it is not known whether `stopped` has to be sent:
    /// [`Endpoint::succeeded`] decides.
    pub(super) fn stop(&mut self) {
        self.owes_completed = false;
        if self.nameless {
            self.started = false;
            self.working = false;
        }
        self.owes_stop = self.started;
    }

    /// The download has finished. A tracker that was never told of the download is not sent `completed`.
    pub(super) fn complete(&mut self, now: Instant) {
        if !self.started && self.asking.is_none() {
            return;
        }
        self.owes_completed = true;
        if self.working {
            self.next = now;
        }
    }

    /// Announces as soon as the tracker allows it. With `manual` it does not wait for the end of a pause after failures,
    /// with `force` it does not wait at all.
    pub(super) fn hurry(&mut self, now: Instant, manual: bool, force: bool) {
        let at = match self.fails {
            _ if force => now,
            0 => self.earliest.max(now),
            _ if manual => self.earliest_after_refusal().max(now),
            _ => return,
        };
        self.next = self.next.min(at);
    }

    /// The last answer led to nobody: announces before the end of the interval, the first time after the minimum interval,
    /// after twice as long once it named no peer again, and so on.
    pub(super) fn found_nobody(&mut self) {
        if self.working && self.asking.is_none() {
            let times = (1_u32 << self.in_vain.saturating_sub(1).min(16)) - 1;
            let at = self.earliest + self.min_interval.saturating_mul(times);
            self.next = self.next.min(at);
        }
    }

    /// Announces at `at`, unless an earlier announce is due, or the tracker has asked for a longer pause.
    pub(super) fn move_up(&mut self, at: Instant) {
        self.next = self.next.min(at.max(self.earliest_after_refusal()));
    }

    /// The tracker answered. The caller decides whether it has to be told `stopped`.
    pub(super) fn succeeded(&mut self, now: Instant, answer: &AnnounceAnswer) {
        match self.asking.take().map(|(_, event)| event) {
            Some(AnnounceEvent::Stopped) => self.forgotten(),
            Some(AnnounceEvent::Completed) => self.owes_completed = false,
            _ => self.started = true,
        }
        self.fails = 0;
        // The answer to `stopped` says nothing about the next start.
        self.working = self.started;
        self.error = None;
        let clamp = |d: Duration| d.clamp(INTERVAL_FLOOR, INTERVAL_CEILING);
        let interval = clamp(answer.interval.unwrap_or(DEFAULT_INTERVAL));
        let min = answer
            .min_interval
            .unwrap_or(DEFAULT_MIN_INTERVAL.min(interval));
        let min = clamp(min);
        self.earliest = now + min;
        self.min_interval = min;
        self.in_vain = match answer.peers.is_empty() {
            true => self.in_vain.saturating_add(1),
            false => 0,
        };
        self.next = if self.owes_completed || !self.started {
            now
        } else {
            now + interval.max(min)
        };
        self.complete = answer.complete.or(self.complete);
        self.incomplete = answer.incomplete.or(self.incomplete);
        self.downloaded = answer.downloaded.or(self.downloaded);
        self.peers = u32::try_from(answer.peers.len()).unwrap_or(u32::MAX);
    }

    /// The tracker did not answer.
    pub(super) fn failed(&mut self, cx: &mut Cx<'_>, error: TrackerError) {
        if let Some((_, AnnounceEvent::Stopped)) = self.asking.take() {
            // `stopped` is sent once, with the retransmissions of its transport. The tracker will forget us by itself.
            self.forgotten();
        }
        self.working = false;
        self.fails = self.fails.saturating_add(1);
        let pause = match &error {
            TrackerError::Failure {
                retry: Some(Retry::After(pause)),
                ..
            } => {
                let pause = (*pause).clamp(INTERVAL_FLOOR, INTERVAL_CEILING);
                self.earliest = cx.now + pause;
                pause
            }
            // It will not have an address in a minute either.
            TrackerError::NoAddress => jittered(cx, BACKOFF_CEILING),
            TrackerError::Dht(_) => backoff(cx, self.fails).min(DHT_BACKOFF_CEILING),
            _ => backoff(cx, self.fails),
        };
        self.next = cx.now + pause;
        self.error = Some(error);
    }

    /// The query was cancelled by us, which says nothing about the tracker.
    pub(super) fn cancelled(&mut self, cx: &mut Cx<'_>) {
        if let Some((_, AnnounceEvent::Stopped)) = self.asking.take() {
            self.forgotten();
        }
        self.next = cx.now + jittered(cx, BACKOFF_FIRST);
    }

    /// There was no room for the query: repeats it, also if it is `stopped`.
    pub(super) fn postponed(&mut self, cx: &mut Cx<'_>) {
        self.asking = None;
        let pause = jittered(cx, BUSY_PAUSE);
        self.next = cx.now + pause;
        self.stop_at = cx.now + pause;
    }

    /// The tracker does not know us any more.
    fn forgotten(&mut self) {
        self.started = false;
        self.owes_stop = false;
        self.base = None;
        self.in_vain = 0;
    }
}

/// The pause after `fails` failures: 30 s · 2^(fails − 1), at most an hour, ± 25 %.
fn backoff(cx: &mut Cx<'_>, fails: u32) -> Duration {
    let doubled = BACKOFF_FIRST * (1 << fails.saturating_sub(1).min(10));
    jittered(cx, doubled.min(BACKOFF_CEILING))
}

/// `d` ± 25 %, so that clients that failed together do not come back together.
fn jittered(cx: &mut Cx<'_>, d: Duration) -> Duration {
    let half = u32::try_from(d.as_millis() / 2).unwrap_or(u32::MAX);
    d * 3 / 4 + Duration::from_millis(cx.below(half).into())
}
