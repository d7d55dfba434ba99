//! Why connections end.

use alloc::string::{String, ToString};

use crate::CloseReason;
use crate::op::Close;
use crate::peer::PeerFault;

/// Why a connection ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The stream did.
    Stream(CloseReason),
    /// The peer broke the protocol, or took too long.
    Fault(PeerFault),
    /// We have no use for it, and say why.
    Finished(&'static str),
    /// Its torrent is at rest.
    Resting(&'static str),
    /// It sent bad data.
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
