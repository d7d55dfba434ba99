//! What the application wants of a torrent's content, and in which order.

use alloc::vec::Vec;

use super::deadlines::Deadlines;
use super::selection::Selection;
use crate::torrent::status::FilePriority;

/// What the application wants of the content.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// Of the files, in the order of the metadata. Those that are not listed have the default.
    pub(crate) priorities: Vec<FilePriority>,
    pub(crate) selection: Selection,
    pub(crate) sequential: bool,
    /// The deadlines of pieces, while there is no picker.
    pub(crate) deadlines: Deadlines,
}

impl Wanted {
    pub(crate) fn new(priorities: Vec<FilePriority>, sequential: bool) -> Self {
        Self {
            priorities,
            selection: Selection::default(),
            sequential,
            deadlines: Deadlines::default(),
        }
    }
}
