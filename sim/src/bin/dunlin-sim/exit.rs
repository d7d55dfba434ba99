//! Exit codes.

use std::process::ExitCode;

/// How a command ended, for scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0: it ran, and everything that was expected came true.
    Held,
    /// 1: it ran, and something did not come true.
    Failed,
    /// 2: the command line or a file makes no sense, or cannot be read or written.
    Usage,
}

/// What `--help` says about them.
pub(crate) const HELP: &str = "\
Exit codes:
  0  it ran, and everything that was expected came true
  1  it ran, and something did not: an expectation failed, the matrix and the oracle
     disagree, joined results are incomplete or contradict each other, or there is
     nothing to shrink
  2  the command line or a file makes no sense, or cannot be read or written";

impl Exit {
    /// The code of a check.
    pub(crate) const fn of(held: bool) -> Self {
        if held { Self::Held } else { Self::Failed }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Held => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
        })
    }
}
