//! What a torrent knows of its content, and the state of its files.
//!
//! ```text
//!   Unknown ──metadata──▶ Opening ──▶ Checking ──▶ Claiming ──▶ Open
//!                          ▲   ▲          │            │          │
//!                          │   │   an error before the files      │
//!                          │   │   are open: Closed, or Halted    │
//!                          │   └──────────┴────────────┘          │
//!                          └── the files are not as they were ◀───┘
//! ```
//!
//! Whether a torrent runs is its [`Standing`](crate::torrent::standing::Standing), which is independent of its files: a torrent
//! that failed, or that stops, keeps what it knows of them.

pub(crate) mod assembly;
pub(crate) mod checking;
mod claim;
pub(crate) mod deadlines;
pub(crate) mod download;
pub(crate) mod durability;
pub(crate) mod fetch;
pub(crate) mod metadata;
pub(crate) mod outcomes;
pub(crate) mod resume;
mod saving;
pub(crate) mod selection;
pub(crate) mod upload;
pub(crate) mod verifier;
pub(crate) mod wanted;

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet, VecDeque},
    vec::Vec,
};

use self::assembly::Assembly;
use self::fetch::Fetch;
use crate::metainfo::{FileKind, Info};
use crate::op::FileStat;
use crate::sync::Arc;
use crate::torrent::picker::Picker;
use crate::torrent::request::{Check, Existing};
use crate::{Bitfield, OpError};

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

/// A check of the pieces on disk.
#[derive(Debug)]
pub(crate) struct Checking {
    pub(crate) queue: VecDeque<u32>,
    /// The pieces that are being hashed.
    pub(crate) out: BTreeSet<u32>,
    pub(crate) done: u32,
    pub(crate) total: u32,
    pub(crate) have: Bitfield,
}

impl Checking {
    /// A check of doubtful pieces; those that are known to be good are passed beside them.
    pub(crate) fn new(have: Bitfield, doubted: Vec<u32>) -> Self {
        Self {
            total: doubted.len() as u32,
            queue: doubted.into(),
            out: BTreeSet::new(),
            done: 0,
            have,
        }
    }

    /// Puts the pieces that are being hashed back to the front of the queue.
    pub(crate) fn halt(&mut self) {
        for piece in core::mem::take(&mut self.out).into_iter().rev() {
            self.queue.push_front(piece);
        }
    }
}

/// Files that are checked and claimed, and the pieces that are being downloaded into them.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) picker: Picker,
    pub(crate) access: Access,
    pub(crate) assemblies: BTreeMap<u32, Assembly>,
    /// The number of assemblies so far; it numbers each.
    pub(crate) assembled: u64,
    pub(crate) look: Look,
    /// The pieces that could not be read.
    pub(crate) unreadable: Vec<u32>,
    /// Every wanted piece is verified, and its files were confirmed to exist.
    pub(crate) finished: bool,
    /// The number of bytes in the wanted pieces.
    pub(crate) wanted: u64,
}

impl Open {
    pub(crate) const fn new(picker: Picker, access: Access) -> Self {
        Self {
            picker,
            access,
            assemblies: BTreeMap::new(),
            assembled: 0,
            look: Look::No,
            unreadable: Vec::new(),
            finished: false,
            wanted: 0,
        }
    }
}

/// What the files are claimed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// To read.
    Read,
    /// To read; an [`Op::Claim`](crate::Op::Claim) to write is in flight.
    Asked,
    /// To write.
    Write,
    /// The claim to write was refused. They are claimed again before they are used.
    Refused,
}

/// Whether the files are being confirmed by their paths.
#[derive(Debug)]
pub(crate) enum Look {
    /// They are not.
    No,
    /// [`Op::Confirm`](crate::Op::Confirm) is in flight, perhaps because of an error with one of them.
    Out(Option<OpError>),
}

/// The files, in the order of the metadata: what is known of them, and what may be done with them.
#[derive(Debug)]
pub(crate) struct Files {
    /// What may be done with files that exist.
    pub(crate) existing: Existing,
    /// Which pieces are hashed when they are opened.
    pub(crate) check: Check,
    /// What is remembered of them when they are opened again.
    pub(crate) before: Before,
    /// Their attributes when they were last examined.
    pub(crate) stats: Vec<Option<FileStat>>,
    /// The files that agreed with the record when they were opened.
    pub(crate) vouched: Vec<bool>,
    /// The files that belonged to the torrent when they were claimed.
    pub(crate) own: Vec<bool>,
}

impl Files {
    pub(crate) fn new(existing: Existing, check: Check) -> Self {
        Self {
            existing,
            check,
            before: Before::default(),
            stats: Vec::new(),
            vouched: Vec::new(),
            own: Vec::new(),
        }
    }

    /// A file that existed.
    pub(crate) fn get(&self, file: usize) -> Option<FileStat> {
        self.stats.get(file).copied().flatten()
    }
}

/// What is remembered of files that are opened again.
#[derive(Debug, Default)]
pub(crate) struct Before {
    /// They were being written to, so this torrent made them what they are.
    pub(crate) writing: bool,
    /// The pieces to hash because they could not be read.
    pub(crate) doubted: Vec<u32>,
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
}
