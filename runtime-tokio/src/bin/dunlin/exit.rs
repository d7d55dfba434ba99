//! Exit codes.

use std::process::ExitCode;

/// How a command ended, for scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0: everything that was asked for was done.
    Complete,
    /// 1: nothing was done, for the reason on standard error.
    Failed,
    /// 2: the command line or the configuration is invalid.
    Usage,
    /// 3: not everything was done: some torrents failed or are incomplete.
    Incomplete,
    /// 130: interrupted (Ctrl-C). The same command continues from here.
    Interrupted,
    /// 143: terminated (SIGTERM, or SIGHUP when the terminal is closed). The same command continues from
    /// here.
    Terminated,
}

/// The explanation for `--help`.
pub(crate) const HELP: &str = "\
Exit codes:
  0    done
  1    nothing was done; the reason is on standard error
  2    the command line or the configuration makes no sense
  3    not everything was done: some torrents failed, or time ran out
  130  interrupted (Ctrl-C); the same command goes on from there
  143  terminated (SIGTERM, SIGHUP); the same command goes on from there";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

impl Exit {
    /// The number of the exit code.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Complete => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Incomplete => 3,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }

    /// The exit code if `done` of `all` things are done.
    pub(crate) const fn of(done: usize, all: usize) -> Self {
        match done {
            _ if done == all => Self::Complete,
            0 => Self::Failed,
            _ => Self::Incomplete,
        }
    }
}
