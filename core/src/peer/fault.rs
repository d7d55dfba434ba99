//! The reasons why connections end, and who is to blame.

use core::fmt;

use super::crypto::MseError;

/// Who is to blame for the end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The peer violated the protocol and should be avoided.
    Peer,
    /// Neither side's: the two are not compatible, or the connection was too slow.
    Nobody,
}

/// The reason why the machine ended the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerFault {
    /// The other side does not speak BitTorrent.
    NotBitTorrent,
    /// The answer to our handshake names another torrent.
    WrongTorrent,
    /// We connected to ourselves.
    Ourselves,
    /// Plaintext arrived where encryption is required, or the other way round.
    Encryption,
    /// The encrypted handshake failed.
    Mse(MseError),
    /// The handshakes took too long.
    HandshakeTimeout,
    /// Nothing arrived for too long, not even a keep-alive.
    Idle,
    /// A block that began to arrive did not end in time.
    TooSlow,
    /// A message is longer than allowed.
    TooLong {
        /// The id of the message.
        id: u8,
        /// The length of the message in bytes.
        len: u32,
    },
    /// A message has the wrong length for its kind.
    BadMessage {
        /// The id of the message.
        id: u8,
        /// The length of the message in bytes.
        len: u32,
    },
    /// The bitfield does not fit the torrent.
    BadBitfield,
    /// A piece index is beyond the last piece.
    BadPiece(u32),
    /// The peer sent nothing but messages that cannot be parsed, the last of them with this id.
    OnlyJunk(u8),
    /// The peer sent a message of the fast extension, which was not agreed on (BEP 6).
    FastNotAgreed(u8),
    /// The peer sent much payload that was never requested.
    Unsolicited,
    /// The peer sends more and more requests and reads nothing.
    ReadsNothing,
    /// The peer sent its pieces before there was room to keep them: it has to send them again.
    SaidTooEarly,
}

impl PeerFault {
    /// Who is to blame.
    #[must_use]
    pub const fn blame(&self) -> Blame {
        match self {
            Self::TooLong { .. }
            | Self::BadMessage { .. }
            | Self::BadBitfield
            | Self::BadPiece(_)
            | Self::OnlyJunk(_)
            | Self::FastNotAgreed(_)
            | Self::Unsolicited
            | Self::ReadsNothing => Blame::Peer,
            Self::NotBitTorrent
            | Self::WrongTorrent
            | Self::Ourselves
            | Self::Encryption
            | Self::Mse(_)
            | Self::HandshakeTimeout
            | Self::Idle
            | Self::TooSlow
            | Self::SaidTooEarly => Blame::Nobody,
        }
    }
}

impl fmt::Display for PeerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotBitTorrent => f.write_str("does not speak BitTorrent"),
            Self::WrongTorrent => f.write_str("answered for another torrent"),
            Self::Ourselves => f.write_str("is ourselves"),
            Self::Encryption => f.write_str("no encryption both sides accept"),
            Self::Mse(error) => write!(f, "encrypted handshake failed: {error}"),
            Self::HandshakeTimeout => f.write_str("handshake took too long"),
            Self::Idle => f.write_str("silent for too long"),
            Self::TooSlow => f.write_str("sends a block too slowly to be of use"),
            Self::TooLong { id, len } => write!(f, "message {id} of {len} bytes is too long"),
            Self::BadMessage { id, len } => write!(f, "message {id} has a wrong length of {len}"),
            Self::BadBitfield => f.write_str("bitfield does not fit the torrent"),
            Self::BadPiece(index) => write!(f, "there is no piece {index}"),
            Self::OnlyJunk(id) => {
                write!(f, "sends only messages that cannot be read, like {id}")
            }
            Self::FastNotAgreed(id) => {
                write!(
                    f,
                    "message {id} needs the fast extension, which was not agreed on"
                )
            }
            Self::Unsolicited => f.write_str("sends much that nobody asked for"),
            Self::ReadsNothing => f.write_str("asks for more and more and reads nothing"),
            Self::SaidTooEarly => {
                f.write_str("told its pieces before the metadata came; it is asked again")
            }
        }
    }
}

impl core::error::Error for PeerFault {}
