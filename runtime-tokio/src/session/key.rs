//! Magnets that name a key: the DHT knows which torrent that is at present (BEP 46).

use std::{fmt::Write, time::Duration};

use dunlin_core::{
    InfoHash,
    dht::{DhtEvent, Goal, LookupReport, item::read_pointer},
    engine::{Command, Event, Reply},
    metainfo::MutableKey,
};
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::{Instant, sleep, timeout_at},
};

use super::Shared;
use crate::{Error, Result};

/// The time limit for the DHT. A node that has just been started has to find others first.
const PATIENCE: Duration = Duration::from_secs(120);
/// The time between attempts.
const PAUSE: Duration = Duration::from_millis(500);

/// The info-hash of the torrent that `key` stands for.
pub(super) async fn look_up(shared: &Shared, key: MutableKey) -> Result<InfoHash> {
    let mut name = String::new();
    for byte in key.key {
        // Writing to a string cannot fail.
        let _ = write!(name, "{byte:02x}");
    }
    let failed = |reason: String| Error::Key {
        key: name.clone(),
        reason,
    };
    let until = Instant::now() + PAUSE.max(PATIENCE);
    let mut why = String::from("the DHT could not be started");
    while Instant::now() < until {
        let mut events = shared.events.upgrade().ok_or(Error::Stopped)?.subscribe();
        let goal = Goal::Mutable {
            key: key.key,
            salt: key.salt.clone(),
        };
        if let Err(error) = shared.command(Command::UseDht).await {
            return Err(match error {
                Error::Command(_) => failed(
                    "the DHT has to be asked which torrent this is, and it is off; \
                     switch it on (it needs a session folder)"
                        .into(),
                ),
                error => error,
            });
        }
        let begun = match shared.command(Command::Search(goal)).await {
            Err(Error::Stopped) => return Err(Error::Stopped),
            begun => begun,
        };
        if let Ok(Reply::Lookup(lookup)) = begun {
            let search = result(&mut events, |e| match e {
                Event::Dht(DhtEvent::Item { lookup: l, item }) if *l == lookup => {
                    Some(Told::Item(item.value.clone()))
                }
                Event::Dht(DhtEvent::Done { lookup: l, report }) if *l == lookup => {
                    Some(Told::Done(report.clone()))
                }
                _ => None,
            });
            match timeout_at(until, search).await {
                Err(_) => break,
                Ok(None) => return Err(Error::Stopped),
                Ok(Some((Some(value), _))) => match read_pointer(&value) {
                    Some(info_hash) => return Ok(info_hash),
                    None => return Err(failed("what the DHT has there is no torrent".into())),
                },
                Ok(Some((None, report))) => {
                    why = report
                        .failure
                        .map_or("nobody has anything there".into(), |(f, _)| f.to_string());
                }
            }
        }
        sleep(PAUSE).await;
    }
    Err(failed(why))
}

enum Told {
    Item(Vec<u8>),
    Done(LookupReport),
}

/// The last item that was found when the search ended.
async fn result(
    events: &mut Receiver<Event>,
    told: impl Fn(&Event) -> Option<Told>,
) -> Option<(Option<Vec<u8>>, LookupReport)> {
    let mut found = None;
    loop {
        let event = match events.recv().await {
            Ok(event) => event,
            // The end of the search may be among the missed events: then the time limit decides.
            Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return None,
        };
        match told(&event) {
            Some(Told::Item(value)) => found = Some(value),
            Some(Told::Done(report)) => return Some((found, report)),
            None => {}
        }
    }
}
