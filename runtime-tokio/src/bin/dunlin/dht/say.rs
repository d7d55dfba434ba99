//! The output of the commands of `dunlin dht`: lines for people, objects for programs.

use dunlin_tokio::{
    dht::NodeEvent,
    dunlin_core::dht::{Cause, DhtLog, Failure, LookupReport},
    system::net::conntrack,
};
use indicatif::MultiProgress;
use serde_json::{Value, json};

use super::json as lines;
use crate::{args::dht::View, output, units};

/// The output of one command.
#[derive(Clone)]
pub(super) struct Voice {
    view: View,
    /// Lines that are refreshed in place, which other output must not break.
    screen: Option<MultiProgress>,
}

impl Voice {
    pub(super) fn new(view: View) -> Self {
        Self { view, screen: None }
    }

    /// The same output next to a screen.
    pub(super) fn beside(self, screen: MultiProgress) -> Self {
        Self {
            screen: Some(screen),
            ..self
        }
    }

    fn calmly(&self, say: impl FnOnce()) {
        match &self.screen {
            Some(screen) => screen.suspend(say),
            None => say(),
        }
    }

    /// Prints a result: an object for programs, lines for people.
    pub(super) fn result(&self, value: impl FnOnce() -> Value, line: impl FnOnce() -> String) {
        self.calmly(|| match self.view.json {
            true => output::say_json(&value()),
            false => line().lines().for_each(output::say),
        });
    }

    /// Reports that something was not done.
    pub(super) fn error(&self, what: &str, message: &str) {
        self.failure(what, message, None);
    }

    fn failure(&self, what: &str, message: &str, why: Option<(Failure, Cause)>) {
        self.calmly(|| {
            output::complain(message);
            if self.view.json {
                output::say_json(&lines::failed(what, message, why));
            }
        });
    }

    /// Reports a search that failed: rTorrent's message, what is known about the reason, and what to do.
    pub(super) fn unsuccessful(&self, what: &str, report: &LookupReport) {
        if let Some((failure, why)) = report.failure {
            let message = format!("{failure} {}", explain(why));
            self.failure(what, message.trim_end(), report.failure);
        }
    }

    /// Reports the end of a search, and the reason if it failed.
    pub(super) fn finished(&self, what: &str, report: &LookupReport) {
        if self.view.json {
            let mut done = lines::done(report);
            done["what"] = what.into();
            output::say_json(&done);
        } else {
            output::verbatim(&summary(report));
        }
        self.unsuccessful(what, report);
    }

    /// Reports an event of the node; lines are those of rTorrent's documentation.
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
                output::say_json(&lines::event(event));
            }
            if news {
                output::verbatim(&event.to_string());
                if let Some(why) = why {
                    output::verbatim(&format!("  {}", explain(why)));
                }
            }
        });
    }

    /// Warns that the kernel's table of connections is nearly full.
    pub(super) fn conntrack(&self, usage: &conntrack::Usage, port: u16) {
        let message = conntrack::warning(usage, port);
        self.calmly(|| {
            output::verbatim(&message);
            if self.view.json {
                output::say_json(&json!({
                    "type": "log",
                    "event": "conntrack",
                    "message": message,
                    "cause": { "kind": "conntrack", "count": usage.count, "max": usage.max },
                }));
            }
        });
    }
}

/// What a cause means, and what to do about it.
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

/// A search in one line.
fn summary(report: &LookupReport) -> String {
    let mut text = format!(
        "{} of {} replied in {}",
        report.replied,
        units::count(report.contacted.into(), "node"),
        units::time(report.took),
    );
    if report.peers > 0 {
        text.push_str(&format!(", {}", units::count(report.peers.into(), "peer")));
    }
    if report.stores > 0 {
        text.push_str(&format!(
            ", {} of {} stored it",
            report.stored,
            units::count(report.stores.into(), "node")
        ));
    }
    if let Some((seeds, leeches)) = report.swarm {
        text.push_str(&format!(", about {seeds} seeds and {leeches} leeches"));
    }
    if report.suspicious {
        text.push_str("; the answers do not fit the size of the network: somebody may be lying");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_end_of_a_search_is_one_line() {
        let report = LookupReport {
            contacted: 20,
            replied: 1,
            peers: 1,
            stores: 8,
            stored: 7,
            took: Duration::from_millis(340),
            failure: None,
            swarm: Some((3, 4)),
            closest: Vec::new(),
            suspicious: false,
        };
        assert_eq!(
            summary(&report),
            "1 of 20 nodes replied in 0.3s, 1 peer, 7 of 8 nodes stored it, \
             about 3 seeds and 4 leeches"
        );
    }
}
