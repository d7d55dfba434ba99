//! The exit codes of the command.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0: the command ran, and every expectation held.
    Held,
    /// 1: the command ran, and an expectation failed.
    Failed,
    /// 2: the command line or a file is invalid, or a file could not be read or written.
    Usage,
}

/// The description of the exit codes in `--help`.
pub(crate) const HELP: &str = "\
Exit codes:
  0  it ran, and everything that was expected came true
  1  it ran, and something did not: an expectation failed, the matrix and the oracle
     disagree, joined results are incomplete or contradict each other, or there is
     nothing to shrink
  2  the command line or a file makes no sense, or cannot be read or written";

impl Exit {
    /// The code for a check that held or failed.
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
