//! The reasons for which connections end.

use alloc::string::{String, ToString};

use crate::CloseReason;
use crate::op::Close;
use crate::peer::PeerFault;

/// Why a connection ended.
#[derive(Debug)]
pub(crate) enum End {
    /// Its stream was closed.
    Stream(CloseReason),
    /// The peer broke the protocol, or timed out.
    Fault(PeerFault),
    /// We closed it because it is not useful; the text says why.
    Finished(&'static str),
    /// Its torrent is paused, failed or stopped; the text says why.
    Resting(&'static str),
    /// The peer sent bad data.
    Banned,
}

impl End {
    /// How its stream is closed.
    pub(crate) const fn how(&self) -> Close {
        match self {
            Self::Finished(_) | Self::Resting(_) => Close::Flush,
            Self::Stream(_) | Self::Fault(_) | Self::Banned => Close::Abort,
        }
    }

    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Stream(CloseReason::Eof) => "closed by the peer".into(),
            Self::Stream(CloseReason::Reset) => "reset by the peer".into(),
            Self::Stream(CloseReason::Refused) => "connection refused".into(),
            Self::Stream(CloseReason::TimedOut) => "no answer".into(),
            Self::Stream(CloseReason::Unreachable) => "no route".into(),
            Self::Stream(CloseReason::Io) => "I/O error".into(),
            Self::Fault(fault) => fault.to_string(),
            Self::Finished(why) | Self::Resting(why) => (*why).into(),
            Self::Banned => "banned".into(),
        }
    }
}
