//! Explanations of errors, and which of them may pass.

use dunlin_tokio::{
    Error,
    dunlin_core::{OpError, OpErrorKind, engine::Existing},
    system::folder::SessionError,
};

/// The error, and what the user can do about it.
pub(super) fn explain(error: &Error) -> String {
    match error {
        Error::Folder(SessionError::Busy(lock)) => format!(
            "another dunlin is at it ({} is locked); end that one, or take another folder with \
             --session",
            lock.display()
        ),
        Error::Folder(SessionError::Io(path, reason)) => format!(
            "the session folder cannot be used: {}: {reason}; take another one with --session, \
             or none with --no-session",
            path.display()
        ),
        Error::Gone { .. } => {
            format!("{error}; mount its disk, or name a folder with --dir; nothing was fetched")
        }
        Error::Dir { .. } => format!("{error}; name another folder with --dir"),
        error => error.to_string(),
    }
}

/// Whether the engine's next attempts may succeed without a change of the command. A full or missing disk
/// may be emptied, mounted or repaired meanwhile; permissions rarely change, and files in the way need a
/// decision.
pub(super) const fn passes(error: &OpError) -> bool {
    use OpErrorKind::{Io, NoSpace, NotFound, TimedOut, Truncated};
    matches!(error.kind, Io | NoSpace | NotFound | TimedOut | Truncated)
}

/// The reason why a torrent stopped, and what the user can do about it.
pub(super) fn failure(name: &str, error: &OpError, existing: Existing) -> String {
    if !error.kind.is_obstruction() {
        return format!("{name}: {error}");
    }
    if existing == Existing::ReadOnly {
        return format!("{name}: {error}; name another folder with --dir");
    }
    let advice = match error.kind {
        OpErrorKind::InUse => "wait until that is done, or save elsewhere with --dir",
        OpErrorKind::Exists if existing != Existing::Overwrite => {
            "move them away, save elsewhere with --dir, or overwrite them with --overwrite"
        }
        _ => "move them away, or save elsewhere with --dir",
    };
    format!("{name}: nothing was written, because files are in the way: {error}; {advice}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kind: OpErrorKind) -> OpError {
        let detail = "x/a: the system's words".into();
        OpError { kind, detail }
    }

    #[test]
    fn only_what_can_pass_by_itself_is_waited_for() {
        use OpErrorKind::{
            Denied, Exists, InUse, Io, NoSpace, NotAFile, NotFound, TimedOut, Truncated,
        };
        for kind in [Io, NoSpace, NotFound, TimedOut, Truncated] {
            assert!(passes(&error(kind)), "{kind:?}");
        }
        for kind in [Denied, Exists, InUse, NotAFile] {
            assert!(!passes(&error(kind)), "{kind:?}");
        }
    }

    #[test]
    fn overwriting_is_offered_only_where_it_helps() {
        use OpErrorKind::{Exists, InUse, NotAFile};
        for (kind, existing, offered) in [
            (Exists, Existing::Adopt, true),
            (Exists, Existing::Overwrite, false),
            (Exists, Existing::ReadOnly, false),
            (InUse, Existing::Adopt, false),
            (NotAFile, Existing::Adopt, false),
        ] {
            let error = error(kind);
            let message = failure("x", &error, existing);
            assert_eq!(message.contains("--overwrite"), offered, "{message}");
            assert!(
                message.contains(&error.detail) && message.contains("--dir"),
                "{message}"
            );
        }
    }
}
