//! `node`: a DHT node that runs until it is interrupted.

use std::{
    io::{self, IsTerminal},
    pin::pin,
    time::Duration,
};

use dunlin_tokio::{
    dht::{NodeEvent, Status},
    dunlin_core::dht::{DhtLog, DhtStats, ReadOnly},
    system::net::conntrack::Usage,
};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::{
    Role, Running, config, finish, json as lines,
    say::{Voice, explain},
};
use crate::{args::dht as args, exit::Exit, output, signals::Signals, units};

/// The time between two looks at the kernel's table of connections.
const CONNTRACK_PERIOD: Duration = Duration::from_secs(60);
/// The shortest time between two looks at the state.
const MIN_INTERVAL: Duration = Duration::from_millis(100);
/// A year: longer than anybody waits.
const FOREVER: Duration = Duration::from_secs(365 * 86_400);

/// Runs `dunlin dht node`.
pub(super) async fn node(args: args::Node) -> Exit {
    let voice = Voice::new(args.common.view);
    let mut config = match config(&args.common, Role::Resident) {
        Ok(config) => config,
        Err(message) => {
            voice.error("configuration", &message);
            return Exit::Usage;
        }
    };
    if args.read_only {
        config.dht.read_only = ReadOnly::Always;
    }
    config.limit_up = args.limit_up.or(config.limit_up);
    let budget = config.dht.new_remote_budget;
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => {
            voice.error("signals", &format!("cannot listen for signals: {error}"));
            return Exit::Failed;
        }
    };
    let on_screen = !args.common.view.json && io::stderr().is_terminal();
    let period = args
        .interval
        .unwrap_or(match (args.common.view.json, on_screen) {
            (true, _) => Duration::from_secs(5),
            (_, true) => Duration::from_secs(1),
            _ => Duration::from_secs(60),
        });
    let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(5));
    let mut face = match on_screen {
        true => Face::Screen(Screen {
            all: all.clone(),
            bars: Vec::new(),
        }),
        false => Face::Lines,
    };
    // Events are always shown: they are how a node is monitored.
    let mut view = args.common.view;
    view.verbose = true;
    let mut voice = Voice::new(view);
    if on_screen {
        voice = voice.beside(all);
    }
    let mut running = match Running::with(config, voice) {
        Ok(running) => running,
        Err(exit) => return exit,
    };
    let mut tick = interval(period.max(MIN_INTERVAL));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut table = interval(CONNTRACK_PERIOD);
    let mut end = pin!(sleep_until(
        Instant::now() + args.timeout.unwrap_or(FOREVER)
    ));
    let mut watch = Watch::default();
    let exit = loop {
        tokio::select! {
            exit = signals.next() => break exit,
            () = &mut end => break Exit::Complete,
            event = running.events.recv() => match event {
                Some(event) => {
                    watch.event(&event);
                    running.voice.event(&event);
                }
                None => break Exit::Failed,
            },
            _ = tick.tick() => {
                let Ok(status) = running.node.status().await else { break Exit::Failed };
                watch.tick(&status);
                face.show(&status, &watch, budget, &running.voice);
            }
            _ = table.tick() => {
                let port = running.node.local().first().map_or(0, std::net::SocketAddr::port);
                if let Some(usage) = watch.conntrack(Usage::read()) {
                    running.voice.conntrack(&usage, port);
                }
            }
        }
    };
    face.clear();
    finish(running.node, &mut running.events, &running.voice).await;
    exit
}

/// What is kept from one look at the state to the next.
#[derive(Default)]
struct Watch {
    /// The last warning, until it no longer holds.
    warning: Option<Warning>,
    /// Whether the table of connections was nearly full.
    high: bool,
    /// Bytes in and out, and the time, at the last look.
    last: Option<(u64, u64, Duration)>,
    /// Bytes per second in and out.
    rates: (u64, u64),
}

impl Watch {
    fn event(&mut self, event: &NodeEvent) {
        if let NodeEvent::Log(log @ (DhtLog::Unreachable(why) | DhtLog::Firewalled(why))) = event {
            self.warning = Some(Warning {
                text: format!("{log} {}", explain(*why)),
                counter: match log {
                    DhtLog::Firewalled(_) => |s| s.replies_received,
                    _ => |s| s.queries_received,
                },
                before: None,
            });
        }
    }

    fn tick(&mut self, s: &Status) {
        if let Some(warning) = &mut self.warning {
            let count = (warning.counter)(&s.stats);
            if *warning.before.get_or_insert(count) < count {
                self.warning = None;
            }
        }
        let (read, written) = (s.stats.bytes_read, s.stats.bytes_written);
        if let Some((last_read, last_written, then)) = self.last {
            let ms = s.uptime.saturating_sub(then).as_millis().max(1);
            let rate = |now: u64, then: u64| {
                let bytes = u128::from(now.saturating_sub(then)) * 1000;
                u64::try_from(bytes / ms).unwrap_or(u64::MAX)
            };
            self.rates = (rate(read, last_read), rate(written, last_written));
        }
        self.last = Some((read, written, s.uptime));
    }

    /// Returns the usage when the table has become nearly full; not again before it was emptier.
    fn conntrack(&mut self, usage: Option<Usage>) -> Option<Usage> {
        let high = usage.filter(Usage::is_high);
        let news = high.filter(|_| !self.high);
        self.high = high.is_some();
        news
    }
}

/// A warning and the condition that ends it.
struct Warning {
    text: String,
    /// The warning ends when this counter grows.
    counter: fn(&DhtStats) -> u64,
    /// The value of the counter when the warning came.
    before: Option<u64>,
}

enum Face {
    Screen(Screen),
    Lines,
}

/// Lines on the terminal that are refreshed in place.
struct Screen {
    all: MultiProgress,
    bars: Vec<ProgressBar>,
}

impl Face {
    fn show(&mut self, status: &Status, watch: &Watch, budget: Option<u32>, voice: &Voice) {
        match self {
            Self::Screen(own) => {
                let mut text = screen(status, Some((watch.rates, budget)));
                text.extend(watch.warning.as_ref().map(|warning| warning.text.clone()));
                own.show(&text);
            }
            Self::Lines => voice.result(|| lines::status(status), || line(status, watch.rates)),
        }
    }

    fn clear(&self) {
        if let Self::Screen(own) = self {
            own.bars.iter().for_each(ProgressBar::finish);
        }
    }
}

impl Screen {
    fn show(&mut self, text: &[String]) {
        while self.bars.len() < text.len() {
            let style = ProgressStyle::with_template("{wide_msg}");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            self.bars
                .push(self.all.add(ProgressBar::new(1).with_style(style)));
        }
        for (i, bar) in self.bars.iter().enumerate() {
            let line = text.get(i).map_or("", String::as_str);
            bar.set_message(output::printable(line).into_owned());
        }
    }
}

/// The state in some lines; with rates and the budget of new remotes if the node keeps running.
pub(super) fn screen(s: &Status, more: Option<((u64, u64), Option<u32>)>) -> Vec<String> {
    let stats = &s.stats;
    let local: Vec<_> = s.local.iter().map(ToString::to_string).collect();
    let mut text = vec![format!(
        "{}  {}, up {}",
        label("bound"),
        local.join(" and "),
        units::time(s.uptime)
    )];
    for (name, id) in [("id", s.id), ("id, IPv6", s.id6)] {
        if let Some(id) = id {
            text.push(format!("{}  {id}", label(name)));
        }
    }
    let mut reach = reach(stats).to_owned();
    if let Some(ip) = s.external {
        reach.push_str(&format!(", seen at {ip}"));
    }
    if stats.observed_port != 0 {
        reach.push_str(&format!(", port {}", stats.observed_port));
    }
    text.push(format!("{}  {reach}", label("reach")));
    text.push(format!(
        "{}  {} of {} good, in {}; {}",
        label("nodes"),
        stats.good_nodes,
        stats.nodes,
        units::count(stats.buckets.into(), "bucket"),
        match stats.cycle {
            0 => "stopped",
            1 => "bootstrapping",
            _ => "bootstrapped",
        }
    ));
    text.push(format!(
        "{}  about {} nodes by buckets, {} by searches",
        label("network"),
        stats.size_by_buckets,
        match stats.size_by_lookups {
            0 => "unknown".into(),
            size => size.to_string(),
        }
    ));
    text.push(format!(
        "{}  {} queries in, {} out, {} replies, {} not understood",
        label("traffic"),
        stats.queries_received,
        stats.queries_sent,
        stats.replies_received,
        stats.errors_caught
    ));
    if let Some(((down, up), budget)) = more {
        text.push(format!(
            "{}  {} in, {} out now; {} in, {} out since the start",
            label("rate"),
            units::rate(down),
            units::rate(up),
            units::size(stats.bytes_read),
            units::size(stats.bytes_written)
        ));
        text.push(format!(
            "{}  {} new remotes a second at most; {} held back, {} over their limit",
            label("NAT"),
            budget.map_or("any number of".into(), |n| n.to_string()),
            stats.held_back,
            stats.limited
        ));
    }
    text.push(format!(
        "{}  {} (highest: {}) in {}, {}",
        label("stored"),
        units::count(stats.peers.into(), "peer"),
        stats.peers_max,
        units::count(stats.torrents.into(), "torrent"),
        units::count(stats.items.into(), "item")
    ));
    text
}

/// Whether the node is reachable, as far as is known.
const fn reach(stats: &DhtStats) -> &'static str {
    match (stats.reachable, stats.queries_received) {
        (false, _) => "queries of others do not arrive",
        (true, 0) => "no query of others has come yet",
        (true, _) => "queries of others arrive",
    }
}

fn label(name: &str) -> String {
    format!("{name:<8}")
}

/// The state in one line, for a log.
fn line(s: &Status, (down, up): (u64, u64)) -> String {
    let stats = &s.stats;
    format!(
        "{} good of {} nodes in {}, {}, {} in, {} out, {} in {}",
        stats.good_nodes,
        stats.nodes,
        units::count(stats.buckets.into(), "bucket"),
        reach(stats),
        units::rate(down),
        units::rate(up),
        units::count(stats.peers.into(), "peer"),
        units::count(stats.torrents.into(), "torrent"),
    )
}

#[cfg(test)]
mod tests {
    use dunlin_tokio::dunlin_core::{NodeId, dht::Cause};

    use super::*;

    fn status() -> Status {
        Status {
            stats: DhtStats {
                active: true,
                cycle: 2,
                nodes: 40,
                good_nodes: 38,
                buckets: 5,
                size_by_buckets: 128,
                bytes_read: 1 << 20,
                bytes_written: 2 << 20,
                ..DhtStats::default()
            },
            id: Some(NodeId([0xab; 20])),
            id6: None,
            local: vec![([0, 0, 0, 0], 6881).into()],
            external: None,
            uptime: Duration::from_secs(10),
            calls: dunlin_tokio::dht::Calls::default(),
        }
    }

    #[test]
    fn the_screen_says_what_there_is() {
        let mut s = status();
        let text = screen(&s, Some(((512, 0), Some(25)))).join("\n");
        for part in [
            "0.0.0.0:6881, up 10s",
            &"ab".repeat(20),
            "38 of 40 good, in 5 buckets; bootstrapped",
            "about 128 nodes by buckets, unknown by searches",
            "512 B/s in",
            "25 new remotes",
            "queries of others do not arrive",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        s.stats.reachable = true;
        let text = screen(&s, None).join("\n");
        assert!(text.contains("no query of others has come yet"));
        s.stats.queries_received = 1;
        s.external = Some([192, 0, 2, 7].into());
        let text = screen(&s, None).join("\n");
        assert!(text.contains("queries of others arrive, seen at 192.0.2.7"));
    }

    #[test]
    fn rates_are_those_of_the_last_interval() {
        let mut watch = Watch::default();
        let mut s = status();
        watch.tick(&s);
        assert_eq!(watch.rates, (0, 0));
        s.uptime += Duration::from_secs(2);
        s.stats.bytes_read += 4096;
        s.stats.bytes_written += 1000;
        watch.tick(&s);
        assert_eq!(watch.rates, (2048, 500));
        assert!(line(&s, watch.rates).contains("2.0 KiB/s in, 500 B/s out"));
    }

    #[test]
    fn a_warning_stands_until_what_it_misses_arrives() {
        let mut watch = Watch::default();
        let mut s = status();
        let firewalled = NodeEvent::Log(DhtLog::Firewalled(Cause::NoReplies));
        let unreachable = NodeEvent::Log(DhtLog::Unreachable(Cause::NotForwarded));
        for (event, part) in [
            (&unreachable, "forward this UDP port"),
            (&firewalled, "firewall"),
        ] {
            watch.event(event);
            assert!(watch.warning.as_ref().unwrap().text.contains(part));
            watch.tick(&s);
            watch.tick(&s);
            assert!(watch.warning.is_some());
            s.stats.queries_received += 1;
            watch.tick(&s);
            assert_eq!(watch.warning.is_some(), event == &firewalled);
        }
        s.stats.replies_received += 1;
        watch.tick(&s);
        assert!(watch.warning.is_none());
    }

    #[test]
    fn a_full_table_of_connections_is_told_once_until_it_was_emptier() {
        let mut watch = Watch::default();
        let usage = |count| Some(Usage { count, max: 100 });
        assert!(watch.conntrack(usage(70)).is_none());
        assert!(watch.conntrack(usage(71)).is_some());
        assert!(watch.conntrack(usage(90)).is_none());
        assert!(watch.conntrack(None).is_none());
        assert!(watch.conntrack(usage(99)).is_some());
        let said = dunlin_tokio::system::net::conntrack::warning(&usage(99).unwrap(), 6881);
        assert!(
            said.contains("99 %") && said.contains("advice --port 6881"),
            "{said}"
        );
    }
}
