//! The timetable of a scenario.

use dunlin_core::Instant;

use super::{Event, Kind, NodeId, Stage, Via, World};
use crate::link::{
    Line, LinkConfig, Pace,
    region::{Region, RegionMatrix},
};

/// Something that the timetable, or whoever runs the world, does to it.
// A timetable is short, and a link's configuration is more often made than moved.
#[allow(clippy::large_enum_variant)]
pub enum Action {
    /// A host is switched off and on; a box forgets what it does not keep.
    Reboot(NodeId),
    /// The node's link to its parent carries nothing. What is on it is lost if it would arrive
    /// while the link is cut. A packet that is on it both before the cut and after the mending
    /// arrives: a cut shorter than a flight is taken for one of the end of the line.
    Cut(NodeId),
    /// And carries again.
    Mend(NodeId),
    /// The node's link changes. What waits to be sent goes on at the new rate; delays, loss and the length of the queue
    /// are those of the time at which a packet was put on the link.
    SetLink(NodeId, LinkConfig),
    /// Nothing passes through, or comes from, this node.
    SwitchOff(NodeId),
    /// And it starts anew.
    SwitchOn(NodeId),
    /// Two regions cannot reach one another.
    Part(Region, Region),
    /// And can again.
    Join(Region, Region),
    /// Distances change.
    SetLatency(Box<RegionMatrix>),
    /// A line for the trace.
    Mark(String),
    /// Anything else.
    Do(Box<dyn FnOnce(&mut World)>),
}

impl Action {
    /// Whether packets under way may fare differently for it.
    const fn changes_paths(&self) -> bool {
        !matches!(self, Self::Mark(_))
    }
}

impl std::fmt::Debug for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Reboot(node) => write!(f, "Reboot({node:?})"),
            Self::Cut(node) => write!(f, "Cut({node:?})"),
            Self::Mend(node) => write!(f, "Mend({node:?})"),
            Self::SetLink(node, link) => write!(f, "SetLink({node:?}, {link:?})"),
            Self::SwitchOff(node) => write!(f, "SwitchOff({node:?})"),
            Self::SwitchOn(node) => write!(f, "SwitchOn({node:?})"),
            Self::Part(a, b) => write!(f, "Part({a:?}, {b:?})"),
            Self::Join(a, b) => write!(f, "Join({a:?}, {b:?})"),
            Self::SetLatency(_) => write!(f, "SetLatency(..)"),
            Self::Mark(text) => write!(f, "Mark({text:?})"),
            Self::Do(_) => write!(f, "Do(..)"),
        }
    }
}

impl World {
    /// Plans an action; the past counts as the present. Actions of one time happen in the order
    /// in which they were planned.
    pub fn at(&mut self, when: Instant, action: Action) {
        let when = when.max(self.now());
        if action.changes_paths() {
            *self.changes.entry(when).or_default() += 1;
            self.horizon = self.horizon.min(when);
        }
        self.agenda
            .plan(when, Event::Act(self.timetable.len() as u32));
        self.timetable.push(Some(action));
    }

    /// Does something now.
    pub fn perform(&mut self, action: Action) {
        self.apply(action);
        self.settle();
    }

    pub(super) fn act(&mut self, n: u32) {
        let Some(action) = self.timetable[n as usize].take() else {
            return;
        };
        if action.changes_paths() {
            let now = self.now();
            if let Some(count) = self.changes.get_mut(&now) {
                *count -= 1;
                if *count == 0 {
                    self.changes.remove(&now);
                }
            }
            let next = self.changes.keys().next().copied();
            self.horizon = next.unwrap_or(Instant::from_micros(u64::MAX));
        }
        self.apply(action);
    }

    fn apply(&mut self, action: Action) {
        let now = self.now();
        match action {
            Action::Reboot(id) => {
                if let Kind::Router(_) = self.nodes[id.index()].kind {
                    self.reboot_box(id);
                }
                self.switch_off(id);
                self.switch_on(id);
            }
            Action::Cut(id) => self.nodes[id.index()].cut = true,
            Action::Mend(id) => self.nodes[id.index()].cut = false,
            Action::SetLink(id, link) => self.set_link(id, link),
            Action::SwitchOff(id) => self.switch_off(id),
            Action::SwitchOn(id) => self.switch_on(id),
            Action::Part(a, b) => self.parted.push((a.min(b), a.max(b))),
            Action::Join(a, b) => self.parted.retain(|pair| *pair != (a.min(b), a.max(b))),
            Action::SetLatency(matrix) => self.set_latency(*matrix),
            Action::Mark(text) => self.trace.mark(now, NodeId::CORE, text),
            Action::Do(act) => act(self),
        }
    }

    /// Changes a node's link to its parent. What waits to be sent goes on at the new rate.
    pub fn set_link(&mut self, node: NodeId, link: LinkConfig) {
        let (now, old) = (self.now(), self.link(node));
        let (up, down) = ((old.up.rate, link.up.rate), (old.down.rate, link.down.rate));
        self.nodes[node.index()].link = self.intern(link);
        for (is_up, (old, new)) in [(true, up), (false, down)] {
            if let Some(pace) = self.line(node, is_up).change(old, new, now) {
                self.repace(node, is_up, pace);
            }
        }
    }

    fn line(&mut self, node: NodeId, up: bool) -> &mut Line {
        let node = &mut self.nodes[node.index()];
        if up { &mut node.up } else { &mut node.down }
    }

    /// Plans anew when the packets on a line arrive, those that are sent already excepted. They keep their order.
    fn repace(&mut self, node: NodeId, up: bool, pace: Pace) {
        let is_there = |stage: Stage| match stage {
            Stage::Arrive(_, Via::Child(child)) => up && child == node.0,
            Stage::Arrive(n, Via::Parent) => !up && n == node.0,
            _ => false,
        };
        let mut there: Vec<(Instant, u64, usize)> = (self.flights.iter().enumerate())
            .filter_map(|(place, flight)| Some((place, flight.as_ref()?)))
            .filter(|(_, flight)| is_there(flight.stage))
            .map(|(place, flight)| (flight.due, flight.sent, place))
            .collect();
        there.sort_unstable();
        let mut last = self.now();
        for (due, sent, place) in there {
            let then = pace.sent(sent);
            if then == sent {
                last = last.max(due);
                continue;
            }
            // As long on its way as before, once it is sent.
            let way = due.as_micros().saturating_sub(sent.div_ceil(1_000));
            last = last.max(Instant::from_micros(
                then.div_ceil(1_000).saturating_add(way),
            ));
            if let Some(mut flight) = self.flights[place].take() {
                self.vacated += 1;
                flight.sent = then;
                self.plan_flight(last, flight);
            }
        }
        self.line(node, up).keep_order_from(last);
    }

    /// A node's link to its parent.
    #[must_use]
    pub fn link(&self, node: NodeId) -> &LinkConfig {
        &self.links[self.nodes[node.index()].link as usize].config
    }

    /// Bytes that wait before a node's link, upwards and downwards.
    #[must_use]
    pub fn backlog(&self, node: NodeId) -> (u64, u64) {
        let (link, node) = (self.link(node), &self.nodes[node.index()]);
        (
            node.up.backlog(&link.up, self.now()),
            node.down.backlog(&link.down, self.now()),
        )
    }
}
