//! Events and snapshots as streams.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use dunlin_core::engine::{Event, TorrentStatus};
use futures_core::Stream;
use tokio::sync::{broadcast, watch};
use tokio_stream::wrappers::{BroadcastStream, WatchStream, errors::BroadcastStreamRecvError};

/// A session's events, until it ends. See [`Session::events`](crate::Session::events).
#[derive(Debug)]
pub struct Events(Option<BroadcastStream<Event>>);

impl Events {
    pub(super) fn new(receiver: Option<broadcast::Receiver<Event>>) -> Self {
        Self(receiver.map(BroadcastStream::new))
    }

    /// The next event; `None` when the session has ended.
    pub async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let Some(stream) = &mut self.0 else {
            return Poll::Ready(None);
        };
        loop {
            return match Pin::new(&mut *stream).poll_next(cx) {
                Poll::Ready(Some(Err(BroadcastStreamRecvError::Lagged(_)))) => continue,
                Poll::Ready(Some(Ok(event))) => Poll::Ready(Some(event)),
                Poll::Ready(None) => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            };
        }
    }
}

/// Snapshots of a torrent: one at once, one for each change of its state, and about two a second while
/// there is traffic. A slow reader misses some, but never the last one.
#[derive(Debug)]
pub struct Watch(WatchStream<TorrentStatus>);

impl Watch {
    pub(super) fn new(receiver: watch::Receiver<TorrentStatus>) -> Self {
        Self(WatchStream::new(receiver))
    }

    /// The next snapshot; `None` when the torrent has been removed or the session has ended.
    pub async fn next(&mut self) -> Option<TorrentStatus> {
        std::future::poll_fn(|cx| Pin::new(&mut self.0).poll_next(cx)).await
    }
}

impl Stream for Watch {
    type Item = TorrentStatus;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<TorrentStatus>> {
        Pin::new(&mut self.0).poll_next(cx)
    }
}
