//! Errors of the system as errors of ops.

use std::{
    io::{self, ErrorKind},
    path::Path,
};

use dunlin_core::{OpError, OpErrorKind};

use crate::platform;

/// Whether an error means that nothing exists at the path. Any other error says nothing about that: a
/// process that may not open more files has not lost its content.
pub(super) fn is_missing(e: &io::Error) -> bool {
    matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// `Ok(None)` in place of an error that means that nothing exists at the path.
pub(super) fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(e) if is_missing(&e) => Ok(None),
        result => result.map(Some),
    }
}

/// The error of an op for `e`, with the path in its detail.
pub(crate) fn error(path: &Path, e: &io::Error) -> OpError {
    let kind = match e.kind() {
        _ if platform::is_not_a_file(e) => OpErrorKind::NotAFile,
        ErrorKind::NotFound | ErrorKind::NotADirectory => OpErrorKind::NotFound,
        ErrorKind::AlreadyExists => OpErrorKind::Exists,
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => OpErrorKind::Denied,
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => OpErrorKind::NoSpace,
        ErrorKind::UnexpectedEof => OpErrorKind::Truncated,
        ErrorKind::FileTooLarge => OpErrorKind::TooLarge,
        _ => OpErrorKind::Io,
    };
    let words = match e.kind() {
        ErrorKind::UnexpectedEof => "the file ends too early".to_owned(),
        _ => e.to_string(),
    };
    OpError {
        kind,
        detail: format!("{}: {words}", path.display()),
    }
}
