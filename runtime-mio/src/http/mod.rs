//! HTTP and HTTPS GET, blocking: trackers, and torrent files by URL.
//!
//! Core's client speaks, over streams that are opened here. A request takes a thread of a small
//! pool for as long as it lasts. No connection is kept: a tracker is asked again after half an
//! hour, and an idle one costs memory and a descriptor.

mod connect;

use std::{
    io::{self, Read, Write},
    sync::{Arc, OnceLock},
    time::{Duration, Instant as Clock},
};

use dunlin_core::{
    Instant,
    http::{Get, HttpRequest, Progress},
    op::{OpErrorKind, Outcome},
};
use dunlin_std::{
    net::http::{self, Answer, Failure, PLATFORM},
    net::proxy::Watch,
    net::socket::Route,
};

/// Beyond a request's own limit, for a name that the system's resolver does not let go of.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// Bytes read at once.
const BUFFER: usize = 8 << 10;
/// The streams' own time limits end a request, so its clock stands still.
const NOW: Instant = Instant::ORIGIN;

/// The client.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    route: Route,
    /// Of the proxy, if there is one.
    watch: Option<Arc<Watch>>,
    /// Made when it is first needed: the roots of trust are many.
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

    /// Makes a request for a caller that names the URL itself. Blocks.
    ///
    /// # Errors
    /// See [`Failure`].
    pub(crate) fn get(&self, request: &HttpRequest) -> Result<Answer, Failure> {
        http::result(request, self.answer(request))
    }

    /// Answers an HTTP op. Blocks.
    pub(crate) fn answer(&self, request: &HttpRequest) -> Outcome {
        let mut get = match Get::on(NOW, request, PLATFORM) {
            Ok(get) => get,
            Err(error) => return Outcome::failed(error.kind, error.detail),
        };
        let deadline = Clock::now() + request.timeout;
        match self.follow(&mut get, deadline) {
            Ok(()) => {}
            // A blocking call that runs into its limit says `WouldBlock` on Unix.
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

    /// Asks one server after another, as redirects lead.
    ///
    /// # Errors
    /// What the system says; a request that is refused is done, and no error here.
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

/// Says what is to be said on a stream, and reads what comes.
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
            // Many servers end a secure stream without saying so.
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
