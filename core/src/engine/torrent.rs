//! One torrent, as the engine composes it.

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet, VecDeque},
    format,
    string::String,
    vec::Vec,
};

use core::net::SocketAddr;

use super::assembly::Assembly;
use super::deadlines::Deadlines;
use super::durability::Durability;
use super::event::Changes;
use super::fetch::Fetch;
use super::io::Io;
use super::member::Members;
use super::member_id::MemberId;
use super::ops::DiskJob;
use super::resume::Record;
use super::search::PeerSearch;
use super::status::{FilePriority, State};
use super::swarm::Swarm;
use super::timers::TorrentTimer;
use super::{Check, Config, Existing};
use crate::metainfo::Info;
use crate::op::FileStat;
use crate::rate::Rate;
use crate::sync::Arc;
use crate::throttle::{BucketId, Direction, Throttle};
use crate::torrent::blame::Blame;
use crate::torrent::choker::Choker;
use crate::torrent::pace::Pace;
use crate::torrent::picker::{PeerKey, Picker};
use crate::tracker::Announcer;
use crate::{Bitfield, InfoHash, Instant, OpError, Outcome, TorrentId};

/// Where a torrent stands.
#[derive(Debug)]
pub(super) enum Phase {
    /// Without metadata: at rest or fetching it.
    Metadata,
    /// [`Op::Open`](crate::Op::Open) is out.
    Opening,
    /// Doubted pieces are being hashed, or wait for their turn.
    Checking(Checking),
    /// Checked; [`Op::Claim`](crate::Op::Claim) is out. The picker is not in use yet.
    Claiming(Option<Box<Picker>>),
    /// Open, checked and claimed: at rest, downloading or seeding.
    Ready,
    /// An op failed for good.
    Failed(OpError),
    /// On its way out.
    Stopping(Stopping),
}

/// What a torrent has taken its files into use for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// Nothing.
    No,
    /// [`Op::Claim`](crate::Op::Claim) is out.
    Asked,
    /// To read.
    Read,
    /// To write.
    Write,
}

/// Pieces to be hashed.
#[derive(Debug)]
pub(super) struct Checking {
    pub(super) queue: VecDeque<u32>,
    /// Being hashed.
    pub(super) out: BTreeSet<u32>,
    pub(super) done: u32,
    pub(super) total: u32,
    pub(super) have: Bitfield,
}

/// Whether the disk has followed the selection of files.
#[derive(Debug, Default)]
pub(super) struct Selection {
    /// [`Op::Select`](crate::Op::Select)s that are not answered.
    out: u32,
    /// The last one failed: files that are wanted may be in the parts file still.
    pub(super) failed: bool,
}

impl Selection {
    pub(super) const fn asked(&mut self) {
        self.out += 1;
    }

    pub(super) const fn answered(&mut self, failed: bool) {
        self.out = self.out.saturating_sub(1);
        self.failed = failed;
    }

    /// Whether every wanted file that is complete is at its place.
    pub(super) const fn is_settled(&self) -> bool {
        self.out == 0 && !self.failed
    }
}

/// How far a torrent's end has come.
#[derive(Debug)]
pub(super) struct Stopping {
    /// Trackers are not waited for beyond this.
    pub(super) until: Instant,
    /// Nor beyond this, if none of them answers anyway.
    pub(super) silent_until: Instant,
    /// Delete the content.
    pub(super) delete: bool,
    /// The record is saved, or there is nothing to save.
    pub(super) saved: bool,
    /// [`Op::Release`](crate::Op::Release) is out.
    pub(super) releasing: bool,
}

/// One torrent.
#[derive(Debug)]
pub(super) struct Torrent {
    pub(super) id: TorrentId,
    pub(super) info_hash: InfoHash,
    /// `dn` of a magnet.
    pub(super) dn: Option<String>,
    pub(super) info: Option<Arc<Info>>,
    /// There is padding in it.
    pub(super) padded: bool,
    pub(super) phase: Phase,
    /// [`Op::Open`](crate::Op::Open) is due once the disk has done what is asked of it.
    pub(super) to_open: bool,
    /// The application wants it at rest.
    pub(super) paused: bool,
    pub(super) check: Check,
    /// A check that a disk error interrupted.
    pub(super) halted: Option<Checking>,
    pub(super) resume: Option<Record>,

    pub(super) picker: Option<Picker>,
    pub(super) assemblies: BTreeMap<u32, Assembly>,
    /// How many there have been: names each.
    pub(super) assembled: u64,
    /// Requests were taken back: blocks are free that idle peers may fetch.
    pub(super) freed: bool,
    pub(super) blame: Blame,
    /// Where those live who sent blocks of failed pieces.
    pub(super) suspects: BTreeMap<PeerKey, SocketAddr>,
    /// Who sent blocks and is gone, the last ones.
    pub(super) departed: VecDeque<(PeerKey, SocketAddr)>,
    pub(super) fetch: Fetch,
    pub(super) priorities: Vec<FilePriority>,
    pub(super) selection: Selection,
    pub(super) sequential: bool,
    /// Pieces that are needed by some time, while there is no picker.
    pub(super) deadlines: Deadlines,

    pub(super) announcer: Announcer,
    /// Its search of the DHT.
    pub(super) dht: PeerSearch,
    pub(super) swarm: Swarm,
    /// Its connections.
    pub(super) members: Members,
    /// It stands in the queue of those that connect.
    pub(super) dialling: bool,
    pub(super) choker: Choker,
    pub(super) bucket: BucketId,

    /// What may become of files that exist.
    pub(super) existing: Existing,
    /// What its files are claimed for.
    pub(super) claim: Held,
    /// Files that were its own when they were claimed.
    pub(super) ours: Vec<bool>,
    /// It was writing its files when they were opened anew.
    pub(super) wrote: bool,
    /// Files that its record vouches for, as of the last opening.
    pub(super) vouched: Vec<bool>,
    /// [`Op::Confirm`](crate::Op::Confirm) is out.
    pub(super) confirming: bool,
    /// What went wrong with a file that is being looked at.
    pub(super) trouble: Option<OpError>,
    /// Pieces that could not be read since the files were opened, and what is to be hashed for
    /// that.
    pub(super) unreadable: Vec<u32>,
    pub(super) doubted: Vec<u32>,
    /// Why it rests, until its files are there again.
    pub(super) failing: Option<OpError>,
    /// The files at the last flush.
    pub(super) files: Vec<Option<FileStat>>,
    /// Something changed since the last record.
    pub(super) unsaved: bool,
    pub(super) durability: Durability,

    /// Bytes of the wanted pieces.
    pub(super) wanted: u64,
    pub(super) downloaded: u64,
    pub(super) uploaded: u64,
    pub(super) wasted: u64,
    pub(super) downloaded_before: u64,
    pub(super) uploaded_before: u64,
    pub(super) down: Rate,
    pub(super) up: Rate,

    pub(super) finished: bool,
    /// Changes the application has not heard of.
    pub(super) changes: Changes,
    /// What is wanted of the engine before the call ends.
    pub(super) wants: Wants,
}

/// What a torrent wants of the engine, because others are concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wants(u8);

impl Wants {
    /// A place in the queue of those that have addresses to connect to.
    pub(super) const PLACES: Self = Self(1);
    /// Its queries to be sent to trackers, and their events to be dealt with.
    pub(super) const TRACKERS: Self = Self(2);
    /// To be looked at once the disk owes it nothing.
    pub(super) const PROCEED: Self = Self(4);
    /// The DHT, in mode `auto`.
    pub(super) const DHT: Self = Self(8);
    /// Its search of the DHT to be given up.
    pub(super) const DHT_END: Self = Self(16);
    /// The pseudo-tracker of the DHT, or none if it is private.
    pub(super) const DHT_TRACKER: Self = Self(32);
    /// To give a connection up if another torrent needs its place.
    pub(super) const TO_SHARE: Self = Self(64);
    /// Its search of the DHT to begin.
    pub(super) const DHT_SEARCH: Self = Self(128);

    /// Whether this contains all of `other`.
    pub(super) const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl core::ops::BitOr for Wants {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Torrent {
    /// Wants something of the engine before the call ends.
    pub(super) fn want(&mut self, io: &mut Io<'_>, what: Wants) {
        if self.wants == Wants::default() {
            io.out.wanting.push_back(self.id);
        }
        self.wants = self.wants | what;
    }

    /// Something was done with a peer: see [`Io::refresh`].
    pub(super) fn refresh(&mut self, io: &mut Io<'_>, id: MemberId) {
        if let Some(member) = self.members.get_mut(id) {
            io.refresh(member);
        }
    }

    /// Takes note of a change; the application hears of it once.
    pub(super) fn change(&mut self, io: &mut Io<'_>, what: Changes) {
        if self.changes.is_empty() {
            io.out.changed.push_back(self.id);
        }
        self.changes |= what;
    }

    /// Work on the files is done, or failed.
    pub(super) fn handle_disk(&mut self, io: &mut Io<'_>, job: DiskJob, outcome: Outcome) {
        match job {
            DiskJob::Open => self.opened(io, outcome),
            DiskJob::Claim(claim) => self.claimed(io, claim, outcome),
            DiskJob::Upload { member, wanted } => self.upload_read(io, member, wanted, outcome),
            DiskJob::Write { piece, serial, .. } | DiskJob::Verify { piece, serial }
                if !self.is_assembling(piece, serial) =>
            {
                self.too_late(io, outcome);
            }
            DiskJob::Write {
                piece, begin, len, ..
            } => self.written(io, piece, begin, len, outcome),
            DiskJob::Verify { piece, .. } => self.hashed(io, piece, outcome),
            DiskJob::Check { piece } => self.checked(io, piece, outcome),
            DiskJob::Blame { piece, passed } => self.blamed(io, piece, passed, outcome),
            DiskJob::Confirm => self.confirmed(io, outcome),
            DiskJob::Flush => self.flushed(io, outcome),
            DiskJob::Save => self.saved(io, &outcome),
            DiskJob::Select => self.selected(io, &outcome),
        }
        self.want(io, Wants::PROCEED);
    }

    /// A deadline has come.
    pub(super) fn handle_timeout(&mut self, io: &mut Io<'_>, timer: TorrentTimer) {
        match timer {
            TorrentTimer::Trackers => self.want(io, Wants::TRACKERS),
            TorrentTimer::Connect => self.want(io, Wants::PLACES),
            TorrentTimer::Round => self.round(io),
            TorrentTimer::Unchoke => self.fill_slots(io),
            TorrentTimer::Pex => self.pex_round(io),
            TorrentTimer::Save => {
                self.watch_files(io);
                self.save(io);
            }
            TorrentTimer::Enough => self.judge_peers(io),
        }
    }

    /// Whether peers and trackers are dealt with.
    pub(super) fn is_running(&self) -> bool {
        !self.paused && matches!(self.phase, Phase::Metadata | Phase::Ready)
    }

    /// Whether it runs as soon as its files are open and looked at.
    pub(super) fn is_opening(&self) -> bool {
        let opening = matches!(
            self.phase,
            Phase::Opening | Phase::Checking(_) | Phase::Claiming(_)
        );
        !self.paused && opening
    }

    /// Whether pieces are exchanged.
    pub(super) fn is_exchanging(&self) -> bool {
        !self.paused && matches!(self.phase, Phase::Ready)
    }

    /// How its uploads share their limit; `None` if nothing limits them, or a stop does.
    pub(super) fn pace(&self, throttle: &Throttle) -> Option<Pace> {
        let rate = throttle.limit(self.bucket, Direction::Up)?;
        let info = self.info.as_ref()?;
        (rate > 0).then(|| Pace::new(rate, info.piece_len()))
    }

    /// Whether everything wanted is here.
    pub(super) fn is_done(&self) -> bool {
        self.picker.as_ref().is_some_and(Picker::is_done)
    }

    /// Whether the files of what is here have been looked at.
    pub(super) fn is_confirmed(&self) -> bool {
        self.finished || self.existing == Existing::ReadOnly
    }

    /// Whether every piece is here.
    pub(super) fn is_seed(&self) -> bool {
        self.picker.as_ref().is_some_and(|p| p.have().is_full())
    }

    /// Whether its peers may come from its trackers only.
    pub(super) fn is_private(&self) -> bool {
        self.info.as_ref().is_some_and(|i| i.private())
    }

    /// Whether there is something to put into a record: before the files were looked at, the
    /// last record knows more.
    pub(super) const fn can_save(&self) -> bool {
        self.info.is_none() || self.picker.is_some()
    }

    /// A name for people.
    pub(super) fn name(&self) -> String {
        match (&self.info, &self.dn) {
            (Some(info), _) => info.name().into(),
            (None, Some(dn)) => dn.clone(),
            (None, None) => format!("{}", self.info_hash),
        }
    }

    /// Bytes that are missing of the whole torrent, wanted or not: what a tracker is told is left
    /// (BEP 3, and BEP 21 for those who want a part). A magnet without metadata has something
    /// left, so that trackers do not take it for a seed.
    pub(super) fn left(&self) -> u64 {
        match (&self.picker, &self.info) {
            (Some(picker), Some(info)) => info.total_len() - bytes_in(info, picker.have()),
            _ => 16 << 10,
        }
    }

    /// Whether it is a partial seed (BEP 21): nothing that is wanted is missing, though not
    /// everything is here.
    pub(super) fn is_partial_seed(&self) -> bool {
        self.is_done() && !self.is_seed()
    }

    /// Bytes that are missing of what is wanted.
    pub(super) fn wanted_left(&self) -> u64 {
        match &self.picker {
            Some(picker) if self.existing == Existing::ReadOnly => {
                let piece_len = self.info.as_ref().map_or(0, |info| info.piece_len());
                let missing = picker.have().len() - picker.have().count();
                u64::from(missing) * u64::from(piece_len)
            }
            Some(picker) => picker.bytes_left(),
            None => self.wanted,
        }
    }

    /// What the application sees.
    pub(super) fn state(&self) -> State {
        match &self.phase {
            Phase::Stopping(_) => State::Stopping,
            Phase::Failed(error) => State::Failed(error.clone()),
            Phase::Opening | Phase::Claiming(_) => match &self.failing {
                // Whether it is over is being looked at.
                Some(error) => State::Failed(error.clone()),
                None => State::Opening,
            },
            Phase::Checking(c) => State::Checking {
                done: c.done,
                total: c.total,
            },
            _ if self.paused => State::Paused,
            Phase::Metadata => State::Metadata,
            Phase::Ready
                if self.is_done() && self.selection.is_settled() && self.is_confirmed() =>
            {
                State::Seeding
            }
            Phase::Ready => State::Downloading,
        }
    }

    /// Most connections it may have.
    pub(super) fn is_full(&self, config: &Config) -> bool {
        self.members.len() >= config.max_connections_per_torrent as usize
    }
}

/// Bytes in the pieces of a set.
pub(super) fn bytes_in(info: &Info, have: &Bitfield) -> u64 {
    let Some(last) = info.piece_count().checked_sub(1) else {
        return 0;
    };
    let full = u64::from(have.count()) * u64::from(info.piece_len());
    let short = u64::from(info.piece_len() - info.piece_size(last));
    full - if have.get(last) { short } else { 0 }
}
