//! Policies, methods, and the reasons why a handshake fails.

use crate::wire::mse::{METHOD_PLAINTEXT, METHOD_RC4};

/// The policy for encryption.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encryption {
    /// Plaintext connections only.
    Off,
    /// Encrypted and plaintext handshakes. After an encrypted handshake the stream is plaintext if both
    /// sides allow it, and RC4 otherwise.
    #[default]
    Preferred,
    /// RC4 connections only.
    Required,
}

impl Encryption {
    /// What an encrypted handshake offers or accepts; `None` if there must not be one.
    #[must_use]
    pub const fn offer(self) -> Option<CryptoOffer> {
        match self {
            Self::Off => None,
            Self::Preferred => Some(CryptoOffer {
                plaintext: true,
                rc4: true,
            }),
            Self::Required => Some(CryptoOffer {
                plaintext: false,
                rc4: true,
            }),
        }
    }

    /// Whether a connection may start with a plaintext BitTorrent handshake.
    #[must_use]
    pub const fn allows_plain(self) -> bool {
        !matches!(self, Self::Required)
    }
}

/// The methods that one side offers or accepts for the stream after the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CryptoOffer {
    /// No encryption: only the start of the protocol is hidden.
    pub plaintext: bool,
    /// Encryption by RC4.
    pub rc4: bool,
}

impl CryptoOffer {
    pub(super) const fn bits(self) -> u32 {
        (if self.plaintext { METHOD_PLAINTEXT } else { 0 })
            | (if self.rc4 { METHOD_RC4 } else { 0 })
    }

    /// The methods of this side that a peer provides as well; unknown bits are ignored.
    pub(super) const fn common(self, bits: u32) -> Self {
        let both = self.bits() & bits;
        Self {
            plaintext: both & METHOD_PLAINTEXT != 0,
            rc4: both & METHOD_RC4 != 0,
        }
    }

    /// The method to use: plaintext if it is offered, since RC4 costs as much as the rest of a transfer,
    /// and does not hide the payload from anybody who saw the handshake. A side that wants RC4 does not
    /// offer plaintext.
    pub(super) const fn best(self) -> Option<Method> {
        match self {
            Self {
                plaintext: true, ..
            } => Some(Method::Plaintext),
            Self { rc4: true, .. } => Some(Method::Rc4),
            _ => None,
        }
    }

    /// The method that a peer selected; `None` unless it is exactly one of those offered.
    pub(super) const fn selected(self, bits: u32) -> Option<Method> {
        match bits {
            METHOD_PLAINTEXT if self.plaintext => Some(Method::Plaintext),
            METHOD_RC4 if self.rc4 => Some(Method::Rc4),
            _ => None,
        }
    }
}

/// Which part of a peer's stream is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamEncryption {
    /// The stream is plaintext.
    #[default]
    None,
    /// Only the handshake (MSE with plaintext selected).
    Handshake,
    /// Everything, by RC4.
    Full,
}

impl core::fmt::Display for StreamEncryption {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::None => "plaintext",
            Self::Handshake => "encrypted handshake",
            Self::Full => "encrypted",
        })
    }
}

/// A method of the stream after the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Plaintext,
    Rc4,
}

impl Method {
    pub(super) const fn bits(self) -> u32 {
        match self {
            Self::Plaintext => METHOD_PLAINTEXT,
            Self::Rc4 => METHOD_RC4,
        }
    }
}

/// The peer's mistake, or what it cannot do. The connection cannot be used afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MseError {
    /// The public key is outside `2..=P-2`.
    WeakKey,
    /// The shared secret begins with a zero byte, which some peers fail on: no fault of the peer's. See
    /// [`MseHandshake::refuse_short_secret`](super::MseHandshake::refuse_short_secret).
    ShortSecret,
    /// The expected mark did not arrive within the longest padding (MSE, "synchronisation point").
    NoSync,
    /// The handshake names a torrent we do not have.
    UnknownTorrent,
    /// The verification constant did not decrypt to zeros.
    BadVerification,
    /// A padding or initial payload is longer than allowed.
    TooLong,
    /// The peer provides no method that we accept.
    NoCommonMethod,
    /// The peer selected a method that was not offered, or several, or none.
    BadSelection,
}

impl core::fmt::Display for MseError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::WeakKey => "weak public key",
            Self::ShortSecret => "this shared secret is one that some peers fail on",
            Self::NoSync => "no synchronisation within the padding",
            Self::UnknownTorrent => "unknown torrent",
            Self::BadVerification => "wrong verification constant",
            Self::TooLong => "padding or initial payload too long",
            Self::NoCommonMethod => "no common encryption method",
            Self::BadSelection => "selected method was not offered",
        })
    }
}

impl core::error::Error for MseError {}
