//! `get` and `seed`.

mod adding;
mod running;
mod trouble;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    pin::pin,
    time::Duration,
};

use dunlin_tokio::{
    Changes, Error, Event, Limits, Session, SessionConfig, Torrent, TorrentId,
    dunlin_core::engine::{Check, Existing},
    system::{disk::Placement, net::conntrack},
};
use futures_util::{StreamExt, stream};
use tokio::time::{Instant, sleep_until};

use self::{
    adding::{Choice, How, peers},
    running::{Goal, Running, Task},
    trouble::explain,
};
use crate::{
    args::{self, Swarm, View},
    exit::Exit,
    output::fail,
    report::Report,
    settings,
    signals::Signals,
    units,
};

/// The interval of progress reports while there is progress.
const TICK: Duration = Duration::from_millis(500);
/// The longest time between two looks at the torrents: a peer may start to download from us.
const MAX_TICK: Duration = Duration::from_secs(16);
/// The most torrent files that are read or downloaded at the same time: one slow server does not delay the
/// others, and thousands of files do not fill the memory.
const MAX_ADDING: usize = 16;
/// The time between two looks at the kernel's table of connections.
const CONNTRACK_PERIOD: Duration = Duration::from_secs(60);
/// After this time the user is told what the end waits for.
const PATIENCE: Duration = Duration::from_millis(700);

/// Runs `dunlin get`.
pub(crate) async fn get(args: args::Get) -> Exit {
    let goal = Goal {
        ratio: match (args.seed_ratio, args.seed_time) {
            (None, Some(_)) => Some(f64::INFINITY),
            (ratio, _) => Some(ratio.unwrap_or(0.0)),
        },
        time: args.seed_time,
        deadline: args.timeout.map(|timeout| Instant::now() + timeout),
        fetch: true,
    };
    let how = How {
        selections: args.select,
        sequential: args.sequential,
        check: Check::default(),
        existing: match args.overwrite {
            true => Existing::Overwrite,
            false => Existing::Adopt,
        },
        limits: Limits::default(),
        dir: args.dir,
    };
    run(&args.torrents, &args.swarm, args.view, goal, how).await
}

/// Runs `dunlin seed`.
pub(crate) async fn seed(args: args::Seed) -> Exit {
    let goal = Goal {
        ratio: args.seed_ratio,
        time: args.seed_time,
        deadline: None,
        fetch: false,
    };
    let how = How {
        selections: Vec::new(),
        sequential: false,
        check: match args.no_check {
            true => Check::Nothing,
            false => Check::Doubted,
        },
        existing: Existing::ReadOnly,
        limits: Limits::default(),
        dir: args.dir,
    };
    run(&args.torrents, &args.swarm, args.view, goal, how).await
}

/// A running command.
struct Run {
    report: Report,
    task: Task,
    torrents: BTreeMap<TorrentId, Running>,
    /// The number of torrents that were named twice.
    repeated: usize,
    /// The time limit was reached.
    late: bool,
    /// The user was told that the kernel's table of connections is nearly full.
    told_of_connections: bool,
}

async fn run(inputs: &[String], swarm: &Swarm, view: View, mut goal: Goal, mut how: How) -> Exit {
    let (config, remarks, note) = match settings::load(swarm, how.dir.clone()) {
        Ok(loaded) => {
            goal.ratio = goal.ratio.or(loaded.seed_ratio);
            goal.time = goal.time.or(loaded.seed_time);
            how.limits = loaded.limits;
            (loaded.session, loaded.remarks, loaded.note)
        }
        Err(message) => {
            fail("configuration", &message);
            return Exit::Usage;
        }
    };
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => {
            fail("signals", &format!("cannot listen for signals: {error}"));
            return Exit::Failed;
        }
    };
    let placement = placement(&config);
    let through_proxy = config.route.proxy.is_some();
    let session = match Session::new(config).await {
        Ok(session) => session,
        Err(error) => {
            fail("session", &explain(&error));
            return Exit::Failed;
        }
    };
    let mut run = Run {
        report: Report::new(view),
        task: Task {
            goal,
            existing: how.existing,
            placement,
        },
        torrents: BTreeMap::new(),
        repeated: 0,
        late: false,
        told_of_connections: false,
    };
    remarks.iter().for_each(|remark| run.report.warn(remark));
    note.iter().for_each(|note| run.report.info(note));
    let work = async {
        let peers = peers(&run.report, &swarm.peers, through_proxy).await;
        run.work(&session, inputs, swarm, &peers, &how).await;
    };
    let interrupted = tokio::select! {
        () = work => None,
        exit = signals.next() => Some(exit),
    };
    run.refresh_all().await;
    if view.verbose >= 2
        && let Ok(stats) = session.stats().await
    {
        run.report.stats(&stats);
    }
    let done = run.torrents.values().filter(|t| t.succeeded()).count();
    let exit = match interrupted {
        Some(exit) => exit,
        None if run.late => Exit::Incomplete,
        None => Exit::of(done, inputs.len() - run.repeated),
    };
    let at_once = stop(session, &mut signals, &run.report).await;
    let last: Vec<_> = run.torrents.values().map(|t| &t.last).collect();
    let exit = at_once.unwrap_or(exit);
    run.report.summary(exit.code(), &last);
    if at_once.is_some() {
        // Threads may be stuck in system calls.
        std::process::exit(exit.code().into());
    }
    exit
}

/// Ends the session; returns `Some` if the user did not want to wait.
async fn stop(session: Session, signals: &mut Signals, report: &Report) -> Option<Exit> {
    let mut end = pin!(session.shutdown());
    let patience = Instant::now() + PATIENCE;
    tokio::select! {
        _ = &mut end => return None,
        exit = signals.next() => return Some(exit),
        () = sleep_until(patience) => {}
    }
    report.info("stopping: telling trackers and saving what is here; Ctrl-C ends at once");
    tokio::select! {
        _ = end => None,
        exit = signals.next() => Some(exit),
    }
}

fn placement(config: &SessionConfig) -> Placement {
    Placement {
        dir: config.dir.clone(),
        allocation: config.allocation,
        names: config.names,
        ..Placement::default()
    }
}

impl Run {
    /// Adds all torrents, and waits until all of them are settled.
    async fn work(
        &mut self,
        session: &Session,
        inputs: &[String],
        swarm: &Swarm,
        peers: &[SocketAddr],
        how: &How,
    ) {
        let mut events = session.events();
        let mut waiting: BTreeSet<usize> = (0..inputs.len()).collect();
        let add = |(i, text): (usize, &String)| {
            let text = text.clone();
            async move {
                let added = match how.add(&text, swarm, peers).await {
                    Ok((add, choice, web_seeds)) => {
                        let added = session.add(add).await;
                        let added = added.map_err(Error::from);
                        added.map(|torrent| (torrent, choice, web_seeds))
                    }
                    Err(error) => Err(error),
                };
                (i, text, added)
            }
        };
        let adding = stream::iter(inputs.iter().enumerate().map(add));
        let mut adding = pin!(adding.buffer_unordered(MAX_ADDING));
        let mut pause = TICK;
        let mut tick = Instant::now() + pause;
        let mut table = Instant::now();
        while !(waiting.is_empty() && self.torrents.values().all(|t| t.settled(self.task.goal))) {
            let deadline = self.task.goal.deadline;
            let open = self
                .torrents
                .values()
                .filter(|t| !t.settled(self.task.goal));
            let end = open.filter_map(Running::end).min();
            tokio::select! {
                Some((i, text, added)) = adding.next(), if !waiting.is_empty() => {
                    waiting.remove(&i);
                    self.added(&text, added).await;
                    self.report.draw();
                    pause = TICK;
                }
                event = events.next() => match event {
                    Some(event) => {
                        pause = TICK;
                        self.event(event).await;
                        self.report.draw();
                    }
                    None => return,
                },
                () = sleep_until(tick) => {
                    // Without progress, looks become rarer.
                    pause = match self.refresh_all().await {
                        true => TICK,
                        false => (pause * 2).min(MAX_TICK),
                    };
                    tick = Instant::now() + pause;
                }
                () = sleep_until(table) => {
                    self.look_at_connections(session).await;
                    table = Instant::now() + CONNTRACK_PERIOD;
                }
                () = wait_for(end) => {}
                () = wait_for(deadline) => {
                    self.late = true;
                    for &i in &waiting {
                        self.report.error(&inputs[i], &format!("{}: not had in time", inputs[i]));
                    }
                    for open in self.torrents.values().filter(|t| !t.settled(self.task.goal)) {
                        self.report.error(&open.last.name, &open.overdue());
                    }
                    return;
                }
            }
            tick = tick.min(Instant::now() + pause);
        }
    }

    /// Warns once if the kernel's table of connections is nearly full while the DHT runs.
    async fn look_at_connections(&mut self, session: &Session) {
        let Some(usage) = conntrack::Usage::read().filter(conntrack::Usage::is_high) else {
            return;
        };
        if let Ok(Some(dht)) = session
            .with_engine(|engine, _| engine.dht().map(|dht| dht.status()))
            .await
            && let Some(port) = dht.port
            && !std::mem::replace(&mut self.told_of_connections, true)
        {
            self.report.warn(&conntrack::warning(&usage, port));
        }
    }

    async fn added(&mut self, text: &str, added: Result<(Torrent, Choice, usize), Error>) {
        let (torrent, choice, web_seeds) = match added {
            Ok(added) => added,
            Err(Error::Duplicate { .. }) => {
                self.repeated += 1;
                let message = format!("{text}: named twice; it is taken once");
                return self.report.warn(&message);
            }
            Err(error) => {
                let mut message = explain(&error);
                // Every message names its subject as the user did.
                if !message.contains(text) && !matches!(error, Error::Magnet { .. }) {
                    message = format!("{text}: {message}");
                }
                return self.report.error(text, &message);
            }
        };
        let Ok(last) = torrent.status().await else {
            return;
        };
        let id = torrent.id();
        let name = last.name.clone();
        let mut running = Running::new(torrent, last, choice);
        running.refresh(&mut self.report, &self.task).await;
        self.torrents.insert(id, running);
        if self.task.goal.fetch && web_seeds > 0 {
            let web_seeds = units::count(web_seeds as u64, "web seed");
            let message = format!(
                "{name}: it names {web_seeds}, from which Dunlin does not fetch yet: it needs \
                 peers"
            );
            self.report.warn(&message);
        }
    }

    async fn event(&mut self, event: Event) {
        match event {
            Event::Notice(notice) => {
                let torrent = notice.torrent.and_then(|id| self.torrents.get(&id));
                self.report.notice(&notice, torrent.map(|t| &t.last));
            }
            Event::Changed { torrent, what } => {
                let urgent = [Changes::STATE, Changes::FINISHED, Changes::METADATA];
                if urgent.iter().any(|&change| what.contains(change))
                    && let Some(running) = self.torrents.get_mut(&torrent)
                {
                    running.refresh(&mut self.report, &self.task).await;
                }
            }
            _ => {}
        }
    }

    /// Looks at every torrent; returns whether anything has changed since the last look.
    async fn refresh_all(&mut self) -> bool {
        let mut moved = false;
        for running in self.torrents.values_mut() {
            moved |= running.refresh(&mut self.report, &self.task).await;
        }
        self.report.draw();
        moved
    }
}

async fn wait_for(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
