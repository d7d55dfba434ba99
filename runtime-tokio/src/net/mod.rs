//! The HTTP client, which reaches servers directly or through a proxy.

mod http;
mod proxy;

pub(crate) use http::Http;
