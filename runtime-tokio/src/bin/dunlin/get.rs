//! `get` and `seed`.

use std::{collections::BTreeMap, path::Path, time::Duration};

use dunlin_tokio::{
    Add, Changes, Event, Session, SessionConfig, State, Torrent, TorrentId, TorrentStatus,
    core::engine::Check,
};
use tokio::time::{Instant, MissedTickBehavior};

use crate::{
    args::{self, Swarm, View},
    exit::Exit,
    input,
    report::{Report, complain},
    select, settings,
    signals::Signals,
};

/// How often progress is shown.
const TICK: Duration = Duration::from_millis(500);

/// Runs `dunlin get`.
pub(crate) async fn get(args: args::Get) -> Exit {
    let config = match settings::load(&args.swarm, args.output.clone()) {
        Ok(config) => config,
        Err(message) => {
            complain(&message);
            return Exit::Usage;
        }
    };
    let selections = args.select;
    let sequential = args.sequential;
    let prepare = move |add: Add| {
        let add = add.sequential(sequential);
        if selections.is_empty() {
            return add;
        }
        let selections = selections.clone();
        add.select(move |info| select::priorities(&selections, info))
    };
    let goal = Goal {
        ratio: args.seed_ratio.unwrap_or(0.0),
        deadline: args.timeout.map(|timeout| Instant::now() + timeout),
    };
    run(
        &args.torrents,
        &args.swarm,
        args.view,
        config,
        goal,
        prepare,
    )
    .await
}

/// Runs `dunlin seed`.
pub(crate) async fn seed(args: args::Seed) -> Exit {
    let config = match settings::load(&args.swarm, args.dir.clone()) {
        Ok(config) => config,
        Err(message) => {
            complain(&message);
            return Exit::Usage;
        }
    };
    let check = match args.no_check {
        true => Check::Nothing,
        false => Check::Doubted,
    };
    let goal = Goal {
        ratio: args.seed_ratio.unwrap_or(f64::INFINITY),
        deadline: None,
    };
    let prepare = move |add: Add| add.check(check);
    run(
        &args.torrents,
        &args.swarm,
        args.view,
        config,
        goal,
        prepare,
    )
    .await
}

/// When to stop.
#[derive(Clone, Copy)]
struct Goal {
    /// Uploaded per size.
    ratio: f64,
    deadline: Option<Instant>,
}

impl Goal {
    fn reached(self, s: &TorrentStatus) -> bool {
        complete(s) && (s.uploaded_ever as f64) >= self.ratio * (s.wanted as f64)
    }
}

fn complete(s: &TorrentStatus) -> bool {
    s.state == State::Seeding
}

/// A torrent under way.
struct Running {
    torrent: Torrent,
    last: TorrentStatus,
    completed: bool,
    failed: bool,
}

impl Running {
    fn settled(&self, goal: Goal) -> bool {
        self.failed || goal.reached(&self.last)
    }
}

struct Run {
    report: Report,
    goal: Goal,
    dir: std::path::PathBuf,
    torrents: BTreeMap<TorrentId, Running>,
    /// Time ran out.
    late: bool,
}

async fn run(
    inputs: &[String],
    swarm: &Swarm,
    view: View,
    config: SessionConfig,
    goal: Goal,
    prepare: impl Fn(Add) -> Add,
) -> Exit {
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => {
            complain(&format!("cannot listen for signals: {error}"));
            return Exit::Failed;
        }
    };
    let dir = config.dir.clone();
    let session = match Session::new(config).await {
        Ok(session) => session,
        Err(error) => {
            complain(&error.to_string());
            return Exit::Failed;
        }
    };
    let mut run = Run {
        report: Report::new(view),
        goal,
        dir,
        torrents: BTreeMap::new(),
        late: false,
    };
    let interrupted = tokio::select! {
        () = run.work(&session, inputs, swarm, &prepare) => None,
        exit = signals.next() => Some(exit),
    };
    run.refresh_all().await;
    if view.verbose >= 2
        && let Ok(stats) = session.stats().await
    {
        run.report.debug(&format!("driver: {stats:?}"));
    }
    tokio::select! {
        () = session.shutdown() => {}
        // Asked a second time: at once.
        _ = signals.next() => {}
    }
    let done = run
        .torrents
        .values()
        .filter(|t| t.completed && !t.failed)
        .count();
    let exit = match interrupted {
        Some(exit) => exit,
        None if run.late => Exit::Incomplete,
        None => Exit::of(done, inputs.len()),
    };
    let last: Vec<_> = run.torrents.values().map(|t| &t.last).collect();
    run.report.summary(exit.code(), &last);
    exit
}

impl Run {
    /// Adds everything and waits until it is settled.
    async fn work(
        &mut self,
        session: &Session,
        inputs: &[String],
        swarm: &Swarm,
        prepare: &impl Fn(Add) -> Add,
    ) {
        let mut events = session.events();
        for text in inputs {
            self.add(session, text, swarm, prepare).await;
        }
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.torrents.values().all(|t| t.settled(self.goal)) {
            let deadline = self.goal.deadline;
            tokio::select! {
                event = events.next() => match event {
                    Some(event) => self.event(event).await,
                    None => return,
                },
                _ = tick.tick() => self.refresh_all().await,
                () = wait_for(deadline) => {
                    self.late = true;
                    for open in self.torrents.values().filter(|t| !t.completed) {
                        let name = &open.last.name;
                        self.report.error(name, &format!("{name}: not complete in time"));
                    }
                    return;
                }
            }
        }
    }

    async fn add(
        &mut self,
        session: &Session,
        text: &str,
        swarm: &Swarm,
        prepare: &impl Fn(Add) -> Add,
    ) {
        let added = match input::add(text) {
            Ok(add) => {
                let add = prepare(add)
                    .peers(swarm.peers.iter().copied())
                    .trackers(&swarm.trackers);
                session.add(add).await
            }
            Err(error) => Err(error),
        };
        let status = match &added {
            Ok(torrent) => torrent.status().await,
            Err(error) => {
                self.report.error(text, &error.to_string());
                return;
            }
        };
        if let (Ok(torrent), Ok(last)) = (added, status) {
            let id = torrent.id();
            self.torrents.insert(
                id,
                Running {
                    torrent,
                    last,
                    completed: false,
                    failed: false,
                },
            );
            self.refresh(id).await;
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
                if urgent.iter().any(|&change| what.contains(change)) {
                    self.refresh(torrent).await;
                }
            }
            _ => {}
        }
    }

    async fn refresh_all(&mut self) {
        let ids: Vec<_> = self.torrents.keys().copied().collect();
        for id in ids {
            self.refresh(id).await;
        }
    }

    async fn refresh(&mut self, id: TorrentId) {
        let Some(running) = self.torrents.get_mut(&id) else {
            return;
        };
        let Ok(status) = running.torrent.status().await else {
            return;
        };
        running.last = status;
        let s = &running.last;
        self.report.progress(s);
        if let State::Failed(error) = &s.state {
            if !running.failed {
                running.failed = true;
                self.report.error(&s.name, &format!("{}: {error}", s.name));
            }
        } else {
            running.failed = false;
            if complete(s) && !running.completed {
                running.completed = true;
                let path = self.dir.join(Path::new(&s.name)).display().to_string();
                self.report.complete(s, &path, self.report.elapsed());
            }
        }
    }
}

async fn wait_for(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
