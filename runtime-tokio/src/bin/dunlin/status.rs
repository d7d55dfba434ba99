//! The state of a torrent as text.

use std::time::Duration;

use dunlin_tokio::{State, TorrentStatus};

use crate::units;

/// One torrent in one line.
pub(crate) fn line(s: &TorrentStatus) -> String {
    let name = &s.name;
    let peers = units::count(s.peers.into(), "peer");
    match &s.state {
        State::Metadata => format!("{name}: asking {peers} for the metadata, {} known", s.known),
        State::Opening => format!("{name}: opening"),
        State::Checking { done, total } => {
            let done = units::percent((*done).into(), (*total).into());
            format!("{name}: checking what is here, {done}")
        }
        State::Downloading => {
            let mut text = format!(
                "{name}: {} of {}, {} down, {} up, {peers}",
                units::percent(s.wanted_done, s.wanted),
                units::size(s.wanted),
                units::rate(s.rate_down),
                units::rate(s.rate_up),
            );
            if let Some(seconds) = s
                .wanted
                .saturating_sub(s.wanted_done)
                .checked_div(s.rate_down)
            {
                text.push_str(&format!(
                    ", {} left",
                    units::time(Duration::from_secs(seconds))
                ));
            }
            text
        }
        State::Seeding => format!("{name}: sharing, {} up, {peers}", units::rate(s.rate_up)),
        State::Paused => format!("{name}: at rest"),
        State::Failed(error) => format!("{name}: {error}"),
        _ => format!("{name}: stopping"),
    }
}
