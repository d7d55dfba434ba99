//! Capabilities of the platform for URLs and responses.

use alloc::string::String;

/// What a platform adds to the capabilities of this client.
#[derive(Clone, Copy, Debug, Default)]
pub struct Platform {
    /// Whether it opens streams over TLS, so that `https://` URLs can be requested.
    pub tls: bool,
    /// Whether compressed responses are requested. They are decoded in any case.
    pub compression: bool,
    /// Converts a host name to ASCII (IDNA, RFC 5891); returns `None` if it is not a valid name.
    pub to_ascii: Option<fn(&str) -> Option<String>>,
}
