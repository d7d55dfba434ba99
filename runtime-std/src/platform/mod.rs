//! Every call that differs between operating systems. Porting the crate to another platform means writing a
//! sibling of `unix.rs` with the same items. Calls that change files go through `calls`, where tests record
//! them.

mod calls;
#[cfg(test)]
pub(crate) mod trace;
mod whole;

#[cfg(unix)]
#[path = "unix.rs"]
mod sys;
#[cfg(windows)]
#[path = "windows.rs"]
mod sys;

pub(crate) use calls::{
    FileSystem, Root, allocate, create, make_folders, open_or_create, private_folder, remove_file,
    rename, set_len, sync_file, write_vectored_at,
};
pub(crate) use sys::{
    device, executable, mark, marked, next_data, open_file_limit, path, place_of,
    raise_open_file_limit, read_vectored_at, read_vectored_cached, same_file, stable_ids, unmark,
};

use std::{fs, io, time::UNIX_EPOCH};

use dunlin_core::op::FileStat;

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// To read a file that exists.
    Read,
    /// To write a file that exists.
    Write,
    /// To write a file, created if it does not exist. Its folder must exist.
    Create {
        /// Executable by everybody who may read it.
        executable: bool,
    },
    /// To write a file that does not exist: fails if anything is at its path.
    New {
        /// Executable by everybody who may read it.
        executable: bool,
    },
}

/// The state of a file that resume data keeps.
pub(crate) fn file_stat(meta: &fs::Metadata) -> FileStat {
    let mtime_ns = match meta.modified().map(|t| t.duration_since(UNIX_EPOCH)) {
        Ok(Ok(after)) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
        Ok(Err(before)) => {
            i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, i64::wrapping_neg)
        }
        Err(_) => 0,
    };
    FileStat {
        len: meta.len(),
        mtime_ns,
        id: sys::file_id(meta),
    }
}

/// The error for a path that a link leads out of its folder.
pub(crate) fn escape() -> io::Error {
    io::Error::new(
        io::ErrorKind::PermissionDenied,
        "a symbolic link leads outside the folder",
    )
}

/// Something other than a regular file is at the path of a file.
#[derive(Debug, thiserror::Error)]
#[error("not a regular file")]
struct NotAFile;

/// The error for something other than a regular file at the path of a file.
pub(crate) fn not_a_file() -> io::Error {
    io::Error::other(NotAFile)
}

/// Whether `error` is [`not_a_file`].
pub(crate) fn is_not_a_file(error: &io::Error) -> bool {
    matches!(error.get_ref(), Some(inner) if inner.is::<NotAFile>())
}
