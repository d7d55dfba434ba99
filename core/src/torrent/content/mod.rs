//! What a torrent knows of its content, and how far its files have come.
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
//! Whether a torrent works at all is its [`Standing`](crate::torrent::standing::Standing), which says nothing of its files: one
//! that failed, or that stops, keeps what it knows of them.

pub(crate) mod assembly;
pub(crate) mod checking;
mod claim;
pub(crate) mod deadlines;
pub(crate) mod download;
pub(crate) mod durability;
pub(crate) mod fetch;
mod metadata;
pub(crate) mod resume;
mod saving;
pub(crate) mod selection;
mod upload;
pub(crate) mod verifier;

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
use crate::{Bitfield, OpError};

/// A torrent's content.
#[derive(Debug)]
pub(crate) enum Content {
    /// The metadata is not known. Attempts to fetch it.
    Unknown(Fetch),
    /// The metadata is known.
    Known(Known),
}

/// Content whose metadata is known.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) info: Arc<Info>,
    /// There is padding in it.
    pub(crate) padded: bool,
    pub(crate) store: Store,
}

/// How far the files have come.
#[derive(Debug)]
pub(crate) enum Store {
    /// An error came before they were open: they are opened when the torrent tries again.
    Closed,
    /// The same while they were checked: the check goes on then.
    Halted(Checking),
    /// They are being opened.
    Opening(Opening),
    /// Doubted pieces are being hashed, or wait for their turn.
    Checking(Checking),
    /// Checked; [`Op::Claim`](crate::Op::Claim) is out. Nothing is picked yet.
    Claiming(Box<Picker>),
    /// Checked and claimed.
    Open(Box<Open>),
}

/// How far opening the files has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// [`Op::Open`](crate::Op::Open) is due once the disk has done what is asked of it.
    Due,
    /// It is out.
    Asked,
}

/// Pieces to be hashed.
#[derive(Debug)]
pub(crate) struct Checking {
    pub(crate) queue: VecDeque<u32>,
    /// Being hashed.
    pub(crate) out: BTreeSet<u32>,
    pub(crate) done: u32,
    pub(crate) total: u32,
    pub(crate) have: Bitfield,
}

impl Checking {
    /// Doubted pieces, beside those that are known to be there.
    pub(crate) fn new(have: Bitfield, doubted: Vec<u32>) -> Self {
        Self {
            total: doubted.len() as u32,
            queue: doubted.into(),
            out: BTreeSet::new(),
            done: 0,
            have,
        }
    }

    /// What is being hashed is to be hashed again, first of all.
    pub(crate) fn halt(&mut self) {
        for piece in core::mem::take(&mut self.out).into_iter().rev() {
            self.queue.push_front(piece);
        }
    }
}

/// Files that are checked and claimed, and the pieces on their way to them.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) picker: Picker,
    pub(crate) access: Access,
    pub(crate) assemblies: BTreeMap<u32, Assembly>,
    /// How many assemblies there have been: names each.
    pub(crate) assembled: u64,
    pub(crate) look: Look,
    /// Pieces that could not be read.
    pub(crate) unreadable: Vec<u32>,
    /// All that is wanted is here, and its files were looked at.
    pub(crate) finished: bool,
    /// Bytes of the wanted pieces.
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
    /// To read, and [`Op::Claim`](crate::Op::Claim) is out, to write.
    Asked,
    /// To write.
    Write,
    /// The claim to write was refused: they are claimed anew before they are used.
    Refused,
}

/// Whether the files are being looked at by their paths.
#[derive(Debug)]
pub(crate) enum Look {
    /// They are not.
    No,
    /// [`Op::Confirm`](crate::Op::Confirm) is out, perhaps because of an error with one of them.
    Out(Option<OpError>),
}

/// The files as they were when they were looked at last, in the order of the metadata.
#[derive(Debug, Default)]
pub(crate) struct Files {
    pub(crate) stats: Vec<Option<FileStat>>,
    /// Those that the record vouched for when they were opened.
    pub(crate) vouched: Vec<bool>,
    /// Those that were the torrent's own when they were claimed.
    pub(crate) own: Vec<bool>,
}

impl Files {
    /// A file that was there.
    pub(crate) fn get(&self, file: usize) -> Option<FileStat> {
        self.stats.get(file).copied().flatten()
    }
}

/// What is remembered of files that are opened anew.
#[derive(Debug, Default)]
pub(crate) struct Before {
    /// They were being written to: what they are now is this torrent's work.
    pub(crate) writing: bool,
    /// Pieces to be hashed, as they could not be read.
    pub(crate) doubted: Vec<u32>,
}

impl Content {
    /// The metadata is known: the files are to be opened.
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

    /// How far the files have come.
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

    /// The files, if they are open, and what they are to hold.
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

    /// The same, to work with.
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

    /// Which pieces are here and which are wanted, once the files are open.
    pub(crate) fn picker(&self) -> Option<&Picker> {
        self.open().map(|(_, open)| &open.picker)
    }

    pub(crate) fn picker_mut(&mut self) -> Option<&mut Picker> {
        self.open_mut().map(|(_, open)| &mut open.picker)
    }
}
