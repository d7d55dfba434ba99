//! What carries the bytes of a connection.
//!
//! A peer does not know it. Only three things depend on it: how a link is opened, how it is closed, and who is told that it
//! can go on. All of them stand here, so a second kind of link is a variant of [`Link`] and what these functions do with it:
//! `Utp(StreamId)`, a stream of the engine's own, to which the engine plays the driver.

use core::net::SocketAddr;

use crate::op::Close;
use crate::throttle::Direction;
use crate::torrent::Readiness;
use crate::torrent::outbox::Outbox;
use crate::{ConnId, Op};

/// What carries the bytes of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Link {
    /// A stream of the driver's.
    Tcp {
        /// What the driver was told last.
        told: Readiness,
        /// It stands in the list of streams that the driver should hear of.
        listed: bool,
    },
}

impl Link {
    /// Opens a link to `remote`: [`Engine::handle_connected`](crate::engine::Engine::handle_connected) or
    /// [`Engine::handle_closed`](crate::engine::Engine::handle_closed) says what came of it.
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

    /// It moves nothing one way, for it was given an empty list or is stale: it is told anew as soon as it can go on.
    pub(crate) const fn rests(&mut self, way: Direction) {
        let Self::Tcp { told, .. } = self;
        match way {
            Direction::Down => told.read = false,
            Direction::Up => told.write = false,
        }
    }

    /// It has written, and goes on by itself while there is more.
    pub(crate) const fn wrote(&mut self, more: bool) {
        let Self::Tcp { told, .. } = self;
        told.write = more;
    }

    /// What it can do now: who moves its bytes is told if that is news.
    pub(crate) fn refresh(&mut self, out: &mut Outbox, conn: ConnId, now: Readiness) {
        let Self::Tcp { told, listed } = self;
        if !*listed && now != *told {
            *listed = true;
            out.streams.push_back(conn);
        }
    }

    /// Whether who moves its bytes knows what it can do now, or will hear of it.
    pub(crate) fn is_told_or_listed(self, now: Readiness) -> bool {
        let Self::Tcp { told, listed } = self;
        listed || told == now
    }

    /// The driver asks for the news: what it can do now, unless that is none.
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
        // What was news is none any more when the driver asks.
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
