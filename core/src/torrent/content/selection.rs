//! Whether the disk has followed the selection of files.

/// Whether the disk has followed the selection of files.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    /// The number of [`Op::Select`](crate::Op::Select)s in flight.
    out: u32,
    /// Whether the last one failed: wanted files may still be in the parts file.
    pub(crate) failed: bool,
}

impl Selection {
    pub(crate) const fn asked(&mut self) {
        self.out += 1;
    }

    pub(crate) const fn answered(&mut self, failed: bool) {
        self.out = self.out.saturating_sub(1);
        self.failed = failed;
    }

    /// Whether every wanted file that is complete is at its place.
    pub(crate) const fn is_applied(&self) -> bool {
        self.out == 0 && !self.failed
    }
}
