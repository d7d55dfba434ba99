//! Ways out to the network: peer connections and HTTP, directly or through a proxy.
//!
//! With a proxy configured nothing goes around it: no socket listens, no datagram is sent (so
//! UDP trackers fail, and say why), names are resolved by the proxy, and both peers and HTTP go
//! through it.

mod http;
mod proxy;

use std::{io, net::SocketAddr, sync::Arc};

use dunlin_std::socket::Route;
use tokio::net::TcpStream;

pub(crate) use http::Http;

use crate::platform;

/// Opens peer connections.
#[derive(Debug)]
pub(crate) struct Dialer {
    route: Route,
}

impl Dialer {
    pub(crate) fn new(route: Route) -> Arc<Self> {
        Arc::new(Self { route })
    }

    /// Connects to `remote`. How long that may take is the engine's business: it gives up by
    /// closing, which drops the future.
    pub(crate) async fn dial(self: Arc<Self>, remote: SocketAddr) -> io::Result<TcpStream> {
        let Some(proxy) = &self.route.proxy else {
            return platform::outgoing(remote, &self.route.egress)?
                .connect(remote)
                .await;
        };
        // The proxy is named by the user, so its name may be looked up here.
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the proxy has no address");
        for address in tokio::net::lookup_host((proxy.host.as_str(), proxy.port)).await? {
            // An address of a family that is not bound is passed over.
            let stream = match platform::outgoing(address, &self.route.egress) {
                Ok(socket) => socket.connect(address).await,
                Err(error) => Err(error),
            };
            match stream {
                Ok(stream) => return proxy::connect(proxy, stream, remote).await,
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}
