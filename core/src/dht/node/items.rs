//! Items that others put and get (BEP 44).

use core::net::SocketAddr;

use super::Dht;
use super::server::Content;
use crate::Cx;
use crate::wire::krpc::Args;

impl Dht {
    /// Carries out a `put`. The token comes first: it is the cheaper to check.
    pub(super) fn put(
        &mut self,
        cx: &Cx<'_>,
        from: SocketAddr,
        args: &Args<'_>,
    ) -> Result<Content, Content> {
        let item = &args.item;
        item.v.ok_or(Content::Error(203, "v is missing"))?;
        let token = args.token.ok_or(Content::Error(203, "token is missing"))?;
        if !self.tokens.check(from.ip(), token) {
            return Err(Content::Error(203, "token is wrong or too old"));
        }
        self.proven(cx.now, &from);
        match self.items.put(cx.now, item) {
            Ok(_) => Ok(Content::Pong),
            Err(error) => Err(Content::Error(error.code(), error.text())),
        }
    }
}
