//! The transport of a connection.
//!
//! A peer does not depend on its transport. Only three things do: how a link is opened, how it is closed, and who is told
//! when it is ready. All of them are in this module, so a second kind of link is a variant of [`Link`] and a match arm in
//! each function: `Utp(StreamId)` is to be a stream of the engine's own, for which the engine acts as the driver.

use core::net::SocketAddr;

use crate::op::Close;
use crate::throttle::Direction;
use crate::torrent::Readiness;
use crate::torrent::outbox::Outbox;
use crate::{ConnId, Op};

/// The transport of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Link {
    /// A TCP stream of the driver.
    Tcp {
        /// The readiness that the driver was told last.
        told: Readiness,
        /// Whether it is in the list of streams whose readiness changed.
        listed: bool,
    },
}

impl Link {
    /// Opens a link to `remote`: [`Engine::handle_connected`](crate::engine::Engine::handle_connected) or
    /// [`Engine::handle_closed`](crate::engine::Engine::handle_closed) reports the result.
    pub(crate) fn open(out: &mut Outbox, conn: ConnId, remote: SocketAddr) -> Self {
        out.ops.stream(Op::TcpConnect { conn, remote });
        Self::accepted()
    }

    /// The link of a stream that the driver accepted.
    pub(crate) fn accepted() -> Self {
        Self::Tcp {
            told: Readiness::default(),
            listed: false,
        }
    }

    /// Closes it.
    pub(crate) fn close(self, out: &mut Outbox, conn: ConnId, how: Close) {
        match self {
            Self::Tcp { .. } => out.ops.stream(Op::TcpClose { conn, how }),
        }
    }

    /// The driver stopped moving bytes in one direction, because it was given an empty list of buffers, or its list is
    /// outdated. It is told again as soon as it can continue.
    pub(crate) const fn rests(&mut self, way: Direction) {
        let Self::Tcp { told, .. } = self;
        match way {
            Direction::Down => told.read = false,
            Direction::Up => told.write = false,
        }
    }

    /// The driver has written. It continues by itself while there is more.
    pub(crate) const fn wrote(&mut self, more: bool) {
        let Self::Tcp { told, .. } = self;
        told.write = more;
    }

    /// Lists the connection for the driver if its readiness `now` is not what the driver was told.
    pub(crate) fn refresh(&mut self, out: &mut Outbox, conn: ConnId, now: Readiness) {
        let Self::Tcp { told, listed } = self;
        if !*listed && now != *told {
            *listed = true;
            out.streams.push_back(conn);
        }
    }

    /// Whether the driver was told the readiness `now`, or is about to be told.
    pub(crate) fn is_told_or_listed(self, now: Readiness) -> bool {
        let Self::Tcp { told, listed } = self;
        listed || told == now
    }

    /// The driver polls: returns the readiness if the driver was told another one.
    pub(crate) fn poll(&mut self, now: Readiness) -> Option<Readiness> {
        let Self::Tcp { told, listed } = self;
        *listed = false;
        let then = core::mem::replace(told, now);
        (now != then).then_some(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    const CONN: ConnId = ConnId {
        index: 3,
        generation: 1,
    };
    const BOTH: Readiness = Readiness {
        read: true,
        write: true,
    };
    const READ: Readiness = Readiness {
        read: true,
        write: false,
    };

    #[test]
    fn the_driver_opens_and_closes_a_tcp_link() {
        let mut out = Outbox::new(&Config::default());
        let remote = ([10, 0, 0, 1], 6881).into();
        let link = Link::open(&mut out, CONN, remote);
        let wanted = out.ops.poll();
        assert!(
            matches!(wanted, Some(Op::TcpConnect { conn: CONN, remote: at }) if at == remote),
            "{wanted:?}"
        );
        link.close(&mut out, CONN, Close::Flush);
        let wanted = out.ops.poll();
        assert!(
            matches!(
                wanted,
                Some(Op::TcpClose {
                    conn: CONN,
                    how: Close::Flush
                })
            ),
            "{wanted:?}"
        );
        assert!(out.ops.poll().is_none());
    }

    #[test]
    fn the_driver_hears_of_news_once() {
        let mut out = Outbox::new(&Config::default());
        let mut link = Link::accepted();
        for _ in 0..3 {
            link.refresh(&mut out, CONN, BOTH);
        }
        assert_eq!(out.streams, [CONN]);
        out.streams.clear();
        assert_eq!(link.poll(BOTH), Some(BOTH));
        link.refresh(&mut out, CONN, BOTH);
        assert!(out.streams.is_empty());
        // The change was undone before the driver polled.
        link.refresh(&mut out, CONN, READ);
        assert_eq!(link.poll(BOTH), None);
    }

    #[test]
    fn a_link_that_rests_is_told_anew() {
        let mut out = Outbox::new(&Config::default());
        let mut link = Link::accepted();
        link.refresh(&mut out, CONN, BOTH);
        assert_eq!(link.poll(BOTH), Some(BOTH));
        out.streams.clear();
        link.wrote(true);
        link.refresh(&mut out, CONN, BOTH);
        assert!(out.streams.is_empty());
        link.wrote(false);
        link.refresh(&mut out, CONN, READ);
        assert!(
            out.streams.is_empty(),
            "the driver knows that it has written all"
        );
        for way in [Direction::Down, Direction::Up] {
            link.poll(BOTH);
            out.streams.clear();
            link.rests(way);
            link.refresh(&mut out, CONN, BOTH);
            assert_eq!(out.streams, [CONN], "{way:?}");
        }
    }
}
