//! How a driver makes HTTP requests, as the rest of the kit sees it.

use dunlin_core::{OpId, Outcome, http::HttpRequest};

/// An HTTP client that a driver runs in its own way.
pub trait Requests {
    /// Begins a request. Its outcome comes out of [`Requests::drain`], also after a cancel.
    fn start(&mut self, op: OpId, request: HttpRequest);

    /// Ends the request of `op`, if there is one.
    fn cancel(&mut self, op: OpId);

    /// Moves the outcomes that wait into `out`.
    fn drain(&mut self, out: &mut Vec<(OpId, Outcome)>);
}
