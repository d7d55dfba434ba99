//! A DHT node without torrents, for async code.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use dunlin_core::{
    InfoHash, NodeId,
    dht::{Announce, Goal},
    metainfo::HostPort,
};
pub use dunlin_dht::{Answer, Calls, NodeConfig, NodeEvent, Status};
use dunlin_dht::{Node, RequestId, Sink};
use futures_core::Stream;
use tokio::sync::{mpsc, oneshot};

use crate::{Error, Result};

/// The most events kept for a slow reader; more are lost.
const EVENT_QUEUE: usize = 256;

/// A DHT node, on a thread of its own: the runtime is woken for answers, never for datagrams.
///
/// ```no_run
/// use dunlin_tokio::{DhtNode, InfoHash, dht::{Answer, NodeConfig}};
///
/// # async fn peers(hash: InfoHash) -> std::io::Result<()> {
/// let (node, _events) = DhtNode::start(NodeConfig::default())?;
/// let mut search = node.get_peers(hash);
/// while let Some(answer) = search.next().await {
///     if let Answer::Peers(peers) = answer {
///         println!("{peers:?}");
///     }
/// }
/// node.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct DhtNode {
    node: Node,
}

impl DhtNode {
    /// Binds the sockets and starts the node. The receiver yields its events; at most 256 wait, and more
    /// are lost.
    ///
    /// # Errors
    /// A socket could not be bound, or the system has no threads or random numbers left.
    pub fn start(config: NodeConfig) -> io::Result<(Self, mpsc::Receiver<NodeEvent>)> {
        let (sender, events) = mpsc::channel(EVENT_QUEUE);
        let tell = move |event| drop(sender.try_send(event));
        let node = Node::start(config, Box::new(tell))?;
        Ok((Self { node }, events))
    }

    /// The addresses of its sockets.
    #[must_use]
    pub fn local(&self) -> &[SocketAddr] {
        self.node.local()
    }

    /// Starts a search as soon as there are nodes to query. Dropping the search ends it.
    #[must_use]
    pub fn search(&self, goal: Goal) -> DhtSearch {
        // Bounded by the nodes that one search queries: each answers once.
        let (sender, answers) = mpsc::unbounded_channel();
        let sink = move |answer| drop(sender.send(answer));
        let id = self.node.search(goal, Box::new(sink));
        DhtSearch {
            id,
            node: self.node.clone(),
            answers,
        }
    }

    /// Searches for peers of a torrent.
    #[must_use]
    pub fn get_peers(&self, hash: InfoHash) -> DhtSearch {
        self.search(Goal::Peers {
            hash,
            announce: None,
            scrape: false,
        })
    }

    /// Searches for peers of a torrent, and announces to the closest nodes that one is here.
    #[must_use]
    pub fn announce(&self, hash: InfoHash, announce: Announce) -> DhtSearch {
        self.search(Goal::Peers {
            hash,
            announce: Some(announce),
            scrape: false,
        })
    }

    /// Pings a node. The answer is [`Answer::Pong`], [`Answer::Silent`], [`Answer::Unresolved`] or
    /// [`Answer::Full`].
    ///
    /// # Errors
    /// [`Error::Stopped`] if the node has stopped.
    pub async fn ping(&self, host: HostPort) -> Result<Answer> {
        let (sink, answer) = once();
        self.node.ping(host, sink);
        answer.await.map_err(|_| Error::Stopped)
    }

    /// Asks a node which info-hashes near `target` it knows (BEP 51). The answer is [`Answer::Samples`], or
    /// as of [`DhtNode::ping`].
    ///
    /// # Errors
    /// [`Error::Stopped`] if the node has stopped.
    pub async fn sample(&self, host: HostPort, target: NodeId) -> Result<Answer> {
        let (sink, answer) = once();
        self.node.sample(host, target, sink);
        answer.await.map_err(|_| Error::Stopped)
    }

    /// Adds a node to start from, which is tried while the table needs any.
    pub fn add(&self, host: HostPort) {
        self.node.add(host);
    }

    /// The state of the node.
    ///
    /// # Errors
    /// [`Error::Stopped`] if the node has stopped.
    pub async fn status(&self) -> Result<Status> {
        let (sender, status) = oneshot::channel();
        self.node.status(move |status| drop(sender.send(status)));
        status.await.map_err(|_| Error::Stopped)
    }

    /// Writes the cache now.
    ///
    /// # Errors
    /// [`Error::DhtCache`] if it could not be written; [`Error::Stopped`] if the node has stopped.
    pub async fn save(&self) -> Result<()> {
        let (sender, saved) = oneshot::channel();
        self.node.save(move |result| drop(sender.send(result)));
        saved
            .await
            .map_err(|_| Error::Stopped)?
            .map_err(Error::DhtCache)
    }

    /// Stops the node, for all its handles, and waits until the cache is written.
    pub async fn shutdown(self) {
        let stop = tokio::task::spawn_blocking(move || self.node.stop());
        // It fails only if the runtime has ended.
        let _ = stop.await;
    }
}

/// A sink that receives one answer.
fn once() -> (Sink, oneshot::Receiver<Answer>) {
    let (sender, receiver) = oneshot::channel();
    let mut sender = Some(sender);
    let sink = move |answer| {
        if let Some(sender) = sender.take() {
            // The receiver may have been dropped.
            let _ = sender.send(answer);
        }
    };
    (Box::new(sink), receiver)
}

/// A running search: a stream of what it finds, with [`Answer::Done`] at the end. Dropping it ends the
/// search.
#[derive(Debug)]
pub struct DhtSearch {
    id: RequestId,
    node: Node,
    answers: mpsc::UnboundedReceiver<Answer>,
}

impl DhtSearch {
    /// The next answer; `None` after the last one, and when the node has stopped.
    pub async fn next(&mut self) -> Option<Answer> {
        self.answers.recv().await
    }
}

impl Stream for DhtSearch {
    type Item = Answer;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Answer>> {
        self.answers.poll_recv(cx)
    }
}

impl Drop for DhtSearch {
    fn drop(&mut self) {
        self.node.cancel(self.id);
    }
}
