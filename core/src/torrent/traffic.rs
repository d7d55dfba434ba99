//! How much a torrent has transferred.

use super::content::resume::Record;
use crate::Instant;
use crate::rate::Rate;

/// The payload that a torrent has transferred, in bytes.
#[derive(Debug)]
pub(crate) struct Traffic {
    /// Since it was added to this engine.
    pub(crate) downloaded: u64,
    pub(crate) uploaded: u64,
    /// Discarded: blocks that were not requested or came twice, and pieces that failed their check.
    pub(crate) wasted: u64,
    /// As its resume record says, before it was added to this engine.
    pub(crate) downloaded_before: u64,
    pub(crate) uploaded_before: u64,
    pub(crate) down: Rate,
    pub(crate) up: Rate,
}

impl Traffic {
    pub(crate) fn new(now: Instant, resume: Option<&Record>) -> Self {
        Self {
            downloaded: 0,
            uploaded: 0,
            wasted: 0,
            downloaded_before: resume.map_or(0, |r| r.downloaded),
            uploaded_before: resume.map_or(0, |r| r.uploaded),
            down: Rate::new(now),
            up: Rate::new(now),
        }
    }

    /// A requested block was received.
    pub(crate) fn received(&mut self, now: Instant, bytes: u64) {
        self.downloaded += bytes;
        self.down.add(now, bytes);
    }

    /// Payload was sent.
    pub(crate) fn sent(&mut self, now: Instant, bytes: u64) {
        self.uploaded += bytes;
        self.up.add(now, bytes);
    }
}
