//! The deadlines of pieces while there is no picker: until a torrent's files have been checked.

use alloc::collections::BTreeMap;

use crate::Instant;
use crate::torrent::picker::Picker;

/// How many deadlines are kept while the number of pieces may be unknown: enough for a quarter of an hour of streaming at one
/// piece per second.
const MAX_KEPT: usize = 1024;

/// Deadlines that are kept for the next picker.
#[derive(Debug, Default)]
pub(crate) struct Deadlines(BTreeMap<u32, Instant>);

impl Deadlines {
    /// Sets or clears the deadline of `piece`. If there are too many, the latest is dropped.
    pub(crate) fn set(&mut self, piece: u32, by: Option<Instant>) {
        let Some(by) = by else {
            self.0.remove(&piece);
            return;
        };
        self.0.insert(piece, by);
        if self.0.len() > MAX_KEPT
            && let Some(latest) = self.0.iter().max_by_key(|(_, by)| **by).map(|(p, _)| *p)
        {
            self.0.remove(&latest);
        }
    }

    /// Takes over the deadlines of a picker that is dropped.
    pub(crate) fn keep(&mut self, picker: &Picker) {
        for (piece, by) in picker.deadlines().take(MAX_KEPT) {
            self.set(piece, Some(by));
        }
    }

    /// Passes all deadlines to the picker.
    pub(crate) fn apply(&mut self, picker: &mut Picker) {
        for (piece, by) in core::mem::take(&mut self.0) {
            picker.set_deadline(piece, Some(by));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    #[test]
    fn of_too_many_deadlines_the_latest_are_forgotten() {
        let mut kept = Deadlines::default();
        let at = |s: u32| Instant::ORIGIN + Duration::from_secs(s.into());
        for piece in (0..2 * MAX_KEPT as u32).rev() {
            kept.set(piece, Some(at(piece)));
        }
        assert_eq!(kept.0.len(), MAX_KEPT);
        assert!(kept.0.keys().copied().eq(0..MAX_KEPT as u32));
        kept.set(5, None);
        assert_eq!(kept.0.get(&5), None);
    }
}
