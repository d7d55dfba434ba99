//! What a torrent knows of its content, and the state of its files.
//!
//! ```text
//!   Unknown ──metadata──▶ Opening ──▶ Checking ──▶ Claiming ──▶ Open
//!                          ▲   │        ▲  │           │          │
//!                          │   │    retry  a hash      │          │
//!                          │   │        │  failed      │          │
//!                          │   │        Halted         │          │
//!                        retry └─another error─────────┘          │
//!                          │          ▼                           │
//!                          ├────── Closed                         │
//!                          └── the files are not as they were ◀───┘
//! ```
//!
//! Whether a torrent runs is its [`Standing`](crate::torrent::standing::Standing), which is independent of its files: a torrent
//! that failed, or that stops, keeps what it knows of them.

pub(crate) mod assembly;
pub(crate) mod checking;
pub(crate) mod deadlines;
pub(crate) mod download;
pub(crate) mod durability;
pub(crate) mod fetch;
pub(crate) mod files;
pub(crate) mod metadata;
pub(crate) mod open;
pub(crate) mod outcomes;
pub(crate) mod resume;
pub(crate) mod selection;
pub(crate) mod upload;
pub(crate) mod verifier;
pub(crate) mod wanted;

use alloc::boxed::Box;

use self::checking::Checking;
use self::fetch::Fetch;
use self::open::{Access, Open};
use crate::metainfo::{FileKind, Info};
use crate::sync::Arc;
use crate::torrent::outbox::ops::{DiskJob, Ops, Purpose};
use crate::torrent::picker::Picker;
use crate::{Op, TorrentId};

/// A torrent's content.
#[derive(Debug)]
pub(crate) enum Content {
    /// The metadata is not known; the attempts to fetch it.
    Unknown(Fetch),
    /// The metadata is known.
    Known(Known),
}

/// Content whose metadata is known.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) info: Arc<Info>,
    /// Whether it contains padding files (BEP 47).
    pub(crate) padded: bool,
    pub(crate) store: Store,
}

/// The state of the files.
#[derive(Debug)]
pub(crate) enum Store {
    /// An error occurred before they were open. They are opened when the torrent retries.
    Closed,
    /// An error occurred during the check. The check continues when the torrent retries.
    Halted(Checking),
    /// They are being opened.
    Opening(Opening),
    /// Doubtful pieces are being hashed, or wait for their turn.
    Checking(Checking),
    /// They are checked, and [`Op::Claim`](crate::Op::Claim) is in flight. No piece is requested yet.
    Claiming(Box<Picker>),
    /// They are checked and claimed.
    Open(Box<Open>),
}

/// The steps of opening the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// [`Op::Open`](crate::Op::Open) follows once the earlier disk jobs are done.
    Due,
    /// It is in flight.
    Asked,
}

impl Content {
    /// The metadata is known; the files have to be opened.
    pub(crate) fn known(info: Arc<Info>) -> Self {
        Self::Known(Known {
            padded: info.files().iter().any(|f| f.kind == FileKind::Padding),
            info,
            store: Store::Opening(Opening::Due),
        })
    }

    pub(crate) const fn info(&self) -> Option<&Arc<Info>> {
        match self {
            Self::Unknown(_) => None,
            Self::Known(known) => Some(&known.info),
        }
    }

    /// The state of the files.
    pub(crate) const fn store(&self) -> Option<&Store> {
        match self {
            Self::Unknown(_) => None,
            Self::Known(known) => Some(&known.store),
        }
    }

    pub(crate) const fn store_mut(&mut self) -> Option<&mut Store> {
        match self {
            Self::Unknown(_) => None,
            Self::Known(known) => Some(&mut known.store),
        }
    }

    /// The metadata and the files, if they are open.
    pub(crate) fn open(&self) -> Option<(&Arc<Info>, &Open)> {
        match self {
            Self::Known(Known {
                info,
                store: Store::Open(open),
                ..
            }) => Some((info, open)),
            _ => None,
        }
    }

    /// The same, mutable.
    pub(crate) fn open_mut(&mut self) -> Option<(&Arc<Info>, &mut Open)> {
        match self {
            Self::Known(Known {
                info,
                store: Store::Open(open),
                ..
            }) => Some((info, open)),
            _ => None,
        }
    }

    /// The picker, which knows the verified and the wanted pieces, once the files are checked.
    pub(crate) fn picker(&self) -> Option<&Picker> {
        self.open().map(|(_, open)| &open.picker)
    }

    pub(crate) fn picker_mut(&mut self) -> Option<&mut Picker> {
        self.open_mut().map(|(_, open)| &mut open.picker)
    }
    /// Whether the files are open and claimed for this.
    pub(crate) fn has_access(&self, access: Access) -> bool {
        self.open().is_some_and(|(_, open)| open.access == access)
    }

    /// Opens the files if that is due and no disk job is in flight, so that the outcome of an earlier job is not taken for one
    /// of the check, and no write happens during it.
    pub(crate) fn open_when_quiet(&mut self, ops: &mut Ops, torrent: TorrentId) {
        let Self::Known(Known {
            info,
            store: Store::Opening(opening @ Opening::Due),
            ..
        }) = self
        else {
            return;
        };
        if ops.disk_jobs(torrent) > 0 {
            return;
        }
        *opening = Opening::Asked;
        let info = info.clone();
        ops.job(Purpose::Disk(torrent, DiskJob::Open), |op| Op::Open {
            op,
            torrent,
            info,
        });
    }
}
