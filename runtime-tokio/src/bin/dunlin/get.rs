//! `get` and `seed`.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use dunlin_tokio::{
    Add, Changes, Error, Event, Limits, Session, SessionConfig, State, Torrent, TorrentId,
    TorrentStatus,
    dunlin_core::{
        OpError, OpErrorKind,
        engine::{Check, DISK_RETRY, Existing},
        metainfo::{HostPort, Info},
    },
    system::{
        disk::Placement, error::is_in_the_way, net::conntrack, session::folder::SessionError,
    },
};
use futures_util::{StreamExt, future::join_all, stream};
use tokio::time::{Instant, sleep_until};

use crate::{
    args::{self, Swarm, View},
    exit::Exit,
    input,
    report::{Report, fail},
    select::{self, Picked, Selection},
    settings,
    signals::Signals,
    units,
};

/// How often progress is shown while there is any.
const TICK: Duration = Duration::from_millis(500);
/// How often at least is looked whether there is any: somebody may begin to fetch from us.
const MAX_TICK: Duration = Duration::from_secs(16);
/// Torrent files that are read or fetched at the same time: a slow server keeps nobody else
/// waiting, and thousands of files do not fill the memory.
const MAX_ADDING: usize = 16;
/// How often the kernel's table of connections is looked at.
const CONNTRACK_PERIOD: Duration = Duration::from_secs(60);
/// After this long a person is told what the end waits for.
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

/// How torrents are added.
struct How {
    selections: Vec<Selection>,
    sequential: bool,
    check: Check,
    existing: Existing,
    limits: Limits,
    /// The folder that was named, which goes before one that is remembered.
    dir: Option<PathBuf>,
}

impl How {
    async fn add(
        &self,
        text: &str,
        swarm: &Swarm,
        peers: &[SocketAddr],
    ) -> Result<(Add, Choice, usize), Error> {
        let (add, web_seeds) = input::add(text).await?;
        let mut add = add
            .peers(peers.iter().copied())
            .trackers(&swarm.trackers)
            .sequential(self.sequential)
            .check(self.check)
            .existing(self.existing)
            .limits(self.limits);
        if let Some(dir) = &self.dir {
            add = add.dir(dir);
        }
        let choice = Choice::default();
        if !self.selections.is_empty() {
            let (selections, choice) = (self.selections.clone(), Arc::clone(&choice));
            add = add.select(move |info| {
                let (priorities, picked) = select::priorities(&selections, info);
                let _ = choice.set(picked);
                priorities
            });
        }
        Ok((add, choice, web_seeds))
    }
}

/// What came of the selection; nothing before the files are known, or without one.
type Choice = Arc<OnceLock<Picked>>;

/// When to stop.
#[derive(Clone, Copy)]
struct Goal {
    /// Uploaded per size; `None` as the configuration says, or without end.
    ratio: Option<f64>,
    /// How long a torrent is shared at most; `None` as the configuration says, or without end.
    time: Option<Duration>,
    deadline: Option<Instant>,
    /// Not all is expected to be here.
    fetch: bool,
}

impl Goal {
    fn reached(self, s: &TorrentStatus) -> bool {
        complete(s)
            && (s.uploaded_ever as f64) >= self.ratio.unwrap_or(f64::INFINITY) * (s.wanted as f64)
    }
}

fn complete(s: &TorrentStatus) -> bool {
    s.state == State::Seeding
}

/// A torrent under way.
struct Running {
    torrent: Torrent,
    last: TorrentStatus,
    choice: Choice,
    /// The selection has been looked at.
    chosen: bool,
    /// A person knows that `seed` has to fetch something.
    warned: bool,
    completed: bool,
    /// When it has been shared for long enough.
    shared: Option<Instant>,
    failed: bool,
    /// Nothing can come of it, whatever its state says: a person was told why.
    refused: bool,
    /// The disk error that a person was told of, while it lasts.
    waiting: Option<OpError>,
}

impl Running {
    fn settled(&self, goal: Goal) -> bool {
        let ended = || self.end().is_some_and(|end| end <= Instant::now());
        self.failed || goal.reached(&self.last) || ended()
    }

    /// When sharing ends by the clock.
    fn end(&self) -> Option<Instant> {
        self.shared
            .filter(|_| complete(&self.last) || self.waiting.is_some())
    }
}

struct Run {
    report: Report,
    goal: Goal,
    existing: Existing,
    placement: Placement,
    torrents: BTreeMap<TorrentId, Running>,
    /// Named a second time.
    repeated: usize,
    /// Time ran out.
    late: bool,
    /// That the kernel's table of connections is nearly full.
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
        goal,
        existing: how.existing,
        placement,
        torrents: BTreeMap::new(),
        repeated: 0,
        late: false,
        told_of_connections: false,
    };
    remarks.iter().for_each(|remark| run.report.warn(remark));
    note.iter().for_each(|note| run.report.info(note));
    let work = async {
        let peers = run.peers(&swarm.peers, through_proxy).await;
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
    let done = run
        .torrents
        .values()
        .filter(|t| t.completed && !t.failed)
        .count();
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
        // Threads may hang in a system call for as long as they like.
        std::process::exit(exit.code().into());
    }
    exit
}

/// Ends the session; `Some` if a person did not want to wait for that.
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

/// An error, and what a person can do about it.
fn explain(error: &Error) -> String {
    match error {
        Error::Folder(SessionError::Busy(lock)) => format!(
            "another dunlin is at it ({} is locked); end that one, or take another folder with \
             --session",
            lock.display()
        ),
        Error::Folder(SessionError::Io(path, reason)) => format!(
            "the session folder cannot be used: {}: {reason}; take another one with --session, \
             or none with --no-session",
            path.display()
        ),
        Error::Gone { .. } => {
            format!("{error}; mount its disk, or name a folder with --dir; nothing was fetched")
        }
        Error::Dir { .. } => format!("{error}; name another folder with --dir"),
        error => error.to_string(),
    }
}

impl Run {
    /// The addresses of the peers that were named. A name that has none is mentioned.
    async fn peers(&self, named: &[HostPort], through_proxy: bool) -> Vec<SocketAddr> {
        let look_up = |peer: &HostPort| {
            let peer = peer.clone();
            async move {
                match peer.addr() {
                    Some(addr) => Ok(vec![addr]),
                    None if through_proxy => Err(format!(
                        "--peer {peer}: its name is not looked up, as that would go around the \
                         proxy; give its address"
                    )),
                    None => match tokio::net::lookup_host((peer.host.as_str(), peer.port)).await {
                        Ok(found) => Ok(found.collect()),
                        Err(error) => Err(format!("--peer {peer}: {error}")),
                    },
                }
            }
        };
        let mut addresses = Vec::new();
        for found in join_all(named.iter().map(look_up)).await {
            match found {
                Ok(found) => addresses.extend(found),
                Err(message) => self.report.warn(&message),
            }
        }
        addresses
    }

    /// Adds everything and waits until it is settled.
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
        while !(waiting.is_empty() && self.torrents.values().all(|t| t.settled(self.goal))) {
            let deadline = self.goal.deadline;
            let open = self.torrents.values().filter(|t| !t.settled(self.goal));
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
                    // While nothing moves, nobody needs to look.
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
                    for open in self.torrents.values().filter(|t| !t.settled(self.goal)) {
                        let name = &open.last.name;
                        let what = match open.completed {
                            true => "complete, but not shared up to the ratio in time",
                            false => "not complete in time",
                        };
                        let message = match &open.waiting {
                            Some(error) => format!("{name}: {what}: {error}"),
                            None => format!("{name}: {what}"),
                        };
                        self.report.error(name, &message);
                    }
                    return;
                }
            }
            tick = tick.min(Instant::now() + pause);
        }
    }

    /// Warns, once, if the kernel's table of connections is nearly full while the DHT runs.
    async fn look_at_connections(&mut self, session: &Session) {
        let Some(usage) = conntrack::Usage::read().filter(conntrack::Usage::is_high) else {
            return;
        };
        if let Ok(Some(dht)) = session.with_engine(|engine, _| engine.dht_stats()).await
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
                // Every message says what it is about, in the words of the person who asked.
                if !message.contains(text) && !matches!(error, Error::Magnet { .. }) {
                    message = format!("{text}: {message}");
                }
                return self.report.error(text, &message);
            }
        };
        if let Ok(last) = torrent.status().await {
            let id = torrent.id();
            let running = Running {
                torrent,
                last,
                choice,
                chosen: false,
                warned: false,
                completed: false,
                shared: None,
                failed: false,
                refused: false,
                waiting: None,
            };
            let name = running.last.name.clone();
            self.torrents.insert(id, running);
            self.refresh(id).await;
            if self.goal.fetch && web_seeds > 0 {
                let web_seeds = units::count(web_seeds as u64, "web seed");
                let message = format!(
                    "{name}: it names {web_seeds}, from which Dunlin does not fetch yet: it needs \
                     peers"
                );
                self.report.warn(&message);
            }
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

    /// Looks at every torrent; returns whether anything is different from the last time.
    async fn refresh_all(&mut self) -> bool {
        let ids: Vec<_> = self.torrents.keys().copied().collect();
        let mut moved = false;
        for id in ids {
            moved |= self.refresh(id).await;
        }
        self.report.draw();
        moved
    }

    async fn refresh(&mut self, id: TorrentId) -> bool {
        let Some(running) = self.torrents.get_mut(&id) else {
            return false;
        };
        let Ok(status) = running.torrent.status().await else {
            return false;
        };
        let moved = running.last != status;
        running.last = status;
        self.look_at_choice(id).await;
        let Some(running) = self.torrents.get_mut(&id) else {
            return moved;
        };
        let s = &running.last;
        if let State::Failed(error) = &s.state {
            self.report.progress(s, !passes(error));
            if !passes(error) {
                if !running.failed {
                    running.failed = true;
                    self.report
                        .error(&s.name, &failure(&s.name, error, self.existing));
                }
            } else if running.waiting.as_ref() != Some(error) {
                running.waiting = Some(error.clone());
                let every = DISK_RETRY.as_secs();
                let message = format!(
                    "{}: {error}; it is tried again every {every} s until it works (Ctrl-C ends \
                     this)",
                    s.name
                );
                self.report.disk(s, true, &message);
            }
            return moved;
        }
        if running.refused {
            return moved;
        }
        running.failed = false;
        // While its files are looked at again nobody knows yet.
        let looking = matches!(s.state, State::Opening | State::Checking { .. });
        if !looking && running.waiting.take().is_some() {
            let message = format!("{}: the disk works again", s.name);
            self.report.disk(s, false, &message);
        }
        self.report.progress(s, running.settled(self.goal));
        let partial = !self.goal.fetch && s.pieces_done < s.pieces;
        if complete(s) && partial && s.done == 0 {
            (running.failed, running.refused) = (true, true);
            let message = format!(
                "{}: nothing of it is in {}, so there is nothing to share; name the folder that \
                 holds it with --dir, or fetch it with `dunlin get`",
                s.name,
                folder(&running.torrent, &self.placement).display()
            );
            self.report.error(&s.name, &message);
            return moved;
        }
        if complete(s) && partial && !running.warned {
            running.warned = true;
            running.shared = self.goal.time.map(|time| Instant::now() + time);
            let message = format!(
                "{}: {} of {} is in {}; that is shared, and `dunlin get` fetches the rest",
                s.name,
                units::size(s.done),
                units::size(s.total),
                folder(&running.torrent, &self.placement).display()
            );
            self.report.warn(&message);
        }
        if complete(s) && !partial && !running.completed {
            running.completed = true;
            running.shared = self.goal.time.map(|time| Instant::now() + time);
            let info = running.torrent.info().await.ok().flatten();
            let dir = folder(&running.torrent, &self.placement);
            let path = info.map_or_else(|| dir.clone(), |info| path(&self.placement, &dir, &info));
            if let Some(running) = self.torrents.get(&id) {
                let path = path.display().to_string();
                let elapsed = self.report.elapsed();
                self.report.complete(&running.last, &path, elapsed);
            }
        }
        moved
    }

    /// Says what is odd about the selection, as soon as it has been applied.
    async fn look_at_choice(&mut self, id: TorrentId) {
        let Some(running) = self.torrents.get_mut(&id) else {
            return;
        };
        let Some(picked) = running.choice.get().filter(|_| !running.chosen) else {
            return;
        };
        running.chosen = true;
        let name = &running.last.name;
        let unmatched = picked.unmatched.join(",");
        if picked.nothing {
            (running.failed, running.refused) = (true, true);
            let message = format!(
                "{name}: it has no file that fits --select {unmatched}; `dunlin show` lists them"
            );
            self.report.error(name, &message);
        } else if !picked.unmatched.is_empty() {
            let message = format!("{name}: no file fits --select {unmatched}");
            self.report.warn(&message);
        }
    }
}

/// The folder that a torrent is saved in: an earlier session may have put it elsewhere.
fn folder(torrent: &Torrent, usual: &Placement) -> PathBuf {
    torrent.dir().unwrap_or_else(|_| usual.dir.clone())
}

/// Where the file or folder of a torrent saved in `dir` is, under the name that it got on this
/// disk.
fn path(placement: &Placement, dir: &Path, info: &Info) -> PathBuf {
    let paths = placement.paths(info);
    let root = paths.first().and_then(|path| path.iter().next());
    root.map_or_else(|| dir.into(), |root| dir.join(root))
}

/// Whether the engine's next attempts may succeed without a change of the command: a disk is
/// emptied, mounted or repaired, but nobody is given a right meanwhile, and files that are in the
/// way wait for a decision.
fn passes(error: &OpError) -> bool {
    use OpErrorKind::{Io, NoSpace, NotFound, TimedOut, Truncated};
    matches!(error.kind, Io | NoSpace | NotFound | TimedOut | Truncated) && !is_in_the_way(error)
}

/// Why a torrent rests, and what a person can do about it.
fn failure(name: &str, error: &OpError, existing: Existing) -> String {
    if !is_in_the_way(error) {
        return format!("{name}: {error}");
    }
    if existing == Existing::ReadOnly {
        return format!("{name}: {error}; name another folder with --dir");
    }
    // The words of the disk behind the name of each file.
    let any = |words: &str| error.detail.split("; ").any(|file| file.ends_with(words));
    let advice = if any("another torrent or program is writing it") {
        "wait until that is done, or save elsewhere with --dir"
    } else if existing == Existing::Overwrite
        || any("a file stands where its folder has to be")
        || any("not a regular file")
    {
        "move them away, or save elsewhere with --dir"
    } else {
        "move them away, save elsewhere with --dir, or overwrite them with --overwrite"
    };
    let in_the_way = &error.detail;
    format!("{name}: nothing was written, because files are in the way: {in_the_way}; {advice}")
}

async fn wait_for(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kind: OpErrorKind, detail: &str) -> OpError {
        let detail = detail.into();
        OpError { kind, detail }
    }

    #[test]
    fn only_what_can_pass_by_itself_is_waited_for() {
        use OpErrorKind::{Denied, Exists, Io, NoSpace, NotFound, TimedOut, Truncated};
        for kind in [Io, NoSpace, NotFound, TimedOut, Truncated] {
            assert!(passes(&error(kind, "a: the system's words")), "{kind:?}");
        }
        for kind in [Denied, Exists] {
            assert!(!passes(&error(kind, "a: the system's words")), "{kind:?}");
        }
        assert!(!passes(&error(Io, "a: not a regular file")));
    }

    #[test]
    fn overwriting_is_offered_only_where_it_helps() {
        let foreign = "it holds nothing of this torrent";
        for (first, second, existing, offered) in [
            (foreign, foreign, Existing::Adopt, true),
            (foreign, foreign, Existing::Overwrite, false),
            (foreign, foreign, Existing::ReadOnly, false),
            (
                foreign,
                "another torrent or program is writing it",
                Existing::Adopt,
                false,
            ),
            (
                "a file stands where its folder has to be",
                foreign,
                Existing::Adopt,
                false,
            ),
            (foreign, "it is not a regular file", Existing::Adopt, false),
        ] {
            let detail = format!("x/a: {first}; x/b: {second}");
            let message = failure("x", &error(OpErrorKind::Exists, &detail), existing);
            assert_eq!(message.contains("--overwrite"), offered, "{message}");
            assert!(
                message.contains(&detail) && message.contains("--dir"),
                "{message}"
            );
        }
    }
}
