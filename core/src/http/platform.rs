//! What the platform can do with URLs and answers.

use alloc::string::String;

/// What a platform adds to what this client can do by itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Platform {
    /// It opens streams over TLS: `https://` URLs are asked.
    pub tls: bool,
    /// Compressed answers are asked for. They are read in any case.
    pub compression: bool,
    /// Writes a host name beyond ASCII in ASCII (IDNA, RFC 5891); `None` for what is not a name.
    pub to_ascii: Option<fn(&str) -> Option<String>>,
}
