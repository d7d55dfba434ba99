//! HTTP requests, each on a thread of its own.

use std::sync::Arc;

use dunlin_core::{OpId, Outcome, http::HttpRequest};
use dunlin_std::{
    driver,
    net::http::shown,
    pool::{Pool, PoolConfig},
};

use crate::http::{GRACE, Http};

/// The running requests.
#[derive(Debug)]
pub(crate) struct Requests {
    http: Http,
    pool: Pool,
}

impl Requests {
    pub(super) fn new(http: Http, pool: PoolConfig, notify: Arc<dyn Fn() + Send + Sync>) -> Self {
        let pool = Pool::new(pool, notify);
        Self { http, pool }
    }
}

impl driver::Requests for Requests {
    fn start(&mut self, op: OpId, request: HttpRequest) {
        let (what, limit) = (shown(&request.url).to_owned(), request.timeout + GRACE);
        let http = self.http.clone();
        self.pool
            .submit(op, what, limit, move || http.answer(&request));
    }

    fn cancel(&mut self, op: OpId) {
        self.pool.cancel(op);
    }

    fn drain(&mut self, out: &mut Vec<(OpId, Outcome)>) {
        self.pool.drain(out);
    }
}
