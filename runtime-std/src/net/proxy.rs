//! Messages about the proxy itself.

use std::{
    fmt::{self, Display},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, channel},
    },
};

use dunlin_core::engine::{Event, What};

use crate::{config::Proxy, net::socket::Route};

/// Reports that the proxy itself fails: then every peer and tracker fails, and none of them is at fault.
/// This is reported once, and again only after the proxy has worked in between.
pub struct Watch {
    /// Host and port, without the login.
    name: String,
    failing: AtomicBool,
    tell: Box<dyn Fn(Event) + Send + Sync>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("name", &self.name)
            .field("failing", &self.failing)
            .finish_non_exhaustive()
    }
}

impl Watch {
    /// Watches `proxy`; `tell` is called with the events.
    #[must_use]
    pub fn new(proxy: &Proxy, tell: impl Fn(Event) + Send + Sync + 'static) -> Self {
        let name = match proxy.host.contains(':') {
            true => format!("[{}]:{}", proxy.host, proxy.port),
            false => format!("{}:{}", proxy.host, proxy.port),
        };
        Self {
            name,
            failing: AtomicBool::new(false),
            tell: Box::new(tell),
        }
    }

    /// Called when the proxy worked, whatever became of the connection behind it.
    pub fn works(&self) {
        self.failing.store(false, Ordering::Relaxed);
    }

    /// Called when the proxy failed. Returns a message about it.
    pub fn fails(&self, why: &dyn Display) -> String {
        let message = format!("{}: {why}", self.name);
        if !self.failing.swap(true, Ordering::Relaxed) {
            let message = message.clone();
            (self.tell)(Event::warning(What::Proxy { message }));
        }
        format!("the proxy {message}")
    }
}

/// A watch for the proxy of `route`, if it has one, and its events. `notify` is called, from any thread,
/// after an event.
#[must_use]
pub fn watch(
    route: &Route,
    notify: Arc<dyn Fn() + Send + Sync>,
) -> (Option<Arc<Watch>>, Receiver<Event>) {
    let (sender, events) = channel();
    let watch = route.proxy.as_ref().map(|proxy| {
        let tell = move |event| {
            // Nobody reads the events any more.
            let _ = sender.send(event);
            notify();
        };
        Arc::new(Watch::new(proxy, tell))
    });
    (watch, events)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_once_until_the_proxy_works_again() {
        let (tell, told) = channel();
        let proxy = "socks5://me:secret@[::1]:9".parse().unwrap();
        let watch = Watch::new(&proxy, move |event| tell.send(event).unwrap());
        let said = watch.fails(&"connection refused");
        assert_eq!(said, "the proxy [::1]:9: connection refused");
        watch.fails(&"connection refused");
        watch.works();
        watch.fails(&"no route");
        let message = |event| match event {
            Event::Notice(notice) => match notice.what {
                What::Proxy { message } => message,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        };
        let told: Vec<_> = told.try_iter().map(message).collect();
        assert_eq!(told, ["[::1]:9: connection refused", "[::1]:9: no route"]);
    }
}
