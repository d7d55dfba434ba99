//! How the commands of `dunlin dht` speak: lines for people, objects for programs.

use dunlin_tokio::{
    dht::NodeEvent,
    dunlin_core::dht::{Cause, DhtLog, Failure, LookupReport},
    system::net::conntrack,
};
use indicatif::MultiProgress;
use serde_json::{Value, json};

use super::{args::View, json as lines};
use crate::report;

/// The voice of a command.
#[derive(Clone)]
pub(super) struct Voice {
    view: View,
    /// What must not be torn by lines between.
    screen: Option<MultiProgress>,
}

impl Voice {
    pub(super) fn new(view: View) -> Self {
        Self { view, screen: None }
    }

    /// The same beside a screen.
    pub(super) fn beside(self, screen: MultiProgress) -> Self {
        Self {
            screen: Some(screen),
            ..self
        }
    }

    /// Whether a program reads it.
    pub(super) const fn is_json(&self) -> bool {
        self.view.json
    }

    fn calmly(&self, say: impl FnOnce()) {
        match &self.screen {
            Some(screen) => screen.suspend(say),
            None => say(),
        }
    }

    /// A result: an object for programs, lines for people.
    pub(super) fn result(&self, value: impl FnOnce() -> Value, line: impl FnOnce() -> String) {
        self.calmly(|| match self.view.json {
            true => report::say_json(&value()),
            false => line().lines().for_each(report::say),
        });
    }

    /// Something was not done.
    pub(super) fn error(&self, what: &str, message: &str) {
        self.failure(what, message, None);
    }

    fn failure(&self, what: &str, message: &str, why: Option<(Failure, Cause)>) {
        self.calmly(|| {
            report::complain(message);
            if self.view.json {
                report::say_json(&lines::failed(what, message, why));
            }
        });
    }

    /// A search came to nothing: the page's words, what is known of the reason, what to do.
    pub(super) fn unsuccessful(&self, what: &str, report: &LookupReport) {
        if let Some((failure, why)) = report.failure {
            let message = format!("{failure} {}", explain(why));
            self.failure(what, message.trim_end(), report.failure);
        }
    }

    /// What the node says: the page's lines verbatim.
    pub(super) fn event(&self, event: &NodeEvent) {
        let (news, why) = match event {
            NodeEvent::Log(DhtLog::Unreachable(why) | DhtLog::Firewalled(why)) => {
                (true, Some(*why))
            }
            NodeEvent::Cache(_) | NodeEvent::Failed(_) | NodeEvent::Unresolved { .. } => {
                (true, None)
            }
            _ => (self.view.verbose, None),
        };
        self.calmly(|| {
            if self.view.json {
                report::say_json(&lines::event(event));
            }
            if news {
                report::verbatim(&event.to_string());
                if let Some(why) = why {
                    report::verbatim(&format!("  {}", explain(why)));
                }
            }
        });
    }

    /// The kernel's table of connections is nearly full.
    pub(super) fn conntrack(&self, usage: &conntrack::Usage, port: u16) {
        let message = conntrack::warning(usage, port);
        self.calmly(|| {
            report::verbatim(&message);
            if self.view.json {
                report::say_json(&json!({
                    "type": "log",
                    "event": "conntrack",
                    "message": message,
                    "cause": { "kind": "conntrack", "count": usage.count, "max": usage.max },
                }));
            }
        });
    }
}

/// What a cause means and what to do about it.
pub(super) fn explain(why: Cause) -> String {
    match why {
        Cause::NoContacts => "No node is known to begin with: name one with --bootstrap \
             HOST:PORT, or use a session folder that has a cache."
            .into(),
        Cause::Dns => "The names of the nodes to begin with could not be looked up: see to the \
             network and its name server, or give addresses with --bootstrap."
            .into(),
        Cause::Send => "The system refuses to send: there is no network, or this machine's \
             firewall forbids it."
            .into(),
        Cause::NoReplies => "Datagrams leave and none come back: the network is down, or a \
             firewall here or at the router drops UDP on this port."
            .into(),
        Cause::NotForwarded => "Replies come, queries do not: forward this UDP port to this \
             machine, and open it in the firewall."
            .into(),
        Cause::PortMangled { observed } => format!(
            "Others see port {observed} in place of ours: the router changes source ports; if \
             it can, make it keep them."
        ),
        Cause::NodesGone => "The nodes that were asked are gone. This mends itself within \
             minutes; if it does not, delete rtorrent.dht_cache in the session folder."
            .into(),
        _ => String::new(),
    }
}
