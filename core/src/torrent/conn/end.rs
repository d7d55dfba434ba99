//! The reasons for which connections end.

use alloc::string::{String, ToString};

use super::Dialing;
use crate::op::Close;
use crate::peer::crypto::MseError;
use crate::peer::{Blame, PeerFault};
use crate::torrent::peer_list::Released;
use crate::{CloseReason, EncryptionPolicy};

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

    /// What the end of an attempt to connect means for its address. `opened` tells whether the link was open.
    pub(crate) fn of_attempt(
        &self,
        dialing: &Dialing,
        opened: bool,
        policy: EncryptionPolicy,
    ) -> Released {
        match self {
            Self::Banned => Released::Banned,
            Self::Finished(_) => Released::Useless,
            Self::Resting(_) => Released::Resting,
            Self::Fault(PeerFault::Mse(MseError::ShortSecret)) => Released::TryAgain,
            Self::Fault(fault) if fault.blame() == Blame::Peer => Released::Failed,
            _ if opened => match policy {
                // Only once: if the second attempt fails, the address has failed.
                EncryptionPolicy::Preferred if dialing.encrypt => Released::TryOtherEncryption,
                EncryptionPolicy::Allowed if !dialing.encrypt => Released::TryOtherEncryption,
                _ => Released::Failed,
            },
            _ => Released::Failed,
        }
    }

    /// What the end of a member's connection means for its address. `worked` tells whether the connection was worth its
    /// handshakes.
    pub(crate) fn of_member(&self, worked: bool) -> Released {
        match self {
            Self::Banned => Released::Banned,
            Self::Finished(_) => Released::Useless,
            Self::Resting(_) => Released::Resting,
            Self::Fault(fault) if fault.blame() == Blame::Peer => Released::Failed,
            // A peer that accepts connections only to close them is not to be tried every ten seconds.
            _ if worked => Released::Worked,
            _ => Released::Failed,
        }
    }

    /// The text for the application.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TorrentId;
    use crate::torrent::status::PeerSource;

    #[test]
    fn the_other_encryption_is_tried_once_and_only_if_the_policy_has_one() {
        use EncryptionPolicy::{Allowed, Off, Preferred, Required};
        let end = End::Stream(CloseReason::Reset);
        for (policy, first) in [
            (Off, None),
            (Allowed, Some(false)),
            (Preferred, Some(true)),
            (Required, None),
        ] {
            for encrypt in [false, true] {
                let dialing = Dialing {
                    torrent: TorrentId(1),
                    addr: ([10, 0, 0, 1], 6881).into(),
                    source: PeerSource::Tracker,
                    encrypt,
                    again: false,
                };
                let wanted = match first == Some(encrypt) {
                    true => Released::TryOtherEncryption,
                    false => Released::Failed,
                };
                assert_eq!(end.of_attempt(&dialing, true, policy), wanted, "{policy:?}");
                let refused = end.of_attempt(&dialing, false, policy);
                assert_eq!(refused, Released::Failed, "the link was not open");
            }
        }
    }

    #[test]
    fn a_connection_that_worked_has_not_failed_unless_the_peer_is_to_blame() {
        let ended = |end: End| [true, false].map(|worked| end.of_member(worked));
        assert_eq!(
            ended(End::Stream(CloseReason::Eof)),
            [Released::Worked, Released::Failed]
        );
        assert_eq!(
            ended(End::Fault(PeerFault::HandshakeTimeout)),
            [Released::Worked, Released::Failed]
        );
        assert_eq!(
            ended(End::Fault(PeerFault::BadBitfield)),
            [Released::Failed; 2]
        );
        assert_eq!(ended(End::Finished("")), [Released::Useless; 2]);
        assert_eq!(ended(End::Banned), [Released::Banned; 2]);
    }
}
