//! Faults on request.

use std::{
    io,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

/// What goes wrong on request, between a job and its file.
#[derive(Debug, Default)]
pub(super) struct Faults {
    error: Mutex<Option<io::ErrorKind>>,
    panics: AtomicU32,
}

impl Faults {
    pub(super) fn error_if_armed(&self) -> io::Result<()> {
        match *self.error.lock().unwrap() {
            Some(kind) => Err(kind.into()),
            None => Ok(()),
        }
    }

    pub(super) fn panic_if_armed(&self) {
        let armed = |n: u32| n.checked_sub(1);
        let was = self
            .panics
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, armed);
        assert!(was.is_err(), "a panic that a test asked for");
    }
}
