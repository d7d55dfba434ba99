//! A disk under virtual time: one head, a queue, and the faults of real disks.
//!
//! The disk does one job after another, each for as long as [`DiskConfig`] says. Reads see what was
//! written at once, but it survives a power cut only after a flush. A flush can run beside later
//! jobs, as on a real machine, and the power can fail at any job. Content that the whole swarm
//! shares is stored once (see `image`).

mod image;
mod volume;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use dunlin_core::{
    InfoHash, Instant, OpError, OpErrorKind, OpId, Outcome, TorrentId,
    dht::Saved,
    metainfo::Info,
    op::{FileStat, HashJob, ReadJob, WriteJob},
};
use dunlin_smoltcp::storage::{DiskJob, DiskOp, Storage};
use rand_core::Rng;

use self::volume::Volume;

/// The speed, size and faults of a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskConfig {
    /// The shortest and the longest time of a job, besides that for its bytes.
    pub latency: (Duration, Duration),
    /// Bytes per second; `None` means unlimited.
    pub bandwidth: Option<u64>,
    /// The time of a flush, besides the latency.
    pub flush: Duration,
    /// The size of the disk in bytes.
    pub capacity: u64,
    /// The number of jobs in a million that fail with an I/O error.
    pub errors_ppm: u32,
}

impl DiskConfig {
    /// A solid-state disk: 60–200 µs, 500 MB/s.
    #[must_use]
    pub const fn ssd() -> Self {
        Self {
            latency: (Duration::from_micros(60), Duration::from_micros(200)),
            bandwidth: Some(500_000_000),
            flush: Duration::from_millis(2),
            capacity: u64::MAX,
            errors_ppm: 0,
        }
    }

    /// A hard disk: 2–14 ms, 120 MB/s.
    #[must_use]
    pub const fn hdd() -> Self {
        Self {
            latency: (Duration::from_millis(2), Duration::from_millis(14)),
            bandwidth: Some(120_000_000),
            flush: Duration::from_millis(25),
            ..Self::ssd()
        }
    }

    /// A memory card in a router: 5–80 ms, 8 MB/s.
    #[must_use]
    pub const fn slow() -> Self {
        Self {
            latency: (Duration::from_millis(5), Duration::from_millis(80)),
            bandwidth: Some(8_000_000),
            flush: Duration::from_millis(300),
            ..Self::ssd()
        }
    }
}

/// The job in progress.
struct Job {
    done: Instant,
    op: DiskOp,
}

/// The disk of one host. It survives the end of the host's process and power cuts.
pub struct SimDisk {
    config: DiskConfig,
    rng: Box<dyn Rng + Send>,
    contents: BTreeMap<InfoHash, Arc<[u8]>>,
    volumes: BTreeMap<InfoHash, Volume>,
    records: BTreeMap<InfoHash, Vec<u8>>,
    /// The DHT's table that was saved last.
    dht: Option<Saved>,
    /// The torrents whose files are open.
    open: BTreeMap<TorrentId, InfoHash>,
    /// All torrents of the current process.
    names: BTreeMap<TorrentId, InfoHash>,
    jobs: VecDeque<Job>,
    /// Flushes run beside the jobs after them.
    flushes_beside: bool,
    /// The flushes that run beside other jobs.
    flushing: VecDeque<Job>,
    power: Power,
    stats: DiskStats,
}

/// When the power fails, counted in jobs.
#[derive(Clone, Copy, Debug, Default)]
struct Power {
    /// The jobs done since the disk was created.
    jobs: u64,
    /// The number of jobs after which the power fails.
    fails_at: Option<u64>,
    /// The power has failed, and the machine is about to notice.
    failed: bool,
    cuts: u32,
}

/// Counters of a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskStats {
    /// Bytes read, including those that were hashed.
    pub read: u64,
    /// Bytes written by jobs that succeeded.
    pub written: u64,
    /// Flush jobs that were carried out.
    pub flushes: u64,
    /// Jobs that failed.
    pub failures: u64,
    /// The most jobs that waited at once.
    pub most_waiting: usize,
    /// The time that the disk was busy.
    pub busy: Duration,
}

impl std::fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimDisk")
            .field("config", &self.config)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

impl SimDisk {
    /// Creates an empty disk.
    #[must_use]
    pub fn new(config: DiskConfig, rng: Box<dyn Rng + Send>) -> Self {
        Self {
            config,
            rng,
            contents: BTreeMap::new(),
            volumes: BTreeMap::new(),
            records: BTreeMap::new(),
            dht: None,
            open: BTreeMap::new(),
            names: BTreeMap::new(),
            jobs: VecDeque::new(),
            flushes_beside: false,
            flushing: VecDeque::new(),
            power: Power::default(),
            stats: DiskStats::default(),
        }
    }

    /// Lets flushes run beside later jobs, whose writes they do not cover.
    pub fn flush_beside(&mut self) {
        self.flushes_beside = true;
    }

    /// Makes the power fail when `jobs` jobs were done since the disk was created. The job in
    /// progress may be done or not, and is not answered.
    pub fn fail_power_at(&mut self, jobs: u64) {
        self.power.fails_at = Some(jobs);
    }

    /// Returns `true` when the power has failed; [`SimDisk::power_cut`] must follow.
    #[must_use]
    pub const fn has_lost_power(&self) -> bool {
        self.power.failed
    }

    /// The number of power cuts.
    #[must_use]
    pub const fn power_cuts(&self) -> u32 {
        self.power.cuts
    }

    /// The number of jobs done since the disk was created.
    #[must_use]
    pub const fn jobs_done(&self) -> u64 {
        self.power.jobs
    }

    /// Returns `true` when the disk holds a piece correctly; `false` when the content was not
    /// [announced](Self::expect).
    #[must_use]
    pub fn holds_piece(&self, info: &Info, piece: u32) -> bool {
        let hash = info.info_hash();
        let (at, len) = (info.piece_offset(piece), info.piece_size(piece));
        let volume = self.volumes.get(&hash);
        self.contents.contains_key(&hash) && volume.is_some_and(|v| v.is_true_at(at, len.into()))
    }

    /// Announces the true content of a torrent, so that copies of it take no memory and
    /// [`SimDisk::holds`] can verify it. Call this before the torrent is added.
    pub fn expect(&mut self, info: &Info, content: Arc<[u8]>) {
        self.contents.insert(info.info_hash(), content);
    }

    /// Puts the whole content of a torrent on the disk, durably, as a seed has it.
    pub fn fill(&mut self, info: &Arc<Info>) {
        self.volume(info).fill();
    }

    /// Returns `true` when the disk holds a torrent completely and correctly; `false` when its
    /// content was not [announced](Self::expect).
    #[must_use]
    pub fn holds(&self, info: &Info) -> bool {
        let hash = info.info_hash();
        self.contents.contains_key(&hash) && self.volumes.get(&hash).is_some_and(Volume::is_true)
    }

    /// Deletes the files of a torrent, as its user may at any time.
    pub fn lose(&mut self, info: &Info) {
        if let Some(volume) = self.volumes.get_mut(&info.info_hash()) {
            volume.delete();
        }
    }

    /// The content of a torrent as a reader sees it; `None` unless every file has its full length.
    #[must_use]
    pub fn content(&self, info: &Info) -> Option<Vec<u8>> {
        let volume = self.volumes.get(&info.info_hash())?;
        let mut bytes = vec![0; usize::try_from(info.total_len()).ok()?];
        volume.read(0, &mut bytes).then_some(bytes)
    }

    /// The record of a torrent that was saved last.
    #[must_use]
    pub fn record(&self, info_hash: InfoHash) -> Option<&[u8]> {
        self.records.get(&info_hash).map(Vec::as_slice)
    }

    /// The DHT's table that was saved last.
    #[must_use]
    pub const fn dht(&self) -> Option<&Saved> {
        self.dht.as_ref()
    }

    /// The counters.
    #[must_use]
    pub const fn stats(&self) -> DiskStats {
        self.stats
    }

    /// The bytes of memory that content of the disk's own takes.
    #[must_use]
    pub fn own_bytes(&self) -> usize {
        self.volumes.values().map(Volume::own_bytes).sum()
    }

    /// Changes the speed, size and error rate from now on.
    pub fn set_config(&mut self, config: DiskConfig) {
        self.config = config;
    }

    /// The process ends: jobs that were not begun are dropped, and everything else stays as it is.
    pub fn process_ended(&mut self) {
        self.jobs.clear();
        self.flushing.clear();
        self.open.clear();
        self.names.clear();
    }

    /// The power fails: the process ends, and parts of what was not flushed are lost or torn.
    pub fn power_cut(&mut self) {
        // The job in progress may have been written in part.
        if let Some(job) = self.jobs.pop_front()
            && self.rng.next_u32().is_multiple_of(2)
        {
            let _ = self.perform(job.op, job.done);
        }
        self.process_ended();
        self.power.fails_at = None;
        self.power.failed = false;
        self.power.cuts += 1;
        for volume in self.volumes.values_mut() {
            volume.power_cut(&mut *self.rng);
        }
    }

    /// Names a torrent whose files are not known yet, so that its record can be saved.
    pub fn name(&mut self, torrent: TorrentId, info_hash: InfoHash) {
        self.names.insert(torrent, info_hash);
    }

    fn volume(&mut self, info: &Arc<Info>) -> &mut Volume {
        let hash = info.info_hash();
        let content = self.contents.get(&hash).cloned().unwrap_or_default();
        self.volumes
            .entry(hash)
            .or_insert_with(|| Volume::new(info.clone(), content))
    }

    fn time(&mut self, job: &DiskJob) -> Duration {
        let (least, most) = self.config.latency;
        let spread = u64::try_from(most.saturating_sub(least).as_micros()).unwrap_or(u64::MAX);
        let jitter = (u128::from(self.rng.next_u32()) * u128::from(spread)) >> 32;
        let bytes = match job {
            DiskJob::Read(job) => u64::from(job.len),
            DiskJob::Write(job) => u64::from(job.len),
            DiskJob::Hash(job) => job.len,
            _ => 0,
        };
        let transfer = match self.config.bandwidth {
            Some(rate) => bytes.saturating_mul(1_000_000) / rate.max(1),
            None => 0,
        };
        let flush = match job {
            DiskJob::Flush { durable: true } if !self.flushes_beside => self.config.flush,
            _ => Duration::ZERO,
        };
        least + Duration::from_micros(jitter as u64 + transfer) + flush
    }

    fn perform(&mut self, op: DiskOp, at: Instant) -> Outcome {
        let errors = self.config.errors_ppm;
        if errors > 0 && self.rng.next_u32() % 1_000_000 < errors {
            return op.fail(OpErrorKind::Io, "the disk is failing");
        }
        let torrent = op.torrent;
        match op.job {
            DiskJob::Open { info } => {
                self.open.insert(torrent, info.info_hash());
                self.names.insert(torrent, info.info_hash());
                Outcome::Opened(self.volume(&info).stats())
            }
            DiskJob::Read(job) => self.read(job),
            DiskJob::Write(job) => self.write(job, at),
            DiskJob::Hash(job) => self.hash(job),
            // A volume belongs to one torrent, so everything in it was written for that torrent.
            DiskJob::Claim { .. } | DiskJob::Confirm => {
                Outcome::Flushed(self.flush(torrent, false))
            }
            DiskJob::Flush { durable } => {
                self.stats.flushes += 1;
                Outcome::Flushed(self.flush(torrent, durable))
            }
            DiskJob::Release { delete } => {
                if delete && let Some(volume) = opened(&self.open, &mut self.volumes, torrent) {
                    volume.delete();
                }
                self.open.remove(&torrent);
                Outcome::Done
            }
            DiskJob::Save { record } => match self.names.get(&torrent) {
                Some(hash) => {
                    self.records.insert(*hash, record);
                    Outcome::Done
                }
                None => Outcome::failed(OpErrorKind::NotFound, "no such torrent"),
            },
            // Unwanted files take no space on this disk.
            DiskJob::Select { .. } => Outcome::Done,
        }
    }

    fn read(&mut self, mut job: ReadJob) -> Outcome {
        self.stats.read += u64::from(job.len);
        let Some(volume) = opened(&self.open, &mut self.volumes, job.torrent) else {
            return job.fail(not_open());
        };
        let mut at = job.at;
        let all = job.parts().all(|part| {
            let from = at;
            at += part.len() as u64;
            volume.read(from, part)
        });
        match all {
            true => job.done(),
            false => job.fail(ends_early()),
        }
    }

    fn write(&mut self, mut job: WriteJob, now: Instant) -> Outcome {
        let used: u64 = self.volumes.values().map(Volume::used).sum();
        let Some(volume) = opened(&self.open, &mut self.volumes, job.torrent) else {
            return job.fail(not_open());
        };
        if used.saturating_add(volume.growth(job.at, job.len.into())) > self.config.capacity {
            return job.fail(error(OpErrorKind::NoSpace, "the disk is full"));
        }
        self.stats.written += u64::from(job.len);
        let now_ns = i64::try_from(now.as_micros().saturating_mul(1_000)).unwrap_or(i64::MAX);
        let mut at = job.at;
        for part in job.parts() {
            volume.write(now_ns, at, part);
            at += part.len() as u64;
        }
        job.feed();
        job.done()
    }

    fn hash(&mut self, mut job: HashJob) -> Outcome {
        let (at, len) = (job.at, job.len);
        self.stats.read += len;
        let volume = opened(&self.open, &mut self.volumes, job.torrent);
        match volume.is_some_and(|v| v.feed(at, len, |part| job.hasher().update(part))) {
            true => job.done(),
            false => job.fail(ends_early()),
        }
    }

    fn flush(&mut self, torrent: TorrentId, durable: bool) -> Vec<Option<FileStat>> {
        let Some(volume) = opened(&self.open, &mut self.volumes, torrent) else {
            return Vec::new();
        };
        if durable {
            volume.flush();
        }
        volume.stats()
    }
}

impl Storage for SimDisk {
    fn submit(&mut self, now: Instant, op: DiskOp) {
        let began = self.jobs.back().map_or(now, |last| last.done.max(now));
        let time = self.time(&op.job);
        self.stats.busy += time;
        let done = began + time;
        self.jobs.push_back(Job { done, op });
        self.stats.most_waiting = self.stats.most_waiting.max(self.jobs.len());
    }

    fn poll(&mut self, now: Instant) -> Option<(OpId, Outcome)> {
        loop {
            if self.power.failed || self.poll_timeout().is_none_or(|at| at > now) {
                return None;
            }
            let flushed = self.flushing.front().is_some_and(|job| job.done <= now);
            if !flushed && self.power.fails_at.is_some_and(|at| at <= self.power.jobs) {
                self.power.failed = true;
                return None;
            }
            let queue = match flushed {
                true => &mut self.flushing,
                false => &mut self.jobs,
            };
            let job = queue.pop_front()?;
            if !flushed {
                self.power.jobs += 1;
                if self.flushes_beside && matches!(job.op.job, DiskJob::Flush { durable: true }) {
                    self.begin_flush(job);
                    continue;
                }
            }
            return Some(self.finish(job));
        }
    }

    fn save_dht(&mut self, saved: Saved) -> Outcome {
        self.dht = Some(saved);
        Outcome::Done
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let next = [self.jobs.front(), self.flushing.front()];
        next.into_iter().flatten().map(|job| job.done).min()
    }
}

impl SimDisk {
    /// Begins a flush, which does not cover later writes.
    fn begin_flush(&mut self, mut job: Job) {
        if let Some(volume) = opened(&self.open, &mut self.volumes, job.op.torrent) {
            volume.begin_flush();
        }
        job.done += self.config.flush;
        self.flushing.push_back(job);
    }

    fn finish(&mut self, job: Job) -> (OpId, Outcome) {
        let id = job.op.id;
        let outcome = self.perform(job.op, job.done);
        if matches!(outcome, Outcome::Failed { .. }) {
            self.stats.failures += 1;
        }
        (id, outcome)
    }
}

/// The open volume of a torrent, borrowed from disjoint fields.
fn opened<'a>(
    open: &BTreeMap<TorrentId, InfoHash>,
    volumes: &'a mut BTreeMap<InfoHash, Volume>,
    torrent: TorrentId,
) -> Option<&'a mut Volume> {
    volumes.get_mut(open.get(&torrent)?)
}

fn error(kind: OpErrorKind, detail: &str) -> OpError {
    let detail = detail.into();
    OpError { kind, detail }
}

fn not_open() -> OpError {
    error(OpErrorKind::NotFound, "the torrent is not open")
}

fn ends_early() -> OpError {
    error(OpErrorKind::Truncated, "the file ends early")
}

#[cfg(test)]
mod tests;
