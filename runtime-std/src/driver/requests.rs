//! The interface between the kit and a driver's HTTP client.

use dunlin_core::{OpId, Outcome, http::HttpRequest};

/// An HTTP client, run in the driver's own way.
pub trait Requests {
    /// Starts a request. Its outcome is fetched with [`Requests::drain`], also after a cancel.
    fn start(&mut self, op: OpId, request: HttpRequest);

    /// Cancels the request of `op`, if there is one.
    fn cancel(&mut self, op: OpId);

    /// Moves the finished outcomes to the end of `out`.
    fn drain(&mut self, out: &mut Vec<(OpId, Outcome)>);
}
