//! One tracker over one address family: when to ask it, and which event it has to hear.

use core::time::Duration;

use crate::{
    machine::Cx,
    net::Family,
    time::Instant,
    wire::tracker::{AnnounceAnswer, AnnounceEvent, Retry, TrackerError},
};

use super::types::QueryKey;

/// Time between announces if the tracker does not say. Our choice: what most trackers ask for.
pub(super) const DEFAULT_INTERVAL: Duration = Duration::from_secs(30 * 60);
/// Least time between announces if the tracker does not say.
pub(super) const DEFAULT_MIN_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// Bounds of what a tracker may ask for: it shall neither make us hammer it nor forget it.
pub(super) const INTERVAL_FLOOR: Duration = Duration::from_secs(30);
pub(super) const INTERVAL_CEILING: Duration = Duration::from_secs(24 * 60 * 60);
/// Pause after the first failure, doubled with each further one.
pub(super) const BACKOFF_FIRST: Duration = Duration::from_secs(30);
/// Longest pause after a failure.
pub(super) const BACKOFF_CEILING: Duration = Duration::from_secs(60 * 60);

/// The same for the DHT, whose node finds others meanwhile. As long as rTorrent waits.
const DHT_BACKOFF_CEILING: Duration = Duration::from_secs(320);

/// Pause until a query is made again that there was no room for. Our choice: a few of these fit into
/// the time that a session takes to stop, and queries leave the queue by answers or after 15 s.
const BUSY_PAUSE: Duration = Duration::from_secs(1);

/// A tracker over one family.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    pub(super) family: Option<Family>,
    /// Nobody there remembers us by name, so nobody has to hear that we stop: the DHT.
    pub(super) nameless: bool,
    /// The announce whose answer is awaited.
    pub(super) asking: Option<(QueryKey, AnnounceEvent)>,
    /// When it is asked next.
    pub(super) next: Instant,
    /// When it may be asked at the earliest, as it said itself.
    earliest: Instant,
    pub(super) fails: u32,
    /// Answered last time.
    pub(super) working: bool,
    /// Has us on its list, as far as we know.
    pub(super) started: bool,
    owes_completed: bool,
    owes_stop: bool,
    /// Not before then: there was no room for `stopped` when it was due.
    stop_at: Instant,
    /// Payload bytes sent and received before the announce of `started`, which the tracker is
    /// not told of; `None` until that is due.
    base: Option<(u64, u64)>,
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
            error: None,
            complete: None,
            incomplete: None,
            downloaded: None,
            peers: 0,
        }
    }

    /// What the next announce has to say.
    pub(super) const fn event(&self, partial: bool) -> AnnounceEvent {
        match (self.owes_stop, self.started, self.owes_completed) {
            (true, _, _) => AnnounceEvent::Stopped,
            (_, false, _) => AnnounceEvent::Started,
            (_, _, true) => AnnounceEvent::Completed,
            _ if partial => AnnounceEvent::Paused,
            _ => AnnounceEvent::None,
        }
    }

    /// Payload bytes sent and received since `started`, if those are all there ever were. A
    /// `started` that is repeated does not begin anew, so that nothing is lost with it.
    pub(super) fn counted(&mut self, uploaded: u64, downloaded: u64) -> (u64, u64) {
        let (up, down) = *self.base.get_or_insert((uploaded, downloaded));
        (uploaded.saturating_sub(up), downloaded.saturating_sub(down))
    }

    /// When it is to be told that we stop, if it has to hear that and can.
    pub(super) fn stop_due(&self) -> Option<Instant> {
        (self.owes_stop && self.asking.is_none()).then_some(self.stop_at)
    }

    /// Has to hear that we stop, and answered last time: worth waiting for.
    pub(super) const fn awaits_stopped(&self) -> bool {
        self.owes_stop && self.working
    }

    /// Nothing is left to say or to wait for.
    pub(super) const fn is_quiet(&self) -> bool {
        !self.owes_stop && self.asking.is_none()
    }

    /// The torrent starts: trackers that do not list us yet are asked at once.
    pub(super) fn start(&mut self, now: Instant) {
        self.owes_stop = false;
        if !self.started {
            self.next = now.max(self.earliest_after_refusal());
            if self.asking.is_none() {
                self.base = None;
            }
        }
    }

    /// What a tracker that refused asked for is heeded across a stop and a start.
    fn earliest_after_refusal(&self) -> Instant {
        match self.error {
            Some(TrackerError::Failure {
                retry: Some(Retry::After(_)),
                ..
            }) => self.earliest,
            _ => Instant::ORIGIN,
        }
    }

    /// The torrent stops, or leaves this tracker. While an answer is awaited it is not known
    /// whether there is anything to stop: [`Endpoint::succeeded`] comes back to it.
    pub(super) fn stop(&mut self) {
        self.owes_completed = false;
        if self.nameless {
            self.started = false;
            self.working = false;
        }
        self.owes_stop = self.started;
    }

    /// The download has finished. A tracker that never saw us download gets no `completed`.
    pub(super) fn complete(&mut self, now: Instant) {
        if !self.started && self.asking.is_none() {
            return;
        }
        self.owes_completed = true;
        if self.working {
            self.next = now;
        }
    }

    /// Asks as soon as the tracker allows it; `force` does not wait for its permission, `manual`
    /// only for that and not for the end of a pause after failures.
    pub(super) fn hurry(&mut self, now: Instant, manual: bool, force: bool) {
        let at = match self.fails {
            _ if force => now,
            0 => self.earliest.max(now),
            _ if manual => self.earliest_after_refusal().max(now),
            _ => return,
        };
        self.next = self.next.min(at);
    }

    /// Asks at `at`, unless it is asked earlier anyway or has refused us until later.
    pub(super) fn move_up(&mut self, at: Instant) {
        self.next = self.next.min(at.max(self.earliest_after_refusal()));
    }

    /// The tracker answered. Whether it has to hear that we stop is the caller's to say.
    pub(super) fn succeeded(&mut self, now: Instant, answer: &AnnounceAnswer) {
        match self.asking.take().map(|(_, event)| event) {
            Some(AnnounceEvent::Stopped) => self.forgotten(),
            Some(AnnounceEvent::Completed) => self.owes_completed = false,
            _ => self.started = true,
        }
        self.fails = 0;
        // One that let us go says nothing about the next start.
        self.working = self.started;
        self.error = None;
        let clamp = |d: Duration| d.clamp(INTERVAL_FLOOR, INTERVAL_CEILING);
        let interval = clamp(answer.interval.unwrap_or(DEFAULT_INTERVAL));
        let min = answer
            .min_interval
            .unwrap_or(DEFAULT_MIN_INTERVAL.min(interval));
        let min = clamp(min);
        self.earliest = now + min;
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
            // Told once, with the retransmissions of its transport: it will forget us by itself.
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
            // It will not have one in a minute either.
            TrackerError::NoAddress => jittered(cx, BACKOFF_CEILING),
            TrackerError::Dht(_) => backoff(cx, self.fails).min(DHT_BACKOFF_CEILING),
            _ => backoff(cx, self.fails),
        };
        self.next = cx.now + pause;
        self.error = Some(error);
    }

    /// The query was given up by us, so nothing is learned about the tracker.
    pub(super) fn cancelled(&mut self, cx: &mut Cx<'_>) {
        if let Some((_, AnnounceEvent::Stopped)) = self.asking.take() {
            self.forgotten();
        }
        self.next = cx.now + jittered(cx, BACKOFF_FIRST);
    }

    /// There was no room for the query: it is made again, also if it says that we stop.
    pub(super) fn postponed(&mut self, cx: &mut Cx<'_>) {
        self.asking = None;
        let pause = jittered(cx, BUSY_PAUSE);
        self.next = cx.now + pause;
        self.stop_at = cx.now + pause;
    }

    /// It has us on its list no longer.
    fn forgotten(&mut self) {
        self.started = false;
        self.owes_stop = false;
        self.base = None;
    }
}

/// 30 s · 2^(fails − 1), at most an hour, ± 25 %.
fn backoff(cx: &mut Cx<'_>, fails: u32) -> Duration {
    let doubled = BACKOFF_FIRST * (1 << fails.saturating_sub(1).min(10));
    jittered(cx, doubled.min(BACKOFF_CEILING))
}

/// `d` ± 25 %, so that clients that failed together do not come back together.
fn jittered(cx: &mut Cx<'_>, d: Duration) -> Duration {
    let half = u32::try_from(d.as_millis() / 2).unwrap_or(u32::MAX);
    d * 3 / 4 + Duration::from_millis(cx.below(half).into())
}
