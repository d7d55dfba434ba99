//! Name resolution by the system's resolver, which blocks, on threads of its own.
//!
//! The system call cannot be interrupted; [`Pool`] says what follows from that.

use std::{
    fmt, io,
    net::{IpAddr, ToSocketAddrs},
    sync::Arc,
    time::Duration,
};

use dunlin_core::{OpErrorKind, OpId, Outcome};

use crate::net::http::to_ascii;
use crate::pool::{Pool, PoolConfig};

/// The limits of a resolver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResolverConfig {
    /// The most threads; they exist only while there is work.
    pub threads: usize,
    /// The most names being resolved or waiting; more are refused.
    pub in_flight: usize,
    /// The time after which a name is given up.
    pub timeout: Duration,
}

impl Default for ResolverConfig {
    /// The timeout is what glibc takes for two servers and two tries.
    fn default() -> Self {
        Self {
            threads: 16,
            in_flight: 256,
            timeout: Duration::from_secs(20),
        }
    }
}

type Lookup = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync;

/// Carries out `Op::Resolve`. After it is dropped nothing is answered any more; its threads end by
/// themselves.
pub struct Resolver {
    pool: Pool,
    timeout: Duration,
    lookup: Arc<Lookup>,
}

impl Resolver {
    /// Creates a resolver. It calls `notify`, from any thread, when an outcome is ready and none was
    /// before; it must not block.
    #[must_use]
    pub fn new(config: ResolverConfig, notify: Arc<dyn Fn() + Send + Sync>) -> Self {
        let system = |host: &str| {
            // The system's resolver accepts ASCII names only.
            let ascii = match host.is_ascii() {
                true => None,
                false => Some(to_ascii(host).ok_or_else(|| {
                    io::Error::new(io::ErrorKind::InvalidInput, "not a host name")
                })?),
            };
            let found = (ascii.as_deref().unwrap_or(host), 0).to_socket_addrs()?;
            Ok(found.map(|a| a.ip()).collect())
        };
        Self::with(config, notify, Box::new(system))
    }

    fn with(
        config: ResolverConfig,
        notify: Arc<dyn Fn() + Send + Sync>,
        lookup: Box<Lookup>,
    ) -> Self {
        let pool = PoolConfig {
            name: "resolve",
            threads: config.threads,
            in_flight: config.in_flight,
        };
        Self {
            pool: Pool::new(pool, notify),
            timeout: config.timeout,
            lookup: lookup.into(),
        }
    }

    /// Resolves `host` for `op`. Never blocks.
    pub fn submit(&self, op: OpId, host: String) {
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        if let Ok(ip) = bare.unwrap_or(&host).parse() {
            return self.pool.answer(op, Outcome::Resolved(vec![ip]));
        }
        let (lookup, name) = (Arc::clone(&self.lookup), host.clone());
        let job = move || look_up(&*lookup, &name);
        self.pool.submit(op, host, self.timeout, job);
    }

    /// Answers `op` as cancelled, if it belongs to this resolver and is not answered yet.
    pub fn cancel(&self, op: OpId) {
        self.pool.cancel(op);
    }

    /// Moves the finished outcomes to the end of `out`.
    pub fn drain(&self, out: &mut Vec<(OpId, Outcome)>) {
        self.pool.drain(out);
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

fn look_up(lookup: &Lookup, host: &str) -> Outcome {
    match lookup(host) {
        Ok(mut found) => {
            let mut seen = std::collections::BTreeSet::new();
            found.retain(|ip| seen.insert(*ip));
            if found.is_empty() {
                return Outcome::failed(OpErrorKind::NotFound, "no address");
            }
            Outcome::Resolved(found)
        }
        // The kinds of this error are not useful: all of them mean that no such name is known.
        Err(e) => Outcome::failed(OpErrorKind::NotFound, reason(&e)),
    }
}

/// The system's reason why a name cannot be resolved. The caller adds the name.
#[must_use]
pub fn reason(error: &io::Error) -> String {
    let words = error.to_string();
    // The prefix that Rust's standard library adds to the system's message.
    let own = words.strip_prefix("failed to lookup address information: ");
    own.unwrap_or(&words).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_repeats_neither_the_host_nor_that_it_was_looked_up() {
        let of = |words: &str| reason(&io::Error::other(words));
        let unknown = "Name or service not known";
        let long = format!("failed to lookup address information: {unknown}");
        assert_eq!((of(&long), of(unknown)), (unknown.into(), unknown.into()));
        let fails = move |_: &str| Err(io::Error::other(long.clone()));
        let Outcome::Failed { error, .. } = look_up(&fails, "host.invalid") else {
            panic!("it was resolved");
        };
        assert_eq!(error.detail, unknown);
    }
    use std::sync::{
        Mutex,
        mpsc::{Receiver, channel},
    };

    struct Bench {
        resolver: Resolver,
        wake: Receiver<()>,
    }

    impl Bench {
        fn new(config: ResolverConfig, lookup: Box<Lookup>) -> Self {
            let (tx, wake) = channel();
            let notify = Arc::new(move || tx.send(()).unwrap_or_default());
            let resolver = Resolver::with(config, notify, lookup);
            Self { resolver, wake }
        }

        fn wait(&self, n: usize) -> Vec<(OpId, Outcome)> {
            let mut out = Vec::new();
            while out.len() < n {
                self.wake.recv().unwrap();
                self.resolver.drain(&mut out);
            }
            out
        }
    }

    fn kind(outcome: &Outcome) -> Option<OpErrorKind> {
        match outcome {
            Outcome::Failed { error, .. } => Some(error.kind),
            _ => None,
        }
    }

    #[test]
    fn literals_need_no_thread_and_localhost_is_known_to_the_system() {
        let (tx, wake) = channel();
        let notify = Arc::new(move || tx.send(()).unwrap_or_default());
        let resolver = Resolver::new(ResolverConfig::default(), notify);
        let b = Bench { resolver, wake };
        b.resolver.submit(OpId(1), "[::1]".into());
        b.resolver.submit(OpId(2), "localhost".into());
        for (_, outcome) in b.wait(2) {
            let Outcome::Resolved(found) = outcome else {
                panic!("{outcome:?}");
            };
            assert!(found.iter().all(IpAddr::is_loopback), "{found:?}");
        }
    }

    #[test]
    fn every_name_is_answered_once_with_addresses_or_a_reason() {
        let lookup = |host: &str| match host {
            "none" => Ok(vec![]),
            "bad" => Err(io::Error::other("no such host")),
            _ => Ok(vec![IpAddr::from([192, 0, 2, 1]); 3]),
        };
        let b = Bench::new(ResolverConfig::default(), Box::new(lookup));
        for i in 0..100 {
            b.resolver
                .submit(OpId(i), ["none", "bad", "good"][i as usize % 3].into());
        }
        let mut out = b.wait(100);
        out.sort_by_key(|(op, _)| *op);
        for (i, (op, outcome)) in out.iter().enumerate() {
            assert_eq!(*op, OpId(i as u64));
            match outcome {
                Outcome::Resolved(found) => assert_eq!((i % 3, found.len()), (2, 1)),
                failed => assert_eq!(kind(failed), Some(OpErrorKind::NotFound)),
            }
        }
    }

    #[test]
    fn stuck_lookups_time_out_block_nobody_for_ever_and_are_bounded() {
        let (hold, held) = channel::<()>();
        let held = Mutex::new(held);
        let lookup = move |_: &str| {
            let _ = held.lock().unwrap().recv();
            Ok(vec![IpAddr::from([192, 0, 2, 1])])
        };
        let config = ResolverConfig {
            threads: 2,
            in_flight: 3,
            timeout: Duration::from_millis(50),
        };
        let b = Bench::new(config, Box::new(lookup));
        for i in 0..4 {
            b.resolver.submit(OpId(i), "slow".into());
        }
        let mut out = b.wait(4);
        out.sort_by_key(|(op, _)| *op);
        let kinds: Vec<_> = out.iter().map(|(_, o)| kind(o).unwrap()).collect();
        let late = OpErrorKind::TimedOut;
        assert_eq!(kinds, [late, late, late, OpErrorKind::Io]);
        // The threads return, and their late answers do not become second outcomes.
        drop(hold);
        b.resolver.submit(OpId(9), "slow".into());
        let out = b.wait(1);
        assert!(
            matches!(out[..], [(OpId(9), Outcome::Resolved(_))]),
            "{out:?}"
        );
    }

    #[test]
    fn a_cancelled_name_is_answered_at_once() {
        let (_hold, held) = channel::<()>();
        let held = Mutex::new(held);
        let lookup = move |_: &str| {
            let _ = held.lock().unwrap().recv();
            Ok(vec![])
        };
        let b = Bench::new(ResolverConfig::default(), Box::new(lookup));
        b.resolver.submit(OpId(1), "slow".into());
        b.resolver.cancel(OpId(1));
        b.resolver.cancel(OpId(7));
        assert_eq!(kind(&b.wait(1)[0].1), Some(OpErrorKind::Cancelled));
    }
}
