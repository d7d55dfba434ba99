//! One torrent: its files, its peers and its trackers, and how they affect each other.
//!
//! A `Torrent` is a machine that a test drives alone (`tests.rs`): each function is handed an `Io`, which is
//! the time, random numbers, the configuration, and what torrents share. It sees no other torrent, nor the engine: what
//! concerns others is left in the `Outbox`, or is what it `Wants`.
//!
//! - `content`: the metadata, the files, the pieces, and the resume record; `outcomes` is what follows from disk jobs.
//! - `conn`: the connections, what carries them, and peer exchange. `peer_list`: the addresses of peers, connected or not.
//! - `peers`: what follows from the events of peers, and from the end of connections; the upload slots.
//! - `transfers`: what blocks, pieces and metadata lead to, bans among it. `picker`: which blocks are requested from whom.
//! - `smart_ban` and `blame`: who sent the bad blocks of a piece. `choker` and `pace`: who may download from us.
//! - `sources`: where it asks for peers, which is its trackers and the DHT.
//! - `lifecycle`, `standing`, `settings`: how it starts, saves, fails, stops and is changed.
//! - `io` and `outbox`: what it shares with other torrents, and what it leaves for the engine, the driver and the application.

pub mod blame;
pub mod choker;
pub(crate) mod conn;
pub(crate) mod content;
mod counts;
pub(crate) mod endpoints;
mod intents;
pub(crate) mod io;
pub(crate) mod lifecycle;
pub(crate) mod member_id;
pub(crate) mod outbox;
pub mod pace;
pub(crate) mod peer_list;
mod peers;
pub mod picker;
pub(crate) mod prefix;
pub(crate) mod request;
mod search;
mod settings;
pub(crate) mod setup;
pub(crate) mod smart_ban;
pub(crate) mod sources;
mod standing;
pub(crate) mod status;
#[cfg(test)]
pub(crate) mod surroundings;
#[cfg(test)]
mod tests;
pub(crate) mod tracker_queries;
mod traffic;
mod transfers;

use alloc::{format, string::String};
use core::net::SocketAddr;

pub use self::content::outcomes::DISK_RETRY;
pub use self::outbox::event::{Changes, Event, Level, Notice, What};
pub use self::request::{AddError, AddTorrent, Check, Existing, Readiness, Scope, Source};
pub use self::status::{
    EngineStatus, FilePriority, FileStatus, PeerSource, PeerStatus, State, TorrentStatus,
};

use self::conn::member::Member;
use self::conn::members::Members;
use self::content::durability::Durability;
use self::content::files::Files;
use self::content::resume::Record;
use self::content::wanted::Wanted;
use self::content::{Content, Store};
use self::intents::Intents;
pub(crate) use self::intents::Wants;
use self::io::Io;
use self::member_id::MemberId;
use self::outbox::timers::TorrentTimer;
use self::pace::Pace;
use self::peer_list::PeerList;
use self::peers::upload_slots::{Terms, UploadSlots};
use self::picker::Picker;
use self::smart_ban::SmartBan;
use self::sources::{Facts, Found, Sources};
use self::standing::Standing;
use self::traffic::Traffic;
use crate::id::SwarmId;
use crate::metainfo::Info;
use crate::peer::{Local, MAX_IOV};
use crate::throttle::{BucketId, Direction, Throttle};
use crate::{Bitfield, InfoHash, TorrentId};

/// A list of buffers to read into, in order.
pub type ReadBufs<'a> = heapless::Vec<&'a mut [u8], MAX_IOV>;
/// A list of buffers to write from, in order.
pub type WriteBufs<'a> = heapless::Vec<&'a [u8], MAX_IOV>;

/// What trackers are told as missing while that is not known, in bytes, so that they do not count the torrent as a seed.
const UNKNOWN_LEFT: u64 = 16 << 10;

/// Makes the [`Cx`](crate::Cx) of a machine's call from an [`Io`], or from whatever has a time and random numbers.
macro_rules! cx {
    ($io:expr) => {
        crate::Cx {
            now: $io.now,
            rng: &mut *$io.rng,
        }
    };
}
pub(crate) use cx;

/// One torrent.
#[derive(Debug)]
pub(crate) struct Torrent {
    pub(crate) id: TorrentId,
    pub(crate) info_hash: InfoHash,
    /// The `dn` parameter of a magnet.
    pub(crate) dn: Option<String>,
    pub(crate) content: Content,
    /// What the application wants of the content.
    pub(crate) wanted: Wanted,
    pub(crate) files: Files,
    /// The last resume record, until the files are open.
    pub(crate) last_record: Option<Record>,
    pub(crate) durability: Durability,
    pub(crate) standing: Standing,
    /// Whether the application paused it.
    pub(crate) paused: bool,

    /// Where it asks for peers.
    pub(crate) sources: Sources,
    pub(crate) peer_list: PeerList,
    /// Its connections.
    pub(crate) members: Members,
    pub(crate) upload_slots: UploadSlots,
    pub(crate) smart_ban: SmartBan,
    pub(crate) bucket: BucketId,
    pub(crate) traffic: Traffic,
    /// What the engine and the application are to be told of it.
    pub(crate) intents: Intents,
}

impl Torrent {
    /// Calls [`Io::refresh`] for a peer, if it still exists.
    pub(crate) fn refresh(&mut self, io: &mut Io<'_>, id: MemberId) {
        if let Some(member) = self.members.get_mut(id) {
            io.refresh(member);
        }
    }

    /// Asks the engine for something before the current call ends.
    pub(crate) fn want(&mut self, io: &mut Io<'_>, what: Wants) {
        self.intents.want(io.out, what);
    }

    /// Records a change for the application.
    pub(crate) fn change(&mut self, io: &mut Io<'_>, what: Changes) {
        self.intents.change(io.out, what);
    }

    /// Handles a timer that is due.
    pub(crate) fn handle_timeout(&mut self, io: &mut Io<'_>, timer: TorrentTimer) {
        match timer {
            TorrentTimer::Trackers => self.want(io, Wants::TRACKERS),
            TorrentTimer::Connect => self.want(io, Wants::PLACES),
            TorrentTimer::Round => self.round(io),
            TorrentTimer::Retry => self.retry(io),
            TorrentTimer::Unchoke => self.fill_slots(io),
            TorrentTimer::Pex => self.pex_round(io),
            TorrentTimer::Save => {
                // Others may have completed the files of a torrent that may not write.
                if self.files.is_read_only() && self.is_exchanging() && !self.is_seed() {
                    self.confirm(io, None);
                }
                self.save(io);
            }
            TorrentTimer::Enough => self.judge_peers(io),
        }
    }

    /// Sends the due queries to its trackers, and handles what they have answered.
    pub(crate) fn pump_trackers(&mut self, io: &mut Io<'_>) {
        // An announce without the port that accepts connections would be useless.
        if io.endpoints.binding > 0 {
            return;
        }
        let facts = Facts {
            uploaded: self.traffic.uploaded,
            downloaded: self.traffic.downloaded,
            left: self.left(),
            partial: self.is_partial_seed(),
            private: self.is_private(),
            full: self.members.is_full(&io.setup.config),
        };
        self.sources.ask(io, &mut self.intents, &facts);
        loop {
            let knows_peers = self.knows_peers();
            let found = self.sources.poll_found(io, &mut self.intents, knows_peers);
            let Some(Found { peers, origin }) = found else {
                break;
            };
            if self.is_running() {
                self.learn(io, peers, origin);
            }
        }
        self.sources.set_timers(io);
        self.want(io, Wants::PROCEED);
    }

    /// Tells the announcer whether the trackers know enough peers. With peer exchange, any peer is enough. Without it, enough
    /// peers change nothing: what the announcer was told last remains.
    pub(crate) fn judge_peers(&mut self, io: &mut Io<'_>) {
        if !self.is_running() {
            return;
        }
        if self.is_alone() {
            self.sources.announcer.found_nobody(&mut cx!(io));
        }
        let pex = io.setup.config.pex && !self.is_private();
        let short = if pex && self.members.iter().any(Member::exchanges_peers) {
            false
        } else {
            let here = self.members.established();
            if here + self.peer_list.available() / 2 >= io.setup.config.min_peers as usize {
                return;
            }
            true
        };
        // A seed can wait for peers to connect.
        let hurry = short && !self.is_done();
        self.sources.announcer.set_short(&mut cx!(io), short, hurry);
        self.want(io, Wants::TRACKERS);
    }

    /// Whether it lacks pieces, and has no peer and none to connect to.
    pub(crate) fn is_alone(&self) -> bool {
        !self.is_done() && self.members.is_empty() && self.peer_list.next_due().is_none()
    }

    /// Whether it has connections, or knows addresses of peers.
    pub(crate) fn knows_peers(&self) -> bool {
        self.peer_list.len() > 0 || !self.members.is_empty()
    }

    /// Whether it connects to peers and asks trackers.
    pub(crate) fn is_running(&self) -> bool {
        let has_work = matches!(self.content.store(), None | Some(Store::Open(_)));
        !self.paused && self.standing.is_up() && has_work
    }

    /// Whether it runs as soon as its files are open and checked.
    pub(crate) fn is_opening(&self) -> bool {
        let opening = matches!(
            self.content.store(),
            Some(Store::Opening(_) | Store::Checking(_) | Store::Claiming(_))
        );
        !self.paused && self.standing.is_up() && opening
    }

    /// Whether its files are open and claimed.
    pub(crate) fn is_ready(&self) -> bool {
        self.standing.is_up() && self.content.open().is_some()
    }

    /// Whether it exchanges pieces with peers.
    pub(crate) fn is_exchanging(&self) -> bool {
        !self.paused && self.is_ready()
    }

    /// How its uploads share their rate limit. `None` if they are unlimited, or stopped by a limit of 0.
    pub(crate) fn pace(&self, throttle: &Throttle) -> Option<Pace> {
        let rate = throttle.limit(self.bucket, Direction::Up)?;
        let info = self.content.info()?;
        (rate > 0).then(|| Pace::new(rate, info.piece_len()))
    }

    /// What its upload slots depend on. `None` unless its files are open.
    pub(crate) fn terms(&self, throttle: &Throttle) -> Option<Terms> {
        let (info, open) = self.content.open()?;
        Some(Terms {
            seeding: open.picker.is_done(),
            pace: self.pace(throttle),
            piece_len: info.piece_len(),
        })
    }

    /// The contents of our handshakes with `remote`.
    pub(crate) fn local<'a>(&self, io: &Io<'a>, remote: SocketAddr) -> Local<'a> {
        Local {
            info_hash: self.info_hash,
            peer_id: io.setup.peer_id,
            dht: io.dht.active && !self.is_private(),
            pex: io.setup.config.pex && !self.is_private(),
            listen_port: io.endpoints.ports().towards(remote.ip()),
            version: &io.setup.config.user_agent,
            remote_ip: remote.ip(),
            metadata_size: self.content.info().map(|i| i.raw().len() as u32),
            upload_only: self.is_done(),
        }
    }

    /// Whether every wanted piece is verified.
    pub(crate) fn is_done(&self) -> bool {
        self.content.picker().is_some_and(Picker::is_done)
    }

    /// Whether the files of the verified pieces were confirmed to exist. Those of a read-only torrent need not be.
    pub(crate) fn is_confirmed(&self) -> bool {
        let finished = self.content.open().is_some_and(|(_, open)| open.finished);
        finished || self.files.is_read_only()
    }

    /// Whether every piece is verified.
    pub(crate) fn is_seed(&self) -> bool {
        self.content.picker().is_some_and(|p| p.have().is_full())
    }

    /// Whether it is private (BEP 27): its peers may come from its trackers only.
    pub(crate) fn is_private(&self) -> bool {
        self.content.info().is_some_and(|i| i.private())
    }

    /// Whether a record of the present state is worth saving. Until the files were checked, the last record knows more.
    pub(crate) const fn can_save(&self) -> bool {
        matches!(self.content.store(), None | Some(Store::Open(_)))
    }

    /// The swarm that it belongs to.
    pub(crate) const fn swarm_id(&self) -> SwarmId {
        SwarmId::v1(self.info_hash)
    }

    /// The name to show to the user.
    pub(crate) fn name(&self) -> String {
        match (self.content.info(), &self.dn) {
            (Some(info), _) => info.name().into(),
            (None, Some(dn)) => dn.clone(),
            (None, None) => format!("{}", self.info_hash),
        }
    }

    /// The missing bytes of the whole torrent, wanted or not: the `left` of an announce (BEP 3; BEP 21 for partial seeds). A
    /// torrent whose files are not open reports [`UNKNOWN_LEFT`].
    pub(crate) fn left(&self) -> u64 {
        match self.content.open() {
            Some((info, open)) => info.total_len() - bytes_in(info, open.picker.have()),
            None => UNKNOWN_LEFT,
        }
    }

    /// Whether it is a partial seed (BEP 21): it has every wanted piece, but not every piece.
    pub(crate) fn is_partial_seed(&self) -> bool {
        self.is_done() && !self.is_seed()
    }

    /// The missing bytes of the wanted pieces; of all pieces if it is read-only, as it waits for others to complete its files.
    pub(crate) fn wanted_left(&self, info: &Info, picker: &Picker) -> u64 {
        match self.files.is_read_only() {
            true => info.total_len() - bytes_in(info, picker.have()),
            false => picker.bytes_left(),
        }
    }

    /// The state that the application sees.
    pub(crate) fn state(&self) -> State {
        match &self.standing {
            Standing::Stopping(_) => return State::Stopping,
            Standing::Failed(error) => return State::Failed(error.clone()),
            Standing::Well | Standing::Retrying(_) => {}
        }
        match self.content.store() {
            Some(Store::Checking(check)) => {
                let (done, total) = check.progress();
                State::Checking { done, total }
            }
            None | Some(Store::Open(_)) if self.paused => State::Paused,
            None => State::Metadata,
            Some(Store::Open(_))
                if self.is_done() && self.wanted.selection.is_applied() && self.is_confirmed() =>
            {
                State::Seeding
            }
            Some(Store::Open(_)) => State::Downloading,
            // It is retrying: the error may be over.
            Some(_) => match self.standing.error() {
                Some(error) => State::Failed(error.clone()),
                None => State::Opening,
            },
        }
    }
}

/// The number of bytes in a set of pieces.
pub(crate) fn bytes_in(info: &Info, have: &Bitfield) -> u64 {
    let Some(last) = info.piece_count().checked_sub(1) else {
        return 0;
    };
    let full = u64::from(have.count()) * u64::from(info.piece_len());
    let short = u64::from(info.piece_len() - info.piece_size(last));
    full - if have.get(last) { short } else { 0 }
}
