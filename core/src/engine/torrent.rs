//! One torrent, as the engine composes it.

use alloc::{
    collections::{BTreeMap, VecDeque},
    format,
    string::String,
    vec::Vec,
};

use core::net::SocketAddr;

use super::content::{Before, Content, Files, Store};
use super::deadlines::Deadlines;
use super::durability::Durability;
use super::event::Changes;
use super::io::Io;
use super::member::Members;
use super::member_id::MemberId;
use super::ops::DiskJob;
use super::resume::Record;
use super::search::PeerSearch;
use super::standing::Standing;
use super::status::{FilePriority, State};
use super::swarm::Swarm;
use super::timers::TorrentTimer;
use super::{Check, Config, Existing};
use crate::metainfo::Info;
use crate::rate::Rate;
use crate::throttle::{BucketId, Direction, Throttle};
use crate::torrent::blame::Blame;
use crate::torrent::choker::Choker;
use crate::torrent::pace::Pace;
use crate::torrent::picker::{PeerKey, Picker};
use crate::tracker::Announcer;
use crate::{Bitfield, InfoHash, Outcome, TorrentId};

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

/// One torrent.
#[derive(Debug)]
pub(super) struct Torrent {
    pub(super) id: TorrentId,
    pub(super) info_hash: InfoHash,
    /// `dn` of a magnet.
    pub(super) dn: Option<String>,
    pub(super) content: Content,
    pub(super) standing: Standing,
    /// The application wants it at rest.
    pub(super) paused: bool,
    pub(super) check: Check,
    /// The last record, until the files are open.
    pub(super) resume: Option<Record>,

    pub(super) blame: Blame,
    /// Where those live who sent blocks of failed pieces.
    pub(super) suspects: BTreeMap<PeerKey, SocketAddr>,
    /// Who sent blocks and is gone, the last ones.
    pub(super) departed: VecDeque<(PeerKey, SocketAddr)>,
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
    pub(super) files: Files,
    pub(super) before: Before,
    /// Something changed since the last record.
    pub(super) unsaved: bool,
    pub(super) durability: Durability,

    pub(super) downloaded: u64,
    pub(super) uploaded: u64,
    pub(super) wasted: u64,
    pub(super) downloaded_before: u64,
    pub(super) uploaded_before: u64,
    pub(super) down: Rate,
    pub(super) up: Rate,

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
        let has_work = matches!(self.content.store(), None | Some(Store::Open(_)));
        !self.paused && self.standing.is_up() && has_work
    }

    /// Whether it runs as soon as its files are open and looked at.
    pub(super) fn is_opening(&self) -> bool {
        let opening = matches!(
            self.content.store(),
            Some(Store::Opening(_) | Store::Checking(_) | Store::Claiming(_))
        );
        !self.paused && self.standing.is_up() && opening
    }

    /// Whether its files are open, and nothing stands against using them.
    pub(super) fn is_ready(&self) -> bool {
        self.standing.is_up() && self.content.open().is_some()
    }

    /// Whether pieces are exchanged.
    pub(super) fn is_exchanging(&self) -> bool {
        !self.paused && self.is_ready()
    }

    /// How its uploads share their limit; `None` if nothing limits them, or a stop does.
    pub(super) fn pace(&self, throttle: &Throttle) -> Option<Pace> {
        let rate = throttle.limit(self.bucket, Direction::Up)?;
        let info = self.content.info()?;
        (rate > 0).then(|| Pace::new(rate, info.piece_len()))
    }

    /// Whether everything wanted is here.
    pub(super) fn is_done(&self) -> bool {
        self.content.picker().is_some_and(Picker::is_done)
    }

    /// Whether the files of what is here have been looked at.
    pub(super) fn is_confirmed(&self) -> bool {
        let finished = self.content.open().is_some_and(|(_, open)| open.finished);
        finished || self.existing == Existing::ReadOnly
    }

    /// Whether every piece is here.
    pub(super) fn is_seed(&self) -> bool {
        self.content.picker().is_some_and(|p| p.have().is_full())
    }

    /// Whether its peers may come from its trackers only.
    pub(super) fn is_private(&self) -> bool {
        self.content.info().is_some_and(|i| i.private())
    }

    /// Whether there is something to put into a record: before the files were looked at, the
    /// last record knows more.
    pub(super) const fn can_save(&self) -> bool {
        matches!(self.content.store(), None | Some(Store::Open(_)))
    }

    /// A name for people.
    pub(super) fn name(&self) -> String {
        match (self.content.info(), &self.dn) {
            (Some(info), _) => info.name().into(),
            (None, Some(dn)) => dn.clone(),
            (None, None) => format!("{}", self.info_hash),
        }
    }

    /// Bytes that are missing of the whole torrent, wanted or not: what a tracker is told is left
    /// (BEP 3, and BEP 21 for those who want a part). A magnet without metadata has something
    /// left, so that trackers do not take it for a seed.
    pub(super) fn left(&self) -> u64 {
        match self.content.open() {
            Some((info, open)) => info.total_len() - bytes_in(info, open.picker.have()),
            None => 16 << 10,
        }
    }

    /// Whether it is a partial seed (BEP 21): nothing that is wanted is missing, though not
    /// everything is here.
    pub(super) fn is_partial_seed(&self) -> bool {
        self.is_done() && !self.is_seed()
    }

    /// Bytes that are missing of what is wanted.
    pub(super) fn wanted_left(&self, info: &Info, picker: &Picker) -> u64 {
        if self.existing != Existing::ReadOnly {
            return picker.bytes_left();
        }
        let missing = picker.have().len() - picker.have().count();
        u64::from(missing) * u64::from(info.piece_len())
    }

    /// What the application sees.
    pub(super) fn state(&self) -> State {
        match &self.standing {
            Standing::Stopping(_) => return State::Stopping,
            Standing::Failed(error) => return State::Failed(error.clone()),
            Standing::Well | Standing::Retrying(_) => {}
        }
        match self.content.store() {
            Some(Store::Checking(check)) => State::Checking {
                done: check.done,
                total: check.total,
            },
            None | Some(Store::Open(_)) if self.paused => State::Paused,
            None => State::Metadata,
            Some(Store::Open(_))
                if self.is_done() && self.selection.is_settled() && self.is_confirmed() =>
            {
                State::Seeding
            }
            Some(Store::Open(_)) => State::Downloading,
            // Whether the error is over is being looked at.
            Some(_) => match self.standing.error() {
                Some(error) => State::Failed(error.clone()),
                None => State::Opening,
            },
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
