//! HTTP and HTTPS GET, blocking, for trackers and for torrent files by URL.
//!
//! The protocol is core's client; this module opens the streams. A request occupies a thread of a small
//! pool while it runs. Connections are not kept: a tracker is asked again after half an hour, and an idle
//! connection costs memory and a descriptor.

mod connect;

use std::{
    io::{self, Read, Write},
    sync::{Arc, OnceLock},
    time::{Duration, Instant as Clock},
};

use dunlin_core::{
    Instant, OpErrorKind, Outcome,
    http::{Get, HttpRequest, Progress},
};
use dunlin_std::{
    net::http::{self, Answer, Failure, PLATFORM},
    net::proxy::Watch,
    net::socket::Route,
};

/// Added to a request's own limit, for a name that the system's resolver takes too long to resolve.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// Bytes read at a time.
const BUFFER: usize = 8 << 10;
/// The time limits of the streams end a request, so the client's own clock stands still.
const NOW: Instant = Instant::ORIGIN;

/// The client.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    route: Route,
    /// Watches the proxy, if there is one.
    watch: Option<Arc<Watch>>,
    /// Created when it is first needed: loading the root certificates takes time.
    tls: Arc<OnceLock<Arc<rustls::ClientConfig>>>,
}

impl Http {
    pub(crate) fn new(route: Route, watch: Option<Arc<Watch>>) -> Self {
        Self {
            route,
            watch,
            tls: Arc::default(),
        }
    }

    /// Makes a request for a caller that names the URL in its own message. Blocks.
    ///
    /// # Errors
    /// See [`Failure`].
    pub(crate) fn get(&self, request: &HttpRequest) -> Result<Answer, Failure> {
        http::result(request, self.answer(request))
    }

    /// Carries out an HTTP op. Blocks.
    pub(crate) fn answer(&self, request: &HttpRequest) -> Outcome {
        let mut get = match Get::on(NOW, request, PLATFORM) {
            Ok(get) => get,
            Err(error) => return Outcome::failed(error.kind, error.detail),
        };
        let deadline = Clock::now() + request.timeout;
        match self.follow(&mut get, deadline) {
            Ok(()) => {}
            // A blocking call that reaches its limit returns `WouldBlock` on Unix.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock
                ) =>
            {
                let _ = get.fail(OpErrorKind::TimedOut, "no answer in time");
            }
            Err(error) => http::fail(&mut get, &error),
        }
        get.into_outcome()
    }

    /// Makes the request and follows redirects.
    ///
    /// # Errors
    /// Errors of the system. A request that was refused has ended, which is not an error here.
    fn follow(&self, get: &mut Get, deadline: Clock) -> io::Result<()> {
        loop {
            let Some(mut stream) =
                connect::open(&self.route, self.watch.as_deref(), get, deadline)?
            else {
                return Ok(());
            };
            let step = if get.is_secure() {
                let name = http::server_name(get.host())?;
                let tls = Arc::clone(self.tls.get_or_init(http::tls));
                let session = rustls::ClientConnection::new(tls, name)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                exchange(get, &mut rustls::StreamOwned::new(session, stream))?
            } else {
                exchange(get, &mut stream)?
            };
            if step != Progress::Redirect {
                return Ok(());
            }
        }
    }
}

/// Sends the request, and reads the answer.
fn exchange(get: &mut Get, stream: &mut (impl Read + Write)) -> io::Result<Progress> {
    while !get.write_buf().is_empty() {
        let written = stream.write(get.write_buf())?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        get.handle_written(written);
    }
    stream.flush()?;
    let mut buf = vec![0; BUFFER];
    loop {
        let step = match stream.read(&mut buf) {
            Ok(0) => return Ok(get.handle_eof(NOW)),
            Ok(len) => get.handle_read(NOW, &buf[..len]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // Many servers end a TLS stream without a close notification.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Ok(get.handle_eof(NOW));
            }
            Err(error) => return Err(error),
        };
        if step != Progress::NeedMore {
            return Ok(step);
        }
    }
}

#[cfg(test)]
mod tests;
