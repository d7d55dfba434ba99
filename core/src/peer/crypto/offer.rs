//! What is wanted and what is agreed on: policy, methods, and why a handshake fails.

use crate::wire::mse::{METHOD_PLAINTEXT, METHOD_RC4};

/// What a user wants of encryption.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encryption {
    /// Plaintext connections only.
    Off,
    /// Encrypted where the peer can, plaintext where it cannot.
    #[default]
    Preferred,
    /// RC4 connections only.
    Required,
}

impl Encryption {
    /// What an encrypted handshake offers or accepts; `None` if there shall be none.
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

    /// Whether a connection may begin with a plaintext BitTorrent handshake.
    #[must_use]
    pub const fn allows_plain(self) -> bool {
        !matches!(self, Self::Required)
    }
}

/// The methods one side offers, or accepts, for the stream after the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CryptoOffer {
    /// No encryption: the handshake hides the protocol's start only.
    pub plaintext: bool,
    /// RC4.
    pub rc4: bool,
}

impl CryptoOffer {
    pub(super) const fn bits(self) -> u32 {
        (if self.plaintext { METHOD_PLAINTEXT } else { 0 })
            | (if self.rc4 { METHOD_RC4 } else { 0 })
    }

    /// The method to use with a peer that provides `bits`: RC4 if both can.
    pub(super) const fn select(self, bits: u32) -> Option<Method> {
        match self.bits() & bits {
            both if both & METHOD_RC4 != 0 => Some(Method::Rc4),
            METHOD_PLAINTEXT => Some(Method::Plaintext),
            _ => None,
        }
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

/// What the peer did wrong, or cannot do. The connection is of no use after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MseError {
    /// A public key outside `2..=P-2`.
    WeakKey,
    /// The expected mark did not come within the longest padding (MSE, "synchronisation point").
    NoSync,
    /// The handshake names a torrent we do not have.
    UnknownTorrent,
    /// The verification constant did not decrypt to zeros.
    BadVerification,
    /// A padding or initial payload above its limit.
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
