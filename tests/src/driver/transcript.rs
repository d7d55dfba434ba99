//! What happened in a swarm, in a form that can be compared between drivers: without addresses, times, and
//! counts that depend on timing.

use std::collections::BTreeMap;

use dunlin_core::TorrentId;
use dunlin_core::engine::{Event, State, What};

use super::{Node, TestDriver, TestDriverExt};

/// The stories of each participant, by name: `anna` has the states of Anna's torrent, `anna says` its
/// events. Which of the two comes first depends on timing; the order within each does not.
#[derive(Debug, Default)]
pub struct Transcript {
    stories: BTreeMap<String, Vec<String>>,
    cast: Vec<Actor>,
}

#[derive(Clone, Debug)]
struct Actor {
    name: String,
    node: Node,
    torrent: TorrentId,
    left: bool,
}

impl Transcript {
    /// Follows a node's torrent.
    pub fn follow(&mut self, name: &str, node: Node, torrent: TorrentId) {
        let name = name.to_owned();
        self.stories.entry(name.clone()).or_default();
        self.stories.entry(says(&name)).or_default();
        self.cast.push(Actor {
            name,
            node,
            torrent,
            left: false,
        });
    }

    /// Notes what is new with all participants.
    pub fn look<H: TestDriver>(&mut self, h: &mut H) {
        for actor in self.cast.clone().into_iter().filter(|a| !a.left) {
            for event in h.events(actor.node) {
                if let Some(line) = tell(&event) {
                    self.note(&says(&actor.name), line);
                }
            }
            let status = h.torrent(actor.node, actor.torrent);
            if let Some(line) = status.and_then(|t| settled(&t.state))
                && !self.is(&actor.name, line)
            {
                self.note(&actor.name, line);
            }
        }
    }

    /// Notes something.
    pub fn note(&mut self, name: &str, line: &str) {
        let story = self.stories.entry(name.to_owned()).or_default();
        story.push(line.to_owned());
    }

    /// Whether this is the last state of a participant.
    #[must_use]
    pub fn is(&self, name: &str, state: &str) -> bool {
        self.stories[name].last().is_some_and(|last| last == state)
    }

    /// Whether a participant had this event.
    #[must_use]
    pub fn has_said(&self, name: &str, line: &str) -> bool {
        self.stories[&says(name)].iter().any(|said| said == line)
    }

    /// Stops following a node.
    pub fn leave(&mut self, name: &str) {
        for actor in self.cast.iter_mut().filter(|a| a.name == name) {
            actor.left = true;
        }
    }

    /// The stories, for a comparison.
    #[must_use]
    pub const fn stories(&self) -> &BTreeMap<String, Vec<String>> {
        &self.stories
    }
}

fn says(name: &str) -> String {
    format!("{name} says")
}

/// States that last until something is done. Those in between may be too short to be seen.
const fn settled(state: &State) -> Option<&'static str> {
    match state {
        State::Downloading => Some("downloading"),
        State::Seeding => Some("seeding"),
        State::Paused => Some("paused"),
        State::Failed(_) => Some("failed"),
        _ => None,
    }
}

/// Events whose number and order are the same with every driver.
const fn tell(event: &Event) -> Option<&'static str> {
    match event {
        Event::Notice(notice) => match &notice.what {
            What::Finished => Some("complete"),
            What::Banned => Some("banned a peer"),
            What::Metadata => Some("metadata"),
            What::Disk { .. } => Some("disk"),
            What::Bind { .. } => Some("bind"),
            What::Rechecking { .. } => Some("rechecking"),
            _ => None,
        },
        Event::Removed(_) => Some("removed"),
        _ => None,
    }
}
