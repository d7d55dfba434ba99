//! Ways out to the network: peer connections and HTTP, directly or through a proxy.
//!
//! With a proxy configured nothing goes around it: no socket listens, no datagram is sent (so
//! UDP trackers fail, and say why), names are resolved by the proxy, and both peers and HTTP go
//! through it.

mod http;
mod proxy;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use dunlin_std::{net::proxy::Watch, net::resolve, net::socket::Route};
use tokio::{net::TcpStream, time::timeout};

pub(crate) use http::Http;

use crate::platform;

/// How long the proxy may take to accept a connection: less than the engine waits for a peer, so that
/// a silent proxy is told from a silent peer.
const PROXY_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens peer connections.
#[derive(Debug)]
pub(crate) struct Dialer {
    route: Route,
    /// Of the proxy, if there is one.
    watch: Option<Arc<Watch>>,
}

impl Dialer {
    pub(crate) fn new(route: Route, watch: Option<Arc<Watch>>) -> Arc<Self> {
        Arc::new(Self { route, watch })
    }

    /// Connects to `remote`. How long that may take is the engine's business: it gives up by
    /// closing, which drops the future.
    pub(crate) async fn dial(self: Arc<Self>, remote: SocketAddr) -> io::Result<TcpStream> {
        let (Some(proxy), Some(watch)) = (&self.route.proxy, &self.watch) else {
            return platform::outgoing(remote, &self.route.egress)?
                .connect(remote)
                .await;
        };
        // The proxy is named by the user, so its name may be looked up here.
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the proxy has no address");
        let addresses = tokio::net::lookup_host((proxy.host.as_str(), proxy.port)).await;
        for address in addresses.inspect_err(|error| drop(watch.fails(&resolve::reason(error))))? {
            // An address of a family that is not bound is passed over.
            let stream = match platform::outgoing(address, &self.route.egress) {
                Ok(socket) => timeout(PROXY_TIMEOUT, socket.connect(address))
                    .await
                    .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
                Err(error) => Err(error),
            };
            match stream {
                Ok(stream) => return proxy::connect(proxy, watch, stream, remote).await,
                Err(error) => last = error,
            }
        }
        watch.fails(&last);
        Err(last)
    }
}
